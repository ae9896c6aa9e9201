"""Webhook notifications without Alertmanager."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.alerting import webhooks
from exporter.alerting.evaluator import Alert
from exporter.alerting.payload import fingerprint
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.webhooks import TICK_SECONDS, NotifiedGroup, Webhook
from exporter.config.alerting import WebhookSettings
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import Maintenance
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import FakeAlertmanager, FakeOutbox, firing_alert, resolve, run_event_loop
from tests.sidecar.sidecar_harness import HEALTHY, UNHEALTHY, SidecarHarness, sidecar_process

HOUR = 3600.0
WINDOW = Maintenance(until=1_726_003_600.0)
SAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "alertmanager-0.25-webhook.json").read_text())
"""Two notifications from Alertmanager 0.25: an alert fires and is resolved."""


class FakeReceiver:
    """Records notifications."""

    def __init__(self) -> None:
        self.url = ""
        self.response: tuple[int, str, dict[str, str]] = (200, "ok", {})
        self.requests: list[web.Request] = []
        self.bodies: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.json())
        status, text, headers = self.response
        return web.Response(status=status, text=text, headers=headers)

    def notifications(self) -> list[list[tuple[str, str]]]:
        """Return the status and stream of each alert, by notification."""
        return [[(a["status"], a["labels"].get("stream", "")) for a in body["alerts"]] for body in self.bodies]


@asynccontextmanager
async def fake_receiver() -> AsyncIterator[FakeReceiver]:
    receiver = FakeReceiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    async with TestServer(app) as server:
        receiver.url = str(server.make_url("/hook"))
        yield receiver


async def pass_tick(clock: FakeClock, seconds: float) -> None:
    """Let time pass, and wait until the webhook has sent due notifications and sleeps again."""
    await run_event_loop()
    ticks = clock.slept.count(TICK_SECONDS)
    clock.advance(seconds)
    async with asyncio.timeout(30):
        while clock.slept.count(TICK_SECONDS) == ticks:  # noqa: ASYNC110 - waits for real responses
            await asyncio.sleep(0.001)


class WebhookHarness:
    """A running webhook and its metrics."""

    def __init__(self, url: str, clock: FakeClock, *alerts: Alert, **more: Any) -> None:
        self.clock = clock
        self.registry = FamilyRegistry()
        self.outbox = FakeOutbox(clock, *alerts)
        settings = WebhookSettings.model_validate({"name": "pager", "url": url, **more})
        metrics = SidecarMetrics(self.registry)
        self.webhook = Webhook(
            settings, self.outbox, clock=clock, metrics=metrics, external_url="http://exporter:10071/"
        )

    def send(self, *alerts: Alert) -> None:
        known = {alert.key for alert in alerts}
        self.outbox.all_alerts = [a for a in self.outbox.all_alerts if a.key not in known] + list(alerts)
        self.webhook.enqueue(alerts)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass and the webhook send due notifications."""
        await pass_tick(self.clock, seconds)

    def count(self, name: str) -> float | None:
        return self.registry.get_sample_value(
            f"stream_exporter_webhook_notifications_{name}_total", {"webhook": "pager"}
        )


@asynccontextmanager
async def running_webhook(
    url: str, *alerts: Alert, clock: FakeClock | None = None, memory: Iterable[NotifiedGroup] = (), **more: Any
) -> AsyncIterator[WebhookHarness]:
    running = WebhookHarness(url, clock or FakeClock(), *alerts, **more)
    running.webhook.restore(memory)
    task = asyncio.create_task(running.webhook.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await running.webhook.close()


@pytest.mark.parametrize("index", [0, 1], ids=["firing", "resolved"])
def test_fingerprint_is_that_of_alertmanager(index: int) -> None:
    (alert,) = SAMPLES[index]["alerts"]
    assert fingerprint(alert["labels"]) == alert["fingerprint"]


async def test_notification_has_the_format_of_alertmanager() -> None:
    """``tests/real`` compares a whole notification with that of a real Alertmanager."""
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.send(firing_alert("a"), firing_alert("b"))
        await running.pass_time(10)
    (body,) = receiver.bodies
    assert list(body) == list(SAMPLES[0])
    labels = {"alertname": "StreamUnhealthy", "upstream": "studio", "severity": "critical"}
    expected = [
        {
            "status": "firing",
            "labels": labels | {"stream": stream},
            "annotations": {"summary": "A stream is unhealthy."},
            "startsAt": "2024-09-10T20:26:40Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": fingerprint(labels | {"stream": stream}),
        }
        for stream in ("a", "b")
    ]
    assert list(expected[0]) == list(SAMPLES[0]["alerts"][0])
    assert body == {
        "receiver": "pager",
        "status": "firing",
        "alerts": expected,
        "groupLabels": {"upstream": "studio"},
        "commonLabels": labels,
        "commonAnnotations": {"summary": "A stream is unhealthy."},
        "externalURL": "http://exporter:10071",
        "version": "4",
        "groupKey": '{}:{upstream="studio"}',
        "truncatedAlerts": 0,
    }
    assert receiver.requests[0].headers["Content-Type"] == "application/json"


async def test_changes_within_ten_seconds_share_one_notification_per_upstream() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.send(firing_alert("a"))
        await running.pass_time(9)
        running.send(firing_alert("b"), firing_alert("c", upstream="other"))
        assert receiver.notifications() == []
        await running.pass_time(1)
        assert receiver.notifications() == [[("firing", "a"), ("firing", "b")]]
        await running.pass_time(9)
        assert receiver.notifications()[1:] == [[("firing", "c")]]
        assert running.count("sent") == 2


async def test_resolved_alert_is_notified_once_with_the_firing_ones() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        first, second = firing_alert("a"), firing_alert("b")
        running.send(first, second)
        await running.pass_time(10)
        running.send(resolve(first, running.clock))
        await running.pass_time(10)
        assert receiver.notifications()[1:] == [[("firing", "b"), ("resolved", "a")]]
        assert receiver.bodies[1]["status"] == "firing"
        running.send(resolve(second, running.clock))
        await running.pass_time(10)
        assert receiver.notifications()[2:] == [[("resolved", "b")]]
        assert receiver.bodies[2]["status"] == "resolved"
        await running.pass_time(5 * HOUR)
        assert len(receiver.bodies) == 3


async def test_alert_resolved_before_its_notification_is_not_notified() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        alert = firing_alert("a")
        running.send(alert)
        await running.pass_time(5)
        running.send(resolve(alert, running.clock))
        await running.pass_time(20)
        assert receiver.bodies == []


async def test_alert_firing_again_before_its_resolve_was_sent_is_not_notified_again() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        alert = firing_alert("a")
        running.send(alert)
        await running.pass_time(10)
        running.send(resolve(alert, running.clock))
        await running.pass_time(5)
        running.send(firing_alert("a"))
        await running.pass_time(20)
        assert len(receiver.bodies) == 1


async def test_notification_is_repeated_every_four_hours_while_alerts_fire() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.send(firing_alert("a"))
        await running.pass_time(10)
        await running.pass_time(4 * HOUR - 1)
        assert len(receiver.bodies) == 1
        await running.pass_time(1)
        assert receiver.notifications() == [[("firing", "a")]] * 2
        await running.pass_time(4 * HOUR)
        assert len(receiver.bodies) == 3


async def test_alerts_below_the_minimum_severity_are_not_notified() -> None:
    alerts = [firing_alert(severity, severity=severity) for severity in ("critical", "warning", "info", "none")]
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.send(*alerts)
        await running.pass_time(10)
        assert receiver.notifications() == [[("firing", "critical"), ("firing", "warning")]]
    async with fake_receiver() as receiver, running_webhook(receiver.url, minimum_severity="critical") as running:
        running.send(*alerts)
        await running.pass_time(10)
        assert receiver.notifications() == [[("firing", "critical")]]


async def test_warning_that_becomes_critical_is_notified_as_critical() -> None:
    """The sidecar replaces one alert with the other, without a resolve."""
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.send(firing_alert("a", severity="warning"))
        await running.pass_time(10)
        running.outbox.all_alerts.clear()
        critical = firing_alert("a", severity="critical")
        running.send(critical)
        await running.pass_time(10)
        running.send(resolve(critical, running.clock))
        await running.pass_time(10)
    assert [[a["labels"]["severity"] for a in body["alerts"]] for body in receiver.bodies] == [
        ["warning"],
        ["critical"],
        ["critical"],
    ]


async def test_long_notification_is_truncated_and_counts_the_rest() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.send(*(firing_alert(f"s{n}") for n in range(600)))
        await running.pass_time(10)
    (body,) = receiver.bodies
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (500, 100)


# -- maintenance -------------------------------------------------------------------------------------------------------


async def test_alert_that_starts_during_maintenance_is_notified_when_it_ends() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.outbox.maintained = {"a"}
        running.send(firing_alert("a"), firing_alert("b"))
        await running.pass_time(10)
        assert receiver.notifications() == [[("firing", "b")]]
        await running.pass_time(HOUR)
        assert len(receiver.bodies) == 1
        running.outbox.maintained.clear()
        running.webhook.review("studio")
        await running.pass_time(10)
        assert receiver.notifications()[1:] == [[("firing", "a"), ("firing", "b")]]


async def test_alert_that_starts_and_ends_during_maintenance_is_not_notified() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.outbox.maintained = {"a"}
        alert = firing_alert("a")
        running.send(alert)
        await running.pass_time(HOUR)
        running.send(resolve(alert, running.clock))
        await running.pass_time(20)
        running.outbox.maintained.clear()
        running.webhook.review("studio")
        await running.pass_time(20)
        assert receiver.bodies == []


async def test_alert_stays_reported_through_maintenance_until_it_resolves() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        alert, other = firing_alert("a"), firing_alert("b")
        running.send(alert, other)
        await running.pass_time(10)
        running.outbox.maintained = {"a"}
        running.webhook.review("studio")
        await running.pass_time(10)
        assert len(receiver.bodies) == 1, "neither resolved nor notified again"
        running.send(resolve(other, running.clock))
        await running.pass_time(10)
        assert receiver.notifications()[1:] == [[("firing", "a"), ("resolved", "b")]]
        await running.pass_time(5 * HOUR)
        assert len(receiver.bodies) == 2, "not repeated"
        running.outbox.maintained.clear()
        running.webhook.review("studio")
        await running.pass_time(10)
        assert receiver.notifications()[2:] == [[("firing", "a")]], "the repeat is overdue"
        running.outbox.maintained = {"a"}
        running.webhook.review("studio")
        running.send(resolve(alert, running.clock))
        await running.pass_time(10)
        assert receiver.notifications()[3:] == [[("resolved", "a")]]


async def test_reported_warning_that_becomes_critical_during_maintenance_is_resolved() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        running.send(firing_alert("a", severity="warning"))
        await running.pass_time(10)
        running.outbox.maintained = {"a"}
        running.outbox.all_alerts.clear()
        critical = firing_alert("a", severity="critical")
        running.send(critical)
        await running.pass_time(10)
        assert len(receiver.bodies) == 1
        running.send(resolve(critical, running.clock))
        await running.pass_time(10)
        assert receiver.notifications()[1:] == [[("resolved", "a")]]


async def test_restart_during_maintenance_neither_notifies_nor_resolves() -> None:
    async with fake_receiver() as receiver:
        memory = [NotifiedGroup("studio", [firing_alert("a").key], FakeClock().monotonic())]
        alerts = [firing_alert("a"), firing_alert("b")]
        async with running_webhook(receiver.url, *alerts, memory=memory) as running:
            running.outbox.maintained = {"a", "b"}
            await running.pass_time(20)
            assert receiver.bodies == []
            running.send(resolve(alerts[0], running.clock))
            await running.pass_time(10)
            assert receiver.notifications() == [[("resolved", "a")]]


@pytest.mark.parametrize("facts", [{"maintained_streams": {"main": WINDOW}}, {"maintenance": WINDOW}])
async def test_published_maintenance_holds_back_notifications_until_it_ends(facts: dict[str, Any]) -> None:
    clock = FakeClock()
    async with fake_receiver() as receiver:
        running = SidecarHarness(clock, FakeAlertmanager())
        await running.apply(**only_webhook(receiver))
        try:
            await running.publish(UNHEALTHY, **facts)
            await pass_tick(clock, 10)
            assert "StreamMaintenance" in running.states()
            assert receiver.bodies == []
            await running.publish(UNHEALTHY)
            await pass_tick(clock, 320)
            assert receiver.bodies == [], "StreamMaintenance is kept firing"
            await pass_tick(clock, 50)
            await running.publish(UNHEALTHY)
            await pass_tick(clock, 10)
            assert receiver.notifications() == [[("firing", "main")]]
            await running.publish(UNHEALTHY, **facts)
            await pass_tick(clock, 10)
            await running.publish(HEALTHY, **facts)
            await pass_tick(clock, 10)
            assert len(receiver.bodies) == 1, "kept firing"
            await pass_tick(clock, 300)
            await running.publish(HEALTHY, **facts)
            await pass_tick(clock, 10)
            assert receiver.notifications()[1:] == [[("resolved", "main")]]
        finally:
            await running.sidecar.stop()


# -- failures ----------------------------------------------------------------------------------------------------------

SIGN_IN = "<!DOCTYPE html><html><title>Sign in</title></html>"
FAILURES = [(status, "") for status in (301, 302, 400, 401, 403, 404, 413, 429, 500, 503)] + [(200, SIGN_IN)]


@pytest.mark.parametrize(("status", "text"), FAILURES)
async def test_failed_delivery_is_retried_with_the_latest_state(status: int, text: str) -> None:
    async with fake_receiver() as receiver:
        receiver.response = (status, text, {"Location": "http://other.example.com/?token=hunter2"})
        with structlog.testing.capture_logs() as logs:
            async with running_webhook(receiver.url) as running:
                first, second = firing_alert("a"), firing_alert("b")
                running.send(first)
                await running.pass_time(10)
                for _ in range(9):
                    await running.pass_time(300)
                assert running.count("sent") == 0
                assert running.count("errors") == len(receiver.bodies) == 10
                running.send(resolve(first, running.clock), second)
                receiver.response = (200, "", {})
                receiver.bodies.clear()
                await running.pass_time(300)
                assert receiver.notifications() == [[("firing", "b")]]
                assert running.count("sent") == 1
    assert [line["event"] for line in logs] == ["cannot send to webhook", "webhook is back"]
    assert "hunter2" not in str(logs)


async def test_resolved_alert_waits_for_a_receiver_that_is_down() -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        alert = firing_alert("a")
        running.send(alert)
        await running.pass_time(10)
        receiver.response = (503, "", {})
        running.send(resolve(alert, running.clock))
        running.outbox.all_alerts.clear()
        await running.pass_time(10)
        await running.pass_time(HOUR)
        receiver.response = (200, "", {})
        receiver.bodies.clear()
        await running.pass_time(300)
        assert receiver.notifications() == [[("resolved", "a")]]


async def test_number_of_waiting_resolved_alerts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAX_WAITING", 5)
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        alerts = [firing_alert(f"s{n}") for n in range(8)]
        running.send(*alerts)
        await running.pass_time(10)
        running.send(*(resolve(alert, running.clock) for alert in alerts))
        await running.pass_time(10)
        assert receiver.notifications()[1:] == [[("resolved", f"s{n}") for n in range(3, 8)]]
        assert running.count("dropped") == 3


async def test_internal_error_does_not_stop_the_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_receiver() as receiver, running_webhook(receiver.url) as running:
        with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(FakeOutbox, "payload", lambda *_: 1 / 0)
            running.send(firing_alert("a"))
            await running.pass_time(10)
        assert [line["event"] for line in logs] == ["notification could not be sent"]
        await running.pass_time(300)
        assert receiver.notifications() == [[("firing", "a")]]


async def test_url_file_is_secret_and_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "url"
    async with fake_receiver() as receiver:
        file.write_text(f"{receiver.url}/first%2Ftoken?key=hunter2-of-the-hook")
        more = {"url_file": str(file), "auth": {"bearer_token": "tok-1"}, "headers": {"X-Key": "value"}}
        settings = WebhookSettings.model_validate({"name": "pager", **more})
        assert "hunter2" not in repr(settings) + str(settings.model_dump())
        running = WebhookHarness("http://unused", FakeClock())
        running.webhook = Webhook(
            settings, running.outbox, clock=running.clock, metrics=SidecarMetrics(FamilyRegistry())
        )
        running.send(firing_alert("a"))
        await running.webhook.flush()
        request = receiver.requests[0]
        assert request.raw_path == "/hook/first%2Ftoken?key=hunter2-of-the-hook"
        assert (request.headers["Authorization"], request.headers["X-Key"]) == ("Bearer tok-1", "value")
        file.write_text(f"{receiver.url.replace('127.0.0.1', 'localhost')}/second-token")
        running.send(firing_alert("b"))
        await running.webhook.flush()
        assert receiver.requests[1].path == "/hook/second-token"
        file.unlink()
        with structlog.testing.capture_logs() as logs:
            running.send(firing_alert("c"))
            await running.webhook.flush()
        assert logs[0]["reason"] == "auth"
        await running.webhook.close()


# -- restarts ----------------------------------------------------------------------------------------------------------

AT_ONCE: dict[str, Any] = {"thresholds": {"StreamUnhealthy": {"for": "0s"}, "StreamDegraded": 0.01}}


async def pass_time(running: SidecarHarness, seconds: float, *streams: Any) -> None:
    await running.pass_time(seconds, *streams)
    await pass_tick(running.clock, TICK_SECONDS)


def only_webhook(receiver: FakeReceiver, **more: Any) -> dict[str, Any]:
    return {**AT_ONCE, "alertmanagers": [], "webhooks": [{"name": "pager", "url": receiver.url}], **more}


@pytest.mark.parametrize("boot", ["boot", "next boot"])
async def test_restart_neither_repeats_a_notification_nor_loses_one(tmp_path: Path, boot: str) -> None:
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_receiver() as receiver:
        alerting = only_webhook(receiver)
        async with sidecar_process(clock, FakeAlertmanager(), state_file, **alerting) as before:
            await before.publish(UNHEALTHY)
            await pass_time(before, 15, UNHEALTHY)
            assert receiver.notifications() == [[("firing", "main")]]
        clock.advance(60)
        if boot != clock.boot_id():
            clock = FakeClock(clock.now(), 20.0, boot=boot)
        async with sidecar_process(clock, FakeAlertmanager(), state_file, **alerting) as between:
            await pass_time(between, 30, UNHEALTHY)
            assert len(receiver.bodies) == 1
            await pass_time(between, 120, HEALTHY)
            assert between.states() == {"StreamUnhealthy main": "firing"}
            receiver.response = (503, "", {})
            await pass_time(between, 60, HEALTHY)
            assert between.states() == {}
        receiver.response = (200, "", {})
        receiver.bodies.clear()
        async with sidecar_process(clock, FakeAlertmanager(), state_file, **alerting) as after:
            await pass_time(after, 30, HEALTHY)
            assert receiver.notifications() == [[("resolved", "main")]]


async def test_webhook_gets_a_resolve_that_has_lapsed_in_alertmanager(tmp_path: Path) -> None:
    async with fake_receiver() as receiver:
        alerting = only_webhook(receiver, resolve="lapse")
        async with sidecar_process(FakeClock(), FakeAlertmanager(), tmp_path / "alerts.json", **alerting) as running:
            await running.publish(UNHEALTHY)
            await pass_time(running, 15, UNHEALTHY)
            receiver.response = (503, "", {})
            await pass_time(running, 600, HEALTHY)
            receiver.response = (200, "", {})
            receiver.bodies.clear()
            await pass_time(running, 300, HEALTHY)
            assert receiver.notifications() == [[("resolved", "main")]]


async def test_alert_fired_just_before_shutdown_is_notified_at_shutdown(tmp_path: Path) -> None:
    async with fake_receiver() as receiver:
        alerting = only_webhook(receiver)
        async with sidecar_process(FakeClock(), FakeAlertmanager(), tmp_path / "alerts.json", **alerting) as running:
            await running.publish(UNHEALTHY)
            assert receiver.bodies == []
        assert receiver.notifications() == [[("firing", "main")]]


async def test_state_saved_before_the_first_notification_loses_no_alert(tmp_path: Path) -> None:
    """A killed process sends nothing at the end."""
    clock, state_file = FakeClock(), tmp_path / "alerts.json"
    async with fake_receiver() as receiver:
        killed = SidecarHarness(clock, FakeAlertmanager())
        await killed.apply(state_file=str(state_file), **only_webhook(receiver))
        await killed.publish(UNHEALTHY)
        await killed.sidecar.stop(flush=False)
        assert receiver.bodies == []
        with structlog.testing.capture_logs() as logs:
            async with sidecar_process(clock, FakeAlertmanager(), state_file, **only_webhook(receiver)) as running:
                assert running.states() == {"StreamUnhealthy main": "firing"}
                await pass_time(running, 15, UNHEALTHY)
                assert receiver.notifications() == [[("firing", "main")]]
        assert [line for line in logs if line["log_level"] == "error"] == []


async def test_reload_adds_changes_and_removes_webhooks(tmp_path: Path) -> None:
    async with fake_receiver() as one, fake_receiver() as two:
        hooks = [{"name": "one", "url": one.url}, {"name": "two", "url": two.url}]
        state_file = tmp_path / "alerts.json"
        async with sidecar_process(
            FakeClock(), FakeAlertmanager(), state_file, **AT_ONCE, alertmanagers=[], webhooks=hooks[:1]
        ) as running:
            await running.publish(UNHEALTHY)
            await pass_time(running, 15, UNHEALTHY)
            changed = [hooks[0] | {"headers": {"X-Key": "new"}}, hooks[1]]
            await running.apply(state_file=str(state_file), **AT_ONCE, alertmanagers=[], webhooks=changed)
            await pass_time(running, 30, UNHEALTHY)
            assert one.notifications() == two.notifications() == [[("firing", "main")]], "each was notified once"
            await running.apply(state_file=str(state_file), **AT_ONCE, alertmanagers=[], webhooks=hooks[1:])
            assert running.metric_value("stream_exporter_webhook_notifications_sent_total", webhook="one") is None
            await pass_time(running, 180, HEALTHY)
            await run_event_loop()
            assert len(one.bodies) == 1
            assert two.notifications()[1:] == [[("resolved", "main")]]
