"""Hostile requests to the whole application, with and without users."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from exporter.cli.settings import load_settings
from exporter.service import Service
from exporter.web import server as web_server
from exporter.web.app import make_app
from exporter.web.options import WebOptions
from exporter.web.security import Security
from exporter.web.server import Runner
from tests.web.secure_server import basic_auth, bcrypt_hash, write_web_config

CANARY = "canary-of-an-attack"
CONFIG = f"""
upstreams:
  - name: edge
    platform: node_media_server
    url: http://127.0.0.1:9
    auth: {{username: exporter, password: {CANARY}}}
"""
ALICE = basic_auth("alice", "alice's own")["Authorization"]


class Target:
    """A running application, and the credentials for it."""

    def __init__(self, port: int, authorization: str) -> None:
        self.port = port
        self.header = f"Authorization: {authorization}\r\n".encode() if authorization else b""

    def get(self, path: str | bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
        """Return a request with valid credentials."""
        path = path.encode() if isinstance(path, str) else path
        given = b"".join(header + b"\r\n" for header in headers)
        host = b"" if any(header.lower().startswith(b"host") for header in headers) else b"Host: localhost\r\n"
        return method + b" " + path + b" HTTP/1.1\r\n" + host + self.header + given + b"\r\n"

    async def send(self, *parts: bytes) -> bytes:
        """Return everything received until the server closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(60):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def first_line(self, request: bytes) -> bytes:
        """Return the first line of a response; the connection may stay open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        async with asyncio.timeout(60):
            line = await reader.readline()
        writer.close()
        return line

    async def statuses(self, *parts: bytes) -> list[int]:
        """Return the statuses of all responses."""
        answer = await self.send(*parts)
        return [int(part[2:5]) for part in answer.split(b"HTTP/1.")[1:]]


@pytest.fixture(params=["open", "with users"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    users = {"basic_auth_users": {"alice": bcrypt_hash("alice's own")}}
    is_open = request.param == "open"
    security = Security(None if is_open else write_web_config(tmp_path, users))
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}))
    app = make_app(service, options=WebOptions(), security=security)
    runner = Runner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await service.start()
    port, authorization = runner.addresses[0][1], "" if is_open else ALICE
    try:
        yield Target(port, authorization)
        # The application survives every attack.
        found = Target(port, authorization)
        assert await found.statuses(found.get("/-/healthy", b"Connection: close")) == [200]
    finally:
        await runner.cleanup()
        await service.stop()


TRAVERSALS = [
    "/static/../config.yaml",
    "/static/..%2fconfig.yaml",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/%252e%252e%252fetc%252fpasswd",
    "/static/..%5c..%5cetc%5cpasswd",
    "/static//etc/passwd",
    "/static/%00page.css",
    "/static/page.css%00.html",
    "/../../../../etc/passwd",
    "//etc/passwd",
    "/streams/../../etc/passwd",
    "/%c0%ae%c0%ae/etc/passwd",
]


async def test_path_traversal_reaches_no_file(target: Target) -> None:
    for path in TRAVERSALS:
        answer = await target.send(target.get(path, b"Connection: close"))
        status = int(answer[9:12])
        # The page is the same for every stream's URL.
        assert status in (400, 404) or (status == 200 and b"<title>" in answer), path
        assert b"root:" not in answer, path
        assert CANARY.encode() not in answer, path


ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:9/",
    "//127.0.0.1:9",
    "file:///etc/passwd",
    "edge@127.0.0.1",
    "edge%00",
    "../edge",
    "Edge",
]


async def test_probe_reaches_only_configured_upstreams(target: Target) -> None:
    for name in ADDRESSES:
        assert await target.statuses(target.get(f"/probe?upstream={name}", b"Connection: close")) == [404], name
    for query in ("upstream=edge&upstream=other", "target=http://127.0.0.1:9", "upstream=edge&stream=a&stream=b"):
        assert await target.statuses(target.get(f"/probe?{query}", b"Connection: close")) == [400], query


HOSTS = [b"evil.example", b"evil.example:1", b"localhost\x00.evil", b"<script>alert(1)</script>", b"a" * 5000, b""]


async def test_host_header_is_not_repeated(target: Target) -> None:
    for host in HOSTS:
        for path in ("/", "/metrics", "/config", "/nowhere", "/api/v1/streams"):
            answer = await target.send(target.get(path, b"Host: " + host, b"Connection: close"))
            assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404", b"HTTP/1.0 400", b"HTTP/1.1 400"))
            assert b"evil" not in answer
            assert b"<script>" not in answer
            assert b"Location:" not in answer
        # /sd uses the header for its targets, and refuses malformed ones.
        answer = await target.send(target.get("/sd", b"Host: " + host, b"Connection: close"))
        assert b"<script>" not in answer
    for line in (b"Host: one\r\nHost: two\r\n", b""):
        # None of several hosts is used.
        answer = await target.send(b"GET /metrics HTTP/1.1\r\n" + line + target.header + b"Connection: close\r\n\r\n")
        assert b"one" not in answer.partition(b"\r\n\r\n")[0]


SMUGGLED = b"GET /config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        [b"Content-Length: 4", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 4"],
        [b"Content-Length: 0", b"Content-Length: 45"],
        [b"Content-Length: 0, 45"],
        [b"Content-Length: +0"],
        [b"Content-Length: 0x2d"],
        [b"Content-Length: -1"],
        [b"Content-Length : 45"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding:\x0bchunked"],
        [b"X-Folded: one\r\n two"],
        [b" Folded: first"],
        [b"X: a\rContent-Length: 45"],
        [b"X: a\x00b"],
        [b"X\xe4: b"],
        [b"No colon"],
    ],
    ids=repr,
)
async def test_smuggled_request_is_not_answered(target: Target, headers: list[bytes]) -> None:
    """Proxies may parse these requests differently, so they are refused and the next request is not answered."""
    request = target.get("/-/reload", *headers, method=b"POST") + b"0\r\n\r\n" + SMUGGLED
    assert await target.statuses(request) == [400]


async def test_bare_line_feed_does_not_end_a_chunk(target: Target) -> None:
    head = target.get("/-/reload", b"Transfer-Encoding: chunked", method=b"POST")
    statuses = await target.statuses(head + b"2\nab\n0\n\n" + SMUGGLED)
    assert 200 not in statuses


async def test_oversized_request_head_is_refused(target: Target) -> None:
    mega = b"a" * 1_000_000
    floods = [
        target.get(b"/" + mega),
        target.get(b"/probe?upstream=" + mega),
        target.get("/metrics", b"X: " + mega),
        target.get("/metrics", mega + b": x"),
        target.get("/metrics", *(b"X-%d: y" % number for number in range(20_000))),
        target.get("/metrics", b"Cookie: " + b"a=b; " * 100_000),
        mega,
    ]
    for flood in floods:
        # If the server stops reading, writing fails before there is a response to read.
        answer = await target.send(*(flood[start : start + 65_536] for start in range(0, len(flood), 65_536)))
        # The request is refused, or the connection is closed while it is still being sent.
        assert answer[:12] in (b"HTTP/1.0 400", b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
        assert len(answer) < 10_000


async def test_foreign_methods_and_targets_are_refused(target: Target) -> None:
    for method in (b"TRACE", b"DELETE", b"PROPFIND", b"BREW"):
        assert await target.statuses(target.get("/metrics", b"Connection: close", method=method)) in ([400], [405])
    connect = target.get("127.0.0.1:9", method=b"CONNECT")
    assert (await target.first_line(connect))[9:12] in (b"400", b"404", b"405")
    # The exporter does not act as a proxy.
    answer = await target.send(target.get("http://127.0.0.1:9/metrics", b"Connection: close"))
    assert int(answer[9:12]) in (200, 400, 404)
    upgrade = target.get("/metrics", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c")
    assert await target.first_line(upgrade) == b"HTTP/1.1 200 OK\r\n"


async def test_malformed_request_is_neither_logged_nor_quoted(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    broken = b"GET / HTTP/1.1\r\nAuthorization " + CANARY.encode() + b"\r\n\r\n"
    assert CANARY.encode() not in await target.send(broken)
    await target.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert CANARY not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("target", ["with users"], indirect=True)
async def test_unauthenticated_requests_are_401_everywhere(target: Target) -> None:
    target.header = b""
    for path in ("/", "/probe?upstream=edge", "/static/page.css", "/nowhere", "/%2e%2e/config"):
        assert await target.statuses(target.get(path, b"Connection: close")) == [401]
    for header in (b"Authorization: Basic ", b"Authorization: Basic !!!!", b"Authorization: Basic " + b"YTo" * 2000):
        assert await target.statuses(target.get("/metrics", header, b"Connection: close")) == [401]


async def test_page_cannot_be_framed_or_read_by_other_sites(target: Target) -> None:
    answer = await target.send(target.get("/", b"Origin: http://evil.example", b"Connection: close"))
    head = answer.partition(b"\r\n\r\n")[0].decode().lower()
    assert "access-control-allow-origin" not in head
    assert "frame-ancestors 'none'" in head
    assert "script-src 'self'" in head
    assert "cross-origin-resource-policy: same-origin" in head
    assert "set-cookie" not in head
    # The lifecycle API is disabled by default, even with valid credentials.
    assert await target.statuses(target.get("/-/reload", b"Connection: close", method=b"POST")) == [403]


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEAD_TIMEOUT_SECONDS", 0.5)


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("beginning", [b"", b"GET", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_unfinished_request_is_disconnected_and_delays_no_other(beginning: bytes, target: Target) -> None:
    slow = [asyncio.create_task(target.send(beginning)) for _ in range(20)]
    assert await target.statuses(target.get("/-/healthy", b"Connection: close")) == [200]
    assert set(await asyncio.gather(*slow)) == {b""}
