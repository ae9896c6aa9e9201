"""Assigns streams to shards by rendezvous hashing, with the same result in every process.

The hash key consists of the upstream and the stream's intended label, not its id. Streams with the same intended label
therefore belong to the same shard, which gives them the same distinct labels as an unsharded exporter would.

All streams of a group belong to one shard, so that it knows the state of the whole group. Groups that share a stream
belong to the same shard, too. A playback check belongs to the shard of its source, which decides whether it pages.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

MAX_SHARDS: Final = 1000
AUTO: Final = "auto"
_WEIGHTS: Final = struct.Struct("<8Q")
"""One hash contains the weights of eight shards."""
_SHARED_LABEL: Final = re.compile(r"(?<=.)#[0-9a-f]{8}$", re.ASCII | re.DOTALL)
"""Ending of a label that distinguishes streams with the same intended label (``polling.stream_labels``)."""
_MAX_KNOWN: Final = 200_000
"""Size limit of the ownership cache, which avoids hashing every stream in every poll."""


@dataclass(frozen=True)
class Shard:
    """One of the processes that share the streams."""

    ordinal: int = 0
    """Counted from 0."""
    count: int = 1

    def __str__(self) -> str:
        return f"{self.ordinal}/{self.count}"


SINGLE: Final = Shard()


def parse_shard(text: str, host_name: str) -> Shard:
    """Parse ``N/M``, or ``auto/M`` for the number at the end of ``host_name``. Raises ``ValueError``."""
    form = re.fullmatch(rf"({AUTO}|[0-9]{{1,9}})/([0-9]{{1,9}})", text, re.ASCII)
    if form is None or not 1 <= int(form[2]) <= MAX_SHARDS:
        raise ValueError(f"expected N/M, or {AUTO}/M to take N from the host name; M from 1 to {MAX_SHARDS}")
    count = int(form[2])
    if form[1] != AUTO:
        ordinal, source = int(form[1]), "N"
    else:
        ending = re.search(r"-([0-9]{1,9})$", host_name, re.ASCII)
        if ending is None:
            raise ValueError(f"the host name {host_name!r} does not end in a hyphen and a number, as in a StatefulSet")
        ordinal, source = int(ending[1]), f"the number at the end of the host name {host_name!r}"
    if ordinal >= count:
        raise ValueError(f"{source} is {ordinal}; expected 0 to {count - 1}, because shards are counted from 0")
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


Place = tuple[str, str]
"""A stream: its upstream, and its label."""
HashKey = tuple[str, str]
"""Upstream and name that a shard is computed from. Of a group, whose upstream is empty, all streams have its key."""


class GroupShards:
    """Assigns streams that must be together to shards: those of a group, and playback checks with their sources."""

    def __init__(
        self,
        groups: Mapping[str, Iterable[Place]] | None = None,
        sources: Iterable[tuple[Place, Place]] = (),
    ) -> None:
        """``groups``: the streams of each group. ``sources``: playback checks, each with its source."""
        self._streams: dict[str, dict[str, HashKey]] = {}
        """By upstream and intended label."""
        pairs = [(_intended(check), _intended(source)) for check, source in sources]
        members = [
            (_group_key(group), _intended(stream)) for group, streams in (groups or {}).items() for stream in streams
        ]
        self._keys = _assign_keys([*members, *pairs], {check for check, _ in pairs})
        for (upstream, label), key in self._keys.items():
            self._streams.setdefault(upstream, {})[label] = key

    def owns(self, shard: Shard, group: str) -> bool:
        """Return whether the shard polls the streams of the group."""
        return owner(*self._keys[_group_key(group)], shard.count) == shard.ordinal

    def of_upstream(self, upstream: str) -> Mapping[str, HashKey]:
        """Return the hash keys of an upstream's streams that must be with others, by intended label."""
        return self._streams.get(upstream, {})


def _intended(place: Place) -> Place:
    """Return the upstream and intended label of a stream, which may share that label with other streams."""
    upstream, label = place
    return upstream, _SHARED_LABEL.sub("", label)


def _group_key(group: str) -> HashKey:
    # no upstream has an empty name, so the keys of groups and streams differ
    return "", group


def _assign_keys(links: Iterable[tuple[HashKey, HashKey]], checks: Set[HashKey]) -> dict[HashKey, HashKey]:
    """Return one key for all groups and streams that are linked, directly or through others (union-find).

    It is the first of the groups or, without groups, the stream at the start of the chain of ``checks``.
    """
    parents: dict[HashKey, HashKey] = {}

    def find(key: HashKey) -> HashKey:
        while parents.setdefault(key, key) != key:
            parents[key] = key = parents[parents[key]]
        return key

    for one, other in links:
        parents[find(one)] = find(other)
    # groups sort before streams, because their upstream is empty
    firsts: dict[HashKey, HashKey] = {}
    for key in sorted(parents, key=lambda key: (key in checks, key)):
        firsts.setdefault(find(key), key)
    return {key: firsts[find(key)] for key in parents}


class ShardFilter:
    """Decides which streams of one upstream this process polls."""

    def __init__(
        self,
        shard: Shard = SINGLE,
        upstream: str = "",
        *,
        by_name: bool = True,
        group_keys: Mapping[str, HashKey] | None = None,
        label_of: Callable[[str], str] = str,
    ) -> None:
        """``by_name``: hash discovered streams by their name on the platform if they have one, otherwise by id.

        ``group_keys``: see ``GroupShards.of_upstream``. ``label_of``: returns the intended label of a stream, given the
        key that it is hashed by.
        """
        self._shard = shard
        self._upstream = upstream
        self._by_name = by_name
        self._group_keys = group_keys or {}
        self._label_of = label_of
        self._configured: Mapping[str, str] = {}
        self._known: dict[str, bool] = {}
        self.is_all = shard.count == 1
        """Whether this process polls every stream."""
        self.is_primary = owner(upstream, upstream, shard.count) == shard.ordinal
        """Whether this process requests data that belongs to no single stream, such as account statistics."""

    def configure(self, keys: Mapping[str, str]) -> None:
        """Set the hash keys of configured streams by id: the configured name, or the id if there is none."""
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
            known = self._owner_of(key) == self._shard.ordinal
            self._known[key] = known
        return known

    def _owner_of(self, key: str) -> int:
        """Return the shard that owns a stream: for one that must be with others, their shard."""
        if self._group_keys:
            # with hashed labels, a configured name still is a label
            labels = (_SHARED_LABEL.sub("", label) for label in (key, self._label_of(key)))
            shared = next((self._group_keys[label] for label in labels if label in self._group_keys), None)
            if shared is not None:
                return owner(*shared, self._shard.count)
        return owner(self._upstream, key, self._shard.count)


ALL_STREAMS: Final = ShardFilter()
