"""The connections to one upstream, opened on first use."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver

from exporter import __version__
from exporter.config.auth import MAX_CA_BYTES, TlsSettings
from exporter.http.errors import UpstreamError
from exporter.http.resolver import KEEP_SECONDS, KEEP_SECONDS_TLS, SystemResolver
from exporter.model import Reason
from exporter.runtime.files import FileError, call_within_async, read_file

KEEP_ALIVE_SECONDS = 75.0
"""Longer than usual intervals, so that a poll can reuse the connections of the previous one."""
USER_AGENT = f"stream-exporter/{__version__}"
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json, */*;q=0.5", "Accept-Encoding": "gzip"}


class Transport:
    """One aiohttp session, without cookies, proxies from the environment, or automatic decompression."""

    def __init__(
        self, tls: TlsSettings, *, is_tls: bool, max_connections: int, resolver: AbstractResolver | None = None
    ) -> None:
        """``resolver`` looks up the host; the system's resolver by default."""
        self._tls = tls
        self._is_tls = is_tls
        self._max_connections = max_connections
        is_proven = is_tls and not tls.insecure_skip_verify
        self._resolver = resolver or SystemResolver(KEEP_SECONDS_TLS if is_proven else KEEP_SECONDS)
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self.server_name = tls.server_name if is_tls else None
        """Name for SNI and certificate verification, if it differs from the URL's host."""

    async def session(self) -> aiohttp.ClientSession:
        """Return the session. Raises ``UpstreamError`` (``tls``) if the CA certificates cannot be read."""
        if self._session is None:
            async with self._opening:
                if self._session is None:
                    self._session = self._open(await tls_context(self._tls) if self._is_tls else True)
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self, context: ssl.SSLContext | bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections,
                ssl=context,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                resolver=self._resolver,
            ),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )


async def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the TLS context for an upstream. Raises ``UpstreamError`` (``tls``)."""
    trusted = None if tls.ca_file is None else await _read_certificates(tls.ca_file)
    try:
        # in a thread, because parsing certificates, or loading the system's, would block the event loop for too long
        context = await asyncio.to_thread(ssl.create_default_context, cadata=trusted)
    except (OSError, ValueError):
        raise UpstreamError(Reason.TLS, f"cannot read CA certificates from {tls.ca_file}: not PEM") from None
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _read_certificates(ca_file: Path) -> str:
    """Return a file's PEM text. Raises ``UpstreamError`` (``tls``)."""
    try:
        file = await call_within_async(ca_file, partial(read_file, ca_file, MAX_CA_BYTES))
    except FileError as error:
        raise UpstreamError(Reason.TLS, f"cannot read CA certificates from {ca_file}: {error.strerror}") from None
    # comments between certificates may have any encoding; empty text would make OpenSSL load the system's certificates
    return file.content.decode("ascii", "ignore") or "\n"
