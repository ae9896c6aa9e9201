"""Run the demo's fleet and an exporter that polls it through minutes or hours, without waiting for them.

The exporter polls the simulator on a clock that runs ahead, and sends its alerts to a real Alertmanager.
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

from exporter.alerting.sidecar import Sidecar
from exporter.cli.demo import exporter_configuration
from exporter.cli.settings import load_settings
from exporter.service import Service
from exporter.simulator.context import Context
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.simulator_app import make_simulator
from tests.fake_clock import FakeClock
from tests.real.alertmanager import Alertmanager, running_alertmanager

BEGIN = 1_790_000_000.0
"""Any time of day will do, as long as it is the same each time."""
STEP_SECONDS = 15.0
GENEROUS_ROUNDS, PATIENT_ROUNDS = 20_000, 100


@dataclass(frozen=True)
class ScheduledFault:
    """A fault of the simulator; ``begin`` and ``end`` are fractions of the run."""

    platform: Platform
    kind: FaultKind
    begin: float
    end: float
    which: int | None = 0
    """The place among the platform's streams; None: the whole platform."""


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
)


class FastForwardClock(FakeClock):
    """Runs as the machine's clock does, and ahead of it by what it is advanced: so requests take their real time."""

    def __init__(self) -> None:
        super().__init__(now=BEGIN)
        self._began = time.monotonic()

    def now(self) -> float:
        return super().now() + time.monotonic() - self._began

    def monotonic(self) -> float:
        return super().monotonic() + time.monotonic() - self._began

    def advance_to(self, now: float) -> None:
        self.advance(max(0.0, now - self.now()))


@dataclass(frozen=True)
class FastForwardRun:
    """An exporter over a simulated fleet, ready to run."""

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
        """Run for a time; ``each`` is called after every round of polls."""
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
    """An exporter with a sidecar, over a fleet of so many streams."""
    clock, fleet = FastForwardClock(), Fleet(streams)
    platforms = web.Application(middlewares=[_spoil_one_session(fleet)])
    platforms.add_subapp("/simulator", make_simulator(Context(fleet, clock)))
    platforms.router.add_post("/pager", _accept)
    with running_alertmanager(directory) as alertmanager:
        async with TestServer(platforms) as simulator:
            configuration = exporter_configuration(fleet, str(simulator.make_url("/simulator")))
            configuration["defaults"]["interval"] = f"{STEP_SECONDS:g}s"
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


def _spoil_one_session(fleet: Fleet) -> Middleware:
    """A session of WAVE that is refused every third time, and another third has a field of the wrong type.

    The simulator has no such faults; and the session is never lost for long.
    """
    path = f"/sessions/{fleet.streams(Platform.WAVE)[0].id}"
    turns = cycle(("answered", "refused", "odd"))

    @web.middleware
    async def spoil(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if not request.path.endswith(path) or answer.status != 200 or not isinstance(answer, web.Response):
            return answer
        # the headers, the simulator's time among them, stay
        match next(turns):
            case "refused":
                answer.set_status(403)
            case "odd":
                answer.text = json.dumps(json.loads(answer.text or "") | {"viewers": "several"})
        return answer

    return spoil


async def _wait_until_settled(service: Service, clock: FastForwardClock) -> None:
    """Until every poll that is due has been made, and every alert sent.

    Some wait on the clock within a poll: it is moved a little then.
    """
    for round_ in range(GENEROUS_ROUNDS):
        coordinators = service._coordinators.values()
        polled = all(not c._busy and c._schedule.due > clock.monotonic() for c in coordinators)
        if polled and _are_all_alerts_sent(service.sidecar):
            return
        await asyncio.sleep(0.002)
        clock.advance(0.0 if round_ < PATIENT_ROUNDS else 0.05)
    raise AssertionError("the polls do not end")


def _are_all_alerts_sent(sidecar: Sidecar) -> bool:
    return not sidecar._new_states and not any(queue.waiting for queue in sidecar._notifier.queues)


def _inject_fault(fleet: Fleet, fault: ScheduledFault, at: float, seconds: float) -> None:
    index = None if fault.which is None else _longest_streams(fleet, fault.platform)[fault.which].index
    fleet.faults.inject(fault.platform, index, fault.kind, at, (fault.end - fault.begin) * seconds)


def _longest_streams(fleet: Fleet, platform: Platform) -> list[Stream]:
    return sorted(fleet.streams(platform), key=lambda stream: (-stream.cycles, stream.index))
