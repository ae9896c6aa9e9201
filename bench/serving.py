"""Servers in processes of their own, and requests to them that cost them and not us."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web


class Server:
    """A ``bench.server``."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.port = port
        self.pid = process.pid
        self._process = process

    def ask(self, command: str) -> Any:
        """The answer to a command, such as ``cpu``: the seconds of CPU time so far."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def running(module: str, **arguments: Any) -> Iterator[Server]:
    """``bench.<module>.serving(**arguments)`` in a new process."""
    command = [sys.executable, "-m", "bench.server", module, json.dumps(arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process, int(process.stdout.readline()))
        finally:
            process.terminate()


@contextmanager
def running_golang(program: Path, samples: Path) -> Iterator[tuple[int, int]]:
    """promhttp with these samples: its port and its process. It may use all processors, as it does anywhere."""
    with subprocess.Popen([program, samples, "serve"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[int]:
    """The port of an application that is being served, as the exporter serves its own."""
    bound = socket.create_server(("127.0.0.1", 0))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, bound).start()
    try:
        yield bound.getsockname()[1]
    finally:
        await runner.cleanup()


def get(port: int, path: str = "/metrics", times: int = 1, *, compressed: bool = True) -> int:
    """Ask so many times, one after the other over one connection; the bytes of the last body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    size = 0
    for _ in range(times):
        connection.request("GET", path, headers={"Accept-Encoding": "gzip" if compressed else "identity"})
        answer = connection.getresponse()
        size = len(answer.read())
        assert answer.status == 200, answer.status
    connection.close()
    return size
