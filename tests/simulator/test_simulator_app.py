"""The application as a whole: deterministic responses, and the command ``python -m exporter.simulator``."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE

import pytest

from exporter.simulator.__main__ import main
from tests.simulator.conftest import BEARER, EXPORT_KEY, Simulate


@pytest.mark.parametrize(
    "path",
    [
        "/livepeer/api/stream?streamsonly=1&active=1&limit=1000",
        "/storm/api/streams?rowsPerPage=50&page=2",
        "/wave/api/v1/streaming/analytics/prometheus",
    ],
)
async def test_same_seed_and_time_give_the_same_response(simulate: Simulate, path: str) -> None:
    responses = []
    for seed in (11, 11, 12):
        async with simulate(300, seed=seed, speed=5) as simulator:
            simulator.clock.advance(12_345)
            async with simulator.client.get(path, headers=BEARER | EXPORT_KEY) as response:
                assert response.headers["Date"] == "Tue, 10 Sep 2024 23:52:25 GMT"
                responses.append(await response.read())
    assert responses[0] == responses[1] != responses[2]


async def test_command_serves_until_terminated() -> None:
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


@pytest.mark.parametrize("arguments", [["--streams", "0"], ["--speed", "0"], ["--wave-rate-limit", "0"]])
def test_invalid_argument_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert "error:" in capsys.readouterr().err
