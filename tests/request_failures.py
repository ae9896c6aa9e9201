"""Random failures of requests to the simulated platforms.

``python -m tests.request_failures --share 0.05 --streams 1000 --port 10072`` runs the simulator with them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from email.utils import formatdate
from enum import StrEnum

from aiohttp import web
from aiohttp.typedefs import Handler

from exporter.runtime.clock import Clock
from exporter.simulator.context import Context
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_simulator

PLATFORM_PATHS = ("/livepeer/", "/storm/", "/wave/api/")
TIMEOUT_SECONDS = 15.0
"""Longer than the exporter's default timeouts."""


class Failure(StrEnum):
    """What a request gets instead of a response."""

    ERROR = "error"
    """Status 500."""
    UNAVAILABLE = "unavailable"
    """Status 503."""
    RESET = "reset"
    """The connection is closed without a response."""
    TRUNCATED = "truncated"
    """The connection is closed in the middle of the response."""
    TIMEOUT = "timeout"
    """No response in time; or an immediate 504, as from a gateway, in tests that cannot wait."""


class RequestFailures:
    """Makes a share of the requests fail, in all ways equally often.

    Which requests fail depends on the seed, the request and how often it was made before, but not on the order of
    concurrent requests, which differs between runs.
    """

    def __init__(self, share: float, seed: int, clock: Clock, *, hold_timeouts: bool) -> None:
        """``hold_timeouts``: whether a request without a response takes real seconds."""
        self._share = share
        self._seed = seed
        self._clock = clock
        self._hold_timeouts = hold_timeouts
        self._times_made: Counter[str] = Counter()
        self.requests = 0
        """Number of requests so far."""
        self.failed: Counter[Failure] = Counter()
        """Number of failed requests so far."""
        self.in_progress = 0

    def install(self, app: web.Application) -> None:
        """Add the failures to a simulator's application, which must not have started."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.startswith(PLATFORM_PATHS):
                return await handler(request)
            self.requests += 1
            self.in_progress += 1
            try:
                return await self._respond(request, handler)
            finally:
                self.in_progress -= 1

        app.middlewares.append(middleware)

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        failure = self._choose_failure(f"{request.method} {request.path_qs}")
        if failure is None:
            return await handler(request)
        self.failed[failure] += 1
        match failure:
            case Failure.ERROR:
                return web.Response(status=500)
            case Failure.UNAVAILABLE:
                return web.Response(status=503)
            case Failure.RESET:
                return _abort_connection(request)
            case Failure.TRUNCATED:
                return await _send_half(request, self._clock.now())
            case Failure.TIMEOUT:
                if self._hold_timeouts:
                    await asyncio.sleep(TIMEOUT_SECONDS)
                return web.Response(status=504)

    def _choose_failure(self, request: str) -> Failure | None:
        self._times_made[request] += 1
        chance = random.Random(f"{self._seed} {self._times_made[request]} {request}")
        return chance.choice(list(Failure)) if chance.random() < self._share else None


def _abort_connection(request: web.Request) -> web.Response:
    """Close the connection without a response; the returned one is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _send_half(request: web.Request, now: float) -> web.StreamResponse:
    """Send the headers and the beginning of a body, then close the connection."""
    headers = {"Content-Type": "application/json", "Date": formatdate(now, usegmt=True)}
    response = web.StreamResponse(headers=headers)
    response.content_length = 100
    await response.prepare(request)
    await response.write(b'[{"id": ')
    if request.transport is not None:
        request.transport.close()
    return response


def main() -> None:
    """Run the simulator until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.request_failures")
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="seed of the fleet and of the failures")
    chosen = parser.parse_args()
    clock = Clock()
    fleet = Fleet(chosen.streams, seed=chosen.seed, incidents=False)
    fleet.prepare(clock.now())
    app = make_simulator(Context(fleet, clock))
    RequestFailures(chosen.share, chosen.seed, clock, hold_timeouts=True).install(app)
    web.run_app(app, host="127.0.0.1", port=chosen.port, shutdown_timeout=2.0, access_log=None)


if __name__ == "__main__":
    main()
