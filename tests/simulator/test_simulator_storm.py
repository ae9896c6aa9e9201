"""The simulated Storm API: login, lists, batches and metadata."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.simulator import Options
from exporter.simulator.context import API_KEY, PASSWORD, USERNAME
from exporter.simulator.simulated_streams import Platform
from tests.simulator.conftest import Simulate, Simulator

API = "/storm/api"


async def log_in(simulator: Simulator, *, status: int = 200, password: str = PASSWORD) -> Any:
    body = {"username": USERNAME, "password": password}
    return await simulator.request(f"{API}/auth/login", method="POST", status=status, headers={}, json=body)


async def test_login_token_expires_after_15_minutes(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.request(f"{API}/streams", status=401, headers={})
        login = (await log_in(simulator))["data"]
        headers = {"Authorization": f"Bearer {login['accessToken']}"}
        simulator.clock.advance(899)
        await simulator.request(f"{API}/streams", headers=headers)
        simulator.clock.advance(1)
        assert await simulator.request(f"{API}/streams", status=401, headers=headers) == {"message": "Unauthorized"}
        await simulator.request(f"{API}/streams", headers={"X-Api-Key": API_KEY})


async def test_sixth_login_within_a_minute_is_refused(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await log_in(simulator, status=401, password="x")
        await simulator.request(f"{API}/auth/login", method="POST", status=400, headers={}, data=b"{")
        for _ in range(3):
            await log_in(simulator)
        await log_in(simulator, status=429)
        simulator.clock.advance(60)
        await log_in(simulator)


async def test_new_ingest_session_has_no_health_score_for_10_seconds(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.STORM)
        path = f"{API}/streams/{stream.id}"
        await simulator.inject(Platform.STORM, "end", stream, "30s")
        assert await simulator.request(path, status=404) == {"message": "Stream not found"}
        simulator.clock.advance(31)
        data = (await simulator.request(path))["data"]
        assert (data["healthScore"], data["healthGrade"]) == (0, "No Data")
        simulator.clock.advance(10)
        assert (await simulator.request(path))["data"]["healthGrade"] == "Very Good"


@pytest.mark.parametrize("fault", ["unhealthy", "stall", "bitrate_low", "slow_transcode"])
async def test_fault_lowers_the_health_score(simulate: Simulate, fault: str) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.STORM)
        await simulator.inject(Platform.STORM, fault, stream)
        data = (await simulator.request(f"{API}/streams/{stream.id}"))["data"]
        assert data["healthScore"] < 70
        assert (data["inBandwidth"] == 0) is (fault == "stall")


async def test_batch_returns_live_streams_and_names_the_others(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.STORM)
        names = [f"{stream.application}-{stream.name}", "edge-nothing"]
        body = {"data": {"streamKeyIds": names}}
        data = (await simulator.request(f"{API}/streams/batch", method="POST", json=body))["data"]
        assert [found["streamKey"] for found in data["found"]] == [stream.name]
        assert data["notFound"] == ["edge-nothing"]
        await simulator.request(f"{API}/streams/batch", method="POST", status=400, json={"data": 1})


async def test_list_has_pages_of_10_streams(simulate: Simulate) -> None:
    async with simulate(100) as simulator:
        live = [stream.name for stream, _ in simulator.fleet.live_streams(Platform.STORM, simulator.clock.now())]
        names: list[str] = []
        page: dict[str, Any] = {"hasNext": True, "currentPage": 0}
        while page["hasNext"]:
            page = (await simulator.request(f"{API}/streams?page={page['currentPage'] + 1}"))["data"]
            assert (page["totalItems"], page["itemsPerPage"]) == (len(live), 10)
            names += [stream["streamKey"] for stream in page["list"]]
        assert names == live
        assert (await simulator.request(f"{API}/streams?page=99"))["data"]["list"] == []


async def test_cluster_manager_lists_streams_with_their_sources(simulate: Simulate) -> None:
    async with simulate(options=Options(storm_list=False, storm_cluster=True)) as simulator:
        data = (await simulator.request(f"{API}/cluster/streams?rowsPerPage=100"))["data"]
        live = simulator.fleet.live_streams(Platform.STORM, simulator.clock.now())
        assert [item["streamKey"] for item in data["list"]] == [stream.name for stream, _ in live]
        sources = [source for item in data["list"] for source in item["sourceList"]]
        assert [source["applicationName"] for source in sources] == [stream.application for stream, _ in live]
        await simulator.request(f"{API}/streams", status=404)


async def test_substream_has_metadata(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.find_steady(Platform.STORM, height=720)
        path = f"{API}/streams/{stream.id}"
        substreams = (await simulator.request(path))["data"]["subStreams"]
        assert [substream["name"] for substream in substreams] == ["native", "480p"]
        native = (await simulator.request(f"{path}/native/metadata"))["data"]
        assert (native["height"], native["frameRate"]) == (720, stream.frame_rate)
        await simulator.request(f"{path}/720p/metadata", status=404)
