"""Servers that send raw bytes, valid or not, and clients for them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from exporter.config.upstream import TlsSettings
from exporter.http.auth import Auth, NoAuth
from exporter.http.client import UpstreamClient
from exporter.http.retry import ResponseLimits
from exporter.runtime.clock import Clock

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Request:
    """A received request."""

    def __init__(self, head: str, body: bytes) -> None:
        line, *fields = head.split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields if field)}
        self.body = body


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    request = Request(head, b"")
    request.body = await reader.readexactly(int(request.headers.get("content-length", 0)))
    return request


def http(status: int = 200, body: bytes = b"{}", given: Mapping[str, str] | None = None, **headers: str) -> bytes:
    """Return a raw response; header names come from ``given``, or from keywords with ``_`` for ``-``."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields |= given or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


class Server:
    """Sends one of ``answers`` after another, then the last one repeatedly."""

    def __init__(self, *answers: bytes | Callable[[Request], bytes]) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            request = await read_request(reader)
            self.requests.append(request)
            answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
            writer.write(answer(request) if callable(answer) else answer)
            await writer.drain()


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve connections on a free port; yield the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def answering(*answers: bytes | Callable[[Request], bytes]) -> AsyncIterator[Server]:
    server = Server(*answers)
    async with serving(server.handle) as port:
        server.port = port
        yield server


class Observed:
    """Records a client's attempts."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, str]] = []

    def __call__(self, endpoint: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.attempts.append((endpoint, code))


@asynccontextmanager
async def client_of(
    url: str,
    *,
    auth: Auth | None = None,
    tls: TlsSettings | None = None,
    clock: Clock | None = None,
    observe: Callable[[str, str, float], None] = lambda *_: None,
    max_concurrent_requests: int = 4,
    max_body_bytes: int = 100_000,
    max_values: int = 1_000_000,
) -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient(
        upstream="test",
        platform="test",
        url=url,
        auth=auth or NoAuth(),
        tls=tls or TlsSettings(),
        max_concurrent_requests=max_concurrent_requests,
        limits=ResponseLimits(max_body_bytes, max_values),
        clock=clock or Clock(),
        observe=observe,
    )
    try:
        yield client
    finally:
        await client.close()
