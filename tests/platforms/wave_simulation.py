"""A simulated WAVE and the exporter's side of it on one clock, which the test moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from exporter.http.client import UpstreamClient
from exporter.platforms.wave import PLATFORM
from exporter.platforms.wave.wave_settings import WaveSettings
from exporter.simulator import Fleet, Options, make_app
from exporter.simulator.context import API_KEY, TOKEN
from exporter.simulator.simulated_streams import Platform, Stream
from tests.fake_clock import FakeClock
from tests.platforms.platform_harness import Polled


class SimulatedWave:
    """WAVE over a fleet; ``answers`` counts what it answered, by status."""

    def __init__(self, fleet: Fleet, clock: FakeClock) -> None:
        self.fleet = fleet
        self.clock = clock
        self.url = ""
        self.answers: Counter[int] = Counter()

    @property
    def streams(self) -> list[Stream]:
        """WAVE's streams."""
        return self.fleet.streams(Platform.WAVE)

    def live(self, **wanted: Any) -> Stream:
        """A stream that is on the air, and stays there for a quarter of an hour."""
        now = self.clock.now()
        for stream in self.streams:
            is_wanted = all(getattr(stream, name) == value for name, value in wanted.items())
            if is_wanted and self.fleet.is_live(stream, now) and self.fleet.is_live(stream, now + 900):
                return stream
        raise AssertionError("no such stream is live")

    def settings(self, **given: Any) -> WaveSettings:
        base = {"name": "wave", "platform": "wave", "url": self.url, "auth": {"bearer_token": TOKEN}}
        return WaveSettings.model_validate({**base, **given})

    def client(self) -> UpstreamClient:
        """To be closed by the test."""
        settings = self.settings(sessions=["any"])
        return UpstreamClient.from_settings(settings, self.clock, lambda endpoint, code, seconds: None)

    @asynccontextmanager
    async def polled(self, **given: Any) -> AsyncIterator[Polled]:
        settings = self.settings(**given)
        client = UpstreamClient.from_settings(settings, self.clock, lambda endpoint, code, seconds: None)
        try:
            yield Polled(PLATFORM(settings, client, self.clock), client, settings.timeout)
        finally:
            await client.close()


EXPORT = {"enabled": True, "api_key": API_KEY}


@asynccontextmanager
async def simulated_wave(streams: int = 60, *, options: Options | None = None) -> AsyncIterator[SimulatedWave]:
    """The simulator, running."""
    wave = SimulatedWave(Fleet(streams, seed=1), FakeClock())

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        wave.answers[answer.status] += 1
        return answer

    app = web.Application(middlewares=(count,))
    app.add_subapp("/simulated", make_app(wave.fleet, wave.clock, options))
    async with TestServer(app) as server:
        wave.url = str(server.make_url("/simulated/wave/api/v1"))
        yield wave
