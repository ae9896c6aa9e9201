"""Run an exporter with the demo's fleet on a fast-forward clock.

The exporter polls the simulator and sends its alerts to a real Alertmanager.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler, Middleware

from exporter.alerting.sidecar_gate import SidecarGate
from exporter.cli.demo import exporter_configuration
from exporter.cli.settings import load_settings
from exporter.platforms.hls import Hls
from exporter.service import Service
from exporter.simulator.context import Context
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import PLAYBACK_PLATFORM, Platform, Stream
from exporter.simulator.simulator_app import make_simulator
from tests.fake_clock import FakeClock
from tests.real.alertmanager import Alertmanager, running_alertmanager

BEGIN = 1_790_000_000.0
"""Start of every run."""
STEP_SECONDS = 15.0
MAX_ROUNDS, ROUNDS_WITHOUT_ADVANCE = 20_000, 100


@dataclass(frozen=True)
class ScheduledFault:
    """A fault of the simulator; ``begin`` and ``end`` are fractions of the run."""

    platform: Platform
    kind: FaultKind
    begin: float
    end: float
    which: int | None = 0
    """Position among the platform's streams; None for the whole platform."""


SCHEDULED_FAULTS: Sequence[ScheduledFault] = (
    ScheduledFault(Platform.LIVEPEER, FaultKind.UNHEALTHY, 0.20, 0.45, 0),
    ScheduledFault(Platform.LIVEPEER, FaultKind.SLOW_TRANSCODE, 0.60, 1.00, 3),
    ScheduledFault(Platform.LIVEPEER, FaultKind.TRUNCATED, 0.50, 0.53, None),
    ScheduledFault(Platform.STORM, FaultKind.BITRATE_LOW, 0.55, 1.00, 1),
    ScheduledFault(Platform.STORM, FaultKind.FLAP, 0.30, 0.50, 4),
    ScheduledFault(Platform.STORM, FaultKind.DOWN, 0.70, 0.79, None),
    ScheduledFault(Platform.WAVE, FaultKind.STALL, 0.65, 1.00, 2),
    ScheduledFault(Platform.WAVE, FaultKind.UNHEALTHY, 0.10, 0.40, 5),
    ScheduledFault(Platform.WAVE, FaultKind.RATE_LIMIT, 0.85, 0.88, None),
    ScheduledFault(Platform.HLS, FaultKind.CDN_STALE, 0.40, 0.60, 1),
    ScheduledFault(Platform.HLS, FaultKind.SEGMENTS_MISSING, 0.75, 1.00, 0),
)


class FastForwardClock(FakeClock):
    """The real clock plus the time by which it was advanced, so that requests take their real time."""

    def __init__(self) -> None:
        super().__init__(now=BEGIN)
        self._started = time.monotonic()

    def now(self) -> float:
        return super().now() + time.monotonic() - self._started

    def monotonic(self) -> float:
        return super().monotonic() + time.monotonic() - self._started

    def advance_to(self, now: float) -> None:
        self.advance(max(0.0, now - self.now()))


@dataclass(frozen=True)
class FastForwardRun:
    """An exporter with a simulated fleet."""

    fleet: Fleet
    clock: FastForwardClock
    service: Service
    alertmanager: Alertmanager

    async def run_for(
        self,
        seconds: float,
        *,
        faults: Sequence[ScheduledFault] = SCHEDULED_FAULTS,
        each: Callable[[], None] = lambda: None,
    ) -> None:
        """Run for ``seconds`` of simulated time; call ``each`` after every round of polls."""
        pending = sorted(faults, key=lambda fault: fault.begin)
        at = BEGIN
        while at <= BEGIN + seconds:
            self.clock.advance_to(at)
            while pending and at >= BEGIN + pending[0].begin * seconds:
                _inject_fault(self.fleet, pending.pop(0), at, seconds)
            await _wait_until_settled(self.service, self.clock)
            each()
            at += STEP_SECONDS


@asynccontextmanager
async def fast_forward_run(directory: Path, streams: int = 60) -> AsyncIterator[FastForwardRun]:
    """Start an exporter and its sidecar with a fleet of ``streams`` streams."""
    clock, fleet = FastForwardClock(), Fleet(streams)
    platforms = web.Application(middlewares=[_corrupt_one_session(fleet)])
    platforms.add_subapp("/simulator", make_simulator(Context(fleet, clock)))
    platforms.router.add_post("/pager", _accept)
    with running_alertmanager(directory) as alertmanager:
        async with TestServer(platforms) as simulator:
            configuration = exporter_configuration(fleet, str(simulator.make_url("/simulator")), playback=True)
            step = f"{STEP_SECONDS:g}s"
            configuration["defaults"]["interval"] = step
            for upstream in configuration["upstreams"]:
                upstream |= {"interval": "10s", "whole_segment_every": step} if upstream["platform"] == "hls" else {}
            webhook = {"name": "pager", "url": str(simulator.make_url("/pager"))}
            configuration["alerting"] = {"alertmanagers": [{"url": alertmanager.url}], "webhooks": [webhook]}
            file = directory / "config.json"
            file.write_text(json.dumps(configuration))
            service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=clock)
            await service.start()
            try:
                yield FastForwardRun(fleet, clock, service, alertmanager)
            finally:
                await service.stop()


async def _accept(_request: web.Request) -> web.Response:
    return web.Response()


def _corrupt_one_session(fleet: Fleet) -> Middleware:
    """Refuse every third request for one WAVE session, and put a wrong type into every other third.

    The simulator has no such faults.
    """
    path = f"/sessions/{fleet.streams(Platform.WAVE)[0].id}"
    outcomes = cycle(("valid", "refused", "wrong type"))

    @web.middleware
    async def corrupt(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if not request.path.endswith(path) or answer.status != 200 or not isinstance(answer, web.Response):
            return answer
        # Keep the headers, which contain the simulated time.
        match next(outcomes):
            case "refused":
                answer.set_status(403)
            case "wrong type":
                answer.text = json.dumps(json.loads(answer.text or "") | {"viewers": "several"})
        return answer

    return corrupt


async def _wait_until_settled(service: Service, clock: FastForwardClock) -> None:
    """Wait until all due polls are complete, all segments are fetched, and all alerts are sent.

    Advance the clock a little for polls that wait on it.
    """
    for round_ in range(MAX_ROUNDS):
        coordinators = service._coordinators.values()
        polled = all(not c._busy and c._schedule.due > clock.monotonic() for c in coordinators)
        polled = polled and not any(c.platform._tasks for c in coordinators if isinstance(c.platform, Hls))
        if polled and _are_all_alerts_sent(service.sidecar):
            return
        await asyncio.sleep(0.002)
        clock.advance(0.0 if round_ < ROUNDS_WITHOUT_ADVANCE else 0.05)
    raise AssertionError("polls do not complete")


def _are_all_alerts_sent(gate: SidecarGate) -> bool:
    sidecar = gate.created
    return sidecar is None or not (sidecar._new_states or any(queue.waiting for queue in sidecar._notifier.queues))


def _inject_fault(fleet: Fleet, fault: ScheduledFault, at: float, seconds: float) -> None:
    owner = PLAYBACK_PLATFORM if fault.platform is Platform.HLS else fault.platform
    index = None if fault.which is None else _longest_streams(fleet, owner)[fault.which].index
    fleet.faults.inject(fault.platform, index, fault.kind, at, (fault.end - fault.begin) * seconds)


def _longest_streams(fleet: Fleet, platform: Platform) -> list[Stream]:
    return sorted(fleet.streams(platform), key=lambda stream: (-stream.cycles, stream.index))
