"""Outages of one platform after the other cause no stream alerts. ``tests/load`` has the long run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from aiohttp.test_utils import TestServer

from exporter.cli.settings import load_settings
from exporter.service import Service
from exporter.simulator.context import Context
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import Platform
from exporter.simulator.simulator_app import make_simulator
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import fake_alertmanager, run_event_loop
from tests.sidecar.test_healthy_fleet import configuration, is_idle

OUTAGE_SECONDS, AFTERWARDS_SECONDS, STEP_SECONDS = 300.0, 330.0, 10.0
OUTAGES = {Platform.LIVEPEER: FaultKind.TRUNCATED, Platform.STORM: FaultKind.AUTH, Platform.WAVE: FaultKind.HTML}


@pytest.mark.slow
@pytest.mark.no_cover
async def test_platform_outages_fire_no_stream_alerts(tmp_path: Path) -> None:
    clock = FakeClock()
    fleet = Fleet(60, seed=7, incidents=False)
    context = Context(fleet, clock)
    async with TestServer(make_simulator(context)) as server, fake_alertmanager() as alertmanager:
        settings = configuration(fleet, clock.now(), str(server.make_url("")).rstrip("/"), alertmanager.url)
        for upstream in settings["upstreams"]:
            upstream["interval"] = "30s"
            # in real time; a truncated response takes all of it
            upstream["timeout"] = "3s"
        settings["alerting"]["state_file"] = str(tmp_path / "alerts.json")
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(settings))
        service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=clock)
        await service.start()
        try:
            await pass_time(service, clock, 180.0)
            for platform, kind in OUTAGES.items():
                live = live_streams(service, platform)
                fleet.faults.inject(platform, None, kind, clock.now(), OUTAGE_SECONDS)
                await pass_time(service, clock, OUTAGE_SECONDS - STEP_SECONDS)
                unknown = [s for v in service.store.states() if v.platform == platform.value for s in v.streams]
                assert {s.status.value for s in unknown} == {"unknown"}
                assert {s.identity.stream for s in unknown if s.was_live} == live, (
                    "they stay, with their last known state"
                )
                await pass_time(service, clock, AFTERWARDS_SECONDS)
                assert len(live_streams(service, platform)) >= 0.9 * len(live)
        finally:
            await service.stop()
    received = {(alert["labels"]["alertname"], alert["labels"].get("stream", "")) for alert in alertmanager.alerts}
    assert {name for name, stream in received if stream} == set()
    assert {name for name, stream in received if not stream} >= {"StreamUpstreamDown", "StreamUpstreamAuthFailing"}


def live_streams(service: Service, platform: Platform) -> set[str]:
    states = [view for view in service.store.states() if view.platform == platform.value]
    return {stream.identity.stream for view in states for stream in view.streams if stream.live}


async def pass_time(service: Service, clock: FakeClock, seconds: float) -> None:
    until = clock.now() + seconds
    while clock.now() < until:
        clock.advance(STEP_SECONDS)
        async with asyncio.timeout(120):
            while not is_idle(service, clock.now()):  # noqa: ASYNC110 - waits for real responses
                await asyncio.sleep(0.005)
        await run_event_loop(100)
