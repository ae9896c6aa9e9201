"""Alerts carry the configured labels of their upstream, also when these change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.alerting.payload import AlertFormatter
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.model import Labels
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import stream
from tests.sidecar.fake_alertmanager import fake_alertmanager, firing_alert, is_firing, parse_time
from tests.sidecar.sidecar_harness import HEALTHY, UNHEALTHY, SidecarHarness, sidecar_harness, sidecar_process
from tests.sidecar.test_sidecar_api import served
from tests.sidecar.test_webhook import fake_receiver, pass_tick

STATE_FILES = Path(__file__).parent / "state_files"
NAME = "StreamUnhealthy"
AT_ONCE: dict[str, Any] = {"thresholds": {NAME: {"for": "0s"}}}
SPORTS: Labels = (("site", "north"), ("team", "sports"))
NEWS: Labels = (("team", "news"),)
OWN = {
    "alertname": NAME,
    "severity": "critical",
    "scope": "stream",
    "source": "sidecar",
    "platform": "livepeer",
    "upstream": "studio",
    "stream": "main",
}


def received(running: SidecarHarness, labels: Labels, name: str = NAME) -> list[dict[str, Any]]:
    """Return what Alertmanager received of the alert with these configured labels."""
    configured = {"site", "team"}
    return [
        alert
        for alert in running.alertmanager.received(name)
        if {key: value for key, value in alert["labels"].items() if key in configured} == dict(labels)
    ]


def fires(running: SidecarHarness, labels: Labels, name: str = NAME) -> bool:
    """Return whether the alert with these configured labels is firing in Alertmanager."""
    alerts = received(running, labels, name)
    return bool(alerts) and is_firing(alerts[-1], running.clock.now())


async def test_alerts_have_the_labels_of_their_upstream_everywhere() -> None:
    expected = OWN | dict(SPORTS)
    async with fake_receiver() as receiver, sidecar_harness(**AT_ONCE) as running, served(running) as get:
        webhooks = [{"name": "pager", "url": receiver.url}]
        await running.apply(
            **AT_ONCE, webhooks=webhooks, external_labels={"team": "none", "site": "south", "cluster": "c"}
        )
        await running.publish(UNHEALTHY, labels=SPORTS)
        await running.wait_until_sent()
        await pass_tick(running.clock, 10)
        listed = await get("/api/v1/alerts")
        assert [a["labels"] for a in listed["data"]["alerts"] if a["state"] == "firing"] == [
            expected | {"cluster": "c"}
        ]
        assert running.last_received(NAME)["labels"] == expected | {"cluster": "c"}
        (body,) = receiver.bodies
        assert body["alerts"][0]["labels"] == expected | {"cluster": "c"}
        await running.pass_time(135, HEALTHY, labels=SPORTS)
        await running.wait_until_sent()
        assert {frozenset(alert["labels"].items()) for alert in running.alertmanager.received(NAME)} == {
            frozenset((expected | {"cluster": "c"}).items())
        }, "a resolved alert has the same labels"
        assert not running.is_firing(NAME)


@pytest.mark.parametrize(("before", "after"), [(SPORTS, NEWS), ((), NEWS), (SPORTS, ())])
async def test_alert_with_changed_labels_is_resolved_and_sent_under_the_new_ones(before: Labels, after: Labels) -> None:
    async with fake_receiver() as receiver, sidecar_harness(**AT_ONCE) as running:
        await running.apply(**AT_ONCE, webhooks=[{"name": "pager", "url": receiver.url}])
        await running.publish(UNHEALTHY, labels=before)
        await running.wait_until_sent()
        await pass_tick(running.clock, 60)
        started = received(running, before)[0]["startsAt"]
        await running.publish(UNHEALTHY, labels=after)
        await running.wait_until_sent()
        await pass_tick(running.clock, 10)
        assert not fires(running, before)
        assert fires(running, after)
        assert received(running, after)[0]["startsAt"] == started
        assert running.states() == {f"{NAME} main": "firing", "StreamDegraded main": "pending"}
        changes = [
            (alert["status"], {k: v for k, v in alert["labels"].items() if k in ("site", "team")})
            for alert in receiver.bodies[-1]["alerts"]
        ]
        assert changes == [("firing", dict(after)), ("resolved", dict(before))]
        await running.pass_time(150, HEALTHY, labels=after)
        await running.wait_until_sent()
        assert not fires(running, after)


async def test_label_that_changes_back_fires_again_under_the_first_labels() -> None:
    async with sidecar_harness(**AT_ONCE) as running:
        for labels in (SPORTS, NEWS, SPORTS):
            await running.pass_time(30, UNHEALTHY, labels=labels)
            await running.wait_until_sent()
        assert fires(running, SPORTS)
        assert not fires(running, NEWS)


async def test_pending_alert_continues_under_the_new_labels() -> None:
    async with sidecar_harness() as running:
        await running.publish(UNHEALTHY, labels=SPORTS)
        await running.pass_time(60, UNHEALTHY, labels=SPORTS)
        await running.pass_time(60, UNHEALTHY, labels=NEWS)
        await running.wait_until_sent()
        assert fires(running, NEWS)
        assert received(running, SPORTS) == []


async def test_alert_keeps_firing_under_new_labels_while_its_upstream_is_unknown() -> None:
    """After a reload, the first polls fail."""
    async with sidecar_harness(**AT_ONCE) as running:
        await running.publish(UNHEALTHY, labels=SPORTS)
        await running.pass_time(60, up=False, answering=None, labels=NEWS)
        await running.wait_until_sent()
        assert fires(running, NEWS)
        assert not fires(running, SPORTS)


async def test_upstream_alert_follows_changed_labels() -> None:
    name = "StreamUpstreamDown"
    async with sidecar_harness() as running:
        await running.pass_time(60, up=False, labels=SPORTS)
        await running.pass_time(30, up=False, labels=NEWS)
        await running.wait_until_sent()
        assert fires(running, NEWS, name)
        assert received(running, SPORTS, name)
        assert not fires(running, SPORTS, name)


async def test_labels_changed_during_a_restart_resolve_the_old_alert(tmp_path: Path) -> None:
    clock = FakeClock()
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, tmp_path / "alerts.json", **AT_ONCE) as running:
            await running.publish(UNHEALTHY, labels=SPORTS)
            await running.wait_until_sent()
        started = received(running, SPORTS)[0]["startsAt"]
        clock.advance(30)
        async with sidecar_process(clock, alertmanager, tmp_path / "alerts.json", **AT_ONCE) as running:
            await running.publish(UNHEALTHY, labels=NEWS)
            await running.wait_until_sent()
            assert not fires(running, SPORTS)
            assert fires(running, NEWS)
            assert received(running, NEWS)[0]["startsAt"] == started


async def test_labels_survive_a_restart(tmp_path: Path) -> None:
    """Without a poll since the start, the alert is repeated under the labels that it had."""
    clock = FakeClock()
    async with fake_alertmanager() as alertmanager:
        async with sidecar_process(clock, alertmanager, tmp_path / "alerts.json", **AT_ONCE) as running:
            await running.publish(UNHEALTHY, labels=SPORTS)
            await running.wait_until_sent()
        alertmanager.requests.clear()
        async with sidecar_process(clock, alertmanager, tmp_path / "alerts.json", **AT_ONCE) as running:
            await alertmanager.until(lambda: alertmanager.received(NAME))
            assert running.last_received(NAME)["labels"] == OWN | dict(SPORTS)


@pytest.mark.parametrize("version", [1, 2])
async def test_alert_of_an_earlier_version_gets_the_labels(version: int, tmp_path: Path) -> None:
    """State files of earlier versions have no labels, so the alert is resolved and sent again with them."""
    state_file = tmp_path / "alerts.json"
    state_file.write_bytes((STATE_FILES / f"version-{version}.json").read_bytes())
    clock = FakeClock()
    async with (
        fake_alertmanager() as alertmanager,
        sidecar_process(clock, alertmanager, state_file, **AT_ONCE) as running,
    ):
        await running.publish(stream("main-stage", health_score_ratio=0.2), labels=SPORTS)
        await running.wait_until_sent()
        assert fires(running, SPORTS)
        assert received(running, ())
        assert not fires(running, ())
        assert parse_time(received(running, SPORTS)[0]["startsAt"]) == FakeClock().now() - 480


def test_label_values_are_made_valid() -> None:
    """They equal those of the metrics, which Prometheus puts on its alerts."""
    alert = firing_alert()
    alert.key = replace(alert.key, labels=(("note", 'a "b"\\'), ("team", "x" * 300)))
    labels = AlertFormatter(rules_in_force(), {}).labels(alert)
    assert labels["note"] == 'a "b"\\'
    assert len(labels["team"]) == 249
