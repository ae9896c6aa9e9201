"""WAVE's own Prometheus export, fetched as text.

Source: WAVE API reference, Streaming, "Export Prometheus metrics". No metric name of it is published. The export has a
key of its own, sent as ``X-API-Key``.
"""

from __future__ import annotations

from exporter.http.client import Requests
from exporter.model import PassthroughText
from exporter.platforms.wave.wave_settings import PrometheusSettings

EXPORT = "GET /streaming/analytics/prometheus"
KEY_HEADER = "X-API-Key"
_ACCEPT = {"Accept": "text/plain;version=0.0.4"}


async def fetch_export(requests: Requests, settings: PrometheusSettings, *, stale_at: float) -> PassthroughText:
    """Fetch the whole export. Raises ``UpstreamError``."""
    params = {"period": settings.period, **({} if settings.stream_id is None else {"streamId": settings.stream_id})}
    answer = await requests.get(EXPORT, params=params, json=False, headers=_ACCEPT)
    return PassthroughText(
        text=answer.text or "", prefix=settings.prefix, max_series=settings.max_series, stale_at=stale_at
    )
