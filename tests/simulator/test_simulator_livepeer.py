"""The simulated Livepeer API: lists, flushed statistics, health verdicts, sessions and viewership."""

from __future__ import annotations

import itertools

import pytest
from yarl import URL

from exporter.simulator.simulated_streams import Platform
from tests.simulator.conftest import BEARER, Simulate

API = "/livepeer/api"


async def test_wrong_credentials_are_quoted_in_the_error(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        for header, message in (
            (None, "not authenticated"),
            ("Bearer s3cret", "no token s3cret found"),
            ("Basic abc", "unsupported authorization header Basic abc"),
        ):
            headers = {"Authorization": header} if header else {}
            assert await simulator.request(f"{API}/stream", status=401, headers=headers) == {"errors": [message]}


async def test_full_page_has_a_link_even_if_the_next_page_is_empty(simulate: Simulate) -> None:
    async with simulate(300) as simulator:
        pages = []
        path: str | None = f"{API}/stream?streamsonly=1&limit=50"
        while path:
            async with simulator.client.get(path, headers=BEARER) as response:
                pages.append(await response.json())
                link = response.links.get("next")
                path = URL(str(link["url"])).path_qs if link else None
        assert [len(page) for page in pages] == [50, 50, 0]
        streams = [stream for page in pages for stream in page]
        assert len({stream["id"] for stream in streams}) == 100
        last_seen = [stream["lastSeen"] for stream in streams]
        assert last_seen == sorted(last_seen, reverse=True)
        assert len(await simulator.request(f"{API}/stream?streamsonly=1")) == 20


async def test_list_of_active_streams_contains_all_live_streams(simulate: Simulate) -> None:
    async with simulate(300) as simulator:
        async with simulator.client.get(f"{API}/stream?active=1&limit=1000&count=1", headers=BEARER) as response:
            listed = await response.json()
            assert response.headers["X-Total-Count"] == str(len(listed))
        assert all(stream["isActive"] and stream["streamKey"] for stream in listed)
        live = {stream.id for stream, _ in simulator.fleet.live_streams(Platform.LIVEPEER, simulator.clock.now())}
        assert {stream["id"] for stream in listed} >= live


async def test_statistics_change_every_50_seconds(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.LIVEPEER)
        values = []
        for _ in range(30):
            values.append((await simulator.request(f"{API}/stream/{stream.id}"))["sourceBytes"])
            simulator.clock.advance(10)
        steps = [b - a for a, b in itertools.pairwise(values)]
        assert 5 <= sum(step > 0 for step in steps) <= 6
        assert all(step == 0 or step == pytest.approx(stream.bitrate * 50, rel=0.07) for step in steps)


async def test_stalled_stream_keeps_its_rate_and_heartbeat(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.LIVEPEER)
        simulator.clock.advance(60)
        assert (await simulator.request(f"{API}/stream/{stream.id}"))["isHealthy"] is True
        await simulator.inject(Platform.LIVEPEER, "stall", stream, "10m")
        stalled_at = simulator.clock.now() * 1000
        simulator.clock.advance(120)
        first = await simulator.request(f"{API}/stream/{stream.id}")
        simulator.clock.advance(300)
        second = await simulator.request(f"{API}/stream/{stream.id}")
        assert first["sourceBytes"] == second["sourceBytes"]
        assert first["ingestRate"] == second["ingestRate"] > 0
        assert (second["isActive"], second["isHealthy"]) == (True, False)
        assert second["issues"]
        assert second["lastSeen"] > first["lastSeen"]
        health = await simulator.request(f"{API}/data/stream/{stream.id}/health")
        assert health["healthy"]["lastProbeTime"] <= stalled_at


async def test_ended_stream_is_idle_without_a_verdict(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.LIVEPEER)
        await simulator.inject(Platform.LIVEPEER, "end", stream, "20m")
        simulator.clock.advance(1)
        ended = await simulator.request(f"{API}/stream/{stream.id}")
        assert (ended["isActive"], ended["isHealthy"], ended["ingestRate"]) == (False, None, 0)
        await simulator.request(f"{API}/data/stream/{stream.id}/health")
        simulator.clock.advance(120)
        await simulator.request(f"{API}/data/stream/{stream.id}/health", status=404)


async def test_new_session_is_hidden_until_its_first_flush(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.LIVEPEER)
        path = f"{API}/stream/{stream.id}/sessions"
        before = await simulator.request(path)
        await simulator.inject(Platform.LIVEPEER, "end", stream, "10s")
        simulator.clock.advance(11)
        record = await simulator.request(f"{API}/stream/{stream.id}")
        assert (record["isActive"], record["isHealthy"], record["ingestRate"]) == (True, None, 0)
        health = await simulator.request(f"{API}/data/stream/{stream.id}/health")
        assert (health["healthy"]["status"], health["metrics"]) == (None, {})
        assert [session["id"] for session in await simulator.request(path)] == [session["id"] for session in before]
        simulator.clock.advance(60)
        sessions = await simulator.request(path)
        assert len(sessions) == len(before) + 1
        assert sessions[0]["createdAt"] > sessions[1]["createdAt"]


async def test_session_list_has_default_flags(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.LIVEPEER)
        [session] = await simulator.request(f"{API}/stream/{stream.id}/sessions?limit=1")
        flags = {"isActive": False, "suspended": False, "lastTerminatedAt": None}
        assert session.items() >= flags.items()
        single = await simulator.request(f"{API}/session/{session['id']}")
        assert single | flags == session


async def test_sessions_are_filtered_by_recording(simulate: Simulate) -> None:
    async with simulate() as simulator:
        statuses = set()
        for stream in simulator.fleet.streams(Platform.LIVEPEER):
            path = f"{API}/stream/{stream.id}/sessions?limit=1000"
            recorded = await simulator.request(f"{path}&record=1")
            not_recorded = await simulator.request(f"{path}&record=false")
            assert recorded + not_recorded == await simulator.request(path)
            statuses |= {session["recordingStatus"] for session in recorded}
        assert statuses == {"waiting", "ready"}


@pytest.mark.parametrize("prefix", ["nothing", "00000000", "00000001", "ffffffff"])
async def test_unknown_session_is_not_found(simulate: Simulate, prefix: str) -> None:
    async with simulate(4) as simulator:
        await simulator.request(f"{API}/session/{prefix}-0000-4000-8000-000000000000", status=404)


async def test_viewers_are_reported_per_playback_id(simulate: Simulate) -> None:
    async with simulate(300) as simulator:
        rows = await simulator.request(f"{API}/data/views/now?breakdownBy[]=playbackId")
        watched = {row["playbackId"]: row["viewCount"] for row in rows}
        now = simulator.clock.now()
        live = simulator.fleet.live_streams(Platform.LIVEPEER, now)
        assert watched == {stream.playback_id: count for stream, ingest in live if (count := ingest.viewers(now))}
        total = {"viewCount": sum(watched.values()), "errorRate": 0}
        assert await simulator.request(f"{API}/data/views/now") == [total]
        [single] = await simulator.request(f"{API}/data/views/now?playbackId={rows[0]['playbackId']}")
        assert single["viewCount"] == rows[0]["viewCount"]
        for query in ("from=1", "breakdownBy[]=shoesize"):
            await simulator.request(f"{API}/data/views/now?{query}", status=400)


async def test_slow_transcode_changes_the_health_conditions(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.LIVEPEER, targets=0)
        path = f"{API}/data/stream/{stream.id}/health"
        conditions = {c["type"]: c["status"] for c in (await simulator.request(path))["conditions"]}
        healthy = dict.fromkeys(("Active", "Transcoding", "TranscodeRealTime", "TranscodeNoErrors"), True)
        assert conditions == healthy | {"Multistreaming": None}
        await simulator.inject(Platform.LIVEPEER, "slow_transcode", stream)
        simulator.clock.advance(60)
        health = await simulator.request(path)
        assert health["metrics"]["TranscodeRealtimeRatio"][0]["last"][1] == 0.6
        assert health["healthy"]["status"] is False


async def test_unhealthy_stream_loses_its_multistream_targets(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.LIVEPEER, targets=2)
        path = f"{API}/data/stream/{stream.id}/health"
        targets = (await simulator.request(path))["multistream"]
        assert [target["connected"]["status"] for target in targets] == [True, True]
        await simulator.inject(Platform.LIVEPEER, "unhealthy", stream)
        simulator.clock.advance(30)
        targets = (await simulator.request(path))["multistream"]
        assert [target["connected"]["status"] for target in targets] == [False, False]


async def test_crashed_stream_is_reported_as_active_until_the_cleanup(simulate: Simulate) -> None:
    async with simulate() as simulator:
        fleet, clock = simulator.fleet, simulator.clock
        crashed = None
        while crashed is None:
            clock.advance(10)
            for stream in fleet.streams(Platform.LIVEPEER):
                ingest = fleet.latest_ingest(stream, clock.now())
                if ingest.crashed and ingest.end <= clock.now() < ingest.end + 25:
                    crashed = stream
        path = f"{API}/stream/{crashed.id}"
        assert (await simulator.request(path))["isActive"] is True
        clock.advance(35)
        assert (await simulator.request(path))["ingestRate"] == 0
        clock.advance(85)
        assert (await simulator.request(path))["isActive"] is False
