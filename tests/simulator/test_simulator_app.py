"""The application: the same bytes for the same question, mounted anywhere, and by itself."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from exporter.runtime.clock import Clock
from exporter.simulator import Fleet, make_app
from exporter.simulator.__main__ import main
from exporter.simulator.context import Context
from exporter.simulator.simulated_streams import Platform
from exporter.simulator.simulator_app import make_simulator
from tests.simulator.conftest import BEARER, EXPORT_KEY, Simulate, Simulator

PATHS = [
    "/livepeer/api/stream?streamsonly=1&active=1&limit=1000",
    "/livepeer/api/data/views/now?breakdownBy[]=playbackId",
    "/storm/api/streams?rowsPerPage=50&page=2",
    "/wave/api/v1/analytics/dashboards",
    "/wave/api/v1/streaming/analytics/prometheus",
]


async def raw(simulator: Simulator, path: str) -> tuple[int, dict[str, str], bytes]:
    async with simulator.client.get(path, headers=BEARER | EXPORT_KEY) as answer:
        return answer.status, dict(answer.headers), await answer.read()


@pytest.mark.parametrize("path", PATHS)
async def test_same_seed_time_and_request_same_bytes(simulate: Simulate, path: str) -> None:
    answers = []
    for _ in range(2):
        async with simulate(300, seed=11, speed=5) as simulator:
            simulator.clock.advance(12_345)
            answers.append(await raw(simulator, path))
    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    async with simulate(300, seed=12, speed=5) as simulator:
        simulator.clock.advance(12_345)
        assert (await raw(simulator, path))[2] != answers[0][2]


async def test_the_date_is_the_simulated_one(simulate: Simulate) -> None:
    async with simulate(3) as simulator:
        for path in ("/faults", "/storm/api/streams", "/storm/api/nothing"):
            _, headers, _ = await raw(simulator, path)
            assert headers["Date"] == "Tue, 10 Sep 2024 20:26:40 GMT"


async def test_mounted_below_a_path_of_another_application() -> None:
    app = web.Application()
    app.add_subapp("/simulator", make_simulator(Context(Fleet(60), Clock())))
    async with TestClient(TestServer(app)) as client:
        async with client.get("/simulator/livepeer/api/stream?limit=5", headers=BEARER) as answer:
            assert len(await answer.json()) == 5
            assert URL(answer.links["next"]["url"]).path == "/simulator/livepeer/api/stream"
        async with client.get("/simulator/wave/events") as answer:
            assert await answer.json() == {"events": []}
        async with client.get("/simulator/faults") as answer:
            assert await answer.json() == {"faults": []}


async def test_ten_thousand_streams_are_listed_in_full() -> None:
    fleet = Fleet(10_000)
    async with TestClient(TestServer(make_app(fleet))) as client:
        names: set[str] = set()
        page, more = 0, True
        while more:
            page += 1
            async with client.get(f"/storm/api/streams?rowsPerPage=500&page={page}", headers=BEARER) as answer:
                data = (await answer.json())["data"]
            names |= {stream["streamKey"] for stream in data["list"]}
            more = data["hasNext"]
        assert page == 7
        assert len(names) > 0.95 * len(fleet.streams(Platform.STORM))


async def test_by_itself_it_serves_until_it_is_told_to_end() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", "exporter.simulator", "--port", "0", "--streams", "6", stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stdout is not None
        found = re.search(rb"http://127\.0\.0\.1:(\d+)", await process.stdout.readline())
        assert found is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
        writer.write(b"GET /faults HTTP/1.0\r\n\r\n")
        assert b'{"faults":[]}' in await reader.read()
        writer.close()
        await writer.wait_closed()
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize("arguments", [["--streams", "0"], ["--speed", "0"], ["--wave-rate-limit", "0"], ["--nothing"]])
def test_bad_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
