"""Tuning of glibc's allocator."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exporter.runtime.memory_tuning import trim_periodically, tune_allocator
from tests.exporter_process import Exporter
from tests.fake_clock import FakeClock

BLOCK_BYTES = 32 * 1024
"""Too large for Python's own allocator, and too small to be mapped separately."""
BLOCKS = 2000
CONFIGURATION = '{"upstreams": [{"name": "origin", "platform": "node_media_server", "url": "http://127.0.0.1:9"}]}'
FREEING = """
from exporter.runtime.memory_tuning import tune_allocator
from tests.process.test_heap import BLOCK_BYTES, BLOCKS, resident_bytes
tune_allocator()
resident = resident_bytes()
blocks = [bytearray(b"x" * BLOCK_BYTES) for _ in range(BLOCKS)]
del blocks
print(resident_bytes() - resident)
"""
PRINTING_TRIMS = """
import itertools, sys
from exporter.runtime import memory_tuning as heap
from exporter import cli
counter = itertools.count(1)
library = type("Library", (), {})()
library.mallopt = lambda option, value: 1
library.malloc_trim = lambda pad: print("trimmed", next(counter))
heap.TRIM_INTERVAL_SECONDS = 0.1
heap._glibc = lambda: library
sys.exit(cli.main())
"""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(("variables", "is_kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_freed_memory_is_kept_until_the_trim_unless_the_environment_sets_a_threshold(
    variables: dict[str, str], is_kept: bool
) -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", FREEING], env=others | variables, stdout=subprocess.PIPE, check=True)
    assert (int(done.stdout) > 40_000_000) is is_kept


def failing_load(error: type[Exception]) -> Callable[[Any], Any]:
    def load(_: Any) -> Any:
        raise error

    return load


@pytest.mark.parametrize("load", [failing_load(OSError), failing_load(TypeError), lambda _: SimpleNamespace()])
async def test_other_c_libraries_are_not_trimmed(load: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", load)
    tune_allocator()
    clock = FakeClock()
    await trim_periodically(clock)
    assert clock.slept == []


def test_process_trims_periodically_while_it_serves(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIGURATION)
    with Exporter(["--web.listen-address=127.0.0.1:0"], tmp_path, ("-c", PRINTING_TRIMS)) as process:
        process.wait_for("trimmed 2")
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        assert "Traceback" not in process.said
