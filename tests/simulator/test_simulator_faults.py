"""Injected faults: how they are created, listed and cleared, and their effect on streams and whole APIs."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import aiohttp
import pytest
from yarl import URL

from exporter.simulator.platform_app import SLOW_RESPONSE_SECONDS
from exporter.simulator.simulated_streams import PLATFORMS, Platform, Stream
from exporter.simulator.simulator_app import parse_seconds
from tests.simulator.conftest import BEARER, Simulate, Simulator

PATHS = {
    Platform.LIVEPEER: "/livepeer/api/stream",
    Platform.STORM: "/storm/api/streams",
    Platform.WAVE: "/wave/api/v1/analytics/dashboards",
}
STATUS_FIELDS = {
    Platform.LIVEPEER: ("isActive", "sourceBytes"),
    Platform.STORM: ("state", "inTotalBytes"),
    Platform.WAVE: ("status", "bytesReceived"),
}
"""The fields with a stream's status and ingest total."""


def stream_path(stream: Stream) -> str:
    match stream.platform:
        case Platform.LIVEPEER:
            return f"/livepeer/api/stream/{stream.id}"
        case Platform.STORM:
            return f"/storm/api/streams/{stream.id}"
        case Platform.WAVE:
            return f"/wave/api/v1/streaming/sessions/{stream.id}"
        case Platform.HLS:
            raise ValueError("the HLS origin has no streams of its own")


async def stream_fields(simulator: Simulator, stream: Stream) -> dict[str, Any]:
    """Request a stream; return its fields, including WAVE's nested network metrics."""
    body = await simulator.request(stream_path(stream))
    fields = body.get("data", body)
    return {**fields, **fields.get("metrics", {}).get("network", {})}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, math.inf), (0.5, 0.5), ("90s", 90), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1d", 86400)],
)
def test_fault_duration_is_parsed(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


async def test_faults_are_listed_while_active(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.fleet.streams(Platform.STORM)[0]
        now = simulator.clock.now()
        body = {"platform": "storm", "stream": stream.name, "fault": "stall", "for": "1m"}
        created = await simulator.request("/faults", method="POST", status=201, json=body)
        names = {"platform": "storm", "stream": stream.name, "id": stream.id, "fault": "stall"}
        assert created == names | {"since": now, "until": now + 60}
        await simulator.inject(Platform.WAVE, "down")
        first, second = (await simulator.request("/faults"))["faults"]
        assert first == created
        assert (second["stream"], second["until"]) == (None, None)
        simulator.clock.advance(60)
        assert [fault["fault"] for fault in (await simulator.request("/faults"))["faults"]] == ["down"]


async def test_faults_are_cleared_by_stream_platform_or_all(simulate: Simulate) -> None:
    async with simulate() as simulator:
        first, second = simulator.fleet.streams(Platform.STORM)[:2]
        await simulator.inject(Platform.STORM, "stall", first)
        await simulator.inject(Platform.STORM, "stall", second)
        await simulator.inject(Platform.STORM, "down")
        await simulator.inject(Platform.WAVE, "down")
        cleared = await simulator.request("/faults", method="DELETE", params={"platform": "storm", "stream": first.id})
        assert cleared == {"cleared": 1}
        assert await simulator.request("/faults?platform=storm", method="DELETE") == {"cleared": 2}
        assert await simulator.request("/faults", method="DELETE") == {"cleared": 1}
        assert await simulator.request("/faults") == {"faults": []}
        await simulator.request("/faults?platform=nothing", method="DELETE", status=400)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ([], "platform"),
        ({"platform": "storm", "fault": "down", "forever": True}, "platform"),
        ({"fault": "down"}, "platform:"),
        ({"platform": "storm", "stream": "nothing", "fault": "stall"}, "stream:"),
        ({"platform": "storm", "fault": "stall"}, "fault:"),
        ({"platform": "storm", "fault": "down", "for": "soon"}, "for:"),
        ({"platform": "storm", "fault": "down", "for": -1}, "for:"),
    ],
)
async def test_invalid_fault_is_rejected(simulate: Simulate, body: Any, key: str) -> None:
    async with simulate(6) as simulator:
        assert key in (await simulator.request("/faults", method="POST", status=400, json=body))["error"]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_platform_that_is_down_closes_the_connection(simulate: Simulate, platform: Platform) -> None:
    async with simulate() as simulator:
        await simulator.inject(platform, "down", seconds="1m")
        with pytest.raises(aiohttp.ClientConnectionError):
            await simulator.request(PATHS[platform])
        for other in PLATFORMS:
            if other is not platform:
                await simulator.request(PATHS[other])
        simulator.clock.advance(60)
        await simulator.request(PATHS[platform])


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        ("auth", 401, "application/json"),
        ("rate_limit", 429, "application/json"),
        ("not_found", 404, "text/html"),
        ("html", 200, "text/html"),
        ("malformed", 200, "application/json"),
    ],
)
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_platform_fault_replaces_every_response(
    simulate: Simulate, platform: Platform, fault: str, status: int, content_type: str
) -> None:
    async with simulate() as simulator:
        await simulator.inject(platform, fault)
        async with simulator.client.get(PATHS[platform], headers=BEARER) as response:
            assert (response.status, response.content_type) == (status, content_type)
            assert response.headers.get("Retry-After") == ("10" if fault == "rate_limit" else None)


async def test_truncated_response_ends_before_its_length(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.inject(Platform.STORM, "truncated")
        async with simulator.client.get(PATHS[Platform.STORM], headers=BEARER) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_slow_platform_responds_late_but_does_not_delay_shutdown(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.inject(Platform.STORM, "slow")
        tasks = []
        for count in (1, 2):
            tasks.append(asyncio.create_task(simulator.request(PATHS[Platform.STORM])))
            while len(simulator.clock.slept) < count:  # noqa: ASYNC110 - the clock has no event for a new sleeper
                await asyncio.sleep(0)
            if count == 1:
                simulator.clock.advance(SLOW_RESPONSE_SECONDS)
                assert (await tasks[0])["data"]
        assert not tasks[1].done()
        await simulator.client.server.close()
        await asyncio.wait(tasks)


async def test_flaky_platform_answers_every_second_request(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.inject(Platform.STORM, "flaky")
        types = []
        for _ in range(4):
            async with simulator.client.get(PATHS[Platform.STORM], headers=BEARER) as response:
                types.append(response.content_type)
        assert types == ["text/html", "application/json"] * 2


@pytest.mark.parametrize(("fault", "status"), [("not_found", 404), ("malformed", 200)])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_response_fault_of_a_stream_affects_no_other_request(
    simulate: Simulate, platform: Platform, fault: str, status: int
) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(platform)
        other = next(found for found in simulator.fleet.streams(platform) if found is not stream)
        await simulator.inject(platform, fault, stream, "1m")
        async with simulator.client.get(stream_path(stream), headers=BEARER) as response:
            assert response.status == status
            assert STATUS_FIELDS[platform][0] not in await response.text()
        await stream_fields(simulator, other)
        await simulator.request(PATHS[platform])
        simulator.clock.advance(60)
        assert STATUS_FIELDS[platform][0] in await stream_fields(simulator, stream)


@pytest.mark.parametrize("is_platform_fault", [False, True])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_unknown_state_hides_status_and_ingest_total(
    simulate: Simulate, platform: Platform, is_platform_fault: bool
) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(platform)
        status, total = STATUS_FIELDS[platform]
        known = await stream_fields(simulator, stream)
        await simulator.inject(platform, "unknown_state", None if is_platform_fault else stream, "1m")
        unknown = await stream_fields(simulator, stream)
        assert unknown[status] == "REBALANCING"
        assert known.keys() - unknown.keys() == {total} | ({"lastSeen"} if platform is Platform.LIVEPEER else set())
        simulator.clock.advance(60)
        assert (await stream_fields(simulator, stream))[status] == known[status]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_frozen_statistics_do_not_change_until_the_fault_ends(simulate: Simulate, platform: Platform) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(platform)
        status, total = STATUS_FIELDS[platform]
        before = await stream_fields(simulator, stream)
        await simulator.inject(platform, "frozen", seconds="5m")
        simulator.clock.advance(299)
        frozen = await stream_fields(simulator, stream)
        assert (frozen[status], frozen[total]) == (before[status], before[total])
        simulator.clock.advance(1)
        after = await stream_fields(simulator, stream)
        assert after[total] - before[total] == pytest.approx(stream.bitrate * 300, rel=0.2)


async def test_doubtful_list_of_storm_counts_one_stream_too_many(simulate: Simulate) -> None:
    async with simulate() as simulator:
        complete = (await simulator.request(PATHS[Platform.STORM]))["data"]
        await simulator.inject(Platform.STORM, "doubtful_list")
        doubtful = (await simulator.request(PATHS[Platform.STORM]))["data"]
        assert doubtful["totalItems"] == complete["totalItems"] + 1
        assert [row["id"] for row in doubtful["list"]] == [row["id"] for row in complete["list"]]


async def test_doubtful_list_of_livepeer_has_a_link_after_an_empty_page(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.inject(Platform.LIVEPEER, "doubtful_list")
        async with simulator.client.get(PATHS[Platform.LIVEPEER], headers=BEARER) as response:
            assert len(await response.json()) == 20
            next_page = URL(response.links["next"]["url"])
        async with simulator.client.get(next_page.path_qs, headers=BEARER) as response:
            assert await response.json() == []
            assert "next" in response.links


async def test_flapping_stream_starts_a_new_session_every_minute(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.STORM)
        await simulator.inject(Platform.STORM, "flap", stream, "5m")
        starts, off_air = set(), 0
        for _ in range(60):
            ingest = simulator.fleet.latest_ingest(stream, simulator.clock.now())
            starts.add(ingest.start)
            off_air += not ingest.is_live(simulator.clock.now())
            simulator.clock.advance(5)
        assert len(starts) == 6
        assert off_air == 5 * 4


async def test_error_of_storm_is_a_state_without_media(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.STORM)
        await simulator.inject(Platform.STORM, "error", stream)
        before = await stream_fields(simulator, stream)
        simulator.clock.advance(60)
        after = await stream_fields(simulator, stream)
        assert before["state"] == after["state"] == "ERROR"
        assert after["inTotalBytes"] == before["inTotalBytes"]
