"""Choose which record to serve when a stream has several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from exporter.model import Status, StreamReport

T = TypeVar("T")

_RANKS = {
    Status.LIVE: 0,
    Status.DEGRADED: 0,
    Status.CONNECTING: 1,
    Status.PAUSED: 2,
    Status.IDLE: 3,
    Status.ENDED: 4,
    Status.ERROR: 5,
    Status.UNKNOWN: 6,
}
"""Lower ranks are preferred; a record that receives media has the lowest."""

Served = tuple[str, float | None]
"""Session and start time of the record that was served last."""


def choose(records: Sequence[T], report_of: Callable[[T], StreamReport], served: Served | None) -> T:
    """Return the record that receives media, regardless of the order of ``records``.

    Among equals, the record that was served last is kept; otherwise the later start wins, then the smaller session id.
    """

    def rank(record: T) -> tuple[object, ...]:
        report = report_of(record)
        start = report.start_timestamp_seconds
        return (
            _RANKS[report.status],
            (report.session, start) != served,
            -(start or 0.0),
            report.session,
            -(report.ingest_bytes or 0.0),
            -(report.ingest_bitrate_bytes_per_second or 0.0),
            report.viewers or 0,
        )

    return min(records, key=rank)
