"""Data other than sessions: stream analytics, dashboards, and WAVE's own Prometheus export.

Each endpoint has its own interval, and its failure does not fail the poll.

Source: WAVE API reference, Analytics, "Get stream-level analytics" and "Get dashboard metrics". The contents of
``quality`` and of the dashboards' ``metrics`` are not documented, nor is the unit of ``totalDuration``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from exporter.platforms.api import (
    ALL_STREAMS,
    STALE_AFTER_INTERVALS,
    Analytics,
    CachedFetch,
    Clock,
    DropCounter,
    Header,
    PassthroughMetrics,
    PassthroughText,
    Reason,
    Record,
    Requests,
    Secret,
    ShardFilter,
    UpstreamClient,
    UpstreamError,
)
from exporter.platforms.wave.measurements import numbers_inside
from exporter.platforms.wave.request_budget import was_not_sent
from exporter.platforms.wave.wave_settings import AnalyticsSettings, AnalyticsStream, PrometheusSettings, WaveSettings

log = structlog.get_logger()

T = TypeVar("T")
Fetch = Callable[[Requests, DropCounter, float], Awaitable[T]]
"""Requests and reads the data. The last argument is the time, in steady seconds, at which the data becomes stale."""
ParsePassthrough = Callable[[str, PassthroughText], Awaitable[PassthroughMetrics]]
"""``Platform.parse_passthrough``."""

STREAM_ANALYTICS = "GET /analytics/stream/{streamId}"
DASHBOARDS = "GET /analytics/dashboards"
MAX_STREAM_NUMBERS = 50
MAX_DASHBOARD_NUMBERS = 200
_DOCUMENTED = frozenset({"streamId", "totalViewers", "peakViewers", "avgWatchTime"})
"""Fields that have their own metric family or are not numbers."""


class OptionalEndpoint(Generic[T]):
    """One endpoint. A failure is logged once; the last data is used until it is stale."""

    def __init__(
        self, name: str, fetch: Fetch[T], *, interval: float, client: UpstreamClient, clock: Clock, stream: str = ""
    ) -> None:
        """``name`` and ``stream``: for the log."""
        self._name = name
        self._fetch = fetch
        self._client = client
        self._clock = clock
        self._stream = stream
        self._lifetime = STALE_AFTER_INTERVALS * interval
        self._cache: CachedFetch[T] = CachedFetch(interval, clock)
        self._is_failing = False

    @property
    def is_due(self) -> bool:
        """Whether a request is due."""
        return self._cache.is_due

    @property
    def requested_at(self) -> float:
        """Return the time of the last request, for sorting by waiting time."""
        return self._cache.requested_at or 0.0

    @property
    def value(self) -> T | None:
        """Return the last data; None if it is stale."""
        return self._cache.value

    async def request(self, poll: Requests, drops: DropCounter) -> None:
        """Request the data now, within the poll's deadline. Raises ``UpstreamError``."""
        self._cache.mark_requested()
        try:
            value = await self._fetch_in_time(poll, drops)
        except UpstreamError as error:
            if was_not_sent(error):
                self._cache.undo_request()
            else:
                self._log_failure(error)
            raise
        self._cache.store(value)
        if self._is_failing:
            self._is_failing = False
            log.info("optional endpoint is back", **self._labels)

    async def _fetch_in_time(self, poll: Requests, drops: DropCounter) -> T:
        left = poll.deadline - self._clock.monotonic()
        try:
            # parsing may take long, too
            async with asyncio.timeout(left):
                return await self._fetch(poll, drops, self._clock.monotonic() + self._lifetime)
        except TimeoutError:
            raise UpstreamError(Reason.TIMEOUT, f"{self._name}: not finished before the poll's deadline") from None

    def _log_failure(self, error: UpstreamError) -> None:
        if not self._is_failing:
            self._is_failing = True
            log.warning("optional endpoint fails", **self._labels, reason=error.reason.value, error=str(error))

    @property
    def _labels(self) -> dict[str, str]:
        stream = {"stream": self._stream} if self._stream else {}
        return {"platform": self._client.platform, "upstream": self._client.upstream, "part": self._name, **stream}


class OptionalEndpoints:
    """Requests the endpoints that are due, and keeps their data."""

    def __init__(
        self,
        settings: WaveSettings,
        client: UpstreamClient,
        clock: Clock,
        parse: ParsePassthrough,
        shard_filter: ShardFilter = ALL_STREAMS,
    ) -> None:
        """``shard_filter``: each process requests the data of its own streams; the primary one that of the account."""
        hides_ids = settings.stream_label == "hash"
        analytics, prometheus = settings.analytics, settings.prometheus
        self._analytics: list[OptionalEndpoint[Analytics]] = []
        if analytics is not None:
            own = tuple(stream for stream in analytics.streams if shard_filter.owns(stream.id, stream.name or ""))
            dashboards = analytics.dashboards and shard_filter.is_primary
            analytics = analytics.model_copy(update={"streams": own, "dashboards": dashboards})
            self._analytics = list(_analytics_endpoints(analytics, client, clock, hides_ids=hides_ids))
        self._export: OptionalEndpoint[PassthroughMetrics] | None = None
        if shard_filter.is_primary and prometheus is not None and prometheus.enabled and prometheus.api_key is not None:
            self._export = _export(prometheus, prometheus.api_key, client, clock, parse)
        self.fault: UpstreamError | None = None
        """Why none of the last requests got a response; None if one did."""

    @property
    def is_empty(self) -> bool:
        """Whether this process requests no optional endpoint."""
        return not self._analytics and self._export is None

    @property
    def analytics(self) -> tuple[Analytics, ...]:
        """Return the analytics that are not stale."""
        return tuple(value for endpoint in self._analytics if (value := endpoint.value) is not None)

    @property
    def passthrough(self) -> PassthroughMetrics | None:
        """Return the export; None if it is stale."""
        return None if self._export is None else self._export.value

    async def request_due(self, requests: Requests, budget: int | None, drops: DropCounter) -> None:
        """Request what is due, at most ``budget`` analytics. The export has its own key, and so its own limit."""
        due: list[OptionalEndpoint[Any]] = [endpoint for endpoint in self._analytics if endpoint.is_due]
        due = sorted(due, key=lambda endpoint: endpoint.requested_at)[:budget]
        if self._export is not None and self._export.is_due:
            due.append(self._export)

        async def request(endpoint: OptionalEndpoint[Any]) -> None:
            await endpoint.request(requests, drops)

        outcomes = [outcome for _, outcome in await requests.map(request, due)]
        errors = [error for error in outcomes if isinstance(error, UpstreamError) and not was_not_sent(error)]
        if None in outcomes or any(error.means_absent for error in errors):
            self.fault = None
        elif errors:
            self.fault = errors[0]


def optional_requests_per_minute(settings: WaveSettings) -> float:
    """Estimate the requests per minute to the optional endpoints."""
    analytics, prometheus, per_minute = settings.analytics, settings.prometheus, 0.0
    if analytics is not None:
        per_minute += 60.0 * (len(analytics.streams) + analytics.dashboards) / analytics.interval
    if prometheus is not None and prometheus.enabled:
        per_minute += 60.0 / prometheus.interval
    return per_minute


def _analytics_endpoints(
    settings: AnalyticsSettings, client: UpstreamClient, clock: Clock, *, hides_ids: bool
) -> Iterator[OptionalEndpoint[Analytics]]:
    endpoint = partial(OptionalEndpoint[Analytics], interval=settings.interval, client=client, clock=clock)
    for stream in settings.streams:
        shown = stream.name or ("" if hides_ids else stream.id)
        yield endpoint(STREAM_ANALYTICS, partial(_fetch_stream_analytics, stream, settings.period), stream=shown)
    if settings.dashboards:
        yield endpoint(DASHBOARDS, partial(_fetch_dashboards, settings))


async def _fetch_stream_analytics(
    stream: AnalyticsStream, period: str, requests: Requests, drops: DropCounter, stale_at: float
) -> Analytics:
    """Return the analytics of one stream. Raises ``UpstreamError``."""
    response = await requests.get(STREAM_ANALYTICS, params={"period": period}, streamId=stream.id)
    record = Record.from_response(response.data, drops)
    if record.text("streamId") not in ("", stream.id):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{STREAM_ANALYTICS}: the response is about another stream")
    others = {name: value for name, value in record.raw.items() if name not in _DOCUMENTED}
    return Analytics(
        stream=stream.id,
        name=stream.name or "",
        period=period,
        viewers=record.count("totalViewers"),
        peak_viewers=record.count("peakViewers"),
        average_watch_seconds=record.number("avgWatchTime", low=0.0),
        platform_metrics=numbers_inside(others, period=period, limit=MAX_STREAM_NUMBERS),
        stale_at=stale_at,
    )


async def _fetch_dashboards(
    settings: AnalyticsSettings, requests: Requests, drops: DropCounter, stale_at: float
) -> Analytics:
    """Return the numbers of the dashboards. Raises ``UpstreamError``."""
    period, metric = settings.dashboards_period, settings.dashboards_metric
    params = {"period": period, **({} if metric is None else {"metric": metric})}
    response = await requests.get(DASHBOARDS, params=params)
    metrics = Record.from_response(response.data, drops).record("metrics")
    if metrics is None:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{DASHBOARDS}: the response has no object metrics")
    numbers = numbers_inside(metrics.raw, period=period, limit=MAX_DASHBOARD_NUMBERS)
    return Analytics(period=period, platform_metrics=numbers, stale_at=stale_at)


def _export(
    settings: PrometheusSettings, key: Secret, client: UpstreamClient, clock: Clock, parse: ParsePassthrough
) -> OptionalEndpoint[PassthroughMetrics]:
    own = client.with_credentials(EXPORT, Header(KEY_HEADER, key))

    async def export(requests: Requests, _: DropCounter, stale_at: float) -> PassthroughMetrics:
        left = requests.deadline - clock.monotonic()
        return await parse(EXPORT, await fetch_export(own.requests(left), settings, stale_at=stale_at))

    return OptionalEndpoint(EXPORT, export, interval=settings.interval, client=client, clock=clock)


EXPORT = "GET /streaming/analytics/prometheus"
KEY_HEADER = "X-API-Key"
_ACCEPT = {"Accept": "text/plain;version=0.0.4"}


async def fetch_export(requests: Requests, settings: PrometheusSettings, *, stale_at: float) -> PassthroughText:
    """Fetch the whole export. Raises ``UpstreamError``."""
    params = {"period": settings.period, **({} if settings.stream_id is None else {"streamId": settings.stream_id})}
    response = await requests.get(EXPORT, params=params, json=False, headers=_ACCEPT)
    return PassthroughText(
        text=response.text or "", prefix=settings.prefix, max_series=settings.max_series, stale_at=stale_at
    )
