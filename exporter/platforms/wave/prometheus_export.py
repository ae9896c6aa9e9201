"""WAVE's own Prometheus export, read into families as they are.

Source: WAVE API reference, Streaming, "Export Prometheus metrics". No metric name of it is published. The export has a
key of its own, sent as ``X-API-Key``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

from prometheus_client import Metric
from prometheus_client.parser import text_fd_to_metric_families

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import PassthroughFamily, PassthroughMetrics, PassthroughSample, Reason
from exporter.platforms.wave.wave_settings import PrometheusSettings

EXPORT = "GET /streaming/analytics/prometheus"
KEY_HEADER = "X-API-Key"
_ACCEPT = {"Accept": "text/plain;version=0.0.4"}
_KINDS = {"unknown": "untyped"}
"""The parser's word where it is not that of the format."""


async def fetch_export(requests: Requests, settings: PrometheusSettings, *, stale_at: float) -> PassthroughMetrics:
    """The whole export. Raises ``UpstreamError``; the event loop is free while it is read."""
    params = {"period": settings.period, **({} if settings.stream_id is None else {"streamId": settings.stream_id})}
    answer = await requests.get(EXPORT, params=params, json=False, headers=_ACCEPT)
    return await asyncio.to_thread(read_export, answer.text or "", settings, stale_at=stale_at)


def read_export(text: str, settings: PrometheusSettings, *, stale_at: float) -> PassthroughMetrics:
    """Text 0.0.4: up to ``max_series`` series, no timestamps. Raises ``UpstreamError`` (``bad_response``)."""
    lines = text.split("\n")
    taken, series = _bounded(lines, settings.max_series)
    try:
        families = _families(text_fd_to_metric_families(islice(lines, taken)))  # type: ignore[arg-type] # any lines do
    except Exception:
        # the parser has no error of its own, and its texts quote the line
        raise UpstreamError(Reason.BAD_RESPONSE, f"{EXPORT}: not in the text format of Prometheus") from None
    return PassthroughMetrics(
        prefix=settings.prefix, families=families, dropped=max(0, series - settings.max_series), stale_at=stale_at
    )


def _bounded(lines: list[str], max_series: int) -> tuple[int, int]:
    """How many lines hold the series that are allowed, and how many series there are in all."""
    series, taken = 0, len(lines)
    for index, line in enumerate(lines):
        content = line.strip()
        if content and not content.startswith("#"):
            series += 1
            if series == max_series + 1:
                taken = index
    return taken, series


def _families(metrics: Iterator[Metric]) -> tuple[PassthroughFamily, ...]:
    """One family for each name and type: lines without a type come from the parser one by one."""
    found: dict[tuple[str, str], tuple[str, list[PassthroughSample]]] = {}
    for metric in metrics:
        kind = _KINDS.get(metric.type, metric.type)
        # the parser takes the ending from a counter's name, and adds it to its samples' names where it is missing
        name = f"{metric.name}_total" if kind == "counter" else metric.name
        _, samples = found.setdefault((name, kind), (metric.documentation, []))
        samples.extend(
            PassthroughSample(sample.name, tuple(sample.labels.items()), sample.value) for sample in metric.samples
        )
    return tuple(
        PassthroughFamily(name, kind, help_, tuple(samples))
        for (name, kind), (help_, samples) in found.items()
        if samples
    )
