"""Optional facts about live streams: viewers and detailed health.

``GET /data/views/now`` has one row per playback id with viewers. ``GET /data/stream/{id}/health`` is what the
platform's own dashboard requests. It is not publicly documented; its format is from the platform's published source.
Because it costs one request per stream, it is requested at its own interval, and only for live streams.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import msgspec

from exporter.platforms.api import (
    CachedFetch,
    Clock,
    DropCounter,
    Record,
    Requests,
    StreamReport,
    UpstreamError,
    require_list,
)

VIEWS = "GET /data/views/now"
MAX_VIEW_ROWS = 1000
"""Number of rows from which the response may be truncated. A playback id without a row is then unknown, not unwatched.
"""
HEALTH = "GET /data/stream/{id}/health"
OVERALL = "Healthy"
REALTIME_RATIO = "TranscodeRealtimeRatio"
NO_DATA = {404, 501}
"""No events of this stream yet; no health service in this deployment. Neither is an error."""
ID_CHARACTERS = 8
POINT = ("at", "value")
"""Names for the two numbers in a metric's ``last``: unix milliseconds and the value."""


# -- viewers -----------------------------------------------------------------------------------------------------------


class Audience(msgspec.Struct, frozen=True):
    """The viewers of one playback id."""

    viewers: int | None
    error_ratio: float | None


class Viewership(msgspec.Struct, frozen=True):
    """Audiences by playback id. ``complete``: playback ids without a row have no viewers."""

    audiences: Mapping[str, Audience]
    complete: bool

    def update_report(self, report: StreamReport) -> StreamReport:
        """Return the report with its viewers, if they are known."""
        audience = self.audiences.get(report.playback_id)
        if audience is not None:
            return msgspec.structs.replace(report, viewers=audience.viewers, viewer_error_ratio=audience.error_ratio)
        if report.live and report.playback_id and self.complete:
            return msgspec.structs.replace(report, viewers=0)
        return report


async def fetch_viewership(requests: Requests, drops: DropCounter) -> Viewership:
    """Request the viewers of all playback ids. Raises ``UpstreamError`` (status 403 if the key lacks permission)."""
    response = await requests.get(VIEWS, params={"breakdownBy[]": "playbackId"})
    rows = require_list(response.data, VIEWS)
    audiences: dict[str, Audience] = {}
    for raw in rows:
        row = Record(raw if isinstance(raw, dict) else {}, drops)
        audience = Audience(row.count("viewCount"), row.ratio("errorRate"))
        known = audiences.get(row.text("playbackId"))
        # if a playback id has two rows, the one with more viewers counts
        if known is None or (audience.viewers or 0, audience.error_ratio or 0.0) > (
            known.viewers or 0,
            known.error_ratio or 0.0,
        ):
            audiences[row.text("playbackId")] = audience
    # a row without a playback id may be about any stream
    unknown = audiences.pop("", None)
    return Viewership(audiences, complete=unknown is None and len(rows) < MAX_VIEW_ROWS)


# -- detailed health ---------------------------------------------------------------------------------------------------


class HealthDetails(msgspec.Struct, frozen=True):
    """Detailed health of a stream."""

    conditions: Mapping[str, bool] = {}
    targets: Mapping[str, bool] = {}
    transcode_realtime_ratio: float | None = None

    def update_report(self, report: StreamReport) -> StreamReport:
        """Return the report with these details."""
        return msgspec.structs.replace(
            report,
            health_conditions=self.conditions,
            multistream_targets=self.targets,
            transcode_realtime_ratio=self.transcode_realtime_ratio,
        )


NO_DETAILS = HealthDetails()


class HealthDetailsCache:
    """Health details of all live streams, requested at their own interval."""

    def __init__(self, interval: float, clock: Clock) -> None:
        """``interval``: seconds between two requests for one stream."""
        self._interval = interval
        self._clock = clock
        self._cached: dict[str, CachedFetch[HealthDetails]] = {}

    async def add_details(
        self, requests: Requests, reports: Collection[StreamReport], drops: DropCounter
    ) -> list[StreamReport]:
        """Request the details that are due, and return the reports with their details.

        Streams that have waited longest come first; those left when the poll's time is over are due in the next poll.
        """
        live = [report.id for report in reports if report.live]
        self._cached = {id_: self._cached.get(id_) or CachedFetch(self._interval, self._clock) for id_ in live}
        due = [(id_, cached) for id_, cached in self._cached.items() if cached.is_due]
        due.sort(key=lambda item: -math.inf if item[1].requested_at is None else item[1].requested_at)

        async def fetch_item(item: tuple[str, CachedFetch[HealthDetails]]) -> None:
            stream_id, cached = item
            if self._clock.monotonic() < requests.deadline:
                cached.mark_requested()
                cached.store(await fetch_health_details(requests, stream_id, drops))

        # errors are ignored: the last details stay in place until they are stale
        await requests.map(fetch_item, due)
        return [self._update_report(report) for report in reports]

    def _update_report(self, report: StreamReport) -> StreamReport:
        cached = self._cached.get(report.id)
        details = cached.value if cached else None
        return report if details is None else details.update_report(report)


async def fetch_health_details(requests: Requests, stream_id: str, drops: DropCounter) -> HealthDetails:
    """Request one stream's detailed health; ``NO_DETAILS`` if the platform has none."""
    try:
        response = await requests.get(HEALTH, id=stream_id)
    except UpstreamError as error:
        if error.status in NO_DATA:
            return NO_DETAILS
        raise
    return parse_health_details(Record.from_response(response.data, drops))


def parse_health_details(record: Record) -> HealthDetails:
    """Parse the detailed health, without conditions that were never probed (status null)."""
    conditions: dict[str, bool] = {}
    overall = record.record("healthy")
    if overall is not None:
        _set_condition(conditions, OVERALL, overall.flag("status"))
    for condition in record.records("conditions"):
        _set_condition(conditions, condition.text("type"), condition.flag("status"))
    return HealthDetails(conditions, dict(_multistream_targets(record)), _realtime_ratio(record))


def _set_condition(conditions: dict[str, bool], name: str, status: bool | None) -> None:
    if name and status is not None:
        conditions[name] = status


def _multistream_targets(record: Record) -> Iterator[tuple[str, bool]]:
    """Yield each target's name and whether all renditions sent to it are connected."""
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
    """Return transcoded media seconds per second from the node that reported last; transcoding may have moved."""
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
