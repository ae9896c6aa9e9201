"""WAVE's API: sessions, candidates, analytics, events, the export, rate limits."""

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


async def test_a_live_session_has_the_documented_fields(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        session = await simulator.ask(session_path(stream.id))
        assert session["sessionId"] == stream.id
        assert session["status"] == "live"
        assert session["protocol"] in ("webrtc", "srt", "rtmp")
        assert "endedAt" not in session
        assert session["peakViewers"] >= session["viewers"]
        assert session["duration"] == int(simulator.clock.now() - (parse_iso(session["startedAt"]) or 0))
        metrics = session["metrics"]
        assert metrics["network"]["bitrateKbps"] == pytest.approx(stream.bitrate * 8 / 1000, rel=0.07)
        assert metrics["video"]["framesTotal"] > metrics["video"]["droppedFrames"] > 0
        assert metrics["video"]["fps"] == stream.frame_rate
        assert session["quality"]["maxBitrate"] > metrics["network"]["bitrateKbps"]


@pytest.mark.parametrize(
    ("fault", "measured"),
    [
        ("unhealthy", ("network", "packetLoss", 0.09)),
        ("stall", ("network", "bitrateKbps", 0)),
        ("stall", ("video", "fps", 0)),
    ],
)
async def test_faults_show_in_the_metrics(simulate: Simulate, fault: str, measured: tuple[str, str, float]) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        await simulator.fault(Platform.WAVE, fault, stream)
        simulator.clock.advance(5)
        metrics = (await simulator.ask(session_path(stream.id)))["metrics"]
        group, name, value = measured
        assert metrics[group][name] == value


async def test_a_session_ends_and_is_idle_and_keeps_its_last_measurements(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        at = simulator.clock.now()
        await simulator.fault(Platform.WAVE, "end", stream, "10m")
        simulator.clock.advance(30)
        session = await simulator.ask(session_path(stream.id))
        assert session["status"] == "ended"
        assert parse_iso(session["endedAt"]) == pytest.approx(at, abs=0.01)
        assert session["viewers"] == 0
        assert session["metrics"]["network"]["bitrateKbps"] > 0
        simulator.clock.advance(100)
        assert (await simulator.ask(session_path(stream.id)))["status"] == "idle"
        simulator.clock.advance(600)
        again = await simulator.ask(session_path(stream.id))
        assert again["status"] == "live"
        assert again["startedAt"] > session["startedAt"]


async def test_no_key_no_answer_and_the_export_has_its_own(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        stream = simulator.fleet.streams(Platform.WAVE)[0]
        answer = await simulator.ask(session_path(stream.id), status=401, headers=EXPORT_KEY)
        assert answer["error"]["code"] == "AUTHENTICATION_REQUIRED"
        await simulator.ask(EXPORT, status=401, headers=BEARER)
        answer = await simulator.ask(session_path("nothing"), status=404)
        assert answer == {"error": {"code": "NOT_FOUND", "message": "Session not found"}}
        answer = await simulator.ask(f"{API}/nothing", status=404)
        assert answer["error"]["code"] == "NOT_FOUND"


async def patch(simulator: Simulator, stream_id: str, **body: Any) -> Any:
    return await simulator.ask(session_path(stream_id), method="PATCH", json=body)


async def test_what_is_patched_is_what_is_read(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        answer = await patch(simulator, stream.id, quality={"maxBitrate": 1}, metadata={"a": 1})
        assert answer["quality"]["maxBitrate"] == 1
        await patch(simulator, stream.id, metadata={"b": 2}, customProperties={"c": 3})
        session = await simulator.ask(session_path(stream.id))
        assert session["quality"]["targetLatency"] > 0
        assert session["quality"]["maxBitrate"] == 1
        assert session["metadata"] == {"title": stream.name, "a": 1, "b": 2}
        assert session["customProperties"] == {"c": 3}
        assert parse_iso(session["updatedAt"]) == simulator.clock.now()


async def test_a_patched_status_holds_until_live_is_asked_for(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        for status in ("paused", "idle", "ended"):
            assert (await patch(simulator, stream.id, status=status))["status"] == status
            simulator.clock.advance(200)
            session = await simulator.ask(session_path(stream.id))
            assert session["status"] == status
            if status == "paused":
                assert session["metrics"]["network"]["bitrateKbps"] == 0
        simulator.clock.advance(30 * 3600)
        assert (await simulator.ask(session_path(stream.id)))["status"] == "ended"
        assert (await patch(simulator, stream.id, status="live"))["status"] == "live"


async def test_a_session_off_the_air_can_be_called_live_until_it_is(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        await simulator.fault(Platform.WAVE, "end", stream, "10m")
        for status in ("idle", "live"):
            await patch(simulator, stream.id, status=status)
            assert (await simulator.ask(session_path(stream.id)))["status"] == status
        simulator.clock.advance(601)
        assert (await simulator.ask(session_path(stream.id)))["status"] == "live"
        await simulator.fault(Platform.WAVE, "end", stream, "10m")
        assert (await simulator.ask(session_path(stream.id)))["status"] == "ended"


@pytest.mark.parametrize("body", [{"status": "dancing"}, {"quality": 1}, {"metadata": []}])
async def test_a_bad_patch_is_refused(simulate: Simulate, body: Any) -> None:
    async with simulate(3) as simulator:
        stream = simulator.fleet.streams(Platform.WAVE)[0]
        answer = await simulator.ask(session_path(stream.id), method="PATCH", status=400, json=body)
        assert answer["error"]["code"] == "VALIDATION_ERROR"
        assert [detail["field"] for detail in answer["error"]["details"]] == list(body)
        await simulator.ask(session_path(stream.id), method="PATCH", status=400, data=b"[]")


async def test_a_live_session_cannot_be_deleted_and_an_ended_one_can(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        answer = await simulator.ask(session_path(stream.id), method="DELETE", status=409)
        assert answer["error"]["message"] == "Cannot delete active session"
        await patch(simulator, stream.id, status="ended")
        answer = await simulator.ask(session_path(stream.id), method="DELETE")
        assert answer["sessionId"] == stream.id
        assert parse_iso(answer["deletedAt"]) == simulator.clock.now()
        await simulator.ask(session_path(stream.id), status=404)
        await simulator.ask(session_path(stream.id), method="DELETE", status=404)


async def test_candidates_are_gathered_paged_and_chosen(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE, protocol="webrtc")
        path = f"{session_path(stream.id)}/webrtc/candidates"
        whole = await simulator.ask(path)
        assert whole["isComplete"] is True
        assert whole["hasMore"] is False
        candidates = whole["candidates"]
        assert len(candidates) >= 3
        paged: list[Any] = []
        page: dict[str, Any] = {"hasMore": True}
        while page["hasMore"]:
            since = {"since": paged[-1]["timestamp"]} if paged else {}
            page = await simulator.ask(path, params={"limit": "1", **since})
            paged += page["candidates"]
        assert paged == candidates
        hosts = (await simulator.ask(f"{path}?type=host"))["candidates"]
        assert hosts == [candidate for candidate in candidates if candidate["type"] == "host"]
        for query in ("type=pigeon", "since=yesterday", "since=2026-01-01T00:00:00"):
            await simulator.ask(f"{path}?{query}", status=400)


async def test_gathering_takes_its_time_and_is_for_webrtc_alone(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE, protocol="webrtc")
        await simulator.fault(Platform.WAVE, "end", stream, "10s")
        simulator.clock.advance(10.1)
        started = await simulator.ask(f"{session_path(stream.id)}/webrtc/candidates")
        assert started["isComplete"] is False
        simulator.clock.advance(4)
        done = await simulator.ask(f"{session_path(stream.id)}/webrtc/candidates")
        assert done["isComplete"] is True
        assert len(done["candidates"]) > len(started["candidates"])
        other = next(s for s in simulator.fleet.streams(Platform.WAVE) if s.protocol != "webrtc")
        await simulator.ask(f"{session_path(other.id)}/webrtc/candidates", status=400)


async def test_every_answer_says_what_is_left_of_the_limit(simulate: Simulate) -> None:
    async with simulate(3, options=Options(wave_rate_limit=60)) as simulator:
        path = session_path(simulator.fleet.streams(Platform.WAVE)[0].id)
        start = simulator.clock.now()
        for left in range(59, -1, -1):
            async with simulator.client.get(path, headers=BEARER) as answer:
                assert answer.status == 200
                assert answer.headers["X-RateLimit-Limit"] == "60"
                assert answer.headers["X-RateLimit-Remaining"] == str(left)
                assert answer.headers["X-RateLimit-Window"] == "60"
                assert float(answer.headers["X-RateLimit-Reset"]) == pytest.approx(start + 60, abs=1)
        simulator.clock.advance(20)
        async with simulator.client.get(path, headers=BEARER) as answer:
            assert answer.status == 429
            assert answer.headers["Retry-After"] == "40"
            assert answer.headers["X-RateLimit-Remaining"] == "0"
            assert (await answer.json())["error"]["code"] == "RATE_LIMITED"
        async with simulator.client.get(EXPORT, headers=EXPORT_KEY) as answer:
            assert answer.headers["X-RateLimit-Remaining"] == "59"
        simulator.clock.advance(40)
        await simulator.ask(path)


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Options(wave_rate_limit=0)


@pytest.mark.parametrize("period", ["1h", "24h", "7d", "30d"])
async def test_analytics_of_a_stream(simulate: Simulate, period: str) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        answer = await simulator.ask(f"{API}/analytics/stream/{stream.playback_id}?period={period}")
        assert answer["streamId"] == stream.playback_id
        assert answer["totalViewers"] >= answer["peakViewers"]
        assert answer["avgWatchTime"] > 0
        assert answer["quality"]["averageBitrate"] > 0
        by_session = await simulator.ask(f"{API}/analytics/stream/{stream.id}?period={period}")
        assert by_session == {**answer, "streamId": stream.id}


async def test_analytics_that_do_not_exist(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        await simulator.ask(f"{API}/analytics/stream/nothing", status=404)
        stream = simulator.fleet.streams(Platform.WAVE)[0]
        await simulator.ask(f"{API}/analytics/stream/{stream.id}?period=2h", status=400)
        await simulator.ask(f"{API}/analytics/dashboards?period=2h", status=400)


async def test_dashboards_whole_and_one_metric(simulate: Simulate) -> None:
    async with simulate() as simulator:
        whole = await simulator.ask(f"{API}/analytics/dashboards")
        assert whole["period"] == "7d"
        assert whole["metrics"]["totalStreams"] == 20
        one = await simulator.ask(f"{API}/analytics/dashboards?period=1d&metric=totalStreams")
        assert one == {"period": "1d", "metrics": {"totalStreams": 20}}


async def test_events_are_kept_and_can_be_read(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        answer = await simulator.ask(f"{API}/analytics/events", method="POST", json={**EVENT, "properties": {"a": 1}})
        assert answer == {"success": True, "eventId": "evt_1"}
        batch = {"events": [EVENT, {"eventType": "alert"}, 7, {**EVENT, "eventName": ""}, EVENT]}
        answer = await simulator.ask(f"{API}/analytics/events/batch", method="POST", json=batch)
        assert answer == {"success": True, "accepted": 2, "rejected": 3}
        kept = (await simulator.ask("/wave/events", headers={}))["events"]
        assert [event["eventId"] for event in kept] == ["evt_1", "evt_2", "evt_3"]
        assert kept[0]["properties"] == {"a": 1}


async def test_bad_events_are_refused(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        answer = await simulator.ask(f"{API}/analytics/events", method="POST", status=400, json={"eventType": "x"})
        assert [detail["field"] for detail in answer["error"]["details"]] == ["eventName", "sessionId"]
        await simulator.ask(f"{API}/analytics/events", method="POST", status=400, data=b"")
        bodies: list[dict[str, Any]] = [{}, {"events": {}}, {"events": [EVENT] * 101}]
        for body in bodies:
            await simulator.ask(f"{API}/analytics/events/batch", method="POST", status=400, json=body)
        assert await simulator.ask("/wave/events") == {"events": []}


async def export(simulator: Simulator, query: str = "") -> str:
    async with simulator.client.get(f"{EXPORT}{query}", headers=EXPORT_KEY) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return await answer.text()


async def test_the_export_is_prometheus_text_with_counters_that_grow(simulate: Simulate) -> None:
    async with simulate() as simulator:
        before = list(text_string_to_metric_families(await export(simulator)))
        assert {family.type for family in before} == {"gauge", "counter", "histogram"}
        assert all(family.documentation for family in before)
        simulator.clock.advance(30)
        after = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(await export(simulator, "?period=1min"))
            for sample in family.samples
        }
        grown = 0
        for family in before:
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                if family.type != "gauge" and key in after:
                    assert after[key] >= sample.value
                    grown += after[key] > sample.value
        assert grown


async def test_the_export_of_one_stream(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        text = await export(simulator, f"?streamId={stream.playback_id}")
        assert set(re.findall('stream_id="([^"]*)"', text)) == {stream.playback_id}
        assert "streaming_active_streams 1\n" in text
        assert "streaming_active_streams 0\n" in await export(simulator, "?streamId=nothing")
        await simulator.ask(f"{EXPORT}?period=2min", status=400, headers=EXPORT_KEY)
