"""Each reason of ``stream_upstream_poll_failures_total``, caused by a real fault, while ``/metrics`` still works."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog.testing
from aiohttp import web

from exporter.model import Reason
from exporter.platforms.livepeer import PLATFORM as LIVEPEER
from exporter.runtime.clock import Clock
from exporter.simulator.context import TOKEN
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app
from tests.service.exporter_harness import exporting, serving

Fault = Callable[[], Any]


@asynccontextmanager
async def simulator_with(fault: str) -> AsyncIterator[str]:
    """Run the simulator with an upstream-level fault of Livepeer; return the API's base URL."""
    async with serving(make_app(Fleet(6), Clock())) as url:
        order = {"platform": "livepeer", "fault": fault, "for": "10m"}
        async with aiohttp.ClientSession() as session, session.post(f"{url}/faults", json=order) as response:
            assert response.status < 300, await response.text()
        yield f"{url}/livepeer/api"


@asynccontextmanager
async def responding(**answer: Any) -> AsyncIterator[str]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(**answer)

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with serving(app) as url:
        yield url


@asynccontextmanager
async def raw_socket(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _reset_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@asynccontextmanager
async def closed_port() -> AsyncIterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def https_to_plain_http() -> AsyncIterator[str]:
    async with responding(text="[]") as url:
        yield url.replace("http://", "https://")


FAULTS: list[Any] = [
    pytest.param(Reason.TIMEOUT, lambda: raw_socket(_stay_silent), id="a server that never answers"),
    pytest.param(Reason.TIMEOUT, lambda: simulator_with("slow"), id="simulated slowness"),
    pytest.param(Reason.CONNECT, closed_port, id="closed port"),
    pytest.param(Reason.CONNECT, lambda: raw_socket(_reset_connection), id="connection reset"),
    pytest.param(Reason.TLS, https_to_plain_http, id="no TLS behind https"),
    pytest.param(Reason.AUTH, lambda: simulator_with("auth"), id="key refused"),
    pytest.param(Reason.FORBIDDEN, lambda: responding(status=403, text="{}"), id="key restricted"),
    pytest.param(Reason.NOT_FOUND, lambda: responding(status=404, text="{}"), id="no such API"),
    pytest.param(Reason.RATE_LIMITED, lambda: simulator_with("rate_limit"), id="simulated rate limit"),
    pytest.param(Reason.SERVER_ERROR, lambda: responding(status=500, text="oops"), id="server error"),
    pytest.param(Reason.BAD_RESPONSE, lambda: simulator_with("html"), id="HTML instead of JSON"),
    pytest.param(Reason.BAD_RESPONSE, lambda: simulator_with("truncated"), id="half a body"),
    pytest.param(Reason.BAD_RESPONSE, lambda: responding(body=b"\xff\xfe[]"), id="wrong encoding"),
    pytest.param(Reason.TOO_LARGE, lambda: responding(text="[" + " " * 50_000 + "]"), id="too large"),
]


@pytest.mark.parametrize(("reason", "fault"), FAULTS)
async def test_real_fault_is_counted_with_its_reason(reason: Reason, fault: Fault, tmp_path: Path) -> None:
    async with fault() as url, serving(make_app(Fleet(6), Clock())) as simulator:
        upstream = {
            "platform": "livepeer",
            "auth": {"bearer_token": TOKEN},
            "interval": "5s",
            "timeout": "2s",
            "max_body_bytes": "20kB",
        }
        configuration = {
            "upstreams": [
                {"name": "broken", "url": url, **upstream},
                {"name": "healthy", "url": f"{simulator}/livepeer/api", **upstream, "max_body_bytes": "16MiB"},
            ]
        }
        async with exporting(tmp_path, configuration) as exporter:
            await exporter.reaches(1, "stream_upstream_up", upstream="healthy")
            await exporter.reaches(0, "stream_upstream_up", upstream="broken")
            metrics = await exporter.metrics()
    failures = {
        dict(labels)["reason"]
        for (name, labels), value in metrics.items()
        if name == "stream_upstream_poll_failures_total" and dict(labels)["upstream"] == "broken" and value > 0
    }
    assert failures == {reason}
    assert len([1 for name, _ in metrics if name == "stream_upstream_poll_failures_total"]) == 2 * len(Reason)
    assert any(name == "stream_live" and dict(labels)["upstream"] == "healthy" for name, labels in metrics)


async def test_untrusted_certificate_is_counted_as_tls(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="a development dependency")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = await asyncio.start_server(_stay_silent, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    upstream = {"name": "u", "platform": "livepeer", "url": f"https://localhost:{port}", "auth": {"bearer_token": "x"}}
    async with server, exporting(tmp_path, {"upstreams": [upstream]}) as exporter:
        await exporter.reaches(1, "stream_upstream_poll_failures_total", reason="tls")


async def test_internal_error_fails_the_poll_and_logs_no_exception_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("canary-text")

    monkeypatch.setattr(LIVEPEER, "poll", broken)
    upstream = {"name": "u", "platform": "livepeer", "url": "http://127.0.0.1:9", "auth": {"bearer_token": "x"}}
    with structlog.testing.capture_logs() as logs:
        async with exporting(tmp_path, {"upstreams": [upstream]}) as exporter:
            await exporter.reaches(1, "stream_upstream_poll_failures_total", reason="internal")
            await exporter.reaches(0, "stream_upstream_up", upstream="u")
    assert "canary-text" not in repr(logs)
    assert "ZeroDivisionError" in repr(logs)
