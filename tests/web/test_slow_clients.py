"""Clients that ask and do not take the answer, or leave in the middle of it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from exporter.model import UpstreamState
from exporter.web import server as web_server
from exporter.web.metrics_handler import MetricsHandler
from exporter.web.security import Security

PIECE = b"#" * (1 << 20)
PIECES = 64
"""More than all buffers between two ends hold."""


class Huge:
    """An exposition of many megabytes, which cost nothing to make."""

    def pieces(self, parts: frozenset[str]) -> list[bytes]:
        return [PIECE] * PIECES

    packed = pieces

    def prepare(self, view: UpstreamState) -> None:
        """There is nothing to do."""


@asynccontextmanager
async def serving() -> AsyncIterator[web.AppRunner]:
    """``/metrics`` and ``/json``, and pages that are small, one request at a time."""
    scrapes = MetricsHandler(Huge())
    body = PIECE * PIECES

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


def ask(port: int, path: str, times: int = 1) -> socket.socket:
    """A client that has asked, and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * times)
    return client


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("path", "times"), [("/metrics", 1), ("/json", 1), ("/page", 1000)])
async def test_who_takes_nothing_is_cut_off_and_holds_a_place_only_so_long(
    path: str, times: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web_server, "SEND_TIMEOUT_SECONDS", 1.0)
    async with serving() as runner, aiohttp.ClientSession() as session:
        port = runner.addresses[0][1]
        server = runner.server
        assert server is not None
        with ask(port, path, times):
            statuses: list[int] = []
            async with asyncio.timeout(60):
                while statuses[-2:] != [503, 200]:
                    async with session.get(f"http://127.0.0.1:{port}/small") as answer:
                        statuses.append(answer.status)
                        assert answer.status == 200 or answer.headers["Retry-After"] == "1"
                    await asyncio.sleep(0.01)
            # only the one that asked last is still there
            await until(lambda: len(server.connections) == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("path", ["/metrics", "/json"])
async def test_who_leaves_in_the_middle_is_no_error_of_ours(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as runner, aiohttp.ClientSession() as session:
        port = runner.addresses[0][1]
        server = runner.server
        assert server is not None
        with ask(port, path) as client:
            await asyncio.get_running_loop().run_in_executor(None, client.recv, 1000)
        await until(lambda: not server.connections)
        async with session.get(f"http://127.0.0.1:{port}/small") as answer:
            assert answer.status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
