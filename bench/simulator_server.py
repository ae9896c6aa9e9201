"""The simulator, for an exporter in another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.server_process import serve_app
from exporter.runtime.clock import Clock
from exporter.runtime.memory_tuning import freeze_startup_objects
from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app


@asynccontextmanager
async def serving(streams: int) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Commands: ``upstreams``, the platforms with lists, which have two thirds of the streams."""
    fleet = Fleet(streams)
    fleet.prepare(Clock().now())
    freeze_startup_objects()
    async with serve_app(make_app(fleet)) as port:

        def upstreams() -> list[dict[str, Any]]:
            made = upstreams_config(fleet, f"http://127.0.0.1:{port}")["upstreams"]
            # health details are requested per stream
            return [{**of, "health_details": False} if of["platform"] == "livepeer" else of for of in made[:2]]

        yield port, {"upstreams": upstreams}
