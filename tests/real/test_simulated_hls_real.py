"""The simulated HLS origin, played by ffmpeg."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_hls import master_path
from exporter.simulator.simulated_streams import Platform
from exporter.simulator.transport_stream import FRAME_RATE, RENDITIONS
from tests.real.child_process import GENEROUS_SECONDS, Program, responds, running_server
from tests.real.tools import tool

pytestmark = pytest.mark.real

STREAMS = 3
"""A fleet this small is never off air."""
PLAYED_SECONDS = 8


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the simulator, and yield its URL."""
    directory = tmp_path_factory.mktemp("simulator")

    def start(port: int) -> Program:
        command = [sys.executable, "-m", "exporter.simulator", "--port", str(port), "--streams", str(STREAMS)]
        return Program(command, directory, name="simulator")

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/faults")) as (_, port):
        yield f"http://127.0.0.1:{port}"


def play(url: str, directory: Path) -> tuple[int, str]:
    """Play all tracks of all renditions; return the exit code and the warnings."""
    limits = ["-t", str(PLAYED_SECONDS), "-rw_timeout", str(int(GENEROUS_SECONDS * 1e6))]
    command: list[str | Path] = [
        tool("ffmpeg"),
        "-hide_banner",
        "-v",
        "warning",
        *limits,
        "-i",
        url,
        "-map",
        "0",
        "-f",
        "null",
        "-",
    ]
    with Program(command, directory) as player:
        code = player.process.wait(GENEROUS_SECONDS)
    return code, player.said


def test_ffmpeg_plays_every_rendition_without_warnings(simulator: str, tmp_path: Path) -> None:
    [stream] = Fleet(STREAMS).streams(Platform.STORM)
    assert play(f"{simulator}/hls{master_path(stream)}", tmp_path) == (0, "")


def test_ffmpeg_finds_the_declared_formats(simulator: str, tmp_path: Path) -> None:
    [stream] = Fleet(STREAMS).streams(Platform.STORM)
    with Program([tool("ffmpeg"), "-hide_banner", "-i", f"{simulator}/hls{master_path(stream)}"], tmp_path) as probe:
        probe.process.wait(GENEROUS_SECONDS)
    videos = re.findall(r"Video: h264 \(Constrained Baseline\).*, (\d+)x(\d+), (\d+) fps", probe.said)
    assert videos == [(str(found.width), str(found.height), str(FRAME_RATE)) for found in RENDITIONS]
    assert len(re.findall(r"Audio: aac \(LC\).*, 48000 Hz, mono", probe.said)) == len(RENDITIONS)
