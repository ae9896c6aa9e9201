"""Which process polls which stream, where several share the work: rendezvous hashing, the same in every process.

What decides is the upstream and the name that a stream is to be called by, not its id: streams that would have the same
label meet in one process, which tells them apart as a single one does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol

from exporter.config.streams import StreamSettings

MOST_SHARDS: Final = 1000
AUTO: Final = "auto"
_WEIGHTS: Final = struct.Struct("<8Q")
"""One hash weighs eight shards."""
_KEPT: Final = 200_000
"""Answers that are remembered: a hash for every stream in every poll would be felt."""


class Choice(Protocol):
    """Says of a stream, by its id and the platform's name for it, whether it is polled here."""

    def __call__(self, stream_id: str, name: str = "", /) -> bool: ...


@dataclass(frozen=True)
class Shard:
    """One of the processes that share the work."""

    ordinal: int = 0
    """From 0 on."""
    count: int = 1

    def __str__(self) -> str:
        return f"{self.ordinal}/{self.count}"


SINGLE: Final = Shard()


def parse_shard(text: str, host_name: str) -> Shard:
    """``N/M``, or ``auto/M`` for the number at the end of ``host_name``. Raises ``ValueError`` with what is allowed."""
    form = re.fullmatch(rf"({AUTO}|[0-9]{{1,9}})/([0-9]{{1,9}})", text, re.ASCII)
    if form is None or not 1 <= int(form[2]) <= MOST_SHARDS:
        raise ValueError(f"allowed: N/M, or {AUTO}/M for the N at the end of the host name; M from 1 to {MOST_SHARDS}")
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
        raise ValueError(f"{whose} is {ordinal}; allowed: from 0 to {count - 1}, below the number of shards")
    return Shard(ordinal, count)


def owner(upstream: str, name: str, count: int) -> int:
    """The ordinal of the shard that the name belongs to; one shard more takes what becomes its own, nothing else moves.

    The weights are part of how versions understand each other while they are rolled out: changing them moves streams.
    """
    key = f"{upstream}\0{name}".encode("utf-8", "surrogatepass")
    weights: list[int] = []
    for block in range(-(-count // 8)):
        weights += _WEIGHTS.unpack(blake2b(key, salt=block.to_bytes(4, "little")).digest())
    return max(range(count), key=weights.__getitem__)


class ShardFilter:
    """The streams of one upstream that one shard has."""

    def __init__(self, shard: Shard = SINGLE, upstream: str = "", stream_label: str = "name") -> None:
        """``stream_label``: what streams without a configured name are called by, as the settings have it."""
        self._shard = shard
        self._upstream = upstream
        self._by_name = stream_label == "name"
        self._known: dict[str, bool] = {}
        self.is_whole = shard.count == 1
        self.is_primary = self._has(upstream)
        """Whether what belongs to no stream, such as the figures of an account, is asked for here."""

    def has_configured(self, stream: StreamSettings) -> bool:
        """Whether a stream that the configuration names is polled here."""
        return self.is_whole or self._has(stream.name or stream.id)

    def has_found(self, stream_id: str, name: str = "") -> bool:
        """Whether a stream of the platform's list is polled here; ``name`` is the platform's own for it."""
        return self.is_whole or self._has(name if self._by_name and name else stream_id)

    def choice(self, configured: Iterable[StreamSettings]) -> Choice:
        """Whether any stream is polled here, where these are configured."""
        if self.is_whole:
            return _all
        own = {stream.id: self.has_configured(stream) for stream in configured}

        def chosen(stream_id: str, name: str = "") -> bool:
            known = own.get(stream_id)
            return self.has_found(stream_id, name) if known is None else known

        return chosen

    def _has(self, name: str) -> bool:
        if self.is_whole:
            return True
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = owner(self._upstream, name, self._shard.count) == self._shard.ordinal
            self._known[name] = known
        return known


def _all(_stream_id: str, _name: str = "", /) -> bool:
    return True


ALL_STREAMS: Final = ShardFilter()
