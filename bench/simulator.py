"""The simulator, for an exporter in another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.serving import served
from exporter.runtime.clock import Clock
from exporter.runtime.memory_tuning import freeze_startup_objects
from exporter.simulator.app import make_app
from exporter.simulator.fleet import Fleet


@asynccontextmanager
async def serving(streams: int) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Commands: ``upstreams``, the platforms with lists, which have two thirds of the streams."""
    fleet = Fleet(streams)
    fleet.prepare(Clock().now())
    freeze_startup_objects()
    async with served(make_app(fleet)) as port:

        def upstreams() -> list[dict[str, Any]]:
            made = fleet.configuration(f"http://127.0.0.1:{port}")["upstreams"]
            # details of health are asked for stream by stream
            return [{**of, "health_details": False} if of["platform"] == "livepeer" else of for of in made[:2]]

        yield port, {"upstreams": upstreams}
