"""Faults by command: ordered, listed, cleared; and what becomes of a whole API."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import aiohttp
import pytest

from exporter.simulator.fault_injection import FaultKind, FaultLog
from exporter.simulator.platform_app import SLOW_RESPONSE_SECONDS
from exporter.simulator.simulated_streams import PLATFORMS, Platform
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
