from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from aiohttp import web

from exporter.alerting.alertmanager import Alertmanager, host_and_port
from exporter.alerting.notification_queue import MAX_BATCH_SIZE, NotificationQueue
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.metrics.self_metrics import FamilyRegistry
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import (
    FakeAlertmanager,
    alert_payload,
    fake_alertmanager,
    is_firing,
    parse_time,
    run_event_loop,
    settings_for,
)

RESEND = 60.0


class QueueHarness:
    """A running queue, and what it counts."""

    def __init__(self, url: str, clock: FakeClock, capacity: int = 10_000, **more: Any) -> None:
        self.registry = FamilyRegistry()
        self.clock = clock
        self._metrics = SidecarMetrics(self.registry)
        self.queue = NotificationQueue(
            self.alertmanager(url, **more),
            clock=clock,
            metrics=self._metrics,
            max_backoff_seconds=RESEND,
            capacity=capacity,
        )

    def alertmanager(self, url: str, **more: Any) -> Alertmanager:
        def observe(seconds: float) -> None:
            self._metrics.observe_latency(self.queue.label, seconds)

        return Alertmanager(settings_for(url, **more), self.clock, observe=observe)

    def count(self, name: str) -> float | None:
        full = f"stream_exporter_notifications_{name}"
        return self.registry.get_sample_value(full, {"alertmanager": self.queue.label})

    async def wait_until_sent(self) -> None:
        async with asyncio.timeout(30):
            while self.queue.waiting:  # noqa: ASYNC110 - it ends when an answer has come over a real socket
                await asyncio.sleep(0.005)

    async def wait_for_attempts(self, times: int) -> None:
        """Wait until that many requests have ended and the queue waits again."""
        async with asyncio.timeout(30):
            while (self.count("latency_seconds_count") or 0) < times:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        await run_event_loop()


@asynccontextmanager
async def running_queue(url: str, *, capacity: int = 10_000, **more: Any) -> AsyncIterator[QueueHarness]:
    running = QueueHarness(url, FakeClock(), capacity, **more)
    task = asyncio.create_task(running.queue.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await running.queue.close()


async def test_payload_has_alertmanagers_format() -> None:
    async with fake_alertmanager() as alertmanager, running_queue(alertmanager.url) as running:
        now = running.clock.now()
        first = replace(alert_payload(starts_at=now - 5), generator_url="http://exporter:10071/streams?stream=main")
        running.queue.enqueue([first, alert_payload("other", starts_at=now - 9, ends_at=now - 1)])
        await running.wait_until_sent()
    firing, resolved = alertmanager.alerts
    assert firing == {
        "labels": {"alertname": "StreamUnhealthy", "upstream": "studio", "stream": "main"},
        "annotations": {"summary": "A stream is unhealthy."},
        "startsAt": "2024-09-10T20:26:35.000Z",
        "endsAt": "2024-09-10T20:30:40.000Z",
        "generatorURL": "http://exporter:10071/streams?stream=main",
    }
    assert parse_time(resolved["endsAt"]) == now - 1
    assert "generatorURL" not in resolved
    assert alertmanager.requests[0].headers["Content-Type"] == "application/json"
    assert running.count("sent_total") is None, "closed: its series have left"


async def test_alerts_are_sent_in_batches_and_counted() -> None:
    async with fake_alertmanager() as alertmanager, running_queue(alertmanager.url) as running:
        assert running.count("queue_capacity") == 10_000
        running.queue.enqueue([alert_payload(f"s{n}") for n in range(150)])
        assert running.count("queue_length") == 150
        await running.wait_until_sent()
        assert [len(batch) for batch in alertmanager.batches] == [64, 64, 22]
        assert running.count("sent_total") == 150
        assert running.count("queue_length") == 0
        assert (running.count("errors_total"), running.count("dropped_total")) == (0, 0)
        assert running.count("latency_seconds_count") == 3


async def test_newest_state_of_an_alert_is_sent() -> None:
    async with fake_alertmanager() as alertmanager:
        entered, may_respond = asyncio.Event(), asyncio.Event()

        async def respond_slowly(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            entered.set()
            await may_respond.wait()
            return web.Response()

        alertmanager.behave = respond_slowly
        async with running_queue(alertmanager.url) as running:
            now = running.clock.now()
            running.queue.enqueue([alert_payload()])
            await entered.wait()
            running.queue.enqueue([alert_payload(ends_at=now), alert_payload("b")])
            running.queue.enqueue([alert_payload("b", ends_at=now)])
            assert running.queue.waiting == 2
            may_respond.set()
            await running.wait_until_sent()
    first, second = alertmanager.batches
    assert len(first) == 1
    assert {alert["labels"]["stream"]: is_firing(alert, now) for alert in second} == {"main": False, "b": False}


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403, 404, 302])
async def test_retriable_status_is_retried_with_backoff(status: int) -> None:
    async with fake_alertmanager() as alertmanager:

        async def refuse(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=status, text="token=hunter2", headers={"Retry-After": "86400"})

        alertmanager.behave = refuse
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url) as running:
                running.queue.enqueue([alert_payload()])
                for attempt in range(1, 10):
                    await running.wait_for_attempts(attempt)
                    assert running.count("errors_total") == attempt
                    running.clock.advance(running.clock.slept[-1])
                waits = running.clock.slept[:9]
                assert all(0.5 * min(2**n, RESEND) <= wait <= min(2**n, RESEND) for n, wait in enumerate(waits)), waits
                alertmanager.behave = FakeAlertmanager().behave
                await running.wait_for_attempts(10)
                running.clock.advance(RESEND)
                await running.wait_until_sent()
                assert running.count("sent_total") == 1
    levels = [(line["log_level"], line["event"]) for line in logs]
    level = "error" if status in (401, 403) else "warning"
    assert levels == [(level, "alertmanager fails"), ("info", "alertmanager is back")]
    assert "hunter2" not in str(logs)


async def test_invalid_alert_does_not_block_the_others() -> None:
    """Alertmanager takes the valid ones of a request and answers 400: sending it again would only be refused again."""
    async with fake_alertmanager() as alertmanager:

        async def refuse_one(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=400 if any(a["labels"]["stream"] == "s63" for a in alerts) else 200)

        alertmanager.behave = refuse_one
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url) as running:
                running.queue.enqueue([alert_payload(f"s{n}") for n in range(65)])
                await running.wait_until_sent()
                assert [len(batch) for batch in alertmanager.batches] == [64, 1]
                assert running.clock.slept == []
                assert (running.count("errors_total"), running.count("sent_total")) == (64, 1)
    (line,) = logs
    assert line["event"] == "alertmanager refused alerts"
    assert line["alertnames"] == ["StreamUnhealthy"]


async def test_batch_that_fails_does_not_block_the_others() -> None:
    async with fake_alertmanager() as alertmanager:

        async def fail_on_s0(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=500 if any(a["labels"]["stream"] == "s0" for a in alerts) else 200)

        alertmanager.behave = fail_on_s0
        async with running_queue(alertmanager.url) as running:
            running.queue.enqueue([alert_payload(f"s{n}") for n in range(2 * MAX_BATCH_SIZE)])
            await running.wait_for_attempts(1)
            running.clock.advance(1)
            await running.wait_for_attempts(2)
            assert running.count("sent_total") == MAX_BATCH_SIZE
            assert running.queue.waiting == MAX_BATCH_SIZE


async def test_alertmanager_gets_the_current_state_after_ten_minutes_down() -> None:
    """Firing alerts arrive as firing, resolved ones as resolved, and the queue stays bounded."""
    async with fake_alertmanager() as alertmanager:
        dead = "http://127.0.0.1:9"
        async with running_queue(dead, capacity=100) as running:
            queue, clock = running.queue, running.clock
            began = clock.now()
            ended = {f"s{n}": began + 5 for n in range(20)}
            for _ in range(10):
                queue.enqueue([alert_payload(f"s{n}", starts_at=began, ends_at=ended.get(f"s{n}")) for n in range(80)])
                queue.enqueue([alert_payload("main", starts_at=began)])
                clock.advance(60)
                await running.wait_for_attempts(int(running.count("latency_seconds_count") or 0) + 1)
            assert queue.waiting == 81
            assert running.count("dropped_total") == 0
            await queue._alertmanager.close()
            queue._alertmanager = running.alertmanager(alertmanager.url)
            clock.advance(60)
            await running.wait_until_sent()
        received = {alert["labels"]["stream"]: alert for alert in alertmanager.alerts}
        assert len(received) == len(alertmanager.alerts) == 81
        assert {stream for stream, alert in received.items() if not is_firing(alert, clock.now())} == set(ended)
        assert {parse_time(alert["startsAt"]) for alert in received.values()} == {began}


async def test_oldest_alerts_are_dropped_when_the_queue_is_full() -> None:
    with structlog.testing.capture_logs() as logs:
        async with running_queue("http://127.0.0.1:9", capacity=10) as running:
            running.queue.enqueue([alert_payload(f"s{n}") for n in range(25)])
            assert running.queue.waiting == 10
            assert running.count("dropped_total") == 15
            assert running.count("queue_length") == 10
            running.queue.enqueue([alert_payload("one more")])
            assert running.count("dropped_total") == 16
            running.queue.enqueue([])
    assert [line["event"] for line in logs].count("too many alerts wait, the oldest are dropped") == 1


@pytest.mark.parametrize("clock_step", [0.0, -3600.0, 3600.0])
async def test_resolve_is_dropped_after_a_quarter_of_an_hour(clock_step: float) -> None:
    async with running_queue("http://127.0.0.1:9") as running:
        wall, steady = running.clock.now(), running.clock.monotonic()
        running.queue.enqueue([alert_payload("ended", ends_at=wall, resolved_steady=steady), alert_payload("firing")])
        await running.wait_for_attempts(1)
        running.clock.step(clock_step)
        running.clock.advance(899)
        await running.wait_for_attempts(2)
        assert running.queue.waiting == 2
        running.clock.advance(60)
        await running.wait_for_attempts(3)
        assert running.queue.waiting == 1
        assert running.count("dropped_total") == 1


async def test_flush_stops_at_the_first_failure() -> None:
    async with fake_alertmanager() as alertmanager:
        running = QueueHarness(alertmanager.url, FakeClock())
        running.queue.enqueue([alert_payload(f"s{n}") for n in range(130)])
        await running.queue.flush()
        assert len(alertmanager.alerts) == 130
        await running.queue.close()
    running = QueueHarness("http://127.0.0.1:9", FakeClock())
    running.queue.enqueue([alert_payload()])
    await running.queue.flush()
    assert running.queue.waiting == 1
    await running.queue.close()


async def test_internal_error_does_not_stop_the_queue() -> None:
    async with fake_alertmanager() as alertmanager:
        with structlog.testing.capture_logs() as logs:
            async with running_queue(alertmanager.url) as running:
                broken = alert_payload()
                object.__setattr__(broken, "starts_at", None)
                running.queue.enqueue([broken])
                async with asyncio.timeout(30):
                    while not running.clock.slept:  # noqa: ASYNC110 - the queue's own rest
                        await asyncio.sleep(0)
                running.queue.enqueue([alert_payload()])
                running.clock.advance(60)
                await running.wait_until_sent()
    assert logs[0]["event"] == "alerts not sent"
    assert "TypeError" in logs[0]["error"]


# -- how it is spoken to -----------------------------------------------------------------------------------------------


async def test_credentials_headers_and_path_prefix_are_sent() -> None:
    async with fake_alertmanager("/mimir/alertmanager/api/v2/alerts") as alertmanager:
        more: dict[str, Any] = {
            "headers": {"X-Scope-OrgID": "tenant-1"},
            "auth": {"username": "me", "password": "hunter2secret"},
        }
        async with running_queue(f"{alertmanager.url}/mimir/alertmanager", **more) as running:
            running.queue.enqueue([alert_payload()])
            await running.wait_until_sent()
        async with running_queue(f"{alertmanager.url}/mimir/alertmanager", auth={"bearer_token": "tok-1"}) as running:
            running.queue.enqueue([alert_payload()])
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
                running.queue.enqueue([alert_payload()])
                async with asyncio.timeout(30):
                    while not running.clock.slept:  # noqa: ASYNC110 - the queue's own rest
                        await asyncio.sleep(0)
                assert running.queue.waiting == 1
                token.write_text("tok-2")
                running.clock.advance(60)
                await running.wait_until_sent()
    assert [(line["log_level"], line.get("reason")) for line in logs] == [("error", "auth"), ("info", None)]
    (request,) = alertmanager.requests
    assert request.headers["Authorization"] == "Bearer tok-2"


@pytest.mark.parametrize(
    ("url", "address", "expected"),
    [
        ("http://am", None, "am:80"),
        ("https://am/prefix", None, "am:443"),
        ("http://am:9093", "10.0.0.1", "10.0.0.1:9093"),
        ("http://am:9093", "fd00::1", "[fd00::1]:9093"),
        ("http://[::1]:9093", None, "[::1]:9093"),
    ],
)
def test_label_is_host_and_port(url: str, address: str | None, expected: str) -> None:
    assert host_and_port(url, address) == expected
