"""The value of the label ``stream``: stable, and unique within an upstream."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping

ID_CHARACTERS = 8
HASH_CHARACTERS = 16


class LabelBook:
    """Gives each stream id its label and keeps it with that id until the stream is forgotten."""

    def __init__(
        self,
        upstream: str,
        rule: str,
        hash_key: str | None = None,
        known_elsewhere: Callable[[str], str | None] | None = None,
    ) -> None:
        """``rule`` is ``name``, ``id`` or ``hash``; ``known_elsewhere``: the label that another book gave to an id."""
        self._upstream = upstream
        self._rule = rule
        self._configured: Mapping[str, str] = {}
        self._hash_key = hash_key
        self._known_elsewhere = known_elsewhere
        self._labels: dict[str, str] = {}
        self._taken: set[str] = set()
        """The labels that are not their stream's id: those are found in ``_labels``."""

    def configure(self, names: Mapping[str, str]) -> None:
        """The names that the configuration gives, by stream id; they go before all others."""
        for stream_id in self._configured.keys() ^ names.keys() | {
            i for i, n in names.items() if self._labels.get(i) != n
        }:
            self._labels.pop(stream_id, None)
        self._configured = names
        self._taken = {*names.values(), *(label for stream_id, label in self._labels.items() if label != stream_id)}

    def label(self, stream_id: str, name: str) -> str:
        """The label of a stream; ``name`` is the platform's own name for it, which may be empty."""
        known = self._labels.get(stream_id)
        if known is not None:
            return known
        label = (
            self._configured.get(stream_id)
            or self._free_elsewhere(stream_id)
            or self._unique(stream_id, self._wanted(stream_id, name))
        )
        self._labels[stream_id] = label
        if label != stream_id:
            self._taken.add(label)
        return label

    def label_beside(self, stream_id: str, name: str) -> str:
        """The label of something that has no stream here, and takes no label away from any.

        ``name`` is what the configuration calls it; with the id of a configured stream it has that one's label.
        """
        return name or self._configured.get(stream_id) or self._wanted(stream_id, "")

    def known(self, stream_id: str) -> str | None:
        """The label that the stream has; None: it has none yet."""
        return self._labels.get(stream_id)

    def forget(self, stream_id: str) -> None:
        """The stream's series have left: its label is free again, unless the configuration gave it."""
        label = self._labels.pop(stream_id, None)
        if label not in (None, stream_id) and stream_id not in self._configured:
            self._taken.discard(label)

    def _free_elsewhere(self, stream_id: str) -> str | None:
        label = self._known_elsewhere(stream_id) if self._known_elsewhere else None
        return None if label is None or self._is_taken(label) else label

    def _is_taken(self, label: str) -> bool:
        return label in self._taken or self._labels.get(label) == label

    def _wanted(self, stream_id: str, name: str) -> str:
        if self._rule == "hash":
            return hashed(self._hash_key or "", self._upstream, stream_id)
        return name if self._rule == "name" and name else stream_id

    def _unique(self, stream_id: str, wanted: str) -> str:
        if not self._is_taken(wanted):
            return wanted
        short = f"{wanted}#{stream_id[:ID_CHARACTERS]}"
        if not self._is_taken(short):
            return short
        digest = hashlib.sha256(stream_id.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{wanted}#{digest[:HASH_CHARACTERS]}"


def hashed(key: str, upstream: str, stream_id: str) -> str:
    """The first 16 hex digits of HMAC-SHA256(key, upstream NUL id)."""
    message = f"{upstream}\0{stream_id}".encode("utf-8", "surrogatepass")
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()[:HASH_CHARACTERS]
