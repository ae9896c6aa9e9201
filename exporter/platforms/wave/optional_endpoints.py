"""What is asked for besides sessions: the analytics of streams, the dashboards, WAVE's own export.

Nothing of it can fail the poll of sessions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from exporter.config.secrets import Secret
from exporter.http.auth import Header
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Analytics, PassthroughMetrics, PassthroughText, Reason
from exporter.platforms.parsing import DropCounter
from exporter.platforms.wave.optional_endpoint import Extra, was_not_sent
from exporter.platforms.wave.prometheus_export import EXPORT, KEY_HEADER, fetch_export
from exporter.platforms.wave.wave_analytics import (
    DASHBOARDS,
    STREAM_ANALYTICS,
    fetch_dashboards,
    fetch_stream_analytics,
)
from exporter.platforms.wave.wave_settings import AnalyticsSettings, AnalyticsStream, PrometheusSettings, WaveSettings
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter

ParsePassthrough = Callable[[str, PassthroughText], Awaitable[PassthroughMetrics]]
"""``Platform.parse_passthrough``."""


class Extras:
    """Asks for what is due, and gives what counts."""

    def __init__(
        self,
        settings: WaveSettings,
        client: UpstreamClient,
        clock: Clock,
        parse: ParsePassthrough,
        shard_filter: ShardFilter = ALL_STREAMS,
    ) -> None:
        """``shard_filter``: one of several processes asks for the figures of its streams, and one for the account's."""
        hides_ids = settings.stream_label == "hash"
        analytics, prometheus = settings.analytics, settings.prometheus
        self._analytics: list[Extra[Analytics]] = []
        if analytics is not None:
            own = tuple(stream for stream in analytics.streams if shard_filter.owns(stream.id, stream.name or ""))
            dashboards = analytics.dashboards and shard_filter.is_primary
            analytics = analytics.model_copy(update={"streams": own, "dashboards": dashboards})
            self._analytics = list(_analytics(analytics, client, clock, hides_ids=hides_ids))
        self._export: Extra[PassthroughMetrics] | None = None
        if shard_filter.is_primary and prometheus is not None and prometheus.enabled and prometheus.api_key is not None:
            self._export = _export(prometheus, prometheus.api_key, client, clock, parse)
        self.fault: UpstreamError | None = None
        """Why nothing was answered when something was asked for last; None: something was."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is asked for here."""
        return not self._analytics and self._export is None

    @property
    def analytics(self) -> tuple[Analytics, ...]:
        """The figures that count now."""
        return tuple(value for extra in self._analytics if (value := extra.value) is not None)

    @property
    def passthrough(self) -> PassthroughMetrics | None:
        """The export that counts now."""
        return None if self._export is None else self._export.value

    async def ask_due(self, requests: Requests, budget: int | None, drops: DropCounter) -> None:
        """Ask for what is due; of the analytics ``budget`` at most. The export has a key, and a limit, of its own."""
        due: list[Extra[Any]] = [extra for extra in self._analytics if extra.is_due]
        due = sorted(due, key=lambda extra: extra.asked_at)[:budget]
        if self._export is not None and self._export.is_due:
            due.append(self._export)

        async def ask(extra: Extra[Any]) -> None:
            await extra.ask(requests, drops)

        outcomes = [outcome for _, outcome in await requests.map(ask, due)]
        errors = [error for error in outcomes if isinstance(error, UpstreamError) and not was_not_sent(error)]
        answered = any(outcome is None for outcome in outcomes)
        if answered or any(error.reason is Reason.NOT_FOUND for error in errors):
            self.fault = None
        elif errors:
            self.fault = errors[0]


def requests_per_minute(settings: WaveSettings) -> float:
    """What all of it costs."""
    analytics, prometheus, per_minute = settings.analytics, settings.prometheus, 0.0
    if analytics is not None:
        per_minute += 60.0 * (len(analytics.streams) + analytics.dashboards) / analytics.interval
    if prometheus is not None and prometheus.enabled:
        per_minute += 60.0 / prometheus.interval
    return per_minute


def _analytics(
    settings: AnalyticsSettings, client: UpstreamClient, clock: Clock, *, hides_ids: bool
) -> Iterator[Extra[Analytics]]:
    extra = partial(Extra[Analytics], interval=settings.interval, client=client, clock=clock)

    async def one(stream: AnalyticsStream, requests: Requests, drops: DropCounter, stale_at: float) -> Analytics:
        return await fetch_stream_analytics(requests, stream, settings.period, drops, stale_at=stale_at)

    async def dashboards(requests: Requests, drops: DropCounter, stale_at: float) -> Analytics:
        return await fetch_dashboards(requests, settings, drops, stale_at=stale_at)

    for stream in settings.streams:
        shown = stream.name or ("" if hides_ids else stream.id)
        yield extra(STREAM_ANALYTICS, partial(one, stream), stream=shown)
    if settings.dashboards:
        yield extra(DASHBOARDS, dashboards)


def _export(
    settings: PrometheusSettings, key: Secret, client: UpstreamClient, clock: Clock, parse: ParsePassthrough
) -> Extra[PassthroughMetrics]:
    own = client.with_credentials(EXPORT, Header(KEY_HEADER, key))

    async def export(requests: Requests, _: DropCounter, stale_at: float) -> PassthroughMetrics:
        left = requests.deadline - clock.monotonic()
        return await parse(EXPORT, await fetch_export(own.requests(left), settings, stale_at=stale_at))

    return Extra(EXPORT, export, interval=settings.interval, client=client, clock=clock)
