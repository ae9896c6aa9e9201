"""Assigns streams to shards by rendezvous hashing, with the same result in every process.

The hash key consists of the upstream and the stream's intended label, not its id. Streams with the same intended label
therefore belong to the same shard, which gives them the same distinct labels as an unsharded exporter would.

All streams of a group belong to one shard, so that it knows the state of the whole group. Groups that share a stream
belong to the same shard, too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
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


class GroupShards:
    """Assigns groups, and thereby their streams, to shards."""

    def __init__(self, groups: Mapping[str, Iterable[tuple[str, str]]] | None = None) -> None:
        """``groups``: upstream and label of each stream, by group."""
        self._keys: dict[str, str] = {}
        """By group: the first name of all groups that it shares streams with, directly or through other groups."""
        self._streams: dict[str, dict[str, str]] = {}
        """The same names by upstream and label."""
        places = {group: list(map(_intended, streams)) for group, streams in (groups or {}).items()}
        find_first = _join_groups(places)
        for group, streams in places.items():
            key = self._keys[group] = find_first(group)
            for upstream, label in streams:
                self._streams.setdefault(upstream, {})[label] = key

    def owns(self, shard: Shard, group: str) -> bool:
        """Return whether the shard polls the streams of the group."""
        return _group_owner(self._keys[group], shard.count) == shard.ordinal

    def of_upstream(self, upstream: str) -> Mapping[str, str]:
        """Return the hash keys of an upstream's streams in groups, by intended label, for ``ShardFilter``."""
        return self._streams.get(upstream, {})


def _intended(place: tuple[str, str]) -> tuple[str, str]:
    """Return the upstream and intended label of a stream, which may share that label with other streams."""
    upstream, label = place
    return upstream, _SHARED_LABEL.sub("", label)


def _join_groups(groups: Mapping[str, Iterable[tuple[str, str]]]) -> Callable[[str], str]:
    """Return a function that returns the first name of a group's connected component (union-find)."""
    parents = {group: group for group in groups}

    def find(group: str) -> str:
        while parents[group] != group:
            parents[group] = group = parents[parents[group]]
        return group

    first_of: dict[tuple[str, str], str] = {}
    for group, places in groups.items():
        for place in places:
            one, other = sorted((find(group), find(first_of.setdefault(place, group))))
            parents[other] = one
    return find


def _group_owner(key: str, count: int) -> int:
    # no upstream has an empty name, so the keys of groups and streams differ
    return owner("", key, count)


class ShardFilter:
    """Decides which streams of one upstream this process polls."""

    def __init__(
        self,
        shard: Shard = SINGLE,
        upstream: str = "",
        *,
        by_name: bool = True,
        group_keys: Mapping[str, str] | None = None,
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
        """Return the shard that owns a stream: for a stream in a group, the group's shard."""
        if self._group_keys:
            # with hashed labels, a configured name still is a label
            labels = (_SHARED_LABEL.sub("", label) for label in (key, self._label_of(key)))
            group = next((self._group_keys[label] for label in labels if label in self._group_keys), None)
            if group is not None:
                return _group_owner(group, self._shard.count)
        return owner(self._upstream, key, self._shard.count)


ALL_STREAMS: Final = ShardFilter()
