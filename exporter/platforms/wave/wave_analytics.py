"""WAVE's figures over a period: of a stream, and of the whole account.

Source: WAVE API reference, Analytics, "Get stream-level analytics" and "Get dashboard metrics". The inside of
``quality`` and of the dashboards' ``metrics`` is not published, nor is the unit of ``totalDuration``.
"""

from __future__ import annotations

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Analytics, Reason
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.wave.unmapped_numbers import numbers_inside
from exporter.platforms.wave.wave_settings import AnalyticsSettings, AnalyticsStream

STREAM_ANALYTICS = "GET /analytics/stream/{streamId}"
DASHBOARDS = "GET /analytics/dashboards"
MAX_STREAM_NUMBERS = 50
MAX_DASHBOARD_NUMBERS = 200
_DOCUMENTED = frozenset({"streamId", "totalViewers", "peakViewers", "avgWatchTime"})
"""What has a family of its own, or is no figure."""


async def fetch_stream_analytics(
    requests: Requests, stream: AnalyticsStream, period: str, drops: DropCounter, *, stale_at: float
) -> Analytics:
    """The figures of one stream. Raises ``UpstreamError``."""
    answer = await requests.get(STREAM_ANALYTICS, params={"period": period}, streamId=stream.id)
    record = Record.from_response(answer.data, drops)
    if record.text("streamId") not in ("", stream.id):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{STREAM_ANALYTICS}: the answer is about another stream")
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


async def fetch_dashboards(
    requests: Requests, settings: AnalyticsSettings, drops: DropCounter, *, stale_at: float
) -> Analytics:
    """The dashboards' numbers. Raises ``UpstreamError``."""
    period, metric = settings.dashboards_period, settings.dashboards_metric
    params = {"period": period, **({} if metric is None else {"metric": metric})}
    answer = await requests.get(DASHBOARDS, params=params)
    metrics = Record.from_response(answer.data, drops).record("metrics")
    if metrics is None:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{DASHBOARDS}: no metrics in the answer")
    numbers = numbers_inside(metrics.raw, period=period, limit=MAX_DASHBOARD_NUMBERS)
    return Analytics(period=period, platform_metrics=numbers, stale_at=stale_at)
