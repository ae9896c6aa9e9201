"""Livepeer's API: pages, flushed statistics, verdicts, sessions, viewership, detailed health."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from yarl import URL

from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.stream_conditions import Condition
from tests.simulator.conftest import BEARER, Simulate, Simulator

API = "/livepeer/api"


def is_live(simulator: Simulator, stream: Stream) -> bool:
    return simulator.fleet.is_live(stream, simulator.clock.now())


async def pages(simulator: Simulator, path: str) -> list[list[dict[str, Any]]]:
    """Every page, following the Link header."""
    found = []
    url = path
    while True:
        async with simulator.client.get(url, headers=BEARER) as answer:
            found.append(await answer.json())
            following = answer.links.get("next")
            if following is None:
                return found
            assert URL(following["url"]).is_absolute()
            url = str(URL(following["url"]).relative())


async def test_without_a_token_everything_is_refused(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        answer = await simulator.ask(f"{API}/stream", status=401, headers={})
        assert answer == {"errors": ["not authenticated"]}


async def test_a_wrong_token_is_quoted_back(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        answer = await simulator.ask(f"{API}/stream", status=401, headers={"Authorization": "Bearer s3cret"})
        assert answer == {"errors": ["no token s3cret found"]}
        answer = await simulator.ask(f"{API}/stream", status=401, headers={"Authorization": "Basic abc"})
        assert answer == {"errors": ["unsupported authorization header Basic abc"]}


async def test_an_unknown_path_is_an_error_in_its_own_words(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        assert await simulator.ask(f"{API}/nothing", status=404) == {"errors": ["Not Found"]}
        assert await simulator.ask(f"{API}/stream/nothing", status=404) == {"errors": ["not found"]}
        assert await simulator.ask(f"{API}/stream", method="PUT", status=405) == {"errors": ["Method Not Allowed"]}


@pytest.mark.parametrize(
    ("limit", "size"), [("", 20), ("&limit=7", 7), ("&limit=0", 1), ("&limit=99999", 100), ("&limit=x", 20)]
)
async def test_a_page_has_20_streams_unless_told_otherwise(simulate: Simulate, limit: str, size: int) -> None:
    async with simulate(300) as simulator:
        assert len(await simulator.ask(f"{API}/stream?streamsonly=1{limit}")) == size


async def test_a_full_page_announces_the_next_even_when_that_is_empty(simulate: Simulate) -> None:
    async with simulate(300) as simulator:
        found = await pages(simulator, f"{API}/stream?streamsonly=1&limit=50")
        assert [len(page) for page in found] == [50, 50, 0]
        ids = [stream["id"] for page in found for stream in page]
        assert len(set(ids)) == 100
        seen = [stream["lastSeen"] for page in found for stream in page]
        assert seen == sorted(seen, reverse=True)
        found = await pages(simulator, f"{API}/stream?streamsonly=1&limit=1000")
        assert [len(page) for page in found] == [100]


async def test_active_leaves_out_who_is_not_and_count_tells_how_many(simulate: Simulate) -> None:
    async with simulate(300) as simulator:
        async with simulator.client.get(f"{API}/stream?active=1&limit=1000&count=1", headers=BEARER) as answer:
            listed = await answer.json()
            assert answer.headers["X-Total-Count"] == str(len(listed))
        assert all(stream["isActive"] for stream in listed)
        live = {stream.id for stream, _ in simulator.fleet.live_streams(Platform.LIVEPEER, simulator.clock.now())}
        assert {stream["id"] for stream in listed} >= live
        assert all(stream["streamKey"] for stream in listed)


async def test_statistics_move_in_steps_of_50_seconds(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        values = []
        for _ in range(30):
            values.append((await simulator.ask(f"{API}/stream/{stream.id}"))["sourceBytes"])
            simulator.clock.advance(10)
        steps = [b - a for a, b in itertools.pairwise(values)]
        assert 5 <= sum(step > 0 for step in steps) <= 6
        assert all(step == 0 or step == pytest.approx(stream.bitrate * 50, rel=0.07) for step in steps)


async def test_a_stall_leaves_the_rate_and_the_heartbeat_as_they_were(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        simulator.clock.advance(60)
        before = await simulator.ask(f"{API}/stream/{stream.id}")
        assert before["isHealthy"] is True
        assert before["issues"] is None
        assert before["ingestRate"] == pytest.approx(stream.bitrate, rel=0.2)
        await simulator.fault(Platform.LIVEPEER, "stall", stream, "10m")
        simulator.clock.advance(120)
        first = await simulator.ask(f"{API}/stream/{stream.id}")
        simulator.clock.advance(300)
        second = await simulator.ask(f"{API}/stream/{stream.id}")
        assert first["sourceBytes"] == second["sourceBytes"]
        assert first["ingestRate"] == second["ingestRate"] > 0
        assert second["isActive"] is True
        assert second["isHealthy"] is False
        assert second["issues"]
        assert second["lastSeen"] > first["lastSeen"]


async def test_an_ended_stream_is_idle_without_a_verdict(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        await simulator.fault(Platform.LIVEPEER, "end", stream, "20m")
        simulator.clock.advance(1)
        ended = await simulator.ask(f"{API}/stream/{stream.id}")
        assert ended["isActive"] is False
        assert ended["isHealthy"] is None
        assert ended["issues"] is None
        assert ended["ingestRate"] == 0
        (newest, *_) = await simulator.ask(f"{API}/stream/{stream.id}/sessions")
        assert newest["lastSeen"] == pytest.approx(simulator.clock.now() * 1000, abs=2000)
        await simulator.ask(f"{API}/data/stream/{stream.id}/health")
        simulator.clock.advance(120)
        answer = await simulator.ask(f"{API}/data/stream/{stream.id}/health", status=404)
        assert answer == {"errors": ["no events found for stream"]}


async def test_a_new_session_is_hidden_until_its_first_statistics(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        before = await simulator.ask(f"{API}/stream/{stream.id}/sessions")
        await simulator.fault(Platform.LIVEPEER, "end", stream, "10s")
        simulator.clock.advance(11)
        record = await simulator.ask(f"{API}/stream/{stream.id}")
        assert record["isActive"] is True
        assert record["isHealthy"] is None
        assert record["ingestRate"] == 0
        sessions = await simulator.ask(f"{API}/stream/{stream.id}/sessions")
        assert [session["id"] for session in sessions] == [session["id"] for session in before]
        simulator.clock.advance(60)
        sessions = await simulator.ask(f"{API}/stream/{stream.id}/sessions")
        assert len(sessions) == len(before) + 1
        assert sessions[0]["createdAt"] > sessions[1]["createdAt"]
        assert sessions[0]["sourceSegments"] > 0


async def test_a_session_list_is_default_filled_and_has_no_link(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        async with simulator.client.get(f"{API}/stream/{stream.id}/sessions?limit=1", headers=BEARER) as answer:
            (session,) = await answer.json()
            assert "Link" not in answer.headers
        flags = {key: session[key] for key in ("isActive", "suspended", "lastTerminatedAt")}
        assert flags == {"isActive": False, "suspended": False, "lastTerminatedAt": None}
        assert session["parentId"] == stream.id
        alone = await simulator.ask(f"{API}/session/{session['id']}")
        assert alone == {key: value for key, value in session.items() if key not in flags}
        (second, *_) = await simulator.ask(f"{API}/stream/{stream.id}/sessions?cursor=skip1")
        assert second["createdAt"] < session["createdAt"]


async def test_sessions_are_chosen_by_record(simulate: Simulate) -> None:
    async with simulate() as simulator:
        kinds = set()
        for stream in simulator.fleet.streams(Platform.LIVEPEER):
            everything = await simulator.ask(f"{API}/stream/{stream.id}/sessions?limit=1000")
            recorded = await simulator.ask(f"{API}/stream/{stream.id}/sessions?record=1&limit=1000")
            not_recorded = await simulator.ask(f"{API}/stream/{stream.id}/sessions?record=false&limit=1000")
            assert recorded + not_recorded == everything
            assert not recorded or not not_recorded
            assert all("recordingStatus" in session for session in recorded)
            kinds |= {session["recordingStatus"] for session in recorded}
        assert kinds == {"waiting", "ready"}


@pytest.mark.parametrize(
    "name", ["nothing", "00000000-0000-4000-8000-000000000000", "ffffffff-0000-4000-8000-000000000000"]
)
async def test_an_unknown_session_is_not_found(simulate: Simulate, name: str) -> None:
    async with simulate(4) as simulator:
        assert await simulator.ask(f"{API}/session/{name}", status=404) == {"errors": ["Session not found"]}
    async with simulate(1) as simulator:
        await simulator.ask(f"{API}/session/00000001-0000-4000-8000-000000000000", status=404)


async def test_the_session_of_another_platforms_stream_is_not_found(simulate: Simulate) -> None:
    async with simulate(4) as simulator:
        await simulator.ask(f"{API}/session/00000001-0000-4000-8000-000000000000", status=404)


async def test_viewers_have_a_row_each_playback_id_that_is_watched(simulate: Simulate) -> None:
    async with simulate(300) as simulator:
        rows = await simulator.ask(f"{API}/data/views/now?breakdownBy[]=playbackId")
        watched = {row["playbackId"]: row["viewCount"] for row in rows}
        assert all(watched.values())
        live = simulator.fleet.live_streams(Platform.LIVEPEER, simulator.clock.now())
        assert 0 < len(watched) < len(simulator.fleet.streams(Platform.LIVEPEER))
        assert watched == {s.playback_id: v for s, p in live if (v := p.viewers(simulator.clock.now()))}
        assert await simulator.ask(f"{API}/data/views/now") == [{"viewCount": sum(watched.values()), "errorRate": 0}]
        (alone,) = await simulator.ask(f"{API}/data/views/now?playbackId={rows[0]['playbackId']}")
        assert alone["viewCount"] == rows[0]["viewCount"]
        unwatched = next(s for s in simulator.fleet.streams(Platform.LIVEPEER) if s.playback_id not in watched)
        assert await simulator.ask(f"{API}/data/views/now?streamId={unwatched.id}") == []


@pytest.mark.parametrize("query", ["from=1", "to=1", "timeStep=hour", "breakdownBy[]=shoesize"])
async def test_what_viewership_does_not_know_is_refused(simulate: Simulate, query: str) -> None:
    async with simulate(3) as simulator:
        assert (await simulator.ask(f"{API}/data/views/now?{query}", status=400))["errors"]


async def test_detailed_health_names_conditions_with_null_where_nothing_was_probed(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER, targets=0)
        health = await simulator.ask(f"{API}/data/stream/{stream.id}/health")
        conditions = {condition["type"]: condition for condition in health["conditions"]}
        assert {name: condition["status"] for name, condition in conditions.items()} == {
            "Active": True,
            "Transcoding": True,
            "TranscodeRealTime": True,
            "TranscodeNoErrors": True,
            "Multistreaming": None,
        }
        assert health["healthy"]["status"] is True
        assert health["multistream"] == []
        assert conditions["Multistreaming"]["lastProbeTime"] is None
        await simulator.fault(Platform.LIVEPEER, "slow_transcode", stream)
        simulator.clock.advance(60)
        health = await simulator.ask(f"{API}/data/stream/{stream.id}/health")
        assert health["metrics"]["TranscodeRealtimeRatio"][0]["last"][1] == 0.6
        assert health["healthy"]["status"] is False
        assert health["healthy"]["frequency"]["1m"] < 0.3


async def test_a_new_publish_has_no_probe_yet(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        await simulator.fault(Platform.LIVEPEER, "end", stream, "10s")
        simulator.clock.advance(15)
        health = await simulator.ask(f"{API}/data/stream/{stream.id}/health")
        assert health["healthy"]["status"] is None
        assert health["metrics"] == {}


async def test_a_stall_shows_in_detailed_health_as_silence(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        await simulator.fault(Platform.LIVEPEER, "stall", stream)
        since = simulator.clock.now() * 1000
        simulator.clock.advance(300)
        health = await simulator.ask(f"{API}/data/stream/{stream.id}/health")
        assert health["healthy"]["status"] is True
        assert health["healthy"]["lastProbeTime"] <= since


async def test_multistream_targets_lose_their_connection_with_the_streams_health(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER, targets=2)
        record = await simulator.ask(f"{API}/stream/{stream.id}")
        health = await simulator.ask(f"{API}/data/stream/{stream.id}/health")
        assert [t["target"]["id"] for t in health["multistream"]] == [t["id"] for t in record["multistream"]["targets"]]
        assert all(target["connected"]["status"] for target in health["multistream"])
        await simulator.fault(Platform.LIVEPEER, "unhealthy", stream)
        simulator.clock.advance(30)
        health = await simulator.ask(f"{API}/data/stream/{stream.id}/health")
        assert not any(target["connected"]["status"] for target in health["multistream"])
        assert health["healthy"]["status"] is False


async def test_a_crashed_stream_is_called_active_until_the_cleanup(simulate: Simulate) -> None:
    async with simulate() as simulator:
        fleet, clock = simulator.fleet, simulator.clock
        crashed = None
        while crashed is None:
            clock.advance(10)
            for stream in fleet.streams(Platform.LIVEPEER):
                ingest = fleet.latest_ingest(stream, clock.now())
                if ingest.crashed and ingest.end <= clock.now() < ingest.end + 25:
                    crashed = stream
        record = await simulator.ask(f"{API}/stream/{crashed.id}")
        assert not is_live(simulator, crashed)
        assert record["isActive"] is True
        assert record["isHealthy"] is True
        clock.advance(35)
        assert (await simulator.ask(f"{API}/stream/{crashed.id}"))["ingestRate"] == 0
        clock.advance(85)
        record = await simulator.ask(f"{API}/stream/{crashed.id}")
        assert record["isActive"] is False
        assert record["lastSeen"] < (clock.now() - 90) * 1000


async def test_a_publish_that_stalls_from_its_start_never_had_a_rate(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.LIVEPEER)
        await simulator.fault(Platform.LIVEPEER, "end", stream, "10s")
        simulator.clock.advance(10)
        await simulator.fault(Platform.LIVEPEER, "stall", stream)
        simulator.clock.advance(200)
        assert (
            simulator.fleet.latest_ingest(stream, simulator.clock.now()).condition(simulator.clock.now())
            is Condition.STALLED
        )
        assert (await simulator.ask(f"{API}/stream/{stream.id}"))["ingestRate"] == 0
