"""Slow, silent, flooding and disconnecting clients, and accepting connections."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, NamedTuple

import aiohttp
import pytest
import structlog.testing
import trustme
from aiohttp import web

from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import UpstreamState
from exporter.web import server as web_server
from exporter.web.connections import OpenConnections
from exporter.web.metrics_handler import MetricsHandler
from exporter.web.security import Security
from tests.web.secure_server import client_context, get_status, write_certificate, write_web_config

CHUNK = b"#" * (1 << 20)
CHUNK_COUNT = 64
"""More than all buffers between client and server can hold."""


class HugeRenderer:
    """Returns many megabytes without rendering."""

    def pieces(self, parts: frozenset[str]) -> list[bytes]:
        return [CHUNK] * CHUNK_COUNT

    packed = pieces

    def prepare(self, state: UpstreamState) -> None:
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
            # Only the last client is still connected.
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


@asynccontextmanager
async def listening(
    limit: int = 1024, ssl_context: ssl.SSLContext | None = None, bound: socket.socket | None = None
) -> AsyncIterator[Listening]:
    """Serve ``/``, ``/huge``, and ``/slow``, which responds once released, with a limit of connections."""
    begun, released = asyncio.Event(), asyncio.Event()

    async def small(_request: web.Request) -> web.Response:
        return web.Response(text="small\n")

    async def slow(_request: web.Request) -> web.Response:
        begun.set()
        await released.wait()
        return web.Response(text="slow\n")

    async def huge(_request: web.Request) -> web.Response:
        return web.Response(body=CHUNK * CHUNK_COUNT)

    app = web.Application()
    app.router.add_get("/", small)
    app.router.add_get("/slow", slow)
    app.router.add_get("/huge", huge)
    registry = FamilyRegistry()
    runner = web_server.Runner(
        app, shutdown_timeout=1.0, open_connections=OpenConnections(lambda: limit, registry=registry)
    )
    await runner.setup()
    bound = bound or socket.create_server(("127.0.0.1", 0))
    site = web_server.Site(runner, bound, ssl_context=ssl_context)
    assert site.name == f"127.0.0.1:{bound.getsockname()[1]}"
    await site.start()
    served = Listening(bound.getsockname()[1], registry, begun, released, [])
    try:
        yield served
    finally:
        await runner.cleanup()
        for client in served.clients:
            client.writer.close()


class Listening(NamedTuple):
    port: int
    registry: FamilyRegistry
    begun: asyncio.Event
    released: asyncio.Event
    clients: list[Client]

    async def connect(self, sent: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def closed(self, reason: str) -> float | None:
        return self.value("stream_exporter_web_connections_closed_total", reason=reason)

    @property
    def open_connections(self) -> float | None:
        return self.value("stream_exporter_web_connections")


class Client(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, path: str = "/") -> bytes:
        """Send a request on this connection, and return the body of the response."""
        self.writer.write(get(path))
        return await self.response()

    async def response(self) -> bytes:
        async with asyncio.timeout(60):
            head = await self.reader.readuntil(b"\r\n\r\n")
            return await self.reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))

    async def is_closed(self) -> bool:
        """Return whether the server closes the connection before it sends anything."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def test_new_connection_replaces_the_longest_waiting_one() -> None:
    async with listening(limit=3) as served:
        silent = await served.connect()
        await until(lambda: served.open_connections == 1)
        kept, answering = await served.connect(), await served.connect(get("/slow"))
        assert await kept.ask() == b"small\n"
        await served.begun.wait()
        first = await served.connect()
        assert await silent.is_closed()
        assert await first.ask() == b"small\n"
        second = await served.connect()
        assert await kept.is_closed()
        assert await second.ask() == b"small\n"
        assert served.open_connections == 3
        assert served.closed("limit") == 2
        served.released.set()
        assert await answering.response() == b"slow\n"


async def test_connection_is_refused_while_all_others_handle_requests() -> None:
    async with listening(limit=1) as served:
        answering = await served.connect(get("/slow"))
        await served.begun.wait()
        refused = await served.connect()
        assert await refused.is_closed()
        served.released.set()
        assert await answering.response() == b"slow\n"
        again = await served.connect()
        assert await again.ask() == b"small\n"


def tls(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS contexts for a server and its clients."""
    authority = trustme.CA()
    write_certificate(directory, authority)
    configuration = {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}}
    server = Security(write_web_config(directory, configuration)).ssl_context()
    assert server is not None
    return server, client_context(authority)


async def test_connection_without_a_handshake_counts_and_is_replaced(tmp_path: Path) -> None:
    server, client = tls(tmp_path)
    async with listening(limit=2, ssl_context=server) as served:
        silent = [await served.connect() for _ in range(4)]
        await until(lambda: served.closed("limit") == 2)
        assert served.open_connections == 2
        assert [await each.is_closed() for each in silent[:2]] == [True, True]
        assert await get_status(f"https://localhost:{served.port}/", context=client) == 200
        assert await silent[2].is_closed()


async def test_handshake_that_takes_too_long_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HANDSHAKE_TIMEOUT_SECONDS", 0.2)
    server, client = tls(tmp_path)
    async with listening(ssl_context=server) as served:
        silent = await served.connect(b"\x16\x03\x01")
        assert await silent.is_closed()
        await until(lambda: served.closed("timeout") == 1)
        assert served.open_connections == 0
        assert await get_status(f"https://localhost:{served.port}/", context=client) == 200


async def test_stopped_site_leaves_no_connection_in_its_handshake(tmp_path: Path) -> None:
    async with listening(ssl_context=tls(tmp_path)[0]) as served:
        silent = await served.connect()
        await until(lambda: served.open_connections == 1)
    assert await silent.is_closed()


async def test_unfinished_next_request_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as served:
        client = await served.connect()
        assert await client.ask() == b"small\n"
        monkeypatch.setattr(web_server, "HEAD_TIMEOUT_SECONDS", 0.2)
        client.writer.write(b"GET / HT")
        assert await client.is_closed()
        assert served.closed("timeout") == 1


async def test_unread_response_does_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(limit=1) as served:
        with request_without_reading(served.port, "/huge"):
            await until(lambda: served.open_connections == 1)
            second = await served.connect()
            assert await second.ask() == b"small\n"
        monkeypatch.setattr(web_server, "SEND_TIMEOUT_SECONDS", 0.2)
        with request_without_reading(served.port, "/huge"):
            await until(lambda: served.closed("timeout") == 1)


async def test_idle_connection_is_closed_without_being_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "IDLE_TIMEOUT_SECONDS", 0.2)
    async with listening() as served:
        client = await served.connect()
        assert await client.ask() == b"small\n"
        assert await client.is_closed()
        assert served.closed("timeout") == 0


@pytest.mark.parametrize(
    "sent", [get("/slow") + get("/") * 40, get("/slow") + b"X" * 70_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000]
)
async def test_client_that_sends_far_ahead_of_its_response_is_disconnected(sent: bytes) -> None:
    async with listening() as served:
        client = await served.connect(sent)
        await until(lambda: served.closed("flood") == 1)
        assert await client.is_closed()
        served.released.set()
        await until(lambda: served.open_connections == 0)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with listening() as served:
        client = await served.connect(get("/") * 4)
        assert [await client.response() for _ in range(4)] == [b"small\n"] * 4


class Exhausted(socket.socket):
    """A listening socket whose ``accept`` fails for a while."""

    failures: ClassVar[list[int]] = []

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


async def test_accept_errors_are_logged_once_and_accepting_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "ACCEPT_RETRY_SECONDS", 0.01)
    bound = Exhausted()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    monkeypatch.setattr(Exhausted, "failures", [errno.EMFILE] * 20 + [errno.ECONNABORTED])
    with structlog.testing.capture_logs() as logs:
        async with listening(bound=bound) as served:
            client = await served.connect()
            assert await client.ask() == b"small\n"
    assert [(line["event"], line["error"]) for line in logs] == [
        ("cannot accept connections; retrying", "Too many open files")
    ]


async def test_site_that_cannot_accept_can_be_stopped() -> None:
    bound = Exhausted()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    Exhausted.failures.append(errno.ENFILE)
    async with listening(bound=bound) as served:
        client = await served.connect()
        await until(lambda: not Exhausted.failures)
    assert await client.is_closed()
