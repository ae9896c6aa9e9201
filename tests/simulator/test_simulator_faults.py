"""Faults by command: ordered, listed, cleared; and what becomes of a whole API."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import aiohttp
import pytest
from yarl import URL

from exporter.simulator.fault_injection import FaultKind, FaultLog
from exporter.simulator.platform_app import SLOW_RESPONSE_SECONDS
from exporter.simulator.simulated_streams import PLATFORMS, Platform, Stream
from exporter.simulator.simulator_app import InvalidFaultError, parse_seconds
from tests.simulator.conftest import BEARER, Simulate, Simulator

PATHS = {
    Platform.LIVEPEER: "/livepeer/api/stream",
    Platform.STORM: "/storm/api/streams",
    Platform.WAVE: "/wave/api/v1/analytics/dashboards",
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, math.inf), (90, 90), (0.5, 0.5), ("90s", 90), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1d", 86400)],
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "1m x", "-5s", 0, -1, True, [], math.inf])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(InvalidFaultError, match="for: seconds above 0"):
        parse_seconds(text)


async def test_faults_are_listed_while_they_act(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.fleet.streams(Platform.STORM)[0]
        now = simulator.clock.now()
        order = {"platform": "storm", "stream": stream.name, "fault": "stall", "for": "1m"}
        made = await simulator.ask("/faults", method="POST", status=201, json=order)
        expected = {
            "platform": "storm",
            "stream": stream.name,
            "id": stream.id,
            "fault": "stall",
            "since": now,
            "until": now + 60,
        }
        assert made == expected
        await simulator.fault(Platform.WAVE, "down")
        listed = (await simulator.ask("/faults"))["faults"]
        assert listed[0] == expected
        assert (listed[1]["stream"], listed[1]["until"]) == (None, None)
        simulator.clock.advance(60)
        assert [fault["fault"] for fault in (await simulator.ask("/faults"))["faults"]] == ["down"]


async def test_faults_are_cleared_by_platform_stream_or_all_at_once(simulate: Simulate) -> None:
    async with simulate() as simulator:
        first, second = simulator.fleet.streams(Platform.STORM)[:2]
        await simulator.fault(Platform.STORM, "stall", first)
        await simulator.fault(Platform.STORM, "stall", second)
        await simulator.fault(Platform.STORM, "down")
        await simulator.fault(Platform.WAVE, "down")
        cleared = await simulator.ask("/faults", method="DELETE", params={"platform": "storm", "stream": first.id})
        assert cleared == {"cleared": 1}
        assert await simulator.ask("/faults?platform=storm", method="DELETE") == {"cleared": 2}
        assert await simulator.ask("/faults", method="DELETE") == {"cleared": 1}
        assert await simulator.ask("/faults") == {"faults": []}
        await simulator.ask("/faults?platform=nothing", method="DELETE", status=400)
        await simulator.ask("/faults?stream=x", method="DELETE", status=400)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ([], "an object with"),
        ({"platform": "storm", "fault": "down", "forever": True}, "an object with"),
        ({"fault": "down"}, "platform: one of"),
        ({"platform": [], "fault": "down"}, "platform: one of"),
        ({"platform": "storm", "stream": "nothing", "fault": "stall"}, "stream: storm has none"),
        ({"platform": "storm", "fault": "stall"}, "fault: without a stream one of down"),
        ({"platform": "storm", "fault": "explode"}, "fault: without a stream one of down"),
        ({"platform": "storm", "fault": "down", "for": "soon"}, "for: seconds above 0"),
    ],
)
async def test_an_order_that_means_nothing_is_refused(simulate: Simulate, order: Any, error: str) -> None:
    async with simulate(6) as simulator:
        assert error in (await simulator.ask("/faults", method="POST", status=400, json=order))["error"]
        stream = simulator.fleet.streams(Platform.STORM)[0]
        order = {"platform": "storm", "stream": stream.id, "fault": "down"}
        answer = await simulator.ask("/faults", method="POST", status=400, json=order)
        assert answer["error"].startswith("fault: with a stream one of unhealthy")


def test_an_ended_fault_keeps_its_end() -> None:
    log = FaultLog()
    fault = log.inject(Platform.WAVE, 2, FaultKind.STALL, 100.0)
    log.end(fault, 110.0)
    log.end(fault, 120.0)
    assert [old.end for old in log.stream_faults(2)] == [110.0]
    assert list(log.active_faults(111.0)) == []


def test_the_latest_order_for_an_api_wins() -> None:
    log = FaultLog()
    log.inject(Platform.WAVE, None, FaultKind.DOWN, 100.0)
    log.inject(Platform.WAVE, None, FaultKind.HTML, 100.0, 10.0)
    assert log.upstream_fault(Platform.WAVE, 105.0) is FaultKind.HTML
    assert log.upstream_fault(Platform.WAVE, 110.0) is FaultKind.DOWN
    assert log.upstream_fault(Platform.STORM, 105.0) is None


async def test_a_fault_of_one_platform_leaves_the_others_alone(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.fault(Platform.STORM, "auth")
        for platform in PLATFORMS:
            await simulator.ask(PATHS[platform], status=401 if platform is Platform.STORM else 200)


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_platform_that_is_down_hangs_up(simulate: Simulate, platform: Platform) -> None:
    async with simulate() as simulator:
        await simulator.fault(platform, "down", seconds="1m")
        with pytest.raises(aiohttp.ClientConnectionError):
            await simulator.ask(PATHS[platform])
        simulator.clock.advance(60)
        await simulator.ask(PATHS[platform])


@pytest.mark.parametrize(("fault", "status"), [("auth", 401), ("rate_limit", 429)])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_refusals_are_in_the_platforms_words(
    simulate: Simulate, platform: Platform, fault: str, status: int
) -> None:
    async with simulate() as simulator:
        await simulator.fault(platform, fault)
        async with simulator.client.get(PATHS[platform], headers=BEARER) as answer:
            assert answer.status == status
            assert answer.headers.get("Retry-After") == ("10" if fault == "rate_limit" else None)
            shape = {Platform.LIVEPEER: "errors", Platform.STORM: "message", Platform.WAVE: "error"}
            assert list(await answer.json()) == [shape[platform]]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_maintenance_page_looks_like_success(simulate: Simulate, platform: Platform) -> None:
    async with simulate() as simulator:
        await simulator.fault(platform, "html")
        async with simulator.client.get(PATHS[platform], headers=BEARER) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert (await answer.text()).startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_truncated_answer_ends_in_the_middle(simulate: Simulate, platform: Platform) -> None:
    async with simulate() as simulator:
        await simulator.fault(platform, "truncated")
        async with simulator.client.get(PATHS[platform], headers=BEARER) as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


async def asked_late(simulator: Simulator, path: str) -> asyncio.Task[Any]:
    """A request that is being held back."""
    task = asyncio.create_task(simulator.ask(path))
    while not simulator.clock.slept:  # noqa: ASYNC110 - the clock tells nobody who sleeps on it
        await asyncio.sleep(0)
    assert simulator.clock.slept == [SLOW_RESPONSE_SECONDS]
    return task


async def test_a_slow_platform_answers_late(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.fault(Platform.STORM, "slow")
        task = await asked_late(simulator, PATHS[Platform.STORM])
        assert not task.done()
        simulator.clock.advance(SLOW_RESPONSE_SECONDS)
        assert (await task)["data"]


async def test_a_late_answer_does_not_hold_up_the_end(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.fault(Platform.STORM, "slow")
        task = await asked_late(simulator, PATHS[Platform.STORM])
        await simulator.client.server.close()
        await asyncio.wait([task])


async def test_a_flapping_stream_publishes_again_and_again(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        await simulator.fault(Platform.STORM, "flap", stream, "5m")
        starts, off_air = set(), 0
        for _ in range(60):
            now = simulator.clock.now()
            ingest = simulator.fleet.latest_ingest(stream, now)
            starts.add(ingest.start)
            off_air += not ingest.is_live(now)
            simulator.clock.advance(5)
        assert len(starts) == 6
        assert off_air == 5 * 4
        simulator.clock.advance(60)
        assert simulator.fleet.is_live(stream, simulator.clock.now())


async def test_a_low_bitrate_is_a_quarter_of_it(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        await simulator.fault(Platform.STORM, "bitrate_low", stream)
        rate = simulator.fleet.latest_ingest(stream, simulator.clock.now()).bitrate(simulator.clock.now())
        assert rate == pytest.approx(stream.bitrate / 4, rel=0.07)


async def test_what_is_ended_for_days_has_its_last_publish(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        await simulator.fault(Platform.STORM, "end", stream)
        ended = simulator.clock.now()
        simulator.clock.advance(10 * 86400)
        ingest = simulator.fleet.latest_ingest(stream, simulator.clock.now())
        assert ingest.end == pytest.approx(ended)
        simulator.fleet.faults.clear(simulator.clock.now())
        assert simulator.fleet.latest_ingest(stream, simulator.clock.now()).start >= ended


STATUS_FIELDS = {
    Platform.LIVEPEER: ("isActive", "sourceBytes"),
    Platform.STORM: ("state", "inTotalBytes"),
    Platform.WAVE: ("status", "bytesReceived"),
}
"""The fields with a stream's status and ingest total."""


def path_of(stream: Stream) -> str:
    """The path of the request for this stream alone."""
    match stream.platform:
        case Platform.LIVEPEER:
            return f"/livepeer/api/stream/{stream.id}"
        case Platform.STORM:
            return f"/storm/api/streams/{stream.id}"
        case Platform.WAVE:
            return f"/wave/api/v1/streaming/sessions/{stream.id}"


async def ask_for(simulator: Simulator, stream: Stream) -> dict[str, Any]:
    """The stream's fields, those of its statistics too."""
    answer = await simulator.ask(path_of(stream))
    found = answer.get("data", answer)
    return {**found, **found.get("metrics", {}).get("network", {})}


@pytest.mark.parametrize("fault", ["not_found", "malformed"])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_response_that_is_no_answer_of_the_platform(simulate: Simulate, platform: Platform, fault: str) -> None:
    async with simulate() as simulator:
        await simulator.fault(platform, fault)
        async with simulator.client.get(PATHS[platform], headers=BEARER) as answer:
            if fault == "not_found":
                assert (answer.status, answer.content_type) == (404, "text/html")
            else:
                assert (answer.status, await answer.json()) == (200, {"result": "accepted"})


@pytest.mark.parametrize(("fault", "status"), [("not_found", 404), ("malformed", 200)])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_response_fault_of_a_stream_leaves_other_requests_alone(
    simulate: Simulate, platform: Platform, fault: str, status: int
) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(platform)
        other = next(found for found in simulator.fleet.streams(platform) if found is not stream)
        await simulator.fault(platform, fault, stream, "1m")
        async with simulator.client.get(path_of(stream), headers=BEARER) as answer:
            assert answer.status == status
            assert answer.content_type == ("text/html" if status == 404 else "application/json")
        await ask_for(simulator, other)
        await simulator.ask(PATHS[platform])
        simulator.clock.advance(60)
        assert STATUS_FIELDS[platform][0] in await ask_for(simulator, stream)


async def test_flaky_platform_answers_every_second_request(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.fault(Platform.STORM, "flaky")
        types = []
        for _ in range(4):
            async with simulator.client.get(PATHS[Platform.STORM], headers=BEARER) as answer:
                assert answer.status == 200
                types.append(answer.content_type)
        assert types == ["text/html", "application/json"] * 2


@pytest.mark.parametrize("of_all", [False, True])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_unknown_state_shows_nothing_of_the_ingest(simulate: Simulate, platform: Platform, of_all: bool) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(platform)
        other = next(found for found in simulator.fleet.streams(platform) if found is not stream)
        status, total = STATUS_FIELDS[platform]
        known = await ask_for(simulator, stream)
        await simulator.fault(platform, "unknown_state", None if of_all else stream, "1m")
        unknown = await ask_for(simulator, stream)
        assert unknown[status] == "REBALANCING"
        assert known.keys() - unknown.keys() == {total} | ({"lastSeen"} if platform is Platform.LIVEPEER else set())
        assert ((await ask_for(simulator, other))[status] == "REBALANCING") is of_all
        simulator.clock.advance(60)
        assert (await ask_for(simulator, stream))[status] == known[status]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_frozen_statistics_stay_as_they_were(simulate: Simulate, platform: Platform) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(platform)
        status, total = STATUS_FIELDS[platform]
        before = await ask_for(simulator, stream)
        await simulator.fault(platform, "frozen", seconds="5m")
        simulator.clock.advance(299)
        frozen = await ask_for(simulator, stream)
        assert (frozen[status], frozen[total]) == (before[status], before[total])
        if platform is Platform.LIVEPEER:
            assert frozen["lastSeen"] >= before["lastSeen"] + 270_000, "heartbeats go on"
        simulator.clock.advance(1)
        after = await ask_for(simulator, stream)
        assert after[total] - before[total] == pytest.approx(stream.bitrate * 300, rel=0.2)


async def test_frozen_statistics_of_a_stream_that_ends(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.WAVE)
        await simulator.fault(Platform.WAVE, "frozen")
        simulator.clock.advance(10)
        await simulator.fault(Platform.WAVE, "end", stream)
        simulator.clock.advance(10)
        ended = await ask_for(simulator, stream)
        assert (ended["status"], ended["viewers"]) == ("ended", 0)


async def test_doubtful_list_of_storm_counts_one_stream_more(simulate: Simulate) -> None:
    async with simulate() as simulator:
        whole = (await simulator.ask(PATHS[Platform.STORM]))["data"]
        await simulator.fault(Platform.STORM, "doubtful_list")
        doubtful = (await simulator.ask(PATHS[Platform.STORM]))["data"]
        assert doubtful["totalItems"] == whole["totalItems"] + 1
        assert [row["id"] for row in doubtful["list"]] == [row["id"] for row in whole["list"]]


async def test_doubtful_list_of_livepeer_announces_a_page_after_an_empty_one(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.fault(Platform.LIVEPEER, "doubtful_list")
        async with simulator.client.get(PATHS[Platform.LIVEPEER], headers=BEARER) as answer:
            assert len(await answer.json()) == 20
            following = URL(answer.links["next"]["url"])
        async with simulator.client.get(following.path_qs, headers=BEARER) as answer:
            assert await answer.json() == []
            assert "next" in answer.links


async def test_error_of_storm_is_a_state_without_media(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        await simulator.fault(Platform.STORM, "error", stream)
        first = await ask_for(simulator, stream)
        simulator.clock.advance(60)
        later = await ask_for(simulator, stream)
        assert (first["state"], later["state"]) == ("ERROR", "ERROR")
        assert later["inTotalBytes"] == first["inTotalBytes"]
