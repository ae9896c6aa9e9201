"""The label ``stream``, stable and unique within an upstream, and removing the stream key that it replaces."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from exporter.model import StreamReport

ID_CHARACTERS = 8
HASH_CHARACTERS = 16


class LabelBook:
    """Gives each stream id its label and keeps it with that id until the stream is forgotten."""

    def __init__(
        self,
        upstream: str,
        rule: str,
        hash_key: str | None = None,
        preferred_label: Callable[[str], str | None] | None = None,
    ) -> None:
        """``rule`` is ``name``, ``id`` or ``hash``; ``preferred_label`` returns the label to use for an id if free."""
        self._upstream = upstream
        self._rule = rule
        self._configured_names: Mapping[str, str] = {}
        self._hash_key = hash_key
        self._preferred_label = preferred_label
        self._labels: dict[str, str] = {}
        self._taken: set[str] = set()
        """Labels that differ from their stream's id; the others are keys of ``_labels``."""

    def configure(self, names: Mapping[str, str]) -> None:
        """Set the configured names by stream id; they take precedence over all other labels."""
        for stream_id in self._configured_names.keys() ^ names.keys() | {
            i for i, n in names.items() if self._labels.get(i) != n
        }:
            self._labels.pop(stream_id, None)
        self._configured_names = names
        self._taken = {*names.values(), *(label for stream_id, label in self._labels.items() if label != stream_id)}

    def label(self, stream_id: str, name: str) -> str:
        """Return the stream's label; ``name`` is the platform's own name for it, which may be empty."""
        known = self._labels.get(stream_id)
        if known is not None:
            return known
        label = (
            self._configured_names.get(stream_id)
            or self._free_preferred_label(stream_id)
            or self._unique_label(stream_id, self._label_by_rule(stream_id, name))
        )
        self._labels[stream_id] = label
        if label != stream_id:
            self._taken.add(label)
        return label

    def analytics_label(self, stream_id: str, configured_name: str) -> str:
        """Return the label of analytics, whose stream may not be tracked; it reserves no label.

        ``configured_name``: the name that the configuration gives to the analytics themselves.
        """
        return configured_name or self._configured_names.get(stream_id) or self._label_by_rule(stream_id, "")

    def known_label(self, stream_id: str) -> str | None:
        """Return the stream's label, None if it has none yet."""
        return self._labels.get(stream_id)

    def forget(self, stream_id: str) -> None:
        """Free the label of a stream whose series are gone, unless it is a configured name."""
        label = self._labels.pop(stream_id, None)
        if label not in (None, stream_id) and stream_id not in self._configured_names:
            self._taken.discard(label)

    def _free_preferred_label(self, stream_id: str) -> str | None:
        label = self._preferred_label(stream_id) if self._preferred_label else None
        return None if label is None or self._is_taken(label) else label

    def _is_taken(self, label: str) -> bool:
        return label in self._taken or self._labels.get(label) == label

    def _label_by_rule(self, stream_id: str, name: str) -> str:
        if self._rule == "hash":
            return hashed_label(self._hash_key or "", self._upstream, stream_id)
        return name if self._rule == "name" and name else stream_id

    def _unique_label(self, stream_id: str, wanted: str) -> str:
        if not self._is_taken(wanted):
            return wanted
        short = f"{wanted}#{stream_id[:ID_CHARACTERS]}"
        if not self._is_taken(short):
            return short
        digest = hashlib.sha256(stream_id.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{wanted}#{digest[:HASH_CHARACTERS]}"


def hashed_label(key: str, upstream: str, stream_id: str) -> str:
    """Return the first 16 hex digits of HMAC-SHA256(key, upstream NUL id)."""
    message = f"{upstream}\0{stream_id}".encode("utf-8", "surrogatepass")
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()[:HASH_CHARACTERS]


def anonymize(report: StreamReport, label: str) -> StreamReport:
    """Return the report without its stream key: id replaced by ``label``, names empty, key replaced in other texts."""
    keys = {part for part in (report.id, report.id.rpartition("/")[2], report.session, report.name) if part}
    ordered = sorted(keys, key=len, reverse=True)
    clean = {
        field: _replace_keys(getattr(report, field), ordered, label)
        for field in report.__struct_fields__
        if field not in ("id", "name", "session", "playback_id")
    }
    return type(report)(id=label, **clean)


def _replace_keys(value: Any, keys: list[str], label: str) -> Any:
    if type(value) is str:  # not an enumeration
        for key in keys:
            value = value.replace(key, label)
        return value
    if isinstance(value, tuple):
        return tuple(_replace_keys(item, keys, label) for item in value)
    if isinstance(value, dict):
        return {_replace_keys(key, keys, label): item for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{field: _replace_keys(getattr(value, field), keys, label) for field in value.__struct_fields__}
        )
    return value
