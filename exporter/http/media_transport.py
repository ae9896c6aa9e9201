"""The connections of the media fetcher, opened on first use, to any server that the fence permits."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from aiohttp.abc import AbstractResolver

from exporter import __version__
from exporter.config.upstream import TlsSettings
from exporter.http.media_fence import Fence, FencedResolver
from exporter.http.media_hosts import KEEP_ALIVE_SECONDS
from exporter.http.media_url import MediaUrl
from exporter.http.resolver import SystemResolver
from exporter.http.transport import tls_context

USER_AGENT = f"stream-exporter/{__version__} (probe)"
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*"}
_READ_BYTES = 2**16
"""Size of the buffer of a response; at most twice as much is received before it is read."""


class MediaTransport:
    """aiohttp sessions without cookies, proxies from the environment, or automatic decompression."""

    def __init__(
        self, tls: TlsSettings, fence: Fence, *, max_connections: int, resolver: AbstractResolver | None = None
    ) -> None:
        """``tls`` is used for the hosts that the operator named, the system's certificates for all others.

        ``resolver`` looks up host names; the system's resolver by default. The fence checks its results.
        """
        self._tls = tls
        self._fence = fence
        self._max_connections = max_connections
        self._resolver = FencedResolver(fence, resolver or SystemResolver())
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """By whether connections are kept open after a request."""
        self._contexts: dict[bool, ssl.SSLContext] = {}
        """TLS contexts by whether they are for hosts that the operator named."""
        self._opening = asyncio.Lock()

    def session(self, *, keeps_connections: bool) -> aiohttp.ClientSession:
        """Return the session whose connections are kept open after a request, or the one that closes them."""
        session = self._sessions.get(keeps_connections)
        if session is None:
            session = self._sessions[keeps_connections] = self._open(keeps_connections=keeps_connections)
        return session

    async def context(self, url: MediaUrl) -> ssl.SSLContext | bool:
        """Return the TLS context for a URL. Raises ``UpstreamError`` (``tls``) if certificates cannot be read."""
        if not url.is_tls:
            return True
        is_named = self._fence.is_named(url.host)
        if is_named not in self._contexts:
            async with self._opening:
                if is_named not in self._contexts:
                    self._contexts[is_named] = await tls_context(self._tls if is_named else TlsSettings())
        return self._contexts[is_named]

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _open(self, *, keeps_connections: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._max_connections,
            force_close=not keeps_connections,
            keepalive_timeout=KEEP_ALIVE_SECONDS if keeps_connections else None,
            # every new connection needs a lookup, whose result is checked
            use_dns_cache=False,
            resolver=self._resolver,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            trust_env=False,
        )
