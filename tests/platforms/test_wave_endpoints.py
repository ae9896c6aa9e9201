"""Every documented endpoint of WAVE, requested from the simulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason, Status
from exporter.platforms.wave import PLATFORM
from exporter.platforms.wave.alert_events import BATCH, track_event, track_events
from exporter.platforms.wave.alert_events import EVENT as EVENT_ENDPOINT
from exporter.platforms.wave.wave_sessions import delete_session, end_session, update_session
from exporter.platforms.wave.wave_settings import WaveSettings
from exporter.simulator import Fleet, Options, make_app
from exporter.simulator.context import API_KEY, TOKEN
from exporter.simulator.simulated_streams import Platform, Stream
from tests.fake_clock import FakeClock
from tests.platforms.platform_harness import Polled, polled

EVENT = {"eventType": "stream", "eventName": "stream.started", "sessionId": "sess_abc123", "platform": "web"}
EXPORT = {"enabled": True, "api_key": API_KEY}


class SimulatedWave:
    """WAVE with a simulated fleet, on the exporter's clock; ``responses`` counts responses by status."""

    def __init__(self, fleet: Fleet, clock: FakeClock) -> None:
        self.fleet = fleet
        self.clock = clock
        self.url = ""
        self.responses: Counter[int] = Counter()

    @property
    def streams(self) -> list[Stream]:
        """Return WAVE's streams."""
        return self.fleet.streams(Platform.WAVE)

    def live_stream(self, **wanted: Any) -> Stream:
        """Return a stream that is live, and stays so for a quarter of an hour."""
        now = self.clock.now()
        for stream in self.streams:
            is_wanted = all(getattr(stream, name) == value for name, value in wanted.items())
            if is_wanted and self.fleet.is_live(stream, now) and self.fleet.is_live(stream, now + 900):
                return stream
        raise AssertionError("no such stream is live")

    def settings(self, **given: Any) -> WaveSettings:
        base = {"name": "wave", "platform": "wave", "url": self.url, "auth": {"bearer_token": TOKEN}}
        return WaveSettings.model_validate({**base, **given})

    def client(self) -> UpstreamClient:
        """Return a client, which the test closes."""
        settings = self.settings(sessions=["any"])
        return UpstreamClient.from_settings(settings, self.clock, lambda endpoint, code, seconds: None)

    def polled(self, **given: Any) -> AbstractAsyncContextManager[Polled]:
        return polled(PLATFORM, self.settings(**given), self.clock)


@asynccontextmanager
async def simulated_wave(streams: int = 60, *, options: Options | None = None) -> AsyncIterator[SimulatedWave]:
    """Run the simulator."""
    wave = SimulatedWave(Fleet(streams, seed=1), FakeClock())

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        wave.responses[response.status] += 1
        return response

    app = web.Application(middlewares=(count,))
    app.add_subapp("/simulated", make_app(wave.fleet, wave.clock, options))
    async with TestServer(app) as server:
        wave.url = str(server.make_url("/simulated/wave/api/v1"))
        yield wave


@pytest.fixture
async def wave() -> AsyncIterator[SimulatedWave]:
    async with simulated_wave() as wave:
        yield wave


@pytest.fixture
async def requests(wave: SimulatedWave) -> AsyncIterator[Requests]:
    client = wave.client()
    yield client.requests(10.0)
    await client.close()


@asynccontextmanager
async def responding(endpoint: str, response: Any) -> AsyncIterator[Requests]:
    """Yield requests to a server that sends this response; None for one without a body."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=204) if response is None else web.json_response(response)

    method, _, path = endpoint.partition(" ")
    app = web.Application()
    app.router.add_route(method, path, handle)
    async with TestServer(app) as server:
        wave = SimulatedWave(Fleet(3), FakeClock())
        wave.url = str(server.make_url(""))
        client = wave.client()
        yield client.requests(10.0)
        await client.close()


async def stored_events(wave: SimulatedWave) -> list[dict[str, object]]:
    url = wave.url.replace("/api/v1", "/events")
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        events: list[dict[str, object]] = (await response.json())["events"]
        return events


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_get_session_returns_a_live_report(wave: SimulatedWave) -> None:
    stream = wave.live_stream()
    async with wave.polled(sessions=[stream.id]) as upstream:
        (report,) = (await upstream.poll()).streams
    assert (report.id, report.protocol, report.status) == (stream.id, stream.protocol, Status.LIVE)
    assert report.ingest_bitrate_bytes_per_second == pytest.approx(stream.bitrate, rel=0.5)
    assert report.viewers is not None


async def test_get_session_candidates_returns_complete_candidates(wave: SimulatedWave) -> None:
    stream = wave.live_stream(protocol="webrtc")
    async with wave.polled(sessions=[stream.id], ice_candidates="60s") as upstream:
        (report,) = (await upstream.poll()).streams
    assert report.ice_gathering_complete is True
    assert report.ice_candidates["host"] >= 2


async def test_get_stream_analytics_returns_each_stream(wave: SimulatedWave) -> None:
    stream = wave.live_stream()
    ids = [stream.playback_id, {"id": wave.streams[-1].playback_id, "name": "last"}]
    async with wave.polled(analytics={"streams": ids, "period": "7d"}) as upstream:
        first, second = (await upstream.poll()).analytics
    assert (first.stream, first.name, first.period) == (stream.playback_id, "", "7d")
    assert (second.stream, second.name) == (wave.streams[-1].playback_id, "last")
    assert (first.viewers or 0) > (first.peak_viewers or 0) > 0
    assert (first.average_watch_seconds or 0) > 0
    assert {metric.metric for metric in first.platform_metrics} == {
        "totalDuration", "quality.averageBitrate", "quality.bufferingRatio", "quality.score",
    }  # fmt: skip
    assert {metric.period for metric in first.platform_metrics} == {"7d"}


async def test_get_dashboards_returns_numbers(wave: SimulatedWave) -> None:
    async with wave.polled(analytics={"dashboards": True, "dashboards_period": "30d"}) as upstream:
        (dashboards,) = (await upstream.poll()).analytics
    assert (dashboards.stream, dashboards.period, dashboards.viewers) == ("", "30d", None)
    numbers = {metric.metric: metric.value for metric in dashboards.platform_metrics}
    assert numbers["totalStreams"] == len(wave.streams)
    assert numbers["bandwidth.ingestMbps"] > 0


async def test_get_dashboards_returns_only_the_configured_metric(wave: SimulatedWave) -> None:
    async with wave.polled(analytics={"dashboards": True, "dashboards_metric": "bandwidth"}) as upstream:
        (dashboards,) = (await upstream.poll()).analytics
    assert [metric.metric for metric in dashboards.platform_metrics] == ["bandwidth.ingestMbps"]


async def test_get_prometheus_export_returns_families(wave: SimulatedWave) -> None:
    async with wave.polled(prometheus=EXPORT) as upstream:
        passthrough = (await upstream.poll()).passthrough
    assert passthrough is not None
    assert (passthrough.prefix, passthrough.dropped) == ("wave_", 0)
    kinds = {family.name: family.kind for family in passthrough.families}
    assert kinds["streaming_viewers"] == "gauge"
    assert kinds["streaming_bandwidth_bytes_total"] == "counter"
    assert kinds["streaming_latency_seconds"] == "histogram"


async def test_get_prometheus_export_returns_only_the_configured_stream(wave: SimulatedWave) -> None:
    stream = wave.live_stream()
    async with wave.polled(prometheus={**EXPORT, "stream_id": stream.playback_id, "period": "1hour"}) as upstream:
        passthrough = (await upstream.poll()).passthrough
    assert passthrough is not None
    streams = {dict(sample.labels).get("stream_id") for family in passthrough.families for sample in family.samples}
    assert streams - {None} == {stream.playback_id}


async def test_export_with_a_wrong_key_fails_alone(wave: SimulatedWave) -> None:
    stream = wave.live_stream()
    export = {**EXPORT, "api_key": "another-key"}
    async with wave.polled(sessions=[stream.id], ice_candidates=False, prometheus=export) as upstream:
        result = await upstream.poll()
    assert result.passthrough is None
    assert [report.id for report in result.streams] == [stream.id]
    assert wave.responses == {200: 1, 401: 1}


# -- changing ----------------------------------------------------------------------------------------------------------


async def test_patch_session_changes_settings(wave: SimulatedWave, requests: Requests) -> None:
    stream = wave.live_stream()
    request = update_session(
        stream.id, status="live", metadata={"a": 1}, quality={"targetLatency": 250}, custom_properties={"b": "c"}
    )
    response = await request.send(requests)
    assert response.data["quality"]["targetLatency"] == 250
    assert (response.data["metadata"]["a"], response.data["customProperties"]) == (1, {"b": "c"})
    async with wave.polled(sessions=[stream.id]) as upstream:
        assert (await upstream.poll()).streams[0].target_latency_seconds == 0.25


async def test_patch_contains_only_changed_settings() -> None:
    assert update_session("s", quality={"maxBitrate": 1}).body == {"quality": {"maxBitrate": 1}}
    assert end_session("s").body == {"status": "ended"}


async def test_patch_with_an_unknown_status_is_refused(wave: SimulatedWave, requests: Requests) -> None:
    with pytest.raises(UpstreamError) as error:
        await update_session(wave.live_stream().id, status="gone").send(requests)
    assert (error.value.status, error.value.reason) == (400, Reason.BAD_RESPONSE)
    assert b"status" in error.value.refusal
    assert "Validation" not in str(error.value)


async def test_delete_session_is_refused_until_it_has_ended(wave: SimulatedWave, requests: Requests) -> None:
    stream = wave.live_stream()
    with pytest.raises(UpstreamError) as error:
        await delete_session(stream.id).send(requests)
    assert error.value.status == 409
    assert (await end_session(stream.id).send(requests)).data["status"] == "ended"
    deleted = (await delete_session(stream.id).send(requests)).data
    assert deleted["sessionId"] == stream.id
    assert deleted["deletedAt"]
    async with wave.polled(sessions=[stream.id]) as upstream:
        assert (await upstream.poll()).streams[0].status is Status.IDLE


# -- events ------------------------------------------------------------------------------------------------------------


async def test_post_event_returns_its_id(wave: SimulatedWave, requests: Requests) -> None:
    assert await track_event(requests, EVENT) == "evt_1"
    (event,) = await stored_events(wave)
    assert EVENT.items() <= event.items()


async def test_event_without_required_fields_is_refused(requests: Requests) -> None:
    with pytest.raises(UpstreamError) as error:
        await track_event(requests, {"eventType": "stream"})
    assert error.value.status == 400


async def test_post_batch_returns_accepted_and_rejected(wave: SimulatedWave, requests: Requests) -> None:
    events = [{**EVENT, "eventName": f"e{number}"} for number in range(100)]
    assert await track_events(requests, events) == (100, 0)
    assert await track_events(requests, [EVENT, {"eventType": "bad"}]) == (1, 1)
    assert [event["eventName"] for event in await stored_events(wave)] == [
        *(e["eventName"] for e in events),
        "stream.started",
    ]


async def test_batch_of_101_events_is_refused_before_it_is_sent(wave: SimulatedWave, requests: Requests) -> None:
    with pytest.raises(ValueError, match="101 events"):
        await track_events(requests, [EVENT] * 101)
    assert requests.count == 0
    assert not wave.responses


@pytest.mark.parametrize(
    ("response", "event_id"), [(None, ""), ({"success": True}, ""), ({"success": True, "eventId": "evt_1"}, "evt_1")]
)
async def test_event_id_is_optional(response: Any, event_id: str) -> None:
    async with responding(EVENT_ENDPOINT, response) as requests:
        assert await track_event(requests, EVENT) == event_id


async def test_rejected_event_is_a_failure() -> None:
    async with responding(EVENT_ENDPOINT, {"success": False}) as requests:
        with pytest.raises(UpstreamError) as error:
            await track_event(requests, EVENT)
    assert error.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("response", "tracked"),
    [(None, (2, 0)), ({"success": True, "accepted": 2}, (2, 0)), ({"rejected": 1}, (1, 1)), ({"rejected": 9}, (0, 2))],
)
async def test_events_not_reported_as_rejected_count_as_accepted(response: Any, tracked: tuple[int, int]) -> None:
    async with responding(BATCH, response) as requests:
        assert await track_events(requests, [EVENT, EVENT]) == tracked


# -- the limit ---------------------------------------------------------------------------------------------------------


async def test_webrtc_sessions_stay_within_the_free_tier_for_ten_minutes() -> None:
    """With default intervals and everything enabled."""
    async with simulated_wave(90, options=Options(wave_rate_limit=60)) as wave:
        webrtc = [stream for stream in wave.streams if stream.protocol == "webrtc"][:7]
        assert len(webrtc) == 7
        analytics_ids = [stream.playback_id for stream in webrtc]
        seen: set[str] = set()
        async with wave.polled(
            sessions=[stream.id for stream in webrtc],
            analytics={"streams": analytics_ids, "dashboards": True},
            prometheus=EXPORT,
        ) as upstream:
            for _ in range(20):
                result = await upstream.poll()
                assert (result.failures, result.postponed) == ({}, frozenset())
                assert result.passthrough is not None
                seen |= {figures.stream for figures in result.analytics}
                wave.clock.advance(upstream.platform.settings.interval)
        assert seen == {*analytics_ids, ""}
        assert set(wave.responses) == {200}
        assert wave.responses[200] >= 20 * 8


@pytest.mark.parametrize(("sessions", "limit"), [(25, 60), (28, 60), (5, 12)])
async def test_optional_endpoints_take_no_requests_from_the_sessions(sessions: int, limit: int) -> None:
    async with simulated_wave(90, options=Options(wave_rate_limit=limit)) as wave:
        analytics_ids = [stream.playback_id for stream in wave.streams]
        async with wave.polled(
            sessions=[stream.id for stream in wave.streams[:sessions]],
            ice_candidates=False,
            analytics={"streams": analytics_ids, "dashboards": True, "interval": "1m"},
        ) as upstream:
            for _ in range(20):
                result = await upstream.poll()
                assert len(result.streams) == sessions
                wave.clock.advance(30)
        assert 429 not in wave.responses
        assert result.analytics
