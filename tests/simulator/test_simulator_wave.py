"""The simulated WAVE API: sessions, candidates, analytics, events, Prometheus export and rate limit."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.simulator import Options
from exporter.simulator.simulated_streams import Platform
from exporter.simulator.wave_conventions import parse_iso
from tests.simulator.conftest import BEARER, EXPORT_KEY, Simulate, Simulator

API = "/wave/api/v1"
EXPORT = f"{API}/streaming/analytics/prometheus"
EVENT = {"eventType": "alert", "eventName": "StreamUnhealthy", "sessionId": "s"}


def session_path(stream_id: str) -> str:
    return f"{API}/streaming/sessions/{stream_id}"


async def patch(simulator: Simulator, stream_id: str, **body: Any) -> Any:
    return await simulator.request(session_path(stream_id), method="PATCH", json=body)


@pytest.mark.parametrize(
    ("fault", "metric", "value"),
    [("unhealthy", "packetLoss", 0.09), ("stall", "bitrateKbps", 0)],
)
async def test_fault_changes_the_metrics(simulate: Simulate, fault: str, metric: str, value: float) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.WAVE)
        session = await simulator.request(session_path(stream.id))
        assert session["metrics"]["network"]["bitrateKbps"] == pytest.approx(stream.bitrate * 8 / 1000, rel=0.07)
        await simulator.inject(Platform.WAVE, fault, stream)
        assert (await simulator.request(session_path(stream.id)))["metrics"]["network"][metric] == value


async def test_session_is_ended_then_idle_and_keeps_its_measurements(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.WAVE)
        ended_at = simulator.clock.now()
        await simulator.inject(Platform.WAVE, "end", stream, "10m")
        simulator.clock.advance(30)
        session = await simulator.request(session_path(stream.id))
        assert (session["status"], session["viewers"]) == ("ended", 0)
        assert parse_iso(session["endedAt"]) == pytest.approx(ended_at, abs=0.01)
        assert session["metrics"]["network"]["bitrateKbps"] > 0
        simulator.clock.advance(100)
        assert (await simulator.request(session_path(stream.id)))["status"] == "idle"
        simulator.clock.advance(600)
        restarted = await simulator.request(session_path(stream.id))
        assert restarted["status"] == "live"
        assert restarted["startedAt"] > session["startedAt"]


async def test_wrong_credentials_and_unknown_sessions_are_errors(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        path = session_path(simulator.fleet.streams(Platform.WAVE)[0].id)
        body = await simulator.request(path, status=401, headers=EXPORT_KEY)
        assert body["error"]["code"] == "AUTHENTICATION_REQUIRED"
        await simulator.request(EXPORT, status=401, headers=BEARER)
        body = await simulator.request(session_path("nothing"), status=404)
        assert body == {"error": {"code": "NOT_FOUND", "message": "Session not found"}}


async def test_patched_status_lasts_until_live_is_requested(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.WAVE)
        for status in ("paused", "idle", "ended"):
            assert (await patch(simulator, stream.id, status=status))["status"] == status
            simulator.clock.advance(200)
            assert (await simulator.request(session_path(stream.id)))["status"] == status
        simulator.clock.advance(30 * 3600)
        assert (await simulator.request(session_path(stream.id)))["status"] == "ended"
        assert (await patch(simulator, stream.id, status="live"))["status"] == "live"


async def test_only_a_session_that_is_not_live_can_be_deleted(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.WAVE)
        path = session_path(stream.id)
        await simulator.request(path, method="DELETE", status=409)
        await patch(simulator, stream.id, status="ended")
        assert (await simulator.request(path, method="DELETE"))["sessionId"] == stream.id
        await simulator.request(path, status=404)


async def test_ice_candidates_are_gathered_and_paged(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.WAVE, protocol="webrtc")
        path = f"{session_path(stream.id)}/webrtc/candidates"
        await simulator.inject(Platform.WAVE, "end", stream, "10s")
        simulator.clock.advance(10.1)
        assert (await simulator.request(path))["isComplete"] is False
        simulator.clock.advance(4)
        complete = await simulator.request(path)
        assert (complete["isComplete"], complete["hasMore"]) == (True, False)
        paged: list[Any] = []
        page: dict[str, Any] = {"hasMore": True}
        while page["hasMore"]:
            since = {"since": paged[-1]["timestamp"]} if paged else {}
            page = await simulator.request(path, params={"limit": "1", **since})
            paged += page["candidates"]
        assert paged == complete["candidates"]
        for query in ("type=pigeon", "since=yesterday"):
            await simulator.request(f"{path}?{query}", status=400)
        other = next(s for s in simulator.fleet.streams(Platform.WAVE) if s.protocol != "webrtc")
        await simulator.request(f"{session_path(other.id)}/webrtc/candidates", status=400)


async def test_responses_report_the_rate_limit(simulate: Simulate) -> None:
    async with simulate(3, options=Options(wave_rate_limit=3)) as simulator:
        path = session_path(simulator.fleet.streams(Platform.WAVE)[0].id)
        for remaining in ("2", "1", "0"):
            async with simulator.client.get(path, headers=BEARER) as response:
                assert response.status == 200
                assert response.headers["X-RateLimit-Remaining"] == remaining
        simulator.clock.advance(20)
        async with simulator.client.get(path, headers=BEARER) as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "40"
        async with simulator.client.get(EXPORT, headers=EXPORT_KEY) as response:
            assert response.headers["X-RateLimit-Remaining"] == "2"
        simulator.clock.advance(40)
        await simulator.request(path)


async def test_analytics_have_viewers_and_watch_time(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.WAVE)
        path = f"{API}/analytics/stream/{stream.playback_id}"
        analytics = await simulator.request(f"{path}?period=7d")
        assert analytics["totalViewers"] >= analytics["peakViewers"]
        assert analytics["avgWatchTime"] > 0
        dashboard = await simulator.request(f"{API}/analytics/dashboards?period=1d&metric=totalStreams")
        assert dashboard == {"period": "1d", "metrics": {"totalStreams": 20}}
        await simulator.request(f"{path}?period=2h", status=400)
        await simulator.request(f"{API}/analytics/dashboards?period=2h", status=400)
        await simulator.request(f"{API}/analytics/stream/nothing", status=404)


async def test_valid_events_are_stored_and_others_rejected(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        path = f"{API}/analytics/events"
        stored = await simulator.request(path, method="POST", json={**EVENT, "properties": {"a": 1}})
        assert stored == {"success": True, "eventId": "evt_1"}
        batch = {"events": [EVENT, {"eventType": "alert"}, 7, {**EVENT, "eventName": ""}, EVENT]}
        result = await simulator.request(f"{path}/batch", method="POST", json=batch)
        assert result == {"success": True, "accepted": 2, "rejected": 3}
        events = (await simulator.request("/wave/events", headers={}))["events"]
        assert [event["eventId"] for event in events] == ["evt_1", "evt_2", "evt_3"]
        assert events[0]["properties"] == {"a": 1}
        error = (await simulator.request(path, method="POST", status=400, json={"eventType": "x"}))["error"]
        assert [detail["field"] for detail in error["details"]] == ["eventName", "sessionId"]
        await simulator.request(f"{path}/batch", method="POST", status=400, json={"events": [EVENT] * 101})


async def test_export_is_prometheus_text(simulate: Simulate) -> None:
    async with simulate() as simulator:
        async with simulator.client.get(EXPORT, headers=EXPORT_KEY) as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            families = list(text_string_to_metric_families(await response.text()))
        assert {family.type for family in families} == {"gauge", "counter", "histogram"}
        stream = simulator.find_steady(Platform.WAVE)
        async with simulator.client.get(f"{EXPORT}?streamId={stream.playback_id}", headers=EXPORT_KEY) as response:
            assert set(re.findall('stream_id="([^"]*)"', await response.text())) == {stream.playback_id}
        await simulator.request(f"{EXPORT}?period=2min", status=400, headers=EXPORT_KEY)
