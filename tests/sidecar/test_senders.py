from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from aiohttp import web
from prometheus_client import CollectorRegistry

from exporter.alerting.alertmanager import Alertmanager, label
from exporter.alerting.notification_queue import BATCH, NotificationQueue
from exporter.alerting.self_metrics import SidecarMetrics
from tests.fake_clock import FakeClock
from tests.sidecar.alertmanagers import StandIn, is_firing, notice, settings, stand_in, turns, unix

RESEND = 60.0


class Sending:
    """A running sender, and what it counts."""

    def __init__(self, url: str, clock: FakeClock, capacity: int = 10_000, **more: Any) -> None:
        self.registry = CollectorRegistry()
        self.clock = clock
        self._instruments = SidecarMetrics(self.registry)
        self.sender = NotificationQueue(
            self.alertmanager(url, **more),
            clock=clock,
            instruments=self._instruments,
            generator_url="http://exporter:10071/",
            longest_back_off_seconds=RESEND,
            capacity=capacity,
        )

    def alertmanager(self, url: str, **more: Any) -> Alertmanager:
        def observe(seconds: float) -> None:
            self._instruments.request_took(self.sender.label, seconds)

        return Alertmanager(settings(url, **more), self.clock, observe=observe)

    def count(self, name: str) -> float | None:
        full = f"stream_exporter_notifications_{name}"
        return self.registry.get_sample_value(full, {"alertmanager": self.sender.label})

    async def until_idle(self) -> None:
        async with asyncio.timeout(30):
            while self.sender.waiting:  # noqa: ASYNC110 - it ends when an answer has come over a real socket
                await asyncio.sleep(0.005)

    async def until_failed(self, times: int) -> None:
        """Until so many attempts are over, well or badly, and the sender rests."""
        async with asyncio.timeout(30):
            while (self.count("latency_seconds_count") or 0) < times:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        await turns()


@asynccontextmanager
async def sending(url: str, *, capacity: int = 10_000, **more: Any) -> AsyncIterator[Sending]:
    running = Sending(url, FakeClock(), capacity, **more)
    task = asyncio.create_task(running.sender.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await running.sender.close()


async def test_what_is_sent() -> None:
    async with stand_in() as alertmanager, sending(alertmanager.url) as running:
        now = running.clock.now()
        running.sender.offer([notice(starts_at=now - 5), notice("other", starts_at=now - 9, ends_at=now - 1)])
        await running.until_idle()
    firing, resolved = alertmanager.alerts
    assert firing == {
        "labels": {"alertname": "StreamUnhealthy", "upstream": "studio", "stream": "main"},
        "annotations": {"summary": "A stream is unhealthy."},
        "startsAt": "2024-09-10T20:26:35.000Z",
        "endsAt": "2024-09-10T20:30:40.000Z",
        "generatorURL": "http://exporter:10071/",
    }
    assert unix(resolved["endsAt"]) == now - 1
    assert alertmanager.requests[0].headers["Content-Type"] == "application/json"
    assert running.count("sent_total") is None, "closed: its series have left"


async def test_batches_and_counts() -> None:
    async with stand_in() as alertmanager, sending(alertmanager.url) as running:
        assert running.count("queue_capacity") == 10_000
        running.sender.offer([notice(f"s{n}") for n in range(150)])
        assert running.count("queue_length") == 150
        await running.until_idle()
        assert [len(batch) for batch in alertmanager.batches] == [BATCH, BATCH, 150 - 2 * BATCH]
        assert running.count("sent_total") == 150
        assert running.count("queue_length") == 0
        assert (running.count("errors_total"), running.count("dropped_total")) == (0, 0)
        assert running.count("latency_seconds_count") == 3


async def test_the_newest_state_counts_and_waits_for_no_news() -> None:
    async with stand_in() as alertmanager:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            entered.set()
            await go_on.wait()
            return web.Response()

        alertmanager.behave = slowly
        async with sending(alertmanager.url) as running:
            now = running.clock.now()
            running.sender.offer([notice()])
            await entered.wait()
            running.sender.offer([notice(ends_at=now), notice("b")])
            running.sender.offer([notice("b", ends_at=now)])
            assert running.sender.waiting == 2
            go_on.set()
            await running.until_idle()
    first, second = alertmanager.batches
    assert len(first) == 1
    assert {alert["labels"]["stream"]: is_firing(alert, now) for alert in second} == {"main": False, "b": False}


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403, 404, 302])
async def test_what_is_worth_repeating_is_repeated_with_a_back_off(status: int) -> None:
    async with stand_in() as alertmanager:

        async def refuse(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=status, text="token=hunter2", headers={"Retry-After": "86400"})

        alertmanager.behave = refuse
        with structlog.testing.capture_logs() as logs:
            async with sending(alertmanager.url) as running:
                running.sender.offer([notice()])
                for attempt in range(1, 10):
                    await running.until_failed(attempt)
                    assert running.count("errors_total") == attempt
                    running.clock.advance(running.clock.slept[-1])
                waits = running.clock.slept[:9]
                assert all(0.5 * min(2**n, RESEND) <= wait <= min(2**n, RESEND) for n, wait in enumerate(waits)), waits
                alertmanager.behave = StandIn().behave
                await running.until_failed(10)
                running.clock.advance(RESEND)
                await running.until_idle()
                assert running.count("sent_total") == 1
    levels = [(line["log_level"], line["event"]) for line in logs]
    loud = "error" if status in (401, 403) else "warning"
    assert levels == [(loud, "alertmanager fails"), ("info", "alertmanager is back")]
    assert "hunter2" not in str(logs)


async def test_one_invalid_alert_of_64_costs_nobody_else() -> None:
    """Alertmanager takes the valid ones of a request and answers 400: sending it again would only be refused again."""
    async with stand_in() as alertmanager:

        async def refuse_one(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=400 if any(a["labels"]["stream"] == "s63" for a in alerts) else 200)

        alertmanager.behave = refuse_one
        with structlog.testing.capture_logs() as logs:
            async with sending(alertmanager.url) as running:
                running.sender.offer([notice(f"s{n}") for n in range(65)])
                await running.until_idle()
                assert [len(batch) for batch in alertmanager.batches] == [64, 1]
                assert running.clock.slept == []
                assert (running.count("errors_total"), running.count("sent_total")) == (64, 1)
    (line,) = logs
    assert line["event"] == "alertmanager refused alerts"
    assert line["alertnames"] == ["StreamUnhealthy"]


async def test_a_request_that_the_server_stumbles_over_holds_up_no_other() -> None:
    async with stand_in() as alertmanager:

        async def stumble(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            return web.Response(status=500 if any(a["labels"]["stream"] == "s0" for a in alerts) else 200)

        alertmanager.behave = stumble
        async with sending(alertmanager.url) as running:
            running.sender.offer([notice(f"s{n}") for n in range(2 * BATCH)])
            await running.until_failed(1)
            running.clock.advance(1)
            await running.until_failed(2)
            assert running.count("sent_total") == BATCH
            assert running.sender.waiting == BATCH


async def test_an_alertmanager_that_is_down_for_ten_minutes() -> None:
    """What still holds is told when it is back, as firing then; what ended is told as ended; memory stays bounded."""
    async with stand_in() as alertmanager:
        dead = "http://127.0.0.1:9"
        async with sending(dead, capacity=100) as running:
            sender, clock = running.sender, running.clock
            began = clock.now()
            ended = {f"s{n}": began + 5 for n in range(20)}
            for _ in range(10):
                sender.offer([notice(f"s{n}", starts_at=began, ends_at=ended.get(f"s{n}")) for n in range(80)])
                sender.offer([notice("main", starts_at=began)])
                clock.advance(60)
                await running.until_failed(int(running.count("latency_seconds_count") or 0) + 1)
            assert sender.waiting == 81
            assert running.count("dropped_total") == 0
            await sender._alertmanager.close()
            sender._alertmanager = running.alertmanager(alertmanager.url)
            clock.advance(60)
            await running.until_idle()
        told = {alert["labels"]["stream"]: alert for alert in alertmanager.alerts}
        assert len(told) == len(alertmanager.alerts) == 81
        assert {stream for stream, alert in told.items() if not is_firing(alert, clock.now())} == set(ended)
        assert {unix(alert["startsAt"]) for alert in told.values()} == {began}


async def test_the_oldest_are_dropped_when_the_queue_is_full() -> None:
    with structlog.testing.capture_logs() as logs:
        async with sending("http://127.0.0.1:9", capacity=10) as running:
            running.sender.offer([notice(f"s{n}") for n in range(25)])
            assert running.sender.waiting == 10
            assert running.count("dropped_total") == 15
            assert running.count("queue_length") == 10
            running.sender.offer([notice("one more")])
            assert running.count("dropped_total") == 16
            running.sender.offer([])
    assert [line["event"] for line in logs].count("too many alerts wait, the oldest are dropped") == 1


async def test_an_end_that_nobody_took_for_a_quarter_of_an_hour_is_given_up() -> None:
    async with sending("http://127.0.0.1:9") as running:
        now = running.clock.now()
        running.sender.offer([notice("ended", ends_at=now), notice("firing")])
        await running.until_failed(1)
        running.clock.advance(901)
        await running.until_failed(2)
        assert running.sender.waiting == 1
        assert running.count("dropped_total") == 1


async def test_flushing_takes_one_attempt() -> None:
    async with stand_in() as alertmanager:
        running = Sending(alertmanager.url, FakeClock())
        running.sender.offer([notice(f"s{n}") for n in range(130)])
        await running.sender.flush()
        assert len(alertmanager.alerts) == 130
        await running.sender.close()
    running = Sending("http://127.0.0.1:9", FakeClock())
    running.sender.offer([notice()])
    await running.sender.flush()
    assert running.sender.waiting == 1
    await running.sender.close()


async def test_an_internal_error_ends_nothing() -> None:
    async with stand_in() as alertmanager:
        with structlog.testing.capture_logs() as logs:
            async with sending(alertmanager.url) as running:
                broken = notice()
                object.__setattr__(broken, "starts_at", None)
                running.sender.offer([broken])
                async with asyncio.timeout(30):
                    while not running.clock.slept:  # noqa: ASYNC110 - the sender's own rest
                        await asyncio.sleep(0)
                running.sender.offer([notice()])
                running.clock.advance(60)
                await running.until_idle()
    assert logs[0]["event"] == "alerts not sent"
    assert "TypeError" in logs[0]["error"]


# -- how it is spoken to -----------------------------------------------------------------------------------------------


async def test_credentials_headers_and_a_path_prefix() -> None:
    async with stand_in("/mimir/alertmanager/api/v2/alerts") as alertmanager:
        more: dict[str, Any] = {
            "headers": {"X-Scope-OrgID": "tenant-1"},
            "auth": {"username": "me", "password": "hunter2secret"},
        }
        async with sending(f"{alertmanager.url}/mimir/alertmanager", **more) as running:
            running.sender.offer([notice()])
            await running.until_idle()
        async with sending(f"{alertmanager.url}/mimir/alertmanager", auth={"bearer_token": "tok-1"}) as running:
            running.sender.offer([notice()])
            await running.until_idle()
    basic, bearer = (request.headers for request in alertmanager.requests)
    assert basic["X-Scope-OrgID"] == "tenant-1"
    assert basic["Authorization"] == "Basic bWU6aHVudGVyMnNlY3JldA=="
    assert bearer["Authorization"] == "Bearer tok-1"


async def test_a_secret_that_is_gone_is_loud_and_harmless(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("tok-1")
    async with stand_in() as alertmanager:
        with structlog.testing.capture_logs() as logs:
            async with sending(alertmanager.url, auth={"bearer_token_file": str(token)}) as running:
                token.unlink()
                running.sender.offer([notice()])
                async with asyncio.timeout(30):
                    while not running.clock.slept:  # noqa: ASYNC110 - the sender's own rest
                        await asyncio.sleep(0)
                assert running.sender.waiting == 1
                token.write_text("tok-2")
                running.clock.advance(60)
                await running.until_idle()
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
def test_labels_are_host_and_port(url: str, address: str | None, expected: str) -> None:
    assert label(url, address) == expected
