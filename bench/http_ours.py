"""``/metrics`` of this exporter over HTTP, with new values whenever they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bench.exposition_ours import POLLED_AT, Upstream, poll_all
from bench.fleet import Streams, load_patterns, trackers
from bench.serving import served
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import UpstreamState
from exporter.runtime.memory_tuning import tune_allocator
from exporter.web.metrics_handler import MetricsHandler


@asynccontextmanager
async def serving(streams: int, patterns: str) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Commands: ``update``."""
    tune_allocator()
    fleet = Streams(streams, load_patterns(patterns))
    upstreams = [Upstream(*pair) for pair in zip(fleet.patterns, trackers(fleet.patterns), strict=True)]
    views: tuple[UpstreamState, ...] = ()

    def update() -> None:
        nonlocal views
        poll_all(upstreams, fleet, exposition, POLLED_AT)
        views = tuple(upstream.view for upstream in upstreams)

    exposition = Exposition(lambda: views, ExporterMetrics())
    update()
    scrapes = MetricsHandler(exposition)
    app = web.Application()
    app.router.add_get("/metrics", scrapes.handle)
    async with served(app) as port:
        yield port, {"update": update}
    scrapes.close()
