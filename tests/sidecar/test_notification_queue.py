from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from aiohttp import web

from exporter.alerting.alertmanager import Alertmanager, target_label
from exporter.alerting.evaluator import Alert
from exporter.alerting.notification_queue import MAX_BATCH_SIZE, NotificationQueue
from exporter.alerting.outbox import HORIZON_FACTOR, Round
from exporter.alerting.payload import WATCHDOG
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.metrics.self_metrics import FamilyRegistry
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import (
    FakeOutbox,
    accept_all,
    fake_alertmanager,
    firing_alert,
    is_firing,
    is_watchdog,
    parse_time,
    resolve,
    respond_with,
    run_event_loop,
    settings_for,
)

RESEND = 60.0
REFUSAL = '"start time must be before end time"'
"""Alertmanager 0.25's response to an invalid alert."""


class QueueHarness:
    """A running queue and its metrics."""

    def __init__(self, url: str, clock: FakeClock, *alerts: Alert, **more: Any) -> None:
        self.registry = FamilyRegistry()
        self.clock = clock
        self.outbox = FakeOutbox(clock, *alerts)
        self._metrics = SidecarMetrics(self.registry)
        self.queue = NotificationQueue(
            self.alertmanager(url, **more),
            self.outbox,
            clock=clock,
            metrics=self._metrics,
            resend_seconds=RESEND,
            first_round=Round(clock.monotonic()),
        )

    def alertmanager(self, url: str, **more: Any) -> Alertmanager:
        def observe(seconds: float) -> None:
            self._metrics.observe_latency(self.queue.label, seconds)

        return Alertmanager(settings_for(url, **more), self.clock, observe=observe)

    def count(self, name: str) -> float | None:
        full = f"stream_exporter_notifications_{name}"
        return self.registry.get_sample_value(full, {"alertmanager": self.queue.label})

    def send(self, *alerts: Alert) -> None:
        """Add or replace these alerts, and queue them."""
        known = {alert.key for alert in alerts}
        self.outbox.all_alerts = [a for a in self.outbox.all_alerts if a.key not in known] + list(alerts)
        self.queue.enqueue(alerts)

    async def wait_until_sent(self) -> None:
        async with asyncio.timeout(30):
            while self.queue.waiting:  # noqa: ASYNC110 - waits for real responses
                await asyncio.sleep(0.005)

    def start_round(self) -> None:
        now = self.clock.monotonic()
        horizon = HORIZON_FACTOR * self.queue.round_seconds()
        self.queue.start_round(Round(now, horizon))

    async def next_round(self, seconds: float = RESEND) -> None:
        self.clock.advance(seconds)
        self.start_round()
        await self.wait_until_sent()

    async def wait_for_errors(self, number: int) -> None:
        """Wait until failed requests have contained this many alerts in all, and the queue backs off."""
        async with asyncio.timeout(30):
            while (self.count("errors_total") or 0) < number:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        await run_event_loop()


@asynccontextmanager
async def running_queue(
    url: str, *alerts: Alert, clock: FakeClock | None = None, **more: Any
) -> AsyncIterator[QueueHarness]:
    running = QueueHarness(url, clock or FakeClock(), *alerts, **more)
    task = asyncio.create_task(running.queue.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await running.queue.close()


def many(number: int, **more: Any) -> list[Alert]:
    return [firing_alert(f"s{n}", **more) for n in range(number)]


def streams(alerts: list[dict[str, Any]]) -> list[str]:
    return [alert["labels"]["stream"] for alert in alerts if "stream" in alert["labels"]]


async def test_payload_has_alertmanagers_format() -> None:
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager, running_queue(alertmanager.url, clock=clock) as running:
        ended = resolve(firing_alert("other", fired_at=clock.now() - 9), clock)
        running.send(firing_alert(fired_at=clock.now() - 5), ended)
        await running.wait_until_sent()
    firing, resolved = alertmanager.batches[0]
    assert firing == {
        "labels": {"alertname": "StreamUnhealthy", "upstream": "studio", "stream": "main", "severity": "critical"},
        "annotations": {"summary": "A stream is unhealthy."},
        "startsAt": "2024-09-10T20:26:35Z",
        "endsAt": "2024-09-10T20:30:40Z",
    }
    assert parse_time(resolved["endsAt"]) == clock.now()
    assert alertmanager.requests[0].headers["Content-Type"] == "application/json"
    assert running.count("sent_total") is None, "a closed queue has no series"


async def test_alerts_are_sent_in_batches_and_counted() -> None:
    async with fake_alertmanager() as alertmanager, running_queue(alertmanager.url) as running:
        await running.wait_until_sent()
        running.send(*many(150))
        assert running.count("queue_length") == 150
        await running.wait_until_sent()
        assert [len(batch) for batch in alertmanager.batches] == [64, 64, 22]
        assert running.count("sent_total") == 151, "including the watchdog"
        assert running.count("queue_length") == 0
        assert (running.count("errors_total"), running.count("dropped_total")) == (0, 0)


async def test_latest_state_of_an_alert_is_sent() -> None:
    async with fake_alertmanager() as alertmanager:
        entered, may_respond = asyncio.Event(), asyncio.Event()

        async def respond_slowly(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            if not is_watchdog(alerts):
                entered.set()
                await may_respond.wait()
            return web.Response()

        alertmanager.behave = respond_slowly
        async with running_queue(alertmanager.url) as running:
            clock, main, other = running.clock, firing_alert(), firing_alert("b")
            running.send(main)
            await entered.wait()
            running.send(resolve(main, clock), other)
            running.send(resolve(other, clock))
            may_respond.set()
            await running.wait_until_sent()
    first, second = alertmanager.batches
    assert len(first) == 1
    assert {alert["labels"]["stream"]: is_firing(alert, clock.now()) for alert in second} == {
        "main": False,
        "b": False,
    }


# -- order -------------------------------------------------------------------------------------------------------------


def mixed(number: int) -> list[Alert]:
    """Return alerts of every kind, the least important first."""
    return [
        firing_alert(f"{severity} {n}", severity=severity, upstream="b")
        for severity in ("info", "warning", "critical")
        for n in range(number)
    ] + [firing_alert("", upstream=f"edge-{n}") for n in range(number)]


def kinds(alerts: list[dict[str, Any]]) -> list[str]:
    """Return the kinds of alerts in order, without consecutive repeats."""
    found = [a["labels"]["severity"] if "stream" in a["labels"] else "upstream" for a in alerts]
    return [kind for n, kind in enumerate(found) if n == 0 or found[n - 1] != kind]


async def test_watchdog_and_upstreams_are_sent_first_and_then_by_severity() -> None:
    async with fake_alertmanager() as alertmanager, running_queue(alertmanager.url, *mixed(50)) as running:
        await running.wait_until_sent()
        assert is_watchdog(alertmanager.all_batches[0])
        assert kinds(alertmanager.alerts[1:]) == ["upstream", "critical", "warning", "info"]
        alertmanager.all_batches.clear()
        running.send(*mixed(50))
        await running.wait_until_sent()
        assert kinds(alertmanager.alerts) == ["upstream", "critical", "warning", "info"]


async def test_changes_and_repeats_do_not_delay_each_other() -> None:
    async with fake_alertmanager() as alertmanager, running_queue(alertmanager.url, *many(200)) as running:

        async def send_more(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            if len(alertmanager.all_batches) < 8:
                running.queue.enqueue(many(64, upstream=f"new {len(alertmanager.all_batches)}"))
            return web.Response()

        alertmanager.behave = send_more
        await running.wait_until_sent()
        upstreams = [[alert["labels"]["upstream"] for alert in batch] for batch in alertmanager.batches]
    assert set(upstreams[0]) == {"studio", "new 1"}
    assert sum(names.count("studio") for names in upstreams[:7]) == 200


@pytest.mark.slow
@pytest.mark.no_cover
async def test_alerts_are_repeated_before_they_end_when_alertmanager_is_slow() -> None:
    """A round takes eleven minutes, but without a longer horizon an alert ends after four."""
    clock, ends, lapsed = FakeClock(), dict[str, float](), list[str]()
    async with fake_alertmanager(clock=clock) as alertmanager:

        async def take_three_seconds(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            clock.advance(3.0)
            running.start_round()
            for alert in alerts:
                if "endsAt" in alert:
                    name = alert["labels"].get("stream", WATCHDOG)
                    lapsed.extend([name] if ends.get(name, clock.now()) < clock.now() else [])
                    ends[name] = parse_time(alert["endsAt"])
            return web.Response()

        alertmanager.behave = take_three_seconds
        async with running_queue(alertmanager.url, *many(14_000), clock=clock) as running:
            await alertmanager.until(lambda: len(alertmanager.batches) == 2 * 219 + 50)
            assert len(ends) == 14_001
            assert lapsed == []
            assert (running.count("dropped_total"), running.count("errors_total")) == (0, 0)


async def test_queue_keeps_no_payloads_while_alertmanager_is_down() -> None:
    """The queue's memory is bounded by the number of alerts."""
    alerts = many(14_000)
    running = QueueHarness("http://127.0.0.1:9", FakeClock(), *alerts)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            running.send(*alerts)
            running.start_round()
            assert not await running.queue.send_batch()
        assert tracemalloc.get_traced_memory()[0] - before <= 300 * len(alerts)
    finally:
        tracemalloc.stop()
        await running.queue.close()


async def test_no_firing_alert_is_dropped_while_alertmanager_is_down() -> None:
    async with fake_alertmanager() as alertmanager:
        alertmanager.behave = respond_with(503)
        async with running_queue(alertmanager.url) as running:
            running.send(*many(14_000))
            await running.wait_for_errors(1)
            running.clock.advance(3600)
            await running.wait_for_errors(2)
            alertmanager.behave = accept_all
            running.clock.advance(RESEND)
            await running.wait_until_sent()
            assert running.count("dropped_total") == 0
        assert set(streams(alertmanager.alerts)) == {f"s{n}" for n in range(14_000)}


@pytest.mark.parametrize("minutes", [1, 10])
async def test_alerts_repeated_after_an_outage_have_not_ended(minutes: int) -> None:
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager:

        async def fail_after_a_batch(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=503 if len(alertmanager.batches) > 1 else 200)

        alertmanager.behave = fail_after_a_batch
        async with running_queue(alertmanager.url, *many(200), clock=clock) as running:
            await running.wait_for_errors(1)
            for _ in range(minutes):
                clock.advance(RESEND)
                running.start_round()
                await run_event_loop()
            alertmanager.behave = accept_all
            alertmanager.all_batches.clear()
            clock.advance(RESEND / 2)
            await running.wait_until_sent()
        assert set(streams(alertmanager.alerts)) == {f"s{n}" for n in range(200)}
        assert all(parse_time(alert["endsAt"]) > clock.now() + 120 for alert in alertmanager.alerts)


# -- failures ----------------------------------------------------------------------------------------------------------

SIGN_IN = "<!DOCTYPE html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, "") for status in (302, 401, 402, 403, 404, 405, 407, 408, 411, 415, 429, 431, 451, 500, 502, 503)),
        (302, SIGN_IN),
        (200, SIGN_IN),
        (200, "OK, but from whom?"),
        (200, '{"error": "not signed in"}'),
        (400, "Bad Request"),
        (400, SIGN_IN),
        (400, '{"message": "Bad Request"}'),
        (422, ""),
    ],
)
async def test_connection_failure_is_retried_with_backoff(status: int, body: str) -> None:
    headers = {"Retry-After": "86400", "Location": "http://sign-in.example.com/?token=hunter2"}
    async with fake_alertmanager() as alertmanager:

        async def refuse(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=status, text=body or "token=hunter2", headers=headers)

        alertmanager.behave = refuse
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url, firing_alert()) as running:
                for attempt in range(1, 10):
                    await running.wait_for_errors(attempt)
                    assert running.count("sent_total") == 0
                    running.clock.advance(running.clock.slept[-1])
                waits, longest = running.clock.slept[:9], RESEND / 4
                assert all(0.5 <= wait / min(2**n, longest) <= 1 for n, wait in enumerate(waits)), waits
                alertmanager.behave = accept_all
                running.clock.advance(RESEND)
                await running.wait_until_sent()
                assert running.count("sent_total") == 2
                assert running.count("dropped_total") == 0
    levels = [(line["log_level"], line["event"]) for line in logs]
    level = "error" if status in (401, 402, 403) else "warning"
    assert levels == [(level, "cannot send to alertmanager"), ("info", "alertmanager is back")]
    assert "hunter2" not in str(logs)


@pytest.mark.parametrize("status", [400, 422])
async def test_gateway_that_refuses_everything_causes_no_drops(status: int) -> None:
    async with fake_alertmanager() as alertmanager:
        async with running_queue(alertmanager.url) as running:
            await running.wait_until_sent()
            alertmanager.behave = respond_with(status, REFUSAL)
            running.send(*many(100))
            await running.wait_for_errors(64)
            assert is_watchdog(alertmanager.all_batches[-1])
            assert running.queue.waiting == 100
            alertmanager.behave = accept_all
            running.clock.advance(RESEND)
            await running.wait_until_sent()
            assert running.count("dropped_total") == 0
        assert set(streams(alertmanager.alerts)) == {f"s{n}" for n in range(100)}


def refusing(*names: str, text: str = REFUSAL) -> Any:
    async def refuse_some(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
        is_refused = any(alert["labels"].get("stream") in names for alert in alerts)
        return web.Response(status=400, text=text) if is_refused else web.Response()

    return refuse_some


async def test_refused_alerts_are_isolated_dropped_and_counted() -> None:
    async with fake_alertmanager() as alertmanager:
        alertmanager.behave = refusing("s3", "s63", text='{"code":601,"message":"0.generatorURL must be a uri"}')
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url) as running:
                await running.wait_until_sent()
                running.send(*many(65))
                await running.wait_until_sent()
                assert running.clock.slept == []
                assert (running.count("errors_total"), running.count("dropped_total")) == (2, 2)
                assert running.count("sent_total") == 1 + 63
                accepted = [a for batch in alertmanager.batches for a in batch if len(batch) < 64]
                assert set(streams(accepted)) == {f"s{n}" for n in range(65)}
                requests = len(alertmanager.all_batches)

                await running.next_round()
                assert len(alertmanager.all_batches) == requests + 2, "refused alerts are not sent again soon"
                assert running.count("dropped_total") == 2
                await running.next_round(15 * 60)
                assert running.count("dropped_total") == 4
                running.send(resolve(running.outbox.all_alerts[3], running.clock))
                await running.wait_until_sent()
                assert running.count("dropped_total") == 5, "a new state is sent"
    refused = [line for line in logs if line["event"] == "alertmanager refused an alert"]
    assert [line["stream"] for line in refused] == ["s3", "s63", "s3", "s63", "s3"]
    assert refused[0]["alertname"] == "StreamUnhealthy"


async def test_connection_failure_while_isolating_a_refused_alert_loses_nothing() -> None:
    async with fake_alertmanager() as alertmanager:
        refuse = refusing("s3")

        async def fail_later(alerts: list[dict[str, Any]], request: web.Request) -> web.Response:
            return web.Response(status=503) if len(alerts) < 16 else await refuse(alerts, request)

        async with running_queue(alertmanager.url, *many(64)) as running:
            await running.wait_until_sent()
            alertmanager.all_batches.clear()

            async def after_the_watchdog(alerts: list[dict[str, Any]], request: web.Request) -> web.Response:
                return web.Response() if is_watchdog(alerts) else await fail_later(alerts, request)

            alertmanager.behave = after_the_watchdog
            running.start_round()
            await running.wait_for_errors(16)
            alertmanager.behave = refuse
            running.clock.advance(RESEND)
            await running.wait_until_sent()
            assert running.count("dropped_total") == 1
        assert set(streams(alertmanager.alerts)) == {f"s{n}" for n in range(64)}


def limiting(size: int) -> Any:
    """Return the behaviour of a proxy that limits the size of requests."""

    async def refuse_large(_alerts: list[dict[str, Any]], request: web.Request) -> web.Response:
        return web.Response(status=413 if len(await request.read()) > size else 200)

    return refuse_large


async def test_batches_are_halved_while_they_are_too_large() -> None:
    padded = [firing_alert("x" * 400 + str(n)) for n in range(100)]
    async with fake_alertmanager() as alertmanager:
        alertmanager.behave = limiting(20_000)
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url, *padded) as running:
                await running.wait_until_sent()
                assert [len(batch) for batch in alertmanager.batches] == [64, 32, 32, 32, 4]
                assert running.count("sent_total") == 101
                assert (running.count("errors_total"), running.count("dropped_total")) == (0, 0)
                await running.next_round()
                assert [len(batch) for batch in alertmanager.batches][5:] == [32] * 3 + [4]
                await running.next_round(3600)
                assert [len(batch) for batch in alertmanager.batches][9] == 64, "the limit may have been lifted"
    assert {line["event"] for line in logs} == {"request too large for alertmanager; sending smaller ones"}


async def test_alert_that_is_too_large_is_sent_without_annotations_or_dropped() -> None:
    async with fake_alertmanager() as alertmanager:
        alertmanager.behave = limiting(800)
        async with running_queue(alertmanager.url) as running:
            await running.wait_until_sent()
            running.outbox.annotations = {"summary": "x" * 700}
            running.send(firing_alert(), firing_alert("x" * 900))
            await running.wait_until_sent()
            assert running.count("dropped_total") == 1
            assert running.count("sent_total") == 2
        accepted = alertmanager.received("StreamUnhealthy", stream="main")[-1]
        assert accepted["annotations"] == {}


async def test_failing_batch_does_not_block_the_others() -> None:
    async with fake_alertmanager() as alertmanager:

        async def fail_on_s0(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=500 if "s0" in streams(alerts) else 200)

        alertmanager.behave = fail_on_s0
        async with running_queue(alertmanager.url) as running:
            await running.wait_until_sent()
            running.send(*many(2 * MAX_BATCH_SIZE))
            await running.wait_for_errors(MAX_BATCH_SIZE)
            running.clock.advance(1)
            await running.wait_for_errors(2 * MAX_BATCH_SIZE)
            assert running.count("sent_total") == 1 + MAX_BATCH_SIZE
            assert running.queue.waiting == MAX_BATCH_SIZE


# -- resolved alerts ---------------------------------------------------------------------------------------------------


async def test_accepted_resolve_is_repeated_only_after_a_restart() -> None:
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager, running_queue(alertmanager.url, clock=clock) as running:
        running.send(resolve(firing_alert(), clock))
        await running.wait_until_sent()
        for _ in range(5):
            await running.next_round()
        assert len(alertmanager.received("StreamUnhealthy")) == 1
        alertmanager.restart()
        with structlog.testing.capture_logs() as logs:
            await running.next_round()
        assert len(alertmanager.received("StreamUnhealthy")) == 2
        assert [line["event"] for line in logs] == ["alertmanager has restarted"]
        await running.next_round()
        assert len(alertmanager.received("StreamUnhealthy")) == 2


async def test_restart_during_an_outage_starts_a_new_round_at_once() -> None:
    """Otherwise firing alerts would be missing until the next round."""
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager:
        async with running_queue(alertmanager.url, *many(3), clock=clock) as running:
            await running.wait_until_sent()
            alertmanager.behave = respond_with(503)
            running.send(firing_alert("new"))
            await running.wait_for_errors(1)
            alertmanager.restart()
            alertmanager.behave = accept_all
            alertmanager.all_batches.clear()
            clock.advance(1)
            await running.wait_until_sent()
        assert set(streams(alertmanager.alerts)) == {"s0", "s1", "s2", "new"}


async def test_load_balancer_is_not_mistaken_for_a_restart() -> None:
    """It is logged once. Resolves are repeated, because it is unknown which Alertmanager accepted them."""
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager, running_queue(alertmanager.url, clock=clock) as running:
        with structlog.testing.capture_logs() as logs:
            running.send(resolve(firing_alert(), clock))
            for turn in range(8):
                alertmanager.uptime = f"2024-09-10T00:00:0{turn % 2}.000Z"
                await running.next_round()
        assert [line["log_level"] for line in logs] == ["info", "warning"]
        assert logs[1]["event"].startswith("several alertmanagers answer at this address")
        assert len(alertmanager.received("StreamUnhealthy")) >= 8


async def test_resolve_is_repeated_if_alertmanager_reports_no_uptime() -> None:
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager, running_queue(alertmanager.url, clock=clock) as running:
        alertmanager.uptime = None
        running.send(resolve(firing_alert(), clock))
        await running.wait_until_sent()
        for _ in range(5):
            await running.next_round()
        assert len(alertmanager.received("StreamUnhealthy")) == 6


@pytest.mark.parametrize("clock_step", [0.0, -3600.0, 3600.0])
async def test_undelivered_resolve_is_dropped_after_15_minutes(clock_step: float) -> None:
    async with running_queue("http://127.0.0.1:9") as running:
        running.send(resolve(firing_alert("ended"), running.clock), firing_alert("firing"))
        await running.wait_for_errors(1)
        running.clock.step(clock_step)
        running.clock.advance(899)
        await running.wait_for_errors(2)
        assert running.queue.waiting == 3, "including the watchdog"
        running.clock.advance(60)
        await running.wait_for_errors(3)
        assert running.queue.waiting == 2
        assert running.count("dropped_total") == 1


async def test_lapsed_alert_is_neither_sent_nor_counted_as_dropped() -> None:
    async with fake_alertmanager() as alertmanager:
        alertmanager.behave = respond_with(503)
        async with running_queue(alertmanager.url) as running:
            running.outbox.lapse_seconds = 240.0
            running.send(resolve(firing_alert(), running.clock))
            await running.wait_for_errors(1)
            running.clock.advance(1_000)
            await running.wait_for_errors(2)
            alertmanager.behave = accept_all
            running.clock.advance(RESEND)
            await running.wait_until_sent()
            assert running.count("dropped_total") == 0
        assert alertmanager.received("StreamUnhealthy") == []


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 600.0, -600.0])
async def test_wrong_clock_prolongs_an_alert_and_never_ends_one(offset: float) -> None:
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager:
        alertmanager.clock_offset = offset
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url, firing_alert(fired_at=clock.now() - 60), clock=clock) as running:
                await running.wait_until_sent()
                assert running.count("clock_offset_seconds") == pytest.approx(offset, abs=0.1)
                await running.next_round()
                for alert in alertmanager.alerts:
                    assert parse_time(alert["endsAt"]) > alertmanager.now() + 170, "240 s ahead a minute ago"
                running.send(resolve(running.outbox.all_alerts[0], clock))
                await running.wait_until_sent()
                ended = alertmanager.received("StreamUnhealthy")[-1]
                assert parse_time(ended["startsAt"]) <= parse_time(ended["endsAt"]) <= alertmanager.now()
                alertmanager.clock_offset = 0.0
                await running.next_round()
                await running.next_round()
    logged = [(line["event"], line.get("seconds")) for line in logs]
    expected = [
        ("alertmanager's clock differs from the exporter's", offset),
        ("alertmanager's clock agrees with the exporter's again", None),
    ]
    assert logged == (expected if offset else [])


async def test_clock_is_read_again_after_alertmanagers_clock_was_set() -> None:
    """Alertmanager lists no alert that has ended by its new clock, so the watchdog is sent again without times."""
    clock = FakeClock()
    async with (
        fake_alertmanager(clock=clock) as alertmanager,
        running_queue(alertmanager.url, firing_alert(), clock=clock) as running,
    ):
        await running.wait_until_sent()
        alertmanager.clock_offset = 3600.0
        await running.next_round()
        assert running.count("clock_offset_seconds") == pytest.approx(3600, abs=0.1)
        assert is_firing(alertmanager.received("StreamUnhealthy")[-1], alertmanager.now())


async def test_outdated_clock_offset_is_not_exported() -> None:
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager, running_queue(alertmanager.url, clock=clock) as running:
        await running.wait_until_sent()
        assert running.count("clock_offset_seconds") == pytest.approx(0, abs=0.1)
        alertmanager.clock = None
        await running.next_round()
        assert running.count("clock_offset_seconds") == pytest.approx(0, abs=0.1), "a failed request changes nothing"
        for _ in range(5):
            await running.next_round()
        assert running.count("clock_offset_seconds") is None


async def test_resolve_is_sent_again_after_alertmanagers_clock_was_set_back() -> None:
    """The accepted end is in the future again."""
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager, running_queue(alertmanager.url, clock=clock) as running:
        running.send(resolve(firing_alert(), clock))
        await running.wait_until_sent()
        await running.next_round()
        alertmanager.clock_offset = -3600.0
        await running.next_round()
        assert len(alertmanager.received("StreamUnhealthy")) == 2
        assert not is_firing(alertmanager.received("StreamUnhealthy")[-1], alertmanager.now())


async def test_clock_is_not_read_from_the_watchdog_of_another_sidecar() -> None:
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager:

        async def replace_watchdog(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            for alert in alerts:
                alert["annotations"]["sent_at"] = "another sidecar's"
            return web.Response()

        alertmanager.behave = replace_watchdog
        alertmanager.clock_offset = 600.0
        async with running_queue(alertmanager.url, clock=clock) as running:
            await running.wait_until_sent()
            assert running.count("clock_offset_seconds") is None


async def test_unlisted_watchdog_is_logged_once() -> None:
    """Something other than Alertmanager may have accepted it."""
    clock = FakeClock()
    async with fake_alertmanager(clock=clock) as alertmanager:
        alertmanager.behave = respond_with(202)
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url, clock=clock) as running:
                for _ in range(3):
                    await running.wait_until_sent()
                    await running.next_round()
                alertmanager.behave = accept_all
                await running.next_round()
    assert [line["event"] for line in logs] == ["alertmanager does not list the watchdog that it accepted"]


# -- shutdown and errors -----------------------------------------------------------------------------------------------


async def test_flush_sends_changes_until_the_first_failure() -> None:
    async with fake_alertmanager() as alertmanager:
        running = QueueHarness(alertmanager.url, FakeClock())
        running.send(*many(130))
        await running.queue.flush()
        assert len(streams(alertmanager.alerts)) == 130
        await running.queue.close()
    running = QueueHarness("http://127.0.0.1:9", FakeClock())
    running.send(firing_alert())
    await running.queue.flush()
    assert running.queue.waiting == 1
    await running.queue.close()


async def test_internal_error_does_not_stop_the_queue() -> None:
    async with fake_alertmanager() as alertmanager:
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url) as running:
                await running.wait_until_sent()
                broken = firing_alert(fired_at="no time")
                running.send(broken)
                async with asyncio.timeout(30):
                    while not running.clock.slept:  # noqa: ASYNC110 - waits for the back-off
                        await asyncio.sleep(0)
                broken.fired_at = running.clock.now()
                running.clock.advance(60)
                await running.wait_until_sent()
    assert logs[0]["event"] == "alerts could not be sent"
    assert "TypeError" in logs[0]["error"]


async def test_alert_that_cannot_be_rendered_does_not_block_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_alertmanager() as alertmanager:
        render = FakeOutbox.payload

        def fail_on_s1(self: FakeOutbox, alert: Alert) -> Any:
            if alert.key.stream == "s1":
                raise ZeroDivisionError
            return render(self, alert)

        monkeypatch.setattr(FakeOutbox, "payload", fail_on_s1)
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url) as running:
                running.send(*many(3))
                await running.wait_until_sent()
    assert set(streams(alertmanager.alerts)) == {"s0", "s2"}
    assert {line["event"] for line in logs} == {"alert could not be sent"}


# -- requests ----------------------------------------------------------------------------------------------------------


async def test_credentials_headers_and_path_prefix_are_sent() -> None:
    async with fake_alertmanager("/mimir/alertmanager/api/v2/alerts") as alertmanager:
        more: dict[str, Any] = {
            "headers": {"X-Scope-OrgID": "tenant-1"},
            "auth": {"username": "me", "password": "hunter2secret"},
        }
        async with running_queue(f"{alertmanager.url}/mimir/alertmanager", **more) as running:
            await running.wait_until_sent()
        async with running_queue(f"{alertmanager.url}/mimir/alertmanager", auth={"bearer_token": "tok-1"}) as running:
            await running.wait_until_sent()
    basic, bearer = (request.headers for request in alertmanager.requests)
    assert basic["X-Scope-OrgID"] == "tenant-1"
    assert basic["Authorization"] == "Basic bWU6aHVudGVyMnNlY3JldA=="
    assert bearer["Authorization"] == "Bearer tok-1"


async def test_missing_secret_is_logged_and_retried(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("tok-1")
    async with fake_alertmanager() as alertmanager:
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url, auth={"bearer_token_file": str(token)}) as running:
                token.unlink()
                await running.wait_for_errors(1)
                assert running.queue.waiting == 1
                token.write_text("tok-2")
                running.clock.advance(60)
                await running.wait_until_sent()
    assert [(line["log_level"], line.get("reason")) for line in logs] == [("error", "auth"), ("info", None)]
    (request,) = alertmanager.requests
    assert request.headers["Authorization"] == "Bearer tok-2"


@pytest.mark.parametrize(
    ("settings", "address", "expected"),
    [
        ({"url": "http://am"}, None, "http://am"),
        ({"url": "https://am/prefix/"}, None, "https://am/prefix"),
        ({"url": "http://am:9093", "name": "main"}, None, "main"),
        ({"url": "http://am", "headers": {"x-scope-orgid": "sports"}}, None, "http://am (tenant sports)"),
        ({"url": "http://am", "headers": {"X-Key": "sports"}}, None, "http://am"),
        ({"url": "http://am:9093"}, "10.0.0.1", "http://am:9093 at 10.0.0.1:9093"),
        ({"url": "http://am:9093", "name": "main"}, "fd00::1", "main at [fd00::1]:9093"),
    ],
)
def test_identity_is_the_name_or_the_url_with_the_tenant(
    settings: Mapping[str, Any], address: str | None, expected: str
) -> None:
    assert target_label(settings_for(**settings), address) == expected
