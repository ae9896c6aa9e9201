"""The servers of a media fetcher: concurrent requests, pauses that servers asked for, and which connections are kept.

A server is a host with a port. Playlists are not delayed by slow segments: one of a server's slots, and a quarter of
all slots, are only for playlists.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from exporter.http.rate_limit import LONGEST_PAUSE_SECONDS
from exporter.runtime.clock import Clock

MAX_SERVERS: Final = 256
"""Maximum number of servers remembered while no request to them is in flight or waiting."""
MAX_KEPT_SERVERS: Final = 32
"""Maximum number of servers to which connections are kept open. A document can name any number of servers."""
KEEP_ALIVE_SECONDS: Final = 30.0
"""Time for which an unused connection is kept; longer than usual intervals, and players poll faster."""
MIN_REQUESTS_PER_SERVER: Final = 2
"""One for segments, and one that is left for playlists."""


class _Server:
    """Slots and state of one server."""

    def __init__(self, max_requests: int) -> None:
        self.slots = _Slots(max_requests, reserved=1)
        self.users = 0
        """Requests in flight or waiting."""
        self.paused_until = 0.0
        """Monotonic seconds."""
        self.used_at = 0.0
        self.is_kept = False
        """Whether connections to it are kept open."""


class _Slots:
    """A limit of concurrent requests, a part of which is reserved for playlists."""

    def __init__(self, number: int, *, reserved: int) -> None:
        self._all = asyncio.Semaphore(number)
        self._media = asyncio.Semaphore(number - reserved)

    async def acquire(self, *, is_playlist: bool) -> None:
        """Wait for a slot."""
        if not is_playlist:
            await self._media.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            if not is_playlist:
                self._media.release()
            raise

    def release(self, *, is_playlist: bool) -> None:
        """Give back a slot."""
        self._all.release()
        if not is_playlist:
            self._media.release()


class MediaServers:
    """All servers of a fetcher."""

    def __init__(self, clock: Clock, *, max_requests: int, max_requests_per_server: int) -> None:
        """``max_requests``: maximum number of concurrent requests to all servers together."""
        if not MIN_REQUESTS_PER_SERVER <= max_requests_per_server <= max_requests:
            raise ValueError(f"concurrent requests: at least {MIN_REQUESTS_PER_SERVER} per server, at most the total")
        self._clock = clock
        self._slots = _Slots(max_requests, reserved=max(1, max_requests // 4))
        self._max_requests_per_server = max_requests_per_server
        self._servers: OrderedDict[str, _Server] = OrderedDict()
        """By ``host:port``; the most recently used one is last."""

    def __len__(self) -> int:
        return len(self._servers)

    @asynccontextmanager
    async def slot(self, authority: str, *, is_playlist: bool) -> AsyncIterator[bool]:
        """Wait for a free slot and hold it; yield whether to keep the connection open afterwards."""
        server = self._server(authority)
        server.users += 1
        try:
            await server.slots.acquire(is_playlist=is_playlist)
            try:
                await self._slots.acquire(is_playlist=is_playlist)
                try:
                    yield self._keeps_connections(server)
                finally:
                    self._slots.release(is_playlist=is_playlist)
            finally:
                server.slots.release(is_playlist=is_playlist)
        finally:
            server.users -= 1
            server.used_at = self._clock.monotonic()

    def pause(self, authority: str) -> float:
        """Return the remaining seconds of the pause that the server asked for; 0 if there is none."""
        server = self._servers.get(authority)
        return 0.0 if server is None else max(0.0, server.paused_until - self._clock.monotonic())

    def pause_for(self, authority: str, seconds: float) -> None:
        """Send no requests to the server for a time; at most ``LONGEST_PAUSE_SECONDS``."""
        server = self._server(authority)
        until = self._clock.monotonic() + min(seconds, LONGEST_PAUSE_SECONDS)
        server.paused_until = max(server.paused_until, until)

    def _server(self, authority: str) -> _Server:
        server = self._servers.get(authority)
        if server is None:
            server = self._servers[authority] = _Server(self._max_requests_per_server)
            server.used_at = self._clock.monotonic()
            self._forget_oldest(keep=server)
        self._servers.move_to_end(authority)
        return server

    def _forget_oldest(self, keep: _Server) -> None:
        """Forget a server if there are too many; if possible, one that did not ask for a pause."""
        if len(self._servers) <= MAX_SERVERS:
            return
        now = self._clock.monotonic()
        idle = [name for name, server in self._servers.items() if not server.users and server is not keep]
        # connections of a kept server may still be open, and would no longer be counted
        free = [name for name in idle if not self._has_open_connections(self._servers[name], now)]
        calm = [name for name in free if self._servers[name].paused_until <= now]
        for name in (calm or free)[:1]:
            del self._servers[name]

    def _keeps_connections(self, server: _Server) -> bool:
        """Return whether connections to the server are kept open; take the place of an unused one if necessary."""
        if not server.is_kept:
            now = self._clock.monotonic()
            kept = [other for other in self._servers.values() if self._has_open_connections(other, now)]
            server.is_kept = len(kept) < MAX_KEPT_SERVERS
        return server.is_kept

    @staticmethod
    def _has_open_connections(server: _Server, now: float) -> bool:
        # aiohttp looks for expired connections once in that time
        if server.is_kept and not server.users and now - server.used_at > 2 * KEEP_ALIVE_SECONDS:
            server.is_kept = False
        return server.is_kept
