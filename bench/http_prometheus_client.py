"""``/metrics`` of the same streams by prometheus_client's own server, from a custom collector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

from bench.fleet import Streams, load_patterns
from bench.prometheus_client_model import FamiliesCollector


@asynccontextmanager
async def serving(streams: int, patterns: str) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """No commands of its own."""
    registry = CollectorRegistry()
    registry.register(FamiliesCollector(Streams(streams, load_patterns(patterns)).views()))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port, {}
    server.shutdown()
    thread.join()
