"""Setting the wall clock changes neither which alerts Alertmanager sees firing, nor when."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from exporter.model import Reason
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import fake_alertmanager, is_firing, parse_time, run_event_loop
from tests.sidecar.sidecar_harness import HEALTHY, INTERVAL, UNHEALTHY, SidecarHarness, sidecar_harness, sidecar_process

NAME = "StreamUnhealthy"
HOUR, DAY = 3600.0, 86400.0
STEPS = [HOUR, -HOUR, DAY, -DAY]
UNHEALTHY_SECONDS, WHOLE_SECONDS = 240, 1500
MOMENTS = {"pending": 60, "firing": 180, "kept firing": 300, "resolved": 600}
"""Seconds after the stream became unhealthy, by the alert's phase at that time."""


async def phases_received(step: float, at: float) -> list[tuple[float, str]]:
    """Run through one alert; return the changes that Alertmanager sees, with their times."""
    seen: list[tuple[float, str]] = []
    starts: set[str] = set()
    async with sidecar_harness(thresholds={"StreamDegraded": 0.01}) as running:
        clock, alertmanager = running.clock, running.alertmanager
        began = clock.monotonic()
        for elapsed in range(0, WHOLE_SECONDS, int(INTERVAL)):
            if elapsed == at:
                clock.step(step)
            await running.publish(UNHEALTHY if elapsed < UNHEALTHY_SECONDS else HEALTHY)
            await running.wait_until_sent()
            received = alertmanager.received(NAME)
            phase = "none" if not received else "firing" if is_firing(received[-1], clock.now()) else "resolved"
            if phase == "firing":
                starts.add(received[-1]["startsAt"])
            if not seen or seen[-1][1] != phase:
                seen.append((clock.monotonic() - began, phase))
            clock.advance(INTERVAL)
            await run_event_loop()
        assert all(parse_time(alert["endsAt"]) >= parse_time(alert["startsAt"]) for alert in alertmanager.alerts), (
            "Alertmanager refuses an alert that ends before it starts"
        )
        assert len(starts) == 1
        last = parse_time(alertmanager.received("StreamSidecarWatchdog")[-1]["endsAt"])
        assert last <= clock.now() + 240, "the watchdog ends soon after the sidecar"
    return seen


@pytest.mark.parametrize(("phase", "step"), [("pending", 0.0), *itertools.product(MOMENTS, STEPS)])
async def test_step_of_the_wall_clock_changes_no_phase(phase: str, step: float) -> None:
    assert await phases_received(step, MOMENTS[phase]) == [(0, "none"), (120, "firing"), (360, "resolved")]


async def test_resolved_alert_is_repeated_for_the_same_time_after_a_step() -> None:
    async with sidecar_harness(thresholds={NAME: {"for": "0s"}, "StreamDegraded": 0.01}) as running:
        running.alertmanager.uptime = None
        await running.publish(UNHEALTHY)
        await running.pass_time(150, HEALTHY)
        await running.wait_until_sent()
        running.clock.step(HOUR)
        await running.pass_time(600, HEALTHY)
        await running.wait_until_sent()
        repeated = len(running.alertmanager.received(NAME))
        running.clock.step(-DAY)
        await running.pass_time(240, HEALTHY)
        await running.wait_until_sent()
        assert len(running.alertmanager.received(NAME)) >= repeated + 4
        assert not running.is_firing(NAME)
        await running.pass_time(120, HEALTHY)
        repeated = len(running.alertmanager.received(NAME))
        await running.pass_time(300, HEALTHY)
        await running.wait_until_sent()
        assert len(running.alertmanager.received(NAME)) == repeated


@pytest.mark.parametrize("step", [0.0, *STEPS])
async def test_alert_fires_between_polls_despite_clock_steps(step: float) -> None:
    async with sidecar_harness() as running:
        await running.publish(up=False, last_error_reason=Reason.CONNECT)
        running.clock.step(step)
        running.clock.advance(14)
        await run_event_loop()
        assert running.states() == {"StreamUpstreamDown": "pending"}
        running.clock.advance(1.1)
        await run_event_loop()
        assert running.states() == {"StreamUpstreamDown": "firing"}


async def test_large_clock_step_is_logged_once() -> None:
    async with sidecar_harness() as running:
        with structlog.testing.capture_logs() as logs:
            running.clock.step(5)
            await running.pass_time(30, HEALTHY)
            running.clock.step(-HOUR)
            await running.pass_time(60, HEALTHY)
        assert [(line["event"], line["seconds"]) for line in logs] == [
            ("wall clock was set; sending all alerts again", -3595)
        ]


@pytest.mark.parametrize("boot", ["boot", "next boot"])
@pytest.mark.parametrize("step", [0.0, *STEPS])
async def test_alert_survives_a_restart_with_a_step(tmp_path: Path, step: float, boot: str) -> None:
    """The clock steps while the first process runs. After a reboot, the wall clock measures the 60 s of downtime."""
    state_file, clock = tmp_path / "alerts.json", FakeClock()
    alerting: dict[str, Any] = {"thresholds": {NAME: {"for": "0s"}, "StreamDegraded": {"for": "10m"}}}
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file, **alerting) as before:
            await before.publish(UNHEALTHY)
            await before.pass_time(300, UNHEALTHY)
            clock.step(step)
            await before.pass_time(15, UNHEALTHY)
            assert before.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
        clock.advance(60)
        if boot != clock.boot_id():
            clock = FakeClock(clock.now(), 20.0, boot=boot)
        async with sidecar_process(clock, alertmanager, state_file, **alerting) as after:
            await after.pass_time(210, UNHEALTHY)
            assert after.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
            await after.pass_time(15, UNHEALTHY)
            assert after.states() == {f"{NAME} main": "firing", "StreamDegraded main": "firing"}
            await after.wait_until_sent()
            assert after.is_firing(NAME)
        assert len({alert["startsAt"] for alert in alertmanager.received(NAME)}) == 1


@pytest.mark.parametrize("step", STEPS)
async def test_clock_set_between_two_processes_of_one_boot_loses_no_alert(tmp_path: Path, step: float) -> None:
    state_file, clock = tmp_path / "alerts.json", FakeClock()
    alerting: dict[str, Any] = {"thresholds": {NAME: {"for": "0s"}, "StreamDegraded": {"for": "10m"}}}
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file, **alerting) as before:
            await before.publish(UNHEALTHY)
            await before.pass_time(300, UNHEALTHY)
        clock.step(step)
        clock.advance(60)
        after = SidecarHarness(clock, alertmanager)
        await after.apply(state_file=str(state_file), **alerting)
        assert after.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
        await after.pass_time(240, UNHEALTHY)
        assert after.states()["StreamDegraded main"] == "firing"
        await after.wait_until_sent()
        assert after.is_firing(NAME)
        assert len({alert["startsAt"] for alert in alertmanager.received(NAME)}) == 1
        await after.sidecar.stop()
