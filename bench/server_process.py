"""Run a server in its own process and send requests to it.

``python -m bench.server_process MODULE ARGUMENTS`` prints the port of ``bench.<module>.serving(**arguments)``. Then it
reads commands from its standard input, one per line, and answers each with a line of JSON, until the end of input.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from bench.case_runner import peak_bytes, resident_bytes

if TYPE_CHECKING:
    from aiohttp import web


class Server:
    """A server in its own process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.port = port
        self.pid = process.pid
        self._process = process

    def call(self, command: str) -> Any:
        """Return the result of a command, such as ``cpu`` (CPU seconds so far)."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def running_server(module: str, **arguments: Any) -> Iterator[Server]:
    """Run ``bench.<module>.serving(**arguments)`` in a new process."""
    command = [sys.executable, "-m", "bench.server_process", module, json.dumps(arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process, int(process.stdout.readline()))
        finally:
            process.terminate()


@asynccontextmanager
async def serve_app(app: web.Application) -> AsyncIterator[int]:
    """Serve an application as the exporter does and yield its port."""
    # prometheus_client's server runs without aiohttp, whose import would show in its memory
    from aiohttp import web

    bound = socket.create_server(("127.0.0.1", 0))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, bound).start()
    try:
        yield bound.getsockname()[1]
    finally:
        await runner.cleanup()


def fetch(port: int, path: str = "/metrics", times: int = 1, *, compressed: bool = True) -> int:
    """Send GETs one after another over one connection and return the size of the last body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    size = 0
    for _ in range(times):
        connection.request("GET", path, headers={"Accept-Encoding": "gzip" if compressed else "identity"})
        answer = connection.getresponse()
        size = len(answer.read())
        assert answer.status == 200, answer.status
    connection.close()
    return size


COMMON_COMMANDS = {"cpu": time.process_time, "resident": resident_bytes, "peak": peak_bytes}


async def _serve(module: str, arguments: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with importlib.import_module(f"bench.{module}").serving(**arguments) as (port, commands):
        print(port, flush=True)
        while line := await lines.readline():
            answer = {**COMMON_COMMANDS, **commands}[line.decode().strip()]()
            print(json.dumps(await answer if asyncio.iscoroutine(answer) else answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], json.loads(sys.argv[2])))
