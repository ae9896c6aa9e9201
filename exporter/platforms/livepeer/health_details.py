"""The detailed health of a stream: ``GET /data/stream/{id}/health``, which the platform's own dashboard uses.

It is not in the platform's public document; its shape is from the platform's published source. It is asked for at an
interval of its own, for live streams only: it costs a request per stream.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import StreamReport
from exporter.platforms.cached_fetch import CachedFetch
from exporter.platforms.parsing import DropCounter, Record
from exporter.runtime.clock import Clock

ENDPOINT = "GET /data/stream/{id}/health"
OVERALL = "Healthy"
REALTIME_RATIO = "TranscodeRealtimeRatio"
NO_DATA = {404, 501}
"""No events of this stream yet; no health service on this deployment. Neither is a fault."""
ID_CHARACTERS = 8
POINT = ("at", "value")
"""What the two numbers of a metric's ``last`` are: unix milliseconds and the value."""


class Details(msgspec.Struct, frozen=True):
    """What the detailed health adds to a stream."""

    conditions: Mapping[str, bool] = {}
    targets: Mapping[str, bool] = {}
    transcode_realtime_ratio: float | None = None

    def applied(self, report: StreamReport) -> StreamReport:
        """The report with these details."""
        return msgspec.structs.replace(
            report,
            health_conditions=self.conditions,
            multistream_targets=self.targets,
            transcode_realtime_ratio=self.transcode_realtime_ratio,
        )


NOTHING = Details()


class DetailsBook:
    """The details of all live streams, each asked for at its own interval."""

    def __init__(self, interval: float, clock: Clock) -> None:
        """``interval``: seconds between two questions about one stream."""
        self._interval = interval
        self._clock = clock
        self._known: dict[str, CachedFetch[Details]] = {}

    async def applied(
        self, requests: Requests, reports: Collection[StreamReport], drops: DropCounter
    ) -> list[StreamReport]:
        """The reports with their details, after those that are due have been asked for.

        Those that have waited longest come first: what the time of this poll does not reach comes in the next one.
        """
        live = [report.id for report in reports if report.live]
        self._known = {id_: self._known.get(id_) or CachedFetch(self._interval, self._clock) for id_ in live}
        due = [(id_, known) for id_, known in self._known.items() if known.due]
        due.sort(key=lambda item: -math.inf if item[1].asked_at is None else item[1].asked_at)

        async def ask(item: tuple[str, CachedFetch[Details]]) -> None:
            stream_id, known = item
            if self._clock.monotonic() < requests.deadline:
                known.asked()
                known.store(await fetch_details(requests, stream_id, drops))

        # a failure is no more than details that grow old
        await requests.map(ask, due)
        return [self._with_details(report) for report in reports]

    def _with_details(self, report: StreamReport) -> StreamReport:
        known = self._known.get(report.id)
        details = known.value if known else None
        return report if details is None else details.applied(report)


async def fetch_details(requests: Requests, stream_id: str, drops: DropCounter) -> Details:
    """Ask for one stream's detailed health; ``NOTHING`` where the platform has none."""
    try:
        answer = await requests.get(ENDPOINT, id=stream_id)
    except UpstreamError as error:
        if error.status in NO_DATA:
            return NOTHING
        raise
    return read_details(Record.from_response(answer.data, drops))


def read_details(record: Record) -> Details:
    """The answer of ``GET /data/stream/{id}/health``; a condition with status null was never probed and is left out."""
    conditions: dict[str, bool] = {}
    overall = record.record("healthy")
    if overall is not None:
        _note(conditions, OVERALL, overall.flag("status"))
    for condition in record.records("conditions"):
        _note(conditions, condition.text("type"), condition.flag("status"))
    return Details(conditions, dict(_targets(record)), _realtime_ratio(record))


def _note(conditions: dict[str, bool], name: str, status: bool | None) -> None:
    if name and status is not None:
        conditions[name] = status


def _targets(record: Record) -> Iterator[tuple[str, bool]]:
    """Multistream targets by name and whether each is connected. One that gets several renditions needs all of them."""
    connected: dict[tuple[str, str], bool] = {}
    for entry in record.records("multistream"):
        target, condition = entry.record("target"), entry.record("connected")
        status = condition.flag("status") if condition else None
        if target is None or status is None:
            continue
        identity = target.text("id"), target.text("name")
        connected[identity] = status and connected.get(identity, True)
    names = [name for _, name in connected]
    for (target_id, name), status in connected.items():
        unique = name if names.count(name) == 1 else f"{name}#{target_id[:ID_CHARACTERS]}"
        yield unique or target_id, status


def _realtime_ratio(record: Record) -> float | None:
    """Media seconds per wall second, of the node that told it last: several have it when transcoding moved."""
    metrics = record.record("metrics")
    if metrics is None:
        return None
    latest: tuple[float, float] | None = None
    for series in metrics.records(REALTIME_RATIO):
        last = series.raw.get("last")
        if not isinstance(last, list) or len(last) != len(POINT):
            continue
        point = series.sibling(dict(zip(POINT, last, strict=True)))
        at, ratio = point.time_ms("at"), point.number("value", low=0)
        if at is not None and ratio is not None and (latest is None or at > latest[0]):
            latest = at, ratio
    return None if latest is None else latest[1]
