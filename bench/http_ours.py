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
from exporter.metrics.self_metrics import Instruments
from exporter.model import UpstreamView
from exporter.runtime.memory_tuning import keep_what_is_freed
from exporter.web.metrics_handler import Scrapes


@asynccontextmanager
async def serving(streams: int, patterns: str) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Commands: ``update``."""
    keep_what_is_freed()
    fleet = Streams(streams, load_patterns(patterns))
    upstreams = [Upstream(*pair) for pair in zip(fleet.patterns, trackers(fleet.patterns), strict=True)]
    views: tuple[UpstreamView, ...] = ()

    def update() -> None:
        nonlocal views
        poll_all(upstreams, fleet, exposition, POLLED_AT)
        views = tuple(upstream.view for upstream in upstreams)

    exposition = Exposition(lambda: views, Instruments())
    update()
    scrapes = Scrapes(exposition)
    app = web.Application()
    app.router.add_get("/metrics", scrapes.handle)
    async with served(app) as port:
        yield port, {"update": update}
    scrapes.close()
