"""Several records of one stream: which one is served."""

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
"""The record that receives media comes first."""

Served = tuple[str, float | None]
"""The session and the start time of a record."""


def choose(records: Sequence[T], report_of: Callable[[T], StreamReport], served: Served | None) -> T:
    """Return the record that receives media; it does not depend on the order of ``records``.

    Among equals it is the one that was served last, otherwise the one that started later, otherwise that of the smaller
    session id.
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
