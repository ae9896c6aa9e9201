"""Clients that do not read their response or disconnect midway, and errors when accepting connections."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import structlog.testing
from aiohttp import web

from exporter.model import UpstreamState
from exporter.web import server as web_server
from exporter.web.metrics_handler import MetricsHandler
from exporter.web.security import Security

CHUNK = b"#" * (1 << 20)
CHUNK_COUNT = 64
"""More than all buffers between client and server can hold."""


class HugeRenderer:
    """Renders many megabytes at no cost."""

    def pieces(self, parts: frozenset[str]) -> list[bytes]:
        return [CHUNK] * CHUNK_COUNT

    packed = pieces

    def prepare(self, view: UpstreamState) -> None:
        """Do nothing."""


@asynccontextmanager
async def serving() -> AsyncIterator[web.AppRunner]:
    """Serve two huge and two small responses, one request at a time."""
    scrapes = MetricsHandler(HugeRenderer())
    body = CHUNK * CHUNK_COUNT

    async def whole(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=body[: web_server.SINGLE_WRITE_BYTES])

    async def small(_request: web.Request) -> web.Response:
        return web.Response(text="small\n")

    app = web.Application()
    Security(max_requests=1).protect(app)
    scrapes.add_routes(app, "/metrics")
    app.router.add_get("/json", whole)
    app.router.add_get("/page", page)
    app.router.add_get("/small", small)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner
    finally:
        await runner.cleanup()


def request_without_reading(port: int, path: str, times: int = 1) -> socket.socket:
    """Open a client that sends requests and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * times)
    return client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("path", "times"), [("/metrics", 1), ("/json", 1), ("/page", 1000)])
async def test_client_that_reads_nothing_is_disconnected_and_frees_its_place(
    path: str, times: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web_server, "SEND_TIMEOUT_SECONDS", 1.0)
    async with serving() as runner, aiohttp.ClientSession() as session:
        port = runner.addresses[0][1]
        server = runner.server
        assert server is not None
        with request_without_reading(port, path, times):
            statuses: list[int] = []
            async with asyncio.timeout(60):
                while statuses[-2:] != [503, 200]:
                    async with session.get(f"http://127.0.0.1:{port}/small") as answer:
                        statuses.append(answer.status)
                        assert answer.status == 200 or answer.headers["Retry-After"] == "1"
                    await asyncio.sleep(0.01)
            # only the last client is still connected
            await until(lambda: len(server.connections) == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("path", ["/metrics", "/json"])
async def test_client_that_disconnects_midway_is_not_an_error(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as runner, aiohttp.ClientSession() as session:
        port = runner.addresses[0][1]
        server = runner.server
        assert server is not None
        with request_without_reading(port, path) as client:
            await asyncio.get_running_loop().run_in_executor(None, client.recv, 1000)
        await until(lambda: not server.connections)
        async with session.get(f"http://127.0.0.1:{port}/small") as answer:
            assert answer.status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_accept_errors_are_logged_once_and_others_as_usual(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    web_server.throttle_accept_errors(loop)
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            exhausted = OSError(errno.EMFILE, "Too many open files")
            loop.call_exception_handler({"message": "accept", "exception": exhausted, "socket": None})
        loop.call_exception_handler({"message": "another fault", "exception": OSError(errno.EMFILE, "elsewhere")})
    loop.set_exception_handler(None)
    assert [line["event"] for line in logs] == ["no new connection can be accepted"]
    assert [record.message for record in caplog.records] == ["another fault"]
