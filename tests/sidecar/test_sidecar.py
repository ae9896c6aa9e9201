from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from aiohttp import web

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.annotations import format_time
from exporter.alerting.evaluator import Evaluator
from exporter.alerting.notification_queue import NotificationQueue
from exporter.alerting.rules import RULES_BY_NAME
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.state_file import AlertStateFile
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import HealthReason, Maintenance, Reason, Status
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import stream, view
from tests.sidecar.fake_alertmanager import accept_all, fake_alertmanager, parse_time, respond_with, run_event_loop
from tests.sidecar.sidecar_harness import HEALTHY, INTERVAL, UNHEALTHY, SidecarHarness, sidecar_harness, sidecar_process

NAME = "StreamUnhealthy"
KEPT = RULES_BY_NAME[NAME].keep_firing_seconds
ONLY = {"StreamDegraded": 0.01}
"""Threshold below every health score in these tests."""
STATE_FILES = Path(__file__).parent / "state_files"
AT_ONCE: dict[str, Any] = {"thresholds": {NAME: {"for": "0s"}, **ONLY}}


async def test_alert_is_sent_repeated_and_resolved() -> None:
    async with sidecar_harness(thresholds=ONLY) as running:
        clock, alertmanager = running.clock, running.alertmanager
        bad = stream(
            "main",
            health_score_ratio=0.35,
            health_reasons=(HealthReason.ISSUES, HealthReason.LOSS),
            issues=("It freezes",),
            last_ingest_bitrate_bytes_per_second=500_000.0,
            last_viewers=12,
        )
        await running.publish(bad)
        assert running.states() == {f"{NAME} main": "pending"}
        assert running.metric_value("stream_exporter_alerts", alertname=NAME, state="pending") == 1
        await running.pass_time(105, bad)
        await running.wait_until_sent()
        assert not alertmanager.received(NAME)

        await running.pass_time(15, bad)
        await running.wait_until_sent()
        fired_at = clock.now()
        began = format_time(fired_at - 120)
        (received,) = alertmanager.received(NAME)
        assert received["labels"] == {
            "alertname": NAME,
            "severity": "critical",
            "scope": "stream",
            "source": "sidecar",
            "platform": "livepeer",
            "upstream": "studio",
            "stream": "main",
        }
        page = "http://exporter:10071/streams?upstream=studio&stream=main"
        assert received["annotations"] == {
            "summary": "main on studio (livepeer) is unhealthy.",
            "description": "The health score of main on studio (livepeer) is 35%.",
            "value": "35%",
            "expected": "at least 50%",
            "since": began,
            "last_known": "4 Mbit/s, 12 viewers",
            "reasons": "packet loss, issues reported by the platform",
            "issues": "It freezes",
            "runbook_url": f"{DEFAULT_RUNBOOK_URL}#streamunhealthy",
            "page_url": page,
        }
        assert received["generatorURL"] == page
        assert parse_time(received["startsAt"]) == fired_at
        assert parse_time(received["endsAt"]) == fired_at + 4 * 60

        await running.pass_time(60, stream("main", health_score_ratio=0.2))
        await running.wait_until_sent()
        assert len(alertmanager.received(NAME)) == 2
        again = running.last_received(NAME)
        assert again["labels"] == received["labels"]
        assert again["annotations"]["value"] == "20%"
        assert parse_time(again["startsAt"]) == fired_at
        assert clock.now() + 180 < parse_time(again["endsAt"]) <= clock.now() + 240

        await running.pass_time(KEPT, HEALTHY)
        await running.wait_until_sent()
        assert running.is_firing(NAME)
        await running.pass_time(15, HEALTHY)
        await running.wait_until_sent()
        ended_at = parse_time(running.last_received(NAME)["endsAt"])
        assert ended_at <= clock.now()
        assert running.states() == {}
        assert running.metric_value("stream_exporter_alerts", alertname=NAME, state="firing") == 0

        states = len(alertmanager.received(NAME))
        await running.pass_time(300, HEALTHY)
        await running.wait_until_sent()
        assert len(alertmanager.received(NAME)) == states, "an accepted resolve is not repeated"
        alertmanager.restart()
        await running.pass_time(60, HEALTHY)
        await running.wait_until_sent()
        assert [parse_time(alert["endsAt"]) for alert in alertmanager.received(NAME)[states:]] == [ended_at]


async def test_resolve_is_repeated_for_15_minutes_if_restarts_cannot_be_noticed() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        running.alertmanager.uptime = None
        await running.publish(UNHEALTHY)
        await running.pass_time(KEPT + 15, HEALTHY)
        await running.wait_until_sent()
        assert not running.is_firing(NAME)
        repeated = len(running.alertmanager.received(NAME))
        await running.pass_time(870, HEALTHY)
        await running.wait_until_sent()
        assert len(running.alertmanager.received(NAME)) == repeated + 14
        await running.pass_time(300, HEALTHY)
        await running.wait_until_sent()
        assert len(running.alertmanager.received(NAME)) <= repeated + 15


async def test_resolved_alert_lapses_if_no_resolve_is_sent() -> None:
    """Another sidecar may see the stream differently, and the alert would alternate between firing and resolved."""
    async with sidecar_harness(**AT_ONCE, resolve="lapse") as running:
        await running.publish(UNHEALTHY)
        await running.pass_time(KEPT + 15, HEALTHY)
        await running.wait_until_sent()
        assert running.states() == {}
        lapses_at = running.clock.now() + 240
        assert parse_time(running.last_received(NAME)["endsAt"]) == lapses_at
        received = len(running.alertmanager.received(NAME))
        await running.pass_time(60, HEALTHY)
        running.alertmanager.restart()
        running.alertmanager.clock_offset = 30.0
        await running.pass_time(120, HEALTHY)
        await running.wait_until_sent()
        again = running.alertmanager.received(NAME)[received:]
        assert [parse_time(alert["endsAt"]) for alert in again] == [lapses_at + 30], "sent once, after the restart"
        await running.pass_time(90, HEALTHY)
        assert not running.is_firing(NAME)
        sent = len(running.alertmanager.received(NAME))
        running.alertmanager.restart()
        await running.pass_time(60, HEALTHY)
        await running.wait_until_sent()
        assert len(running.alertmanager.received(NAME)) == sent, "it would end another sidecar's alert"


async def test_lapsing_alert_ends_no_earlier_than_its_extended_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end is also the same for an Alertmanager that gets the alert late."""
    async with sidecar_harness(**AT_ONCE) as running, fake_alertmanager(clock=running.clock) as other:
        urls = [{"url": running.alertmanager.url}, {"url": other.url}]
        await running.apply(**AT_ONCE, resolve="lapse", alertmanagers=urls)
        monkeypatch.setattr(NotificationQueue, "round_seconds", lambda _: 100.0)
        await running.publish(UNHEALTHY)
        await running.pass_time(60, UNHEALTHY)
        await running.wait_until_sent()
        longest = parse_time(running.last_received(NAME)["endsAt"])
        assert longest == running.clock.now() + 400
        other.behave = respond_with(503)
        await running.pass_time(KEPT + 15, HEALTHY)
        assert running.states() == {}
        await running.pass_time(120, HEALTHY)
        other.behave = accept_all
        await running.pass_time(30, HEALTHY)
        await running.wait_until_sent()
        ends = {running.last_received(NAME)["endsAt"], other.received(NAME)[-1]["endsAt"]}
        assert len(ends) == 1
        assert parse_time(ends.pop()) >= longest


async def test_alert_ends_at_the_same_time_in_all_alertmanagers() -> None:
    """Otherwise a clustered Alertmanager in which it has not ended yet would notify again."""
    async with sidecar_harness(**AT_ONCE) as running, fake_alertmanager(clock=running.clock) as other:
        await running.apply(**AT_ONCE, alertmanagers=[{"url": running.alertmanager.url}, {"url": other.url}])
        await running.publish(UNHEALTHY)
        await running.wait_until_sent()

        async def take_a_second(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            running.clock.advance(1)
            return web.Response()

        other.behave = take_a_second
        running.clock.advance(60)
        await run_event_loop()
        await running.wait_until_sent()
        assert other.received(NAME)[-1]["endsAt"] == running.last_received(NAME)["endsAt"]


async def test_change_is_sent_at_once_and_the_watchdog_with_every_round() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        began = running.clock.now()
        await running.publish(UNHEALTHY)
        await running.alertmanager.until(lambda: running.alertmanager.received(NAME))
        running.clock.advance(60)
        await running.alertmanager.until(lambda: len(running.alertmanager.received(NAME)) == 2)
        await running.wait_until_sent()
        watchdog = running.alertmanager.received("StreamSidecarWatchdog")
        assert {parse_time(alert["startsAt"]) for alert in watchdog} == {began}
        assert parse_time(watchdog[-1]["endsAt"]) == running.clock.now() + 240
        assert watchdog[-1]["labels"] == {
            "alertname": "StreamSidecarWatchdog",
            "severity": "none",
            "scope": "exporter",
            "source": "sidecar",
        }


async def test_long_poll_interval_lengthens_the_horizon() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY, poll_interval_seconds=300.0)
        await running.wait_until_sent()
        assert parse_time(running.last_received(NAME)["endsAt"]) == running.clock.now() + 1200


async def test_alert_of_an_upstream_that_is_not_answering_causes_no_wakeups() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.pass_time(15, HEALTHY)
        await running.pass_time(15, stream("main", live=None, status=Status.UNKNOWN), up=False)
        slept = len(running.clock.slept)
        for _ in range(100):
            running.clock.advance(15)
            await run_event_loop(10)
        assert running.states()[f"{NAME} main"] == "firing"
        # only the rounds, and a timer or two for the upstream's own alert
        assert len(running.clock.slept) - slept < 100


async def test_cleared_alert_shows_when_it_resolves() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.wait_until_sent()
        assert "cleared" not in running.last_received(NAME)["annotations"]
        await running.pass_time(15, HEALTHY)
        resolves = format_time(running.clock.now() + KEPT).partition(" ")[2]
        await running.pass_time(60, HEALTHY)
        await running.wait_until_sent()
        assert running.is_firing(NAME)
        cleared = running.last_received(NAME)["annotations"]["cleared"]
        assert cleared == f"condition cleared, resolves at {resolves}" == "condition cleared, resolves at 20:28:55 UTC"
        await running.pass_time(60, UNHEALTHY)
        await running.wait_until_sent()
        assert "cleared" not in running.last_received(NAME)["annotations"]
        await running.pass_time(KEPT + 30, HEALTHY)
        await running.wait_until_sent()
        assert not running.is_firing(NAME)
        assert "cleared" not in running.last_received(NAME)["annotations"], "a resolved alert is not kept firing"


async def test_upstream_alert_has_the_reason_and_the_page_link() -> None:
    async with sidecar_harness() as running:
        await running.publish(up=False, last_error_reason=Reason.TIMEOUT)
        running.clock.advance(60)
        await run_event_loop()
        await running.wait_until_sent()
        received = running.last_received("StreamUpstreamDown")
        assert received["generatorURL"] == "http://exporter:10071/"
        assert received["annotations"] == {
            "summary": "studio (livepeer) is down: polls are failing.",
            "description": "No data from studio (livepeer); the state of its streams is unknown.",
            "value": "timeout",
            "expected": RULES_BY_NAME["StreamUpstreamDown"].expected,
            "since": "2024-09-10 20:26:40 UTC",
            "runbook_url": f"{DEFAULT_RUNBOOK_URL}#streamupstreamdown",
            "page_url": "http://exporter:10071/",
        }


# -- while an upstream is not answering --------------------------------------------------------------------------------

OFF_AIR = stream("main", live=False, status=Status.IDLE, expected=True)
LOST = stream("main", live=None, status=Status.UNKNOWN, expected=True, was_live=False)
OFFLINE = "StreamExpectedOffline"


async def test_pending_alert_pauses_during_an_outage_and_resumes() -> None:
    async with sidecar_harness() as running:
        await running.publish(OFF_AIR)
        await running.pass_time(30, OFF_AIR, up=False, answering=True)
        await running.pass_time(15, OFF_AIR, up=False)
        assert running.states()[f"{OFFLINE} main"] == "pending"
        await running.pass_time(600, LOST, up=False)
        assert running.states() == {f"{OFFLINE} main": "pending", "StreamUpstreamDown": "firing"}
        await running.publish(OFF_AIR)
        assert running.states() == {f"{OFFLINE} main": "pending"}, "the upstream's alert is not kept firing"
        running.clock.advance(14)
        await run_event_loop()
        assert running.states() == {f"{OFFLINE} main": "pending"}
        running.clock.advance(1.1)
        await run_event_loop()
        assert running.states() == {f"{OFFLINE} main": "firing"}
        await running.wait_until_sent()
        assert running.last_received(OFFLINE)["annotations"]["since"] == "2024-09-10 20:26:40 UTC"


@pytest.mark.parametrize("boot", ["boot", "next boot"])
async def test_paused_alert_stays_paused_across_a_restart(tmp_path: Path, boot: str) -> None:
    state_file, clock = tmp_path / "alerts.json", FakeClock()
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file) as before:
            await before.publish(OFF_AIR)
            await before.pass_time(30, OFF_AIR)
            await before.pass_time(300, LOST, up=False)
        clock.advance(120)
        if boot != clock.boot_id():
            clock = FakeClock(clock.now(), 20.0, boot=boot)
        async with sidecar_process(clock, alertmanager, state_file) as after:
            assert after.states()[f"{OFFLINE} main"] == "pending"
            await after.publish(LOST, up=None)
            await after.pass_time(300, LOST, up=False)
            await after.publish(OFF_AIR)
            assert after.states() == {f"{OFFLINE} main": "pending"}
            assert not alertmanager.received(OFFLINE)
            # it had been pending for 45 s when the upstream stopped answering
            await after.pass_time(15, OFF_AIR)
            assert after.states() == {f"{OFFLINE} main": "firing"}
            await after.wait_until_sent()
        assert alertmanager.received(OFFLINE)[-1]["annotations"]["since"] == "2024-09-10 20:26:40 UTC"


async def test_pending_alert_is_paused_until_the_first_poll_after_a_restart(tmp_path: Path) -> None:
    """Until then nothing is known."""
    state_file, clock = tmp_path / "alerts.json", FakeClock()
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file) as before:
            await before.publish(OFF_AIR)
        async with sidecar_process(clock, alertmanager, state_file) as after:
            await after.pass_time(120, LOST, up=None)
            assert after.states() == {f"{OFFLINE} main": "pending"}
            await after.pass_time(45, OFF_AIR)
            assert after.states() == {f"{OFFLINE} main": "pending"}
            await after.pass_time(15, OFF_AIR)
            assert after.states() == {f"{OFFLINE} main": "firing"}


async def test_upstream_alert_fires_on_time_while_a_stream_alert_is_paused() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.publish(HEALTHY)
        running.clock.advance(KEPT - 10)
        await running.publish(LOST, up=False)
        running.clock.advance(10.1)
        await run_event_loop()
        assert running.states() == {f"{NAME} main": "firing", "StreamUpstreamDown": "pending"}
        running.clock.advance(5)
        await run_event_loop()
        assert running.states() == {f"{NAME} main": "firing", "StreamUpstreamDown": "firing"}


# -- two severities of a rule ------------------------------------------------------------------------------------------

EXPECTED_UNKNOWN = "StreamExpectedUnknown"
EXPECTED_LIVE = stream("main", expected=True)


def logged_states(logs: list[Any], name: str = EXPECTED_UNKNOWN) -> list[tuple[str, str]]:
    """Return the severities and states of an alert's logged changes."""
    return [(line["severity"], line["state"]) for line in logs if line.get("alertname") == name]


async def test_warning_becomes_critical_without_a_resolve() -> None:
    async with sidecar_harness() as running:
        with structlog.testing.capture_logs() as logs:
            await running.publish(LOST)
            await running.pass_time(300, LOST)
            await running.wait_until_sent()
            assert {alert["labels"]["severity"] for alert in running.alertmanager.received(EXPECTED_UNKNOWN)} == {
                "warning"
            }
            await running.pass_time(600, LOST)
            await running.wait_until_sent()
            assert running.last_received(EXPECTED_UNKNOWN)["labels"]["severity"] == "critical"
            last_warning = running.alertmanager.received(EXPECTED_UNKNOWN, severity="warning")[-1]
            await running.pass_time(240, LOST)
            await running.wait_until_sent()
            assert running.states() == {f"{EXPECTED_UNKNOWN} main": "firing"}
            assert running.alertmanager.received(EXPECTED_UNKNOWN, severity="warning")[-1] == last_warning
            assert parse_time(last_warning["endsAt"]) <= running.clock.now(), "the warning has lapsed"
            assert logged_states(logs) == [("warning", "firing"), ("critical", "firing")]

            await running.pass_time(RULES_BY_NAME[EXPECTED_UNKNOWN].keep_firing_seconds + 15, EXPECTED_LIVE)
            await running.wait_until_sent()
        assert not running.is_firing(EXPECTED_UNKNOWN)
        assert running.last_received(EXPECTED_UNKNOWN)["labels"]["severity"] == "critical"
        assert logged_states(logs)[2:] == [("critical", "resolved")]
        assert running.alertmanager.received(EXPECTED_UNKNOWN, severity="warning")[-1] == last_warning, (
            "a resolve of the warning would be an all-clear"
        )


async def test_severity_survives_a_restart(tmp_path: Path) -> None:
    """The critical alert fires on time although the process was restarted while the warning was firing."""
    state_file, clock = tmp_path / "alerts.json", FakeClock()
    async with fake_alertmanager() as alertmanager:
        with structlog.testing.capture_logs() as logs:
            async with sidecar_process(clock, alertmanager, state_file) as before:
                await before.publish(LOST)
                await before.pass_time(600, LOST)
            async with sidecar_process(clock, alertmanager, state_file) as after:
                await after.pass_time(285, LOST)
                await after.wait_until_sent()
                assert not alertmanager.received(EXPECTED_UNKNOWN, severity="critical")
                await after.pass_time(15, LOST)
                await after.wait_until_sent()
        (critical,) = alertmanager.received(EXPECTED_UNKNOWN, severity="critical")
        assert critical["annotations"]["since"] == "2024-09-10 20:26:40 UTC"
        assert logged_states(logs) == [("warning", "firing"), ("critical", "firing")]


async def test_unknown_expected_stream_among_many_is_critical_without_a_warning() -> None:
    name = "StreamUpstreamStatesUnknown"
    unknown = [stream(f"s{n}", live=None, status=Status.UNKNOWN) for n in range(3)]
    async with sidecar_harness(thresholds={EXPECTED_UNKNOWN: {"for": "1h"}}) as running:
        with structlog.testing.capture_logs() as logs:
            await running.pass_time(315, LOST, *unknown)
            await running.wait_until_sent()
            assert {a["labels"]["severity"] for a in running.alertmanager.received(name)} == {"critical"}
            assert running.last_received(name)["annotations"]["value"] == "100%"
            # the expected stream is back, the others are not: the warning replaces the critical alert
            await running.pass_time(330, EXPECTED_LIVE, *unknown)
            await running.wait_until_sent()
            assert running.last_received(name)["labels"]["severity"] == "warning"
            assert running.last_received(name)["annotations"]["value"] == "75%"
            # the expected stream is unknown again
            await running.pass_time(330, LOST, *unknown)
            await running.wait_until_sent()
            assert running.last_received(name)["labels"]["severity"] == "critical"
            assert logged_states(logs, name) == [("critical", "firing"), ("warning", "firing"), ("critical", "firing")]
            await running.pass_time(330, EXPECTED_LIVE)
            await running.wait_until_sent()
            assert not running.is_firing(name)
            assert logged_states(logs, name)[3:] == [("critical", "resolved")]


# -- restarts ----------------------------------------------------------------------------------------------------------


async def test_restart_neither_loses_nor_duplicates_alerts(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_alertmanager() as alertmanager:
        thresholds: dict[str, Any] = {"thresholds": {"StreamDegraded": {"for": "10m"}, NAME: {"for": "0s"}}}
        async with sidecar_process(clock, alertmanager, state_file, **thresholds) as before:
            await before.publish(UNHEALTHY)
            await before.wait_until_sent()
            (first,) = alertmanager.received(NAME)
            await before.pass_time(300, UNHEALTHY)
            assert before.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
        clock.advance(60)
        received = len(alertmanager.received(NAME))
        async with sidecar_process(clock, alertmanager, state_file, **thresholds) as after:
            assert after.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
            await after.wait_until_sent()
            again = alertmanager.received(NAME)[received:]
            assert {alert["startsAt"] for alert in again} == {first["startsAt"]}
            assert all(alert["labels"] == first["labels"] for alert in again)
            await after.pass_time(225, UNHEALTHY)
            assert after.states()["StreamDegraded main"] == "pending"
            await after.pass_time(15, UNHEALTHY)
            assert after.states()["StreamDegraded main"] == "firing"
            await after.wait_until_sent()
        assert all(parse_time(alert["endsAt"]) > parse_time(alert["startsAt"]) for alert in alertmanager.alerts), (
            "no alert was resolved"
        )


async def test_resolve_is_repeated_by_the_next_process(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file, **AT_ONCE) as before:
            await before.publish(UNHEALTHY)
            await before.pass_time(600, HEALTHY)
            await before.wait_until_sent()
            assert not before.is_firing(NAME)
        received = len(alertmanager.received(NAME))
        async with sidecar_process(clock, alertmanager, state_file, **AT_ONCE) as after:
            await after.wait_until_sent()
            assert len(alertmanager.received(NAME)) > received
            assert not after.is_firing(NAME)


async def test_alert_of_an_upstream_removed_during_a_restart_is_resolved(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file, **AT_ONCE) as before:
            await before.publish(UNHEALTHY)
            await before.wait_until_sent()
        after = SidecarHarness(clock, alertmanager)
        await after.apply("other", state_file=str(state_file), **AT_ONCE)
        await after.wait_until_sent()
        assert not after.is_firing(NAME)
        await after.sidecar.stop()


async def test_sidecar_works_while_the_file_system_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_file, answers = tmp_path / "alerts.json", threading.Event()

    def hang(_: AlertStateFile) -> bool:
        return answers.wait(60)

    monkeypatch.setattr(AlertStateFile, "lock", hang)
    monkeypatch.setattr("exporter.alerting.sidecar.DEADLINE_SECONDS", 0.01)
    try:
        with structlog.testing.capture_logs() as logs:
            async with sidecar_harness(state_file=str(state_file), **AT_ONCE) as running:
                await running.publish(UNHEALTHY)
                assert running.states() == {f"{NAME} main": "firing"}
    finally:
        answers.set()
    assert [line["error"] for line in logs if line["log_level"] == "error"] == [
        "no answer from the file system within 0.01 s"
    ]
    assert not state_file.exists()


async def test_sidecar_works_without_a_state_file(tmp_path: Path) -> None:
    """Another process has locked the file."""
    async with fake_alertmanager() as alertmanager:
        clock = FakeClock()
        async with sidecar_process(clock, alertmanager, tmp_path / "alerts.json", **AT_ONCE):
            second = SidecarHarness(clock, alertmanager)
            with structlog.testing.capture_logs() as logs:
                await second.apply(state_file=str(tmp_path / "alerts.json"), **AT_ONCE)
            assert "another process" in logs[0]["event"]
            await second.publish(UNHEALTHY)
            assert second.states() == {f"{NAME} main": "firing"}
            await second.sidecar.stop()


@pytest.mark.parametrize("version", [1, 2])
async def test_alert_of_an_earlier_version_keeps_its_start(tmp_path: Path, version: int) -> None:
    """State files of earlier versions have no severity."""
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    state_file.write_bytes((STATE_FILES / f"version-{version}.json").read_bytes())
    unhealthy = stream("main-stage", health_score_ratio=0.2)
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file, thresholds=ONLY) as running:
            assert running.states()[f"{NAME} main-stage"] == "firing"
            await running.pass_time(60, unhealthy)
            await running.wait_until_sent()
            received = [a for a in alertmanager.received(NAME) if a["labels"]["stream"] == "main-stage"]
            assert {(a["labels"]["severity"], parse_time(a["startsAt"])) for a in received} == {
                ("critical", FakeClock().now() - 480)
            }
            assert received[-1]["annotations"]["since"] == format_time(FakeClock().now() - 600)
        content = json.loads(state_file.read_bytes())
        assert {alert["key"]["severity"] for alert in content["alerts"] if alert["key"]["rule"] == NAME} == {"critical"}


UPSTREAM_DOWN = "StreamUpstreamDown"


async def test_failed_first_poll_after_a_restart_does_not_page(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file) as before:
            await before.publish(HEALTHY)
        async with sidecar_process(clock, alertmanager, state_file) as after:
            await after.publish(LOST, up=None)
            await after.pass_time(300, LOST, up=False, answering=None, last_error_reason=Reason.AUTH)
            await after.pass_time(60, HEALTHY)
            await after.wait_until_sent()
            assert after.states() == {}
        assert {alert["labels"]["alertname"] for alert in alertmanager.alerts} == {"StreamSidecarWatchdog"}


async def test_firing_upstream_alert_stays_after_a_restart_until_answering_is_known(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file) as before:
            await before.publish(LOST, up=False)
            await before.pass_time(15, LOST, up=False)
            assert before.states() == {UPSTREAM_DOWN: "firing"}
        async with sidecar_process(clock, alertmanager, state_file) as after:
            for facts in ({"up": None}, {"up": False, "answering": None}, {"up": False}):
                await after.pass_time(75, LOST, **facts)
                await after.wait_until_sent()
                assert after.states() == {UPSTREAM_DOWN: "firing"}
                assert after.is_firing(UPSTREAM_DOWN)
            assert len({alert["startsAt"] for alert in alertmanager.received(UPSTREAM_DOWN)}) == 1
            await after.publish(HEALTHY)
            await after.wait_until_sent()
            assert not after.is_firing(UPSTREAM_DOWN)


async def test_pending_upstream_alert_does_not_advance_while_answering_is_unknown(tmp_path: Path) -> None:
    """It was pending for 5 s of 15 s before the restart, and later fires between polls."""
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file) as before:
            await before.publish(LOST, up=False)
            clock.advance(5)
        async with sidecar_process(clock, alertmanager, state_file) as after:
            await after.publish(LOST, up=False, answering=None)
            await after.pass_time(75, LOST, up=False, answering=None)
            await after.publish(LOST, up=False)
            clock.advance(9)
            await run_event_loop()
            assert after.states() == {UPSTREAM_DOWN: "pending"}
            clock.advance(1.1)
            await run_event_loop()
            assert after.states() == {UPSTREAM_DOWN: "firing"}


# -- changed settings --------------------------------------------------------------------------------------------------


async def test_sidecar_is_off_without_alertmanagers() -> None:
    async with sidecar_harness(alertmanagers=[]) as running:
        await running.publish(UNHEALTHY)
        assert not running.sidecar.active
        await running.apply(**AT_ONCE)
        assert running.sidecar.active
        await run_event_loop()
        assert running.states() == {f"{NAME} main": "firing"}, "the current state is evaluated at once"
        await running.wait_until_sent()
        await running.apply(alertmanagers=[])
        assert not running.sidecar.active
        assert running.states() == {}
        received = len(running.alertmanager.batches)
        await running.pass_time(120, UNHEALTHY)
        assert len(running.alertmanager.batches) == received


async def test_new_thresholds_keep_the_alert_state() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.wait_until_sent()
        fired = running.last_received(NAME)["startsAt"]
        await running.apply(**AT_ONCE, external_labels={"site": "north"})
        await running.wait_until_sent()
        assert running.last_received(NAME)["labels"]["site"] == "north"
        assert running.last_received(NAME)["startsAt"] == fired
        await running.apply(thresholds={NAME: {"value": 0.3, "for": "0s"}, **ONLY})
        assert running.states() == {f"{NAME} main": "firing"}
        await running.pass_time(600, UNHEALTHY)
        assert running.states() == {}


async def test_alert_label_takes_precedence_over_external_label() -> None:
    async with sidecar_harness(
        **AT_ONCE, external_labels={"job": "stream-exporter", "stream": "x", "severity": "y"}
    ) as running:
        await running.publish(UNHEALTHY, up=True)
        await running.wait_until_sent()
        labels = running.last_received(NAME)["labels"]
        assert (labels["job"], labels["stream"], labels["severity"]) == ("stream-exporter", "main", "critical")


async def test_alerts_of_a_removed_upstream_are_resolved() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.wait_until_sent()
        assert running.is_firing(NAME)
        await running.apply("other", **AT_ONCE)
        await running.wait_until_sent()
        assert not running.is_firing(NAME)


async def test_upstream_removed_during_its_evaluation_leaves_no_alerts() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        many = [stream(f"s{n}", health_score_ratio=0.2) for n in range(500)]
        running.store.publish(view(*many, up=True, answering=True))
        await run_event_loop(3)
        await running.apply("other", **AT_ONCE)
        await run_event_loop()
        assert running.states() == {}


async def test_unchanged_settings_send_nothing() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.wait_until_sent()
        batches = len(running.alertmanager.batches)
        await running.apply(**AT_ONCE)
        await run_event_loop()
        assert len(running.alertmanager.batches) == batches


# -- errors and load ---------------------------------------------------------------------------------------------------


async def test_error_in_one_evaluation_does_not_stop_the_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        evaluate = Evaluator.evaluate

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(Evaluator, "evaluate", broken)
        monkeypatch.setattr(Evaluator, "forget_resolved", broken)
        with structlog.testing.capture_logs() as logs:
            await running.publish(UNHEALTHY)
            running.clock.advance(60)
            await run_event_loop()
        assert {line["event"] for line in logs} == {"alerts could not be evaluated", "alerts could not be repeated"}
        monkeypatch.setattr(Evaluator, "evaluate", evaluate)
        await running.publish(UNHEALTHY)
        assert running.states() == {f"{NAME} main": "firing"}


async def test_thousands_of_alerts_are_sent_in_steps() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        many = [stream(f"s{n}", health_score_ratio=0.2) for n in range(1000)]
        await running.publish(*many)
        await running.wait_until_sent()
        received = running.alertmanager.received(NAME)
        assert len({alert["labels"]["stream"] for alert in received}) == len(received) == 1000
        assert max(len(batch) for batch in running.alertmanager.batches) == 64
        running.clock.advance(60)
        await run_event_loop()
        await running.wait_until_sent()
        assert len(running.alertmanager.received(NAME)) == 2000
        assert running.metric_value("stream_exporter_alerts", alertname=NAME, state="firing") == 1000


async def test_every_publish_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    evaluate = Evaluator.evaluate

    def counted(self: Evaluator, *arguments: Any, **more: Any) -> Any:
        seen.append(arguments)
        return evaluate(self, *arguments, **more)

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    async with sidecar_harness() as running:
        for _ in range(5):
            running.clock.advance(INTERVAL)
            await running.publish(HEALTHY)
        assert len(seen) == 5


async def test_metrics_have_no_samples_while_the_sidecar_is_off() -> None:
    registry = FamilyRegistry()
    SidecarMetrics(registry)
    assert [sample for family in registry.collect() for sample in family.samples] == []


async def test_unsent_alerts_are_sent_at_shutdown() -> None:
    """Nothing is resolved at shutdown."""
    async with fake_alertmanager() as alertmanager:
        running = SidecarHarness(FakeClock(), alertmanager)
        await running.apply(**AT_ONCE)
        running.store.publish(view(UNHEALTHY, up=True, answering=True))
        async with asyncio.timeout(30):
            while running.states() == {}:  # noqa: ASYNC110 - waits for the evaluation
                await asyncio.sleep(0)
        await running.sidecar.stop(flush=True)
        assert running.is_firing(NAME)
        await running.sidecar.stop(flush=True)


# -- maintenance -------------------------------------------------------------------------------------------------------


def maintained(*streams: str) -> dict[str, Any]:
    maintenance = Maintenance(until=1_726_003_600.0, reason="encoder swap", is_manual=True)
    if not streams:
        return {"maintenance": maintenance}
    return {"maintained_streams": dict.fromkeys(streams, maintenance)}


async def test_maintenance_fires_at_once_and_ends_six_minutes_after_the_window() -> None:
    async with sidecar_harness() as running:
        await running.publish(LOST, up=False, **maintained("main"))
        await running.wait_until_sent()
        sent = running.last_received("StreamMaintenance")
        labels = {"severity": "none", "scope": "upstream", "platform": "livepeer", "upstream": "studio"}
        assert sent["labels"] == labels | {"alertname": "StreamMaintenance", "source": "sidecar", "stream": "main"}
        assert sent["annotations"]["summary"] == "main on studio (livepeer) is under maintenance."
        assert sent["annotations"]["maintenance"] == "until 2024-09-10 21:26:40 UTC: encoder swap"
        assert sent["generatorURL"] == "http://exporter:10071/streams?upstream=studio&stream=main"
        await running.publish(LOST, up=False)
        await running.pass_time(345, LOST, up=False)
        assert running.states()["StreamMaintenance"] == "firing"
        await running.pass_time(30, LOST, up=False)
        assert "StreamMaintenance" not in running.states()
        await running.wait_until_sent()
        assert not running.is_firing("StreamMaintenance")


async def test_maintenance_of_an_upstream_has_no_stream_label() -> None:
    async with sidecar_harness() as running:
        await running.publish(HEALTHY, **maintained())
        await running.wait_until_sent()
        sent = running.last_received("StreamMaintenance")
        assert "stream" not in sent["labels"]
        assert sent["annotations"]["summary"] == "studio (livepeer) is under maintenance."


async def test_maintenance_ends_while_it_is_unknown_whether_the_upstream_answers(tmp_path: Path) -> None:
    """Otherwise it would inhibit alerts until the first poll after a restart has failed or succeeded."""
    state_file, clock = tmp_path / "alerts.json", FakeClock()
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, state_file) as before:
            await before.publish(HEALTHY, **maintained())
        async with sidecar_process(clock, alertmanager, state_file) as after:
            assert after.states() == {"StreamMaintenance": "firing"}
            await after.publish(up=None, **maintained())
            assert after.states() == {"StreamMaintenance": "firing"}
            await after.pass_time(390, up=None)
            assert after.states() == {}


async def test_maintenance_does_not_resolve_alerts() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        assert running.states() == {"StreamUnhealthy main": "firing"}
        await running.publish(UNHEALTHY, **maintained("main"))
        assert running.states() == {"StreamUnhealthy main": "firing", "StreamMaintenance": "firing"}
        await running.pass_time(390, UNHEALTHY)
        assert running.states() == {"StreamUnhealthy main": "firing"}
