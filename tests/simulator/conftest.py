"""A simulator on a real port, over a clock that the test moves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporter.simulator import Fleet, Options, make_app
from exporter.simulator.context import API_KEY, TOKEN
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.stream_conditions import Condition
from tests.fake_clock import FakeClock

BEARER = {"Authorization": f"Bearer {TOKEN}"}
EXPORT_KEY = {"X-API-Key": API_KEY}


class Simulator:
    """The fleet, its clock, and requests to the platforms."""

    def __init__(self, fleet: Fleet, clock: FakeClock, client: TestClient[web.Request, web.Application]) -> None:
        self.fleet = fleet
        self.clock = clock
        self.client = client

    async def ask(self, path: str, *, method: str = "GET", status: int = 200, **options: Any) -> Any:
        """The JSON of an answer that has this status; signed in unless ``headers`` say otherwise."""
        options.setdefault("headers", BEARER)
        async with self.client.request(method, path, **options) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def fault(
        self, platform: Platform, fault: str, stream: Stream | None = None, seconds: str | None = None
    ) -> None:
        """Order a fault."""
        order = {"platform": platform, "stream": stream and stream.id, "fault": fault, "for": seconds}
        await self.ask("/faults", method="POST", status=201, json=order)

    def steady(self, platform: Platform, seconds: float = 900.0, **wanted: Any) -> Stream:
        """Moves the clock on until one of the streams is, and for a while stays, in the best of health; returns it."""
        for _ in range(1000):
            now = self.clock.now()
            for stream in self.fleet.streams(platform):
                ingest = self.fleet.latest_ingest(stream, now)
                span = ingest.span(now)
                room = ingest.course.natural_start + span.end - now
                since = now - (ingest.course.natural_start + span.start)
                well = ingest.is_live(now) and span.condition is Condition.STEADY and room > seconds and since > 300
                if well and all(getattr(stream, name) == value for name, value in wanted.items()):
                    return stream
            self.clock.advance(60)
        raise AssertionError("no steady stream")


Simulate = Callable[..., AbstractAsyncContextManager[Simulator]]


@pytest.fixture
def simulate() -> Simulate:
    @contextlib.asynccontextmanager
    async def start(
        streams: int = 60, *, seed: int = 1, speed: float = 1.0, options: Options | None = None
    ) -> AsyncIterator[Simulator]:
        fleet, clock = Fleet(streams, seed=seed, speed=speed), FakeClock()
        async with TestClient(TestServer(make_app(fleet, clock, options))) as client:
            yield Simulator(fleet, clock, client)

    return start
