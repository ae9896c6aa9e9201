"""Recent versions of a playlist: a frozen playlist that alternates with another one shows no new media.

A balancer in front of caches or origins that have stopped returns the same few versions again and again. Each of them
differs from the one before, so only a memory tells that nothing in them is new.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from exporter.media.hls_playlist import MediaPlaylist

MAX_VERSIONS: Final = 64
MEMORY_SECONDS: Final = 60.0
"""Time after which a version that was not seen again is forgotten; names repeat when a packager starts again."""
MAX_RETURNS: Final = 1
"""How often an origin that is behind may repeat what another one has shown before."""


class _Version(NamedTuple):
    newest: tuple[int, int]
    name: str
    """Path of the newest segment, without folders, which may hold a token."""
    edge: float | None


class VersionMemory:
    """The versions seen lately, and how often each came back after another one."""

    def __init__(self) -> None:
        self._last: _Version | None = None
        self._seen: OrderedDict[_Version, tuple[float, int]] = OrderedDict()
        """Time of the last look at each version, and its returns; the most recent one is last."""

    def is_repeated(self, playlist: MediaPlaylist, now: float) -> bool:
        """Take note of a version; return whether it came back too often to have new media."""
        key = playlist.segments[-1].key if playlist.segments else ""
        version = _Version(playlist.newest_media, key.rpartition("/")[2], playlist.edge_timestamp_seconds)
        seen_at, returns = self._seen.pop(version, (now, -1))
        if version != self._last:
            returns = returns + 1 if now - seen_at <= MEMORY_SECONDS else 0
        self._last = version
        self._seen[version] = now, returns
        # all that are remembered would take 35 kB per playlist
        while len(self._seen) > MAX_VERSIONS or now - next(iter(self._seen.values()))[0] > MEMORY_SECONDS:
            self._seen.popitem(last=False)
        return returns > MAX_RETURNS
