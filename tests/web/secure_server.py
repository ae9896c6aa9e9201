"""A server with a web configuration, certificates and password hashes, and clients for it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import trustme
import yaml
from aiohttp import web

from exporter.web.security import WATCH_SECONDS, Security
from tests.fake_clock import FakeClock

BODY = "hello\n"


def bcrypt_hash(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def basic_auth(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def write_certificate(directory: Path, authority: trustme.CA, *names: str, stem: str = "server") -> None:
    """Write ``server.pem`` and ``server.key`` for these names (default: the loopback)."""
    issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    (directory / f"{stem}.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (directory / f"{stem}.key").write_bytes(issued.private_key_pem.bytes())


def write_web_config(directory: Path, content: Mapping[str, Any] | str) -> Path:
    file = directory / "web.yml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(dict(content)))
    return file


def client_context(authority: trustme.CA, *, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


async def let_files_be_read(clock: FakeClock) -> None:
    """Advance the clock until the files of the web configuration have been checked for changes."""
    # Twice, because the first check may have started before the change.
    for _ in range(2):
        slept = len(clock.slept)
        clock.advance(WATCH_SECONDS)
        async with asyncio.timeout(60):
            while len(clock.slept) == slept:  # noqa: ASYNC110 - a thread reads them
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serve_app(app: web.Application, security: Security) -> AsyncIterator[str]:
    """Serve an application as the command line does, and yield its URL."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = security.ssl_context()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serve_secured(security: Security) -> AsyncIterator[str]:
    """Serve a small protected application, and yield its URL."""

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text=BODY, headers={"X-Frame-Options": "DENY"})

    app = web.Application()
    security.protect(app)
    for path in ("/", "/-/healthy"):
        app.router.add_get(path, hello)
    async with serve_app(app, security) as url:
        yield url


async def get_status(
    url: str, *, context: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
) -> int:
    """Return the status of a GET over a new connection."""
    connector = aiohttp.TCPConnector(ssl=context or True, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url, headers=headers) as answer:
        await answer.read()
        return answer.status


async def connect_tls(url: str, context: ssl.SSLContext) -> tuple[str, str]:
    """Return the serial number of the server's certificate and the negotiated TLS version."""
    port = int(url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    connection = writer.get_extra_info("ssl_object")
    serial, version = connection.getpeercert()["serialNumber"], connection.version()
    writer.close()
    await writer.wait_closed()
    return serial, version
