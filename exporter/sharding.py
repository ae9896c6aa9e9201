"""Which process polls which stream when several share the work: rendezvous hashing, the same in every process.

The upstream and the stream's intended label decide, not its id. Streams that would have the same label are therefore
polled by one process, which gives them the same distinct labels as a single process would.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

MOST_SHARDS: Final = 1000
AUTO: Final = "auto"
_WEIGHTS: Final = struct.Struct("<8Q")
"""One hash contains the weights of eight shards."""
_MAX_KNOWN: Final = 200_000
"""Size limit of the cache of decisions; hashing every stream in every poll would cost too much."""


@dataclass(frozen=True)
class Shard:
    """One of the processes that share the work."""

    ordinal: int = 0
    """Counted from 0."""
    count: int = 1

    def __str__(self) -> str:
        return f"{self.ordinal}/{self.count}"


SINGLE: Final = Shard()


def parse_shard(text: str, host_name: str) -> Shard:
    """Parse ``N/M``, or ``auto/M`` for the number at the end of ``host_name``. Raises ``ValueError``."""
    form = re.fullmatch(rf"({AUTO}|[0-9]{{1,9}})/([0-9]{{1,9}})", text, re.ASCII)
    if form is None or not 1 <= int(form[2]) <= MOST_SHARDS:
        raise ValueError(f"expected N/M or {AUTO}/M, with M from 1 to {MOST_SHARDS}")
    count = int(form[2])
    if form[1] != AUTO:
        ordinal, whose = int(form[1]), "N"
    else:
        ending = re.search(r"-([0-9]{1,9})$", host_name, re.ASCII)
        if ending is None:
            raise ValueError(
                f"the host name {host_name!r} does not end in a hyphen and a number, as a StatefulSet's do"
            )
        ordinal, whose = int(ending[1]), f"the number of the host {host_name!r}"
    if ordinal >= count:
        raise ValueError(f"{whose} is {ordinal}, but with {count} shards it must be from 0 to {count - 1}")
    return Shard(ordinal, count)


def owner(upstream: str, name: str, count: int) -> int:
    """Return the ordinal of the shard that owns the name; adding a shard only moves streams to the new shard.

    All versions must compute the same weights because several versions run during a rollout.
    """
    key = f"{upstream}\0{name}".encode("utf-8", "surrogatepass")
    weights: list[int] = []
    for block in range(-(-count // 8)):
        weights += _WEIGHTS.unpack(blake2b(key, salt=block.to_bytes(4, "little")).digest())
    return max(range(count), key=weights.__getitem__)


class ShardFilter:
    """Decides which streams of one upstream this process polls."""

    def __init__(self, shard: Shard = SINGLE, upstream: str = "", *, by_name: bool = True) -> None:
        """``by_name``: the platform's name for a discovered stream decides, where it has one, else its id."""
        self._shard = shard
        self._upstream = upstream
        self._by_name = by_name
        self._configured: Mapping[str, str] = {}
        self._known: dict[str, bool] = {}
        self.is_all = shard.count == 1
        """Whether this process polls every stream."""
        self.is_primary = self._owns_key(upstream)
        """Whether this process requests what belongs to no single stream, such as the figures of an account."""

    def configure(self, keys: Mapping[str, str]) -> None:
        """Set the configured streams: their configured names by id, or the id itself where there is no name."""
        self._configured = keys

    def owns(self, stream_id: str, name: str = "") -> bool:
        """Return whether this process polls the stream; ``name`` is the platform's name for it."""
        if self.is_all:
            return True
        key = self._configured.get(stream_id)
        if key is None:
            key = name if self._by_name and name else stream_id
        return self._owns_key(key)

    def _owns_key(self, key: str) -> bool:
        if self.is_all:
            return True
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = owner(self._upstream, key, self._shard.count) == self._shard.ordinal
            self._known[key] = known
        return known


ALL_STREAMS: Final = ShardFilter()
