from __future__ import annotations

import asyncio
import ctypes
import resource
import signal
from pathlib import Path

import pytest

from exporter.heap import GIVEN_BACK_EVERY_SECONDS, keep_giving_back, trimmer
from tests.fakes import FakeClock
from tests.processes import Exporter

BLOCK_BYTES = 32 * 1024
"""Too large for Python's own heap, too small to be a mapping of its own."""
CONFIGURATION = '{"upstreams": [{"name": "origin", "platform": "node_media_server", "url": "http://127.0.0.1:9"}]}'
TELLING = """
import itertools, sys
from exporter import cli, heap
counter = itertools.count(1)
heap.GIVEN_BACK_EVERY_SECONDS = 0.1
heap.trimmer = lambda: lambda pad: print("given back", next(counter))
sys.exit(cli.main())
"""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def holes(bytes_: int) -> list[bytearray]:
    """What stays between the holes that so many freed bytes leave."""
    blocks = [bytearray(b"x" * BLOCK_BYTES) for _ in range(bytes_ // BLOCK_BYTES)]
    return blocks[::16]


class OneMinute(FakeClock):
    """Lets sleep once."""

    async def sleep(self, seconds: float) -> None:
        if self.slept:
            raise asyncio.CancelledError
        self.slept.append(seconds)


async def test_what_is_freed_between_what_stays_goes_back_to_the_system() -> None:
    clock = OneMinute()
    stays = holes(64_000_000)
    before = resident_bytes()
    with pytest.raises(asyncio.CancelledError):
        await keep_giving_back(clock)
    assert clock.slept == [GIVEN_BACK_EVERY_SECONDS]
    assert before - resident_bytes() > 40_000_000
    assert all(block[0] == block[-1] == ord("x") for block in stays)


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
async def test_another_c_library_has_nothing_to_call(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert trimmer() is None
    clock = FakeClock()
    await keep_giving_back(clock)
    assert clock.slept == []


def test_the_process_gives_back_for_as_long_as_it_serves(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIGURATION)
    with Exporter(["--web.listen-address=127.0.0.1:0"], tmp_path, ("-c", TELLING)) as process:
        process.wait_for("given back 2")
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        assert "Traceback" not in process.said
