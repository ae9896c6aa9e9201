"""Real media: node-media-server 2 and 4, ffmpeg as publisher, and a viewer."""

import http.client
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.real.child_process import GENEROUS_SECONDS, Program, free_port, responds, running_server
from tests.real.tools import tool

USERNAME = "admin"
PASSWORD = "correct horse battery"


class NodeMediaServer:
    """A media server, its API (with USERNAME and PASSWORD), and where to publish."""

    def __init__(self, program: Program, version: int, http_port: int, rtmp_port: int) -> None:
        self.program = program
        self.version = version
        self.http_port = http_port
        self.rtmp_port = rtmp_port
        self.url = f"http://127.0.0.1:{http_port}"

    def publish(self, name: str, *, bits_per_second: int = 400_000) -> "Publisher":
        """Publish a test picture to ``live/NAME`` until the end of the block."""
        url = f"rtmp://127.0.0.1:{self.rtmp_port}/live/{name}"
        return Publisher(url, self.program.directory, bits_per_second=bits_per_second)

    def watch(self, name: str) -> "Viewer":
        """Watch ``live/NAME`` over HTTP-FLV until the end of the block."""
        return Viewer(self.http_port, f"/live/{name}.flv")


class Publisher(Program):
    """ffmpeg, publishing a moving picture and a tone, padded to a constant bitrate."""

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        bits_per_second: int,
        suffix: str = "",
        seconds: int = 300,
        has_audio: bool = True,
    ) -> None:
        """``suffix``: distinguishes a second publisher of the same stream in the names of files."""
        name = url.rpartition("/")[2] + suffix
        self._progress = directory / f"{name}.progress"
        rate = str(bits_per_second)
        quiet = [
            "-hide_banner",
            "-loglevel",
            "error",
            "-nostdin",
            "-progress",
            str(self._progress),
            "-stats_period",
            "0.2",
        ]
        picture = ["-re", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25"]
        tone = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
        constant = ["-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate, "-x264-params", "nal-hrd=cbr"]
        video = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p"]
        audio = ["-c:a", "aac", "-b:a", "64k"] if has_audio else ["-an"]
        output = ["-t", str(seconds), "-f", "flv", url]
        super().__init__(
            [tool("ffmpeg"), *quiet, *picture, *tone, *video, *constant, *audio, *output],
            directory,
            name=f"ffmpeg-{name}",
        )

    @property
    def bytes_sent(self) -> int:
        """Return the bytes that ffmpeg has sent, at most a quarter of a second old."""
        sizes = re.findall(r"total_size=(\d+)", self._progress.read_text()) if self._progress.exists() else []
        return int(sizes[-1]) if sizes else 0

    def freeze(self) -> None:
        """Stay connected but send no data, like an encoder that hangs."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)


class Viewer:
    """A player that discards what it reads."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GENEROUS_SECONDS)
        self._connection.request("GET", path)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self.received = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := self._answer.read1(65536):
                self.received += len(part)
        except (OSError, http.client.HTTPException):
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._connection.sock is not None
        self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._reader.join(GENEROUS_SECONDS)
        self._answer.close()
        self._connection.close()


@contextmanager
def running_nms2(directory: Path) -> Iterator[NodeMediaServer]:
    rtmp_port = free_port()

    def start(port: int) -> Program:
        configuration = {
            "logType": 2,
            "rtmp": {"port": rtmp_port, "chunk_size": 60000, "gop_cache": True, "ping": 30, "ping_timeout": 60},
            "http": {"port": port, "mediaroot": str(directory / "media")},
            "auth": {"api": True, "api_user": USERNAME, "api_pass": PASSWORD},
        }
        loader = Path(__file__).with_name("nms2.cjs")
        command: list[str | Path] = [tool("node"), loader, tool("node-media-server-2"), json.dumps(configuration)]
        return Program(command, directory, name="node-media-server-2")

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/api/streams", status=401)) as (
        program,
        port,
    ):
        yield NodeMediaServer(program, 2, port, rtmp_port)


@contextmanager
def running_nms4(directory: Path) -> Iterator[NodeMediaServer]:
    rtmp_port = free_port()

    def start(port: int) -> Program:
        configuration = {
            "bind": "127.0.0.1",
            "rtmp": {"port": rtmp_port},
            "http": {"port": port},
            "store": {"path": str(directory / "data")},
            "record": {"auto": False, "path": str(directory / "record")},
            "webadmin": {"enable": False},
            "auth": {"jwt": {"users": [{"username": USERNAME, "password": PASSWORD, "role": "admin"}]}},
        }
        # it writes the password's hash and its own secrets into this file
        path = directory / "config.json"
        path.write_text(json.dumps(configuration))
        command: list[str | Path] = [tool("node"), tool("node-media-server-4") / "bin" / "app.js", "-c", path]
        return Program(command, directory, name="node-media-server-4")

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/api/v1/health")) as (program, port):
        yield NodeMediaServer(program, 4, port, rtmp_port)
