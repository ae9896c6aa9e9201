"""A simulator on a real port, with a clock that the test advances."""

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

    async def request(self, path: str, *, method: str = "GET", status: int = 200, **options: Any) -> Any:
        """Return the JSON of a response after checking its status; with the token unless ``headers`` are given."""
        options.setdefault("headers", BEARER)
        async with self.client.request(method, path, **options) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def inject(
        self, platform: Platform, fault: str, stream: Stream | None = None, seconds: str | None = None
    ) -> None:
        body = {"platform": platform, "stream": stream and stream.id, "fault": fault, "for": seconds}
        await self.request("/faults", method="POST", status=201, json=body)

    def find_steady(self, platform: Platform, seconds: float = 900.0, **wanted: Any) -> Stream:
        """Advance the clock until a stream is steady and stays so for ``seconds``; return the stream."""
        for _ in range(1000):
            now = self.clock.now()
            for stream in self.fleet.streams(platform):
                ingest = self.fleet.latest_ingest(stream, now)
                span = ingest.span(now)
                remaining = ingest.course.natural_start + span.end - now
                elapsed = now - (ingest.course.natural_start + span.start)
                is_steady = ingest.is_live(now) and span.condition is Condition.STEADY and remaining > seconds
                if is_steady and elapsed > 300 and all(getattr(stream, k) == v for k, v in wanted.items()):
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
