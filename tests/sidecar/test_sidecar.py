from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from prometheus_client import CollectorRegistry

from exporter.alerting.evaluator import Evaluator
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import AlertingSettings
from exporter.model import HealthReason, Reason
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import stream, view
from tests.sidecar.alertmanagers import stand_in, turns, unix
from tests.sidecar.sidecar_harness import HEALTHY, INTERVAL, UNHEALTHY, Watching, process, watching

NAME = "StreamUnhealthy"
ONLY = {"StreamDegraded": 0.01}
"""No health here is as low as that."""
AT_ONCE: dict[str, Any] = {"thresholds": {NAME: {"for": "0s"}, **ONLY}}


async def test_the_life_of_an_alert() -> None:
    async with watching(thresholds=ONLY) as running:
        clock, alertmanager = running.clock, running.alertmanager
        bad = stream("main", health_score_ratio=0.35, health_reasons=(HealthReason.ISSUES,), issues=("It freezes",))
        await running.publish(bad)
        assert running.states() == {f"{NAME} main": "pending"}
        assert running.value("stream_exporter_alerts", alertname=NAME, state="pending") == 1
        await running.pass_time(105, bad)
        await running.settled()
        assert not alertmanager.told(NAME)

        await running.pass_time(15, bad)
        await running.settled()
        fired_at = clock.now()
        (told,) = alertmanager.told(NAME)
        assert told["labels"] == {
            "alertname": NAME,
            "severity": "critical",
            "scope": "stream",
            "source": "sidecar",
            "platform": "livepeer",
            "upstream": "studio",
            "stream": "main",
        }
        assert told["annotations"]["description"].startswith("main on studio (livepeer) has a health score of 35%.")
        assert told["annotations"]["value"] == "35%"
        assert told["annotations"]["reasons"] == "issues"
        assert told["annotations"]["issues"] == "It freezes"
        assert told["generatorURL"] == "http://exporter:10071/"
        assert unix(told["startsAt"]) == fired_at
        assert unix(told["endsAt"]) == fired_at + 4 * 60

        await running.pass_time(60, stream("main", health_score_ratio=0.2))
        await running.settled()
        assert len(alertmanager.told(NAME)) == 2
        again = running.last(NAME)
        assert again["labels"] == told["labels"]
        assert again["annotations"]["value"] == "20%"
        assert unix(again["startsAt"]) == fired_at
        assert clock.now() + 180 < unix(again["endsAt"]) <= clock.now() + 240

        keep = running.sidecar._evaluator._rules[NAME].keep_firing_seconds
        await running.pass_time(keep, HEALTHY)
        await running.settled()
        assert running.is_firing(NAME)
        await running.pass_time(15, HEALTHY)
        await running.settled()
        ended_at = unix(running.last(NAME)["endsAt"])
        assert ended_at <= clock.now()
        assert running.states() == {}
        assert running.value("stream_exporter_alerts", alertname=NAME, state="firing") == 0

        repeated = len(alertmanager.told(NAME))
        await running.pass_time(870, HEALTHY)
        await running.settled()
        assert len(alertmanager.told(NAME)) == repeated + 14
        assert {unix(alert["endsAt"]) for alert in alertmanager.told(NAME)[-14:]} == {ended_at}
        await running.pass_time(300, HEALTHY)
        await running.settled()
        assert len(alertmanager.told(NAME)) <= repeated + 15


async def test_a_change_is_told_at_once_and_the_watchdog_with_every_round() -> None:
    async with watching(**AT_ONCE) as running:
        began = running.clock.now()
        await running.publish(UNHEALTHY)
        await running.alertmanager.until(lambda: running.alertmanager.told(NAME))
        running.clock.advance(60)
        await running.alertmanager.until(lambda: len(running.alertmanager.told(NAME)) == 2)
        await running.settled()
        watchdog = running.alertmanager.told("StreamSidecarWatchdog")
        assert {unix(alert["startsAt"]) for alert in watchdog} == {began}
        assert unix(watchdog[-1]["endsAt"]) == running.clock.now() + 240
        assert watchdog[-1]["labels"] == {
            "alertname": "StreamSidecarWatchdog",
            "severity": "none",
            "scope": "exporter",
            "source": "sidecar",
        }


async def test_a_long_interval_lengthens_the_horizon() -> None:
    async with watching(**AT_ONCE) as running:
        await running.publish(UNHEALTHY, poll_interval_seconds=300.0)
        await running.settled()
        assert unix(running.last(NAME)["endsAt"]) == running.clock.now() + 1200


async def test_it_needs_no_poll_for_a_time_to_be_over() -> None:
    """Polls of an upstream that fails are up to a minute apart."""
    async with watching() as running:
        await running.publish(up=False, last_error_reason=Reason.CONNECT)
        running.clock.advance(44)
        await turns()
        assert running.states() == {"StreamUpstreamDown": "pending"}
        running.clock.advance(1.1)
        await turns()
        assert running.states() == {"StreamUpstreamDown": "firing"}


async def test_unknown_streams_are_frozen_and_cost_nothing() -> None:
    async with watching(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.pass_time(15, HEALTHY)
        await running.pass_time(15, stream("main", live=None, status=None), up=False)
        slept = len(running.clock.slept)
        for _ in range(100):
            running.clock.advance(15)
            await turns(10)
        assert running.states()[f"{NAME} main"] == "firing"
        # nothing but the rounds, and an alarm or two for the upstream's own alert
        assert len(running.clock.slept) - slept < 100


# -- over a restart ----------------------------------------------------------------------------------------------------


async def test_a_restart_neither_loses_nor_doubles(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with stand_in() as alertmanager:
        thresholds: dict[str, Any] = {"thresholds": {"StreamDegraded": {"for": "10m"}, NAME: {"for": "0s"}}}
        async with process(clock, alertmanager, state_file, **thresholds) as before:
            await before.publish(UNHEALTHY)
            await before.settled()
            (first,) = alertmanager.told(NAME)
            await before.pass_time(300, UNHEALTHY)
            assert before.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
        clock.advance(60)
        told = len(alertmanager.told(NAME))
        async with process(clock, alertmanager, state_file, **thresholds) as after:
            assert after.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
            await after.settled()
            again = alertmanager.told(NAME)[told:]
            assert {alert["startsAt"] for alert in again} == {first["startsAt"]}
            assert all(alert["labels"] == first["labels"] for alert in again)
            await after.pass_time(225, UNHEALTHY)
            assert after.states()["StreamDegraded main"] == "pending"
            await after.pass_time(15, UNHEALTHY)
            assert after.states()["StreamDegraded main"] == "firing"
            await after.settled()
        assert all(unix(alert["endsAt"]) > unix(alert["startsAt"]) for alert in alertmanager.alerts), (
            "none was resolved"
        )


async def test_an_end_is_repeated_by_the_next_process_too(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with stand_in() as alertmanager:
        async with process(clock, alertmanager, state_file, **AT_ONCE) as before:
            await before.publish(UNHEALTHY)
            await before.pass_time(600, HEALTHY)
            await before.settled()
            assert not before.is_firing(NAME)
        told = len(alertmanager.told(NAME))
        async with process(clock, alertmanager, state_file, **AT_ONCE) as after:
            await after.settled()
            assert len(alertmanager.told(NAME)) > told
            assert not after.is_firing(NAME)


async def test_what_was_removed_meanwhile_ends(tmp_path: Path) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with stand_in() as alertmanager:
        async with process(clock, alertmanager, state_file, **AT_ONCE) as before:
            await before.publish(UNHEALTHY)
            await before.settled()
        after = Watching(clock, alertmanager)
        await after.apply("other", state_file=str(state_file), **AT_ONCE)
        await after.settled()
        assert not after.is_firing(NAME)
        await after.sidecar.stop()


async def test_it_works_without_a_memory(tmp_path: Path) -> None:
    """No place to write, and another process that has it."""
    async with stand_in() as alertmanager:
        clock = FakeClock()
        async with process(clock, alertmanager, tmp_path / "alerts.json", **AT_ONCE):
            second = Watching(clock, alertmanager)
            with structlog.testing.capture_logs() as logs:
                await second.apply(state_file=str(tmp_path / "alerts.json"), **AT_ONCE)
            assert "another process" in logs[0]["event"]
            await second.publish(UNHEALTHY)
            assert second.states() == {f"{NAME} main": "firing"}
            await second.sidecar.stop()


# -- settings that change ----------------------------------------------------------------------------------------------


async def test_off_until_somebody_is_to_be_told() -> None:
    async with watching(alertmanagers=[]) as running:
        await running.publish(UNHEALTHY)
        assert not running.sidecar.active
        await running.apply(**AT_ONCE)
        assert running.sidecar.active
        await turns()
        assert running.states() == {f"{NAME} main": "firing"}, "what is served already counts"
        await running.settled()
        await running.apply(alertmanagers=[])
        assert not running.sidecar.active
        assert running.states() == {}
        told = len(running.alertmanager.batches)
        await running.pass_time(120, UNHEALTHY)
        assert len(running.alertmanager.batches) == told


async def test_new_thresholds_keep_the_states() -> None:
    async with watching(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.settled()
        fired = running.last(NAME)["startsAt"]
        evaluator = running.sidecar._evaluator
        await running.apply(**AT_ONCE, external_labels={"site": "north"})
        assert running.sidecar._evaluator is evaluator, "the rules are the same"
        await running.settled()
        assert running.last(NAME)["labels"]["site"] == "north"
        assert running.last(NAME)["startsAt"] == fired
        await running.apply(thresholds={NAME: {"value": 0.3, "for": "0s"}, **ONLY})
        assert running.sidecar._evaluator is not evaluator
        assert running.states() == {f"{NAME} main": "firing"}
        await running.pass_time(600, UNHEALTHY)
        assert running.states() == {}


async def test_an_external_label_stands_back_where_the_alert_has_its_own() -> None:
    async with watching(
        **AT_ONCE, external_labels={"job": "stream-exporter", "stream": "x", "severity": "y"}
    ) as running:
        await running.publish(UNHEALTHY, up=True)
        await running.settled()
        labels = running.last(NAME)["labels"]
        assert (labels["job"], labels["stream"], labels["severity"]) == ("stream-exporter", "main", "critical")


async def test_an_upstream_that_is_removed_takes_its_alerts_along() -> None:
    async with watching(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.settled()
        assert running.is_firing(NAME)
        await running.apply("other", **AT_ONCE)
        await running.settled()
        assert not running.is_firing(NAME)


async def test_an_upstream_that_is_removed_while_it_is_evaluated() -> None:
    async with watching(**AT_ONCE) as running:
        many = [stream(f"s{n}", health_score_ratio=0.2) for n in range(500)]
        running.store.publish(view(*many, up=True))
        await turns(3)
        await running.apply("other", **AT_ONCE)
        await turns()
        assert running.states() == {}


async def test_the_same_settings_again_change_nothing() -> None:
    async with watching(**AT_ONCE) as running:
        await running.publish(UNHEALTHY)
        await running.settled()
        tasks, batches = running.sidecar._tasks, len(running.alertmanager.batches)
        await running.apply(**AT_ONCE)
        await turns()
        assert running.sidecar._tasks == tasks
        assert len(running.alertmanager.batches) == batches


# -- what must not stop it ---------------------------------------------------------------------------------------------


async def test_an_error_in_one_view_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(**AT_ONCE) as running:
        evaluate = Evaluator.evaluate

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(Evaluator, "evaluate", broken)
        monkeypatch.setattr(Evaluator, "forget_resolved", broken)
        with structlog.testing.capture_logs() as logs:
            await running.publish(UNHEALTHY)
            running.clock.advance(60)
            await turns()
        assert {line["event"] for line in logs} == {"alerts not evaluated", "alerts not sent again"}
        monkeypatch.setattr(Evaluator, "evaluate", evaluate)
        await running.publish(UNHEALTHY)
        assert running.states() == {f"{NAME} main": "firing"}


async def test_thousands_of_alerts_are_sent_in_steps() -> None:
    async with watching(**AT_ONCE) as running:
        many = [stream(f"s{n}", health_score_ratio=0.2) for n in range(1000)]
        await running.publish(*many)
        await running.settled()
        told = running.alertmanager.told(NAME)
        assert len({alert["labels"]["stream"] for alert in told}) == len(told) == 1000
        assert max(len(batch) for batch in running.alertmanager.batches) == 64
        running.clock.advance(60)
        await turns()
        await running.settled()
        assert len(running.alertmanager.told(NAME)) == 2000
        assert running.value("stream_exporter_alerts", alertname=NAME, state="firing") == 1000


async def test_every_publish_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    evaluate = Evaluator.evaluate

    def counted(self: Evaluator, *arguments: Any) -> Any:
        seen.append(arguments)
        return evaluate(self, *arguments)

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    async with watching() as running:
        for _ in range(5):
            running.clock.advance(INTERVAL)
            await running.publish(HEALTHY)
        assert len(seen) == 5


async def test_the_instruments_are_bare_while_it_is_off() -> None:
    registry = CollectorRegistry()
    SidecarMetrics(registry)
    assert [sample for family in registry.collect() for sample in family.samples] == []
    assert not AlertingSettings().alertmanagers


async def test_the_last_word() -> None:
    """What is not sent yet when the process ends is sent then, and nothing is resolved."""
    async with stand_in() as alertmanager:
        running = Watching(FakeClock(), alertmanager)
        await running.apply(**AT_ONCE)
        running.store.publish(view(UNHEALTHY, up=True))
        async with asyncio.timeout(30):
            while running.states() == {}:  # noqa: ASYNC110 - the evaluation's own turn
                await asyncio.sleep(0)
        await running.sidecar.stop(flush=True)
        assert running.is_firing(NAME)
        await running.sidecar.stop(flush=True)
