"""Storm's API: login, single streams, batches, lists, metadata."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.simulator import Options
from exporter.simulator.context import API_KEY, PASSWORD, USERNAME
from exporter.simulator.simulated_streams import Platform
from tests.simulator.conftest import Simulate, Simulator

API = "/storm/api"
CREDENTIALS = {"username": USERNAME, "password": PASSWORD}


async def log_in(simulator: Simulator, *, status: int = 200, **body: Any) -> Any:
    return await simulator.ask(f"{API}/auth/login", method="POST", status=status, headers={}, json=body or CREDENTIALS)


async def test_a_login_gives_a_token_for_fifteen_minutes(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.ask(f"{API}/streams", status=401, headers={})
        login = await log_in(simulator)
        assert login["data"]["remainingTime"] == 900_000
        assert login["data"]["expireDate"] == login["meta"]["generatedAt"] + 900_000
        headers = {"Authorization": f"Bearer {login['data']['accessToken']}"}
        simulator.clock.advance(899)
        await simulator.ask(f"{API}/streams", headers=headers)
        simulator.clock.advance(1)
        assert await simulator.ask(f"{API}/streams", status=401, headers=headers) == {"message": "Unauthorized"}


async def test_the_api_key_will_do_as_well(simulate: Simulate) -> None:
    async with simulate() as simulator:
        await simulator.ask(f"{API}/streams", headers={"X-Api-Key": API_KEY})
        await simulator.ask(f"{API}/streams", status=401, headers={"X-Api-Key": "wrong-key"})


async def test_bad_logins_are_refused_and_more_than_five_in_a_minute_too(simulate: Simulate) -> None:
    async with simulate() as simulator:
        assert await log_in(simulator, status=401, username="demo", password="x") == {
            "message": "Username or password is incorrect"
        }
        await simulator.ask(f"{API}/auth/login", method="POST", status=400, headers={}, data=b"{")
        for _ in range(3):
            await log_in(simulator)
        assert (await log_in(simulator, status=429))["message"]
        simulator.clock.advance(60)
        await log_in(simulator)


async def test_a_stream_has_the_documented_fields_and_units(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        answer = await simulator.ask(f"{API}/streams/{stream.application}/{stream.name}")
        data, meta = answer["data"], answer["meta"]
        assert data["state"] == "PUBLISHED"
        assert data["id"] == data["streamKey"] == stream.name
        assert data["startTime"] + data["duration"] == meta["generatedAt"]
        assert data["inBandwidth"] == pytest.approx(stream.bitrate, rel=0.07)
        assert data["inTotalBytes"] / (data["duration"] / 1000) == pytest.approx(stream.bitrate, rel=0.3)
        assert data["healthGrade"] == "Very Good"
        assert 80 <= data["healthScore"] <= 100
        assert data.keys() >= {"systemClientCount", "canRecord", "isRecording", "thumbnailPath"}


async def test_nothing_to_score_right_after_the_publish(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        path = f"{API}/streams/{stream.application}/{stream.name}"
        await simulator.fault(Platform.STORM, "end", stream, "30s")
        assert await simulator.ask(path, status=404) == {"message": "Stream not found"}
        simulator.clock.advance(31)
        data = (await simulator.ask(path))["data"]
        assert (data["healthScore"], data["healthGrade"]) == (0, "No Data")
        simulator.clock.advance(10)
        assert (await simulator.ask(path))["data"]["healthGrade"] == "Very Good"


@pytest.mark.parametrize(
    ("fault", "grades"),
    [("unhealthy", {"Bad"}), ("stall", {"Bad"}), ("bitrate_low", {"Good", "Bad"}), ("slow_transcode", {"Bad", "Good"})],
)
async def test_faults_show_in_the_score(simulate: Simulate, fault: str, grades: set[str]) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        await simulator.fault(Platform.STORM, fault, stream)
        simulator.clock.advance(30)
        data = (await simulator.ask(f"{API}/streams/{stream.application}/{stream.name}"))["data"]
        assert data["healthGrade"] in grades
        assert data["healthScore"] < 70
        assert (data["inBandwidth"] == 0) is (fault == "stall")


async def test_a_batch_finds_what_is_on_the_air_and_names_the_rest(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM)
        name = f"{stream.application}-{stream.name}"
        body = {"data": {"streamKeyIds": [name, "edge-nothing"]}}
        data = (await simulator.ask(f"{API}/streams/batch", method="POST", json=body))["data"]
        assert [found["streamKey"] for found in data["found"]] == [stream.name]
        assert data["notFound"] == ["edge-nothing"]
        assert "isRecording" not in data["found"][0]


@pytest.mark.parametrize("body", [{}, {"data": 1}, {"data": {"streamKeyIds": "x"}}, {"data": {"streamKeyIds": [1]}}])
async def test_a_batch_that_is_none_is_refused(simulate: Simulate, body: Any) -> None:
    async with simulate(3) as simulator:
        await simulator.ask(f"{API}/streams/batch", method="POST", status=400, json=body)


async def test_the_list_comes_in_pages_of_ten(simulate: Simulate) -> None:
    async with simulate(100) as simulator:
        live = [stream.name for stream, _ in simulator.fleet.live_streams(Platform.STORM, simulator.clock.now())]
        names: list[str] = []
        page: dict[str, Any] = {"hasNext": True, "currentPage": 0}
        while page["hasNext"]:
            page = (await simulator.ask(f"{API}/streams?page={page['currentPage'] + 1}"))["data"]
            assert (page["totalItems"], page["itemsPerPage"]) == (len(live), 10)
            assert page["hasPrevious"] is (page["currentPage"] > 1)
            names += [stream["streamKey"] for stream in page["list"]]
        assert names == live
        assert page["currentPage"] == page["totalPages"]
        whole = (await simulator.ask(f"{API}/streams?rowsPerPage=100"))["data"]
        assert len(whole["list"]) == len(live)
        assert (await simulator.ask(f"{API}/streams?page=99"))["data"]["list"] == []


async def test_the_lists_can_be_missing(simulate: Simulate) -> None:
    async with simulate(3, options=Options(storm_list=False)) as simulator:
        await simulator.ask(f"{API}/streams", status=404)
        await simulator.ask(f"{API}/cluster/streams", status=404)


async def test_a_cluster_manager_lists_streams_with_their_sources(simulate: Simulate) -> None:
    async with simulate(options=Options(storm_list=False, storm_cluster=True)) as simulator:
        data = (await simulator.ask(f"{API}/cluster/streams?rowsPerPage=100"))["data"]
        live = simulator.fleet.live_streams(Platform.STORM, simulator.clock.now())
        assert [item["streamKey"] for item in data["list"]] == [stream.name for stream, _ in live]
        sources = [source for item in data["list"] for source in item["sourceList"]]
        assert [source["applicationName"] for source in sources] == [stream.application for stream, _ in live]
        assert data["stateList"] == ["PUBLISHED"]
        assert {application["name"] for application in data["applicationList"]} == {s.application for s, _ in live}


async def test_substreams_are_described_by_their_metadata(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream = simulator.steady(Platform.STORM, height=720)
        path = f"{API}/streams/{stream.application}/{stream.name}"
        substreams = (await simulator.ask(path))["data"]["subStreams"]
        assert [substream["name"] for substream in substreams] == ["native", "480p"]
        native = (await simulator.ask(f"{path}/native/metadata"))["data"]
        assert (native["width"], native["height"]) == (1280, 720)
        assert native["frameRate"] == stream.frame_rate
        small = (await simulator.ask(f"{path}/480p/metadata"))["data"]
        assert small["videoDataRate"] < native["videoDataRate"]
        assert await simulator.ask(f"{path}/720p/metadata", status=404) == {"message": "Substream not found"}
        await simulator.ask(f"{path}/nothing/metadata", status=404)
