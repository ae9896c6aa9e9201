from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
import structlog.testing
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.event_queue import CAPACITY, AlertEventQueue
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.auth import TlsSettings
from exporter.config.secrets import Secret
from exporter.http.auth import Bearer
from exporter.http.client import UpstreamClient
from exporter.http.retry import ResponseLimits
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import Identity, Status, StreamReport, StreamState, UpstreamState
from exporter.platforms.capabilities import AlertChange, AlertSink, DeliveryCounts
from exporter.platforms.wave.alert_events import WaveAlertSink
from exporter.simulator.context import TOKEN
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app as make_simulator
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import FakeAlertmanager, fake_alertmanager, respond_with, run_event_loop
from tests.sidecar.sidecar_harness import SidecarHarness


class EventQueueHarness:
    """A running event queue and its metrics."""

    def __init__(self, url: str | None, capacity: int = CAPACITY) -> None:
        self.clock = FakeClock()
        self.registry = FamilyRegistry()
        self.client = None if url is None else client(url, self.clock)
        self.events = AlertEventQueue(
            "wave", self.find_sink, clock=self.clock, metrics=SidecarMetrics(self.registry), capacity=capacity
        )

    def find_sink(self, upstream: str) -> AlertSink | None:
        assert upstream == "wave"
        return None if self.client is None else WaveAlertSink(self.client)

    def count(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("stream_exporter_wave_events_total", {"outcome": outcome})

    async def wait_for_backoffs(self, times: int = 1) -> None:
        """Wait until the queue has started this many back-offs."""
        async with asyncio.timeout(30):
            while len(self.clock.slept) < times:  # noqa: ASYNC110 - waits for real responses
                await asyncio.sleep(0.002)

    async def wait_until_sent(self) -> None:
        async with asyncio.timeout(30):
            while self.events.waiting:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.002)


def client(url: str, clock: FakeClock) -> UpstreamClient:
    return UpstreamClient(
        upstream="wave",
        platform="wave",
        url=url,
        auth=Bearer(Secret.inline(TOKEN)),
        tls=TlsSettings(),
        max_concurrent_requests=1,
        limits=ResponseLimits(65_536),
        clock=clock,
        observe=lambda *_: None,
    )


@asynccontextmanager
async def running_event_queue(url: str | None, **more: Any) -> AsyncIterator[EventQueueHarness]:
    running = EventQueueHarness(url, **more)
    task = asyncio.create_task(running.events.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if running.client is not None:
            await running.client.close()


@asynccontextmanager
async def simulated_wave() -> AsyncIterator[str]:
    async with TestServer(make_simulator(Fleet(6))) as server:
        yield str(server.make_url("")).rstrip("/")


async def received_events(url: str) -> list[dict[str, Any]]:
    """Return the events that the simulated WAVE has received."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/wave/events") as answer:
        events: list[dict[str, Any]] = (await answer.json())["events"]
        return events


def alert(stream: str = "keynote", phase: Phase = Phase.FIRING, platform: str = "wave") -> Alert:
    key = AlertKey("StreamPacketLossCritical", "wave" if platform == "wave" else "edge", stream)
    return Alert(key, platform, phase, active_at=1.0, value=0.09, fired_at=2.0, resolved_at=3.0)


def view(
    stream: str = "keynote", session: str = "sess_1", *, expected: bool | None = None, **more: Any
) -> UpstreamState:
    sample = StreamReport(id=session, session=session, **more)
    state = StreamState(
        identity=Identity("wave", "wave", stream), report=sample, status=Status.LIVE, live=True, expected=expected
    )
    return UpstreamState(
        platform="wave",
        upstream="wave",
        host="wave",
        health_score="derived",
        streams=(state,),
        up=True,
        answering=True,
    )


async def test_alert_change_becomes_a_wave_event() -> None:
    async with simulated_wave() as url, running_event_queue(f"{url}/wave/api/v1") as running:
        running.events.add(alert(), view())
        running.events.add(alert("live/main", platform="storm"), None)
        running.events.add(alert(phase=Phase.RESOLVED), None)
        running.events.add(alert("hashed"), view("hashed", ""))
        await running.wait_until_sent()
        first, second, third, fourth = await received_events(url)
    assert {key: first[key] for key in ("eventType", "eventName", "sessionId", "properties")} == {
        "eventType": "stream",
        "eventName": "stream.unhealthy",
        "sessionId": "sess_1",
        "properties": {
            "platform": "wave",
            "upstream": "wave",
            "stream": "keynote",
            "alert": "StreamPacketLossCritical",
            "value": 0.09,
        },
    }
    assert (second["sessionId"], second["eventName"]) == ("edge/live/main", "stream.unhealthy")
    assert (third["sessionId"], third["eventName"]) == ("sess_1", "stream.recovered")
    assert fourth["sessionId"] == "wave/hashed"
    assert running.count("accepted") == 4
    assert running.count("rejected") == running.count("dropped") == 0


async def test_events_are_sent_in_batches_of_a_hundred() -> None:
    async with fake_alertmanager("/analytics/events/batch") as platform:
        platform.behave = accepting
        async with running_event_queue(platform.url) as running:
            for n in range(250):
                running.events.add(alert(f"s{n}"), None)
            await running.wait_until_sent()
            assert [len(events_of(batch)) for batch in platform.batches] == [100, 100, 50]
            assert running.count("accepted") == 250


def events_of(body: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = body["events"]
    return events


async def accepting(body: Any, _request: web.Request) -> web.Response:
    return web.json_response({"success": True, "accepted": len(events_of(body))})


async def test_failed_batch_is_retried_and_a_full_queue_drops_the_oldest_events() -> None:
    async with fake_alertmanager("/analytics/events/batch") as platform:
        platform.behave = respond_with(503)
        with structlog.testing.capture_logs() as logs:
            async with running_event_queue(platform.url, capacity=20) as running:
                for n in range(30):
                    running.events.add(alert(f"s{n}"), None)
                assert running.events.waiting == 20
                assert running.count("dropped") == 10
                for attempt in range(1, 12):
                    await running.wait_for_backoffs(attempt)
                    running.clock.advance(running.clock.slept[-1])
                assert 30 <= running.clock.slept[-1] <= 60
                platform.behave = accepting
                await running.wait_until_sent()
                assert [event["properties"]["stream"] for event in events_of(platform.batches[-1])] == [
                    f"s{n}" for n in range(10, 30)
                ]
                assert running.count("accepted") == 20
    assert [line["event"] for line in logs] == ["wave does not accept events"]


async def test_events_queued_during_a_request_are_sent_once() -> None:
    """The oldest event may be dropped during the request; newer ones stay queued."""
    async with fake_alertmanager("/analytics/events/batch") as platform:
        go_on = asyncio.Event()

        async def slowly(body: Any, request: web.Request) -> web.Response:
            await go_on.wait()
            return await accepting(body, request)

        platform.behave = slowly
        async with running_event_queue(platform.url, capacity=2) as running:
            running.events.add(alert("a"), None)
            await platform.until(lambda: platform.batches)
            for stream in "bcd":
                running.events.add(alert(stream), None)
            go_on.set()
            await running.wait_until_sent()
            assert [e["properties"]["stream"] for batch in platform.batches for e in events_of(batch)] == [
                "a",
                "c",
                "d",
            ]


@pytest.mark.parametrize("status", [200, 400])
async def test_rejected_events_are_counted_and_not_sent_again(status: int) -> None:
    async with fake_alertmanager("/analytics/events/batch") as platform:

        async def reject(_body: Any, _request: web.Request) -> web.Response:
            return web.json_response({"success": True, "accepted": 0, "rejected": 1}, status=status)

        platform.behave = reject
        with structlog.testing.capture_logs() as logs:
            async with running_event_queue(platform.url) as running:
                running.events.add(alert(), None)
                await running.wait_until_sent()
                await run_event_loop()
                assert (running.count("accepted"), running.count("rejected")) == (0, 1)
                assert len(platform.batches) == 1
    assert logs[-1]["event"] == "wave rejected events"


async def test_events_wait_while_the_upstream_has_no_sink() -> None:
    async with fake_alertmanager("/analytics/events/batch") as platform:
        platform.behave = accepting
        async with running_event_queue(None) as running:
            running.events.add(alert(), None)
            await running.wait_for_backoffs()
            running.client = client(platform.url, running.clock)
            running.clock.advance(60)
            await running.wait_until_sent()
            assert running.count("accepted") == 1


async def test_internal_error_does_not_stop_the_event_queue() -> None:
    async with fake_alertmanager("/analytics/events/batch") as platform:
        platform.behave = accepting
        async with running_event_queue(platform.url) as running:
            broken = alert()
            broken.value = object()  # type: ignore[assignment]
            running.events.add(broken, None)
            with structlog.testing.capture_logs() as logs:
                await running.wait_for_backoffs()
            assert logs[0]["event"] == "events could not be sent"
            running.events._queue.clear()
            running.events.add(alert(), None)
            running.clock.advance(60)
            await running.wait_until_sent()
            assert running.count("accepted") == 1


async def test_only_stream_alerts_are_sent_to_wave() -> None:
    """The sidecar also runs without an Alertmanager; changes of upstream alerts are not sent to WAVE."""
    async with simulated_wave() as url:
        clock = FakeClock()
        own = client(f"{url}/wave/api/v1", clock)
        running = SidecarHarness(
            clock, FakeAlertmanager(), find_sink=lambda name: WaveAlertSink(own) if name == "wave" else None
        )
        events = {"upstream": "wave", "enabled": True}
        await running.apply("wave", alertmanagers=[], wave_events=events)
        assert running.sidecar.active
        bad = view(packet_loss_ratio=0.09)
        for _ in range(16):
            running.store.publish(bad)
            await run_event_loop()
            clock.advance(15)
            await run_event_loop()
        down = UpstreamState(
            platform="wave", upstream="wave", host="wave", health_score="derived", up=False, answering=False
        )
        for _ in range(8):
            running.store.publish(down)
            await run_event_loop()
            clock.advance(15)
            await run_event_loop()
        sender = running.sidecar._events
        assert sender is not None
        async with asyncio.timeout(30):
            while sender.waiting:  # noqa: ASYNC110 - waits for real responses
                await asyncio.sleep(0.002)
        sent = [
            (event["eventName"], event["sessionId"], event["properties"]["alert"])
            for event in await received_events(url)
        ]
        assert ("stream.unhealthy", "sess_1", "StreamPacketLossCritical") in sent
        assert "StreamUpstreamDown" in running.states()
        assert not [alert for *_, alert in sent if alert.startswith("StreamUpstream")]
        await running.apply("wave", alertmanagers=[{"url": "http://127.0.0.1:9"}], wave_events={"enabled": False})
        assert running.sidecar._events is None
        await running.sidecar.stop()
        await own.close()


class RecordingSink(AlertSink):
    """Accepts every change."""

    batch_size = 100

    def __init__(self) -> None:
        self.changes: list[AlertChange] = []

    async def send(self, changes: Sequence[AlertChange]) -> DeliveryCounts:
        self.changes += changes
        return DeliveryCounts(len(changes), 0)


async def test_alert_with_two_severities_recovers_once() -> None:
    """A warning that a critical alert replaces has not recovered."""
    sink, clock = RecordingSink(), FakeClock()
    running = SidecarHarness(clock, FakeAlertmanager(), find_sink=lambda _: sink)
    await running.apply("wave", alertmanagers=[], wave_events={"upstream": "wave", "enabled": True})
    known = view(expected=True)
    (state,) = known.streams
    lost = msgspec.structs.replace(state, live=None, status=Status.UNKNOWN)
    unknown = msgspec.structs.replace(known, streams=(lost,))

    async def pass_time(seconds: int, upstream_state: UpstreamState) -> None:
        for _ in range(0, seconds, 60):
            running.store.publish(upstream_state)
            await run_event_loop()
            clock.advance(60)
            await run_event_loop()

    await pass_time(1200, unknown)
    assert [(change.alert, change.is_firing, change.session) for change in sink.changes] == [
        ("StreamExpectedUnknown", True, "sess_1"),
        ("StreamExpectedUnknown", True, "sess_1"),
    ], "once as a warning, once as critical"
    await pass_time(600, known)
    assert [(change.alert, change.is_firing, change.session) for change in sink.changes[2:]] == [
        ("StreamExpectedUnknown", False, "sess_1")
    ]
    await running.sidecar.stop()
