"""The ``stream`` label, stable and unique within an upstream, and the removal of stream keys that it hides."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from exporter.config.upstream import UpstreamSettings
from exporter.metrics.text_format import label_value
from exporter.model import StreamReport

SUFFIX_CHARACTERS = 8
HASH_CHARACTERS = 16


class LabelBook:
    """The labels of an upstream's streams.

    A label depends only on names and ids, never on the order in which streams appear. It is the configured name or, for
    a configured stream without a name, its id. For other streams, ``stream_label`` decides. Streams that would have the
    same label get ``label#`` plus a hash of their id, until they are forgotten. Configured labels never change.
    """

    def __init__(
        self,
        upstream: str,
        rule: str,
        hash_key: str | None = None,
        preferred_label: Callable[[str], str | None] | None = None,
    ) -> None:
        """``rule`` is ``name``, ``id`` or ``hash``.

        ``preferred_label`` returns the label of an id in another book, which has a longer history.
        """
        self._upstream = upstream
        self._rule = rule
        self._configured: dict[str, str] = {}
        """The configured labels by id."""
        self._owners: dict[str, str] = {}
        """The id by configured label."""
        self._hash_key = hash_key
        self._preferred_label = preferred_label
        self._names: dict[str, str] = {}
        """The platform's names of known streams, by id."""
        self._listed: tuple[int, int] = (0, 0)
        """Number and hash of the names in the last list; the names themselves would take 100 bytes each."""
        self._sharing: set[str] = set()
        """Ids of streams that share, or have shared, a label with another stream."""
        self._is_outdated = False

    def configure(self, names: Mapping[str, str | None]) -> None:
        """Set the configured streams. ``names``: their names, or None, by id."""
        named = {stream_id: label_value(name) for stream_id, name in names.items() if name}
        self._owners = {label: stream_id for stream_id, label in reversed(named.items())}
        if self._rule != "hash":
            for stream_id in names:
                self._owners.setdefault(label_value(stream_id), stream_id)
        self._configured = {stream_id: label for label, stream_id in self._owners.items() if stream_id not in named}
        self._configured |= named
        self._is_outdated = True

    def update(self, listed: Mapping[str, str]) -> bool:
        """Find streams that share a label; return whether labels of known streams may have changed.

        ``listed``: the names of all streams in the platform's list, by id.
        """
        if self._rule == "hash":
            return False
        key = len(listed), hash(frozenset(listed.items()))
        if key == self._listed and not self._is_outdated:
            return False
        self._listed, self._is_outdated = key, False
        claims: dict[str, str] = dict(self._owners)
        sharing: set[str] = set()
        for stream_id, name in {**self._names, **listed}.items():
            if stream_id not in self._configured:
                owner = claims.setdefault(self._own_label(stream_id, name), stream_id)
                if owner != stream_id:
                    sharing |= {stream_id, owner}
        before = self._sharing
        self._sharing = (before | (sharing - self._configured.keys())) & (self._names.keys() | listed.keys())
        return self._sharing != before

    def label(self, stream_id: str, name: str) -> str:
        """Return a stream's label and remember the stream; ``name``: the platform's name for it, if any."""
        if name != self._names.get(stream_id):
            self._names[stream_id] = name
            self._is_outdated = True
        return self._label(stream_id, name)

    def analytics_label(self, stream_id: str, configured_name: str) -> str:
        """Return the label for analytics, without remembering the stream, which may not be tracked.

        ``configured_name``: the name that the configuration gives to these analytics.
        """
        return configured_name or self._label(stream_id, self._names.get(stream_id, ""))

    def known_label(self, stream_id: str) -> str | None:
        """Return a stream's label; None if the stream is not known."""
        return self._label(stream_id, self._names[stream_id]) if stream_id in self._names else None

    def forget(self, stream_id: str) -> None:
        """Forget a stream that is no longer served."""
        self._names.pop(stream_id, None)
        self._sharing.discard(stream_id)
        self._is_outdated = True

    def _label(self, stream_id: str, name: str) -> str:
        configured = self._configured.get(stream_id)
        if configured is not None:
            return configured
        preferred = self._preferred_label(stream_id) if self._preferred_label else None
        if preferred is not None:
            return preferred
        label = self._own_label(stream_id, name)
        if stream_id not in self._sharing:
            return label
        digest = hashlib.sha256(stream_id.encode("utf-8", "surrogatepass")).hexdigest()
        return label_value(f"{label}#{digest[:SUFFIX_CHARACTERS]}")

    def _own_label(self, stream_id: str, name: str) -> str:
        """Return the label that a stream has if no other stream shares it."""
        if self._rule == "hash":
            return hashed_label(self._hash_key or "", self._upstream, stream_id)
        return label_value(name if self._rule == "name" and name else stream_id)


def hashed_label(key: str, upstream: str, stream_id: str) -> str:
    """Return the first 16 hex digits of HMAC-SHA256(key, upstream NUL id)."""
    message = f"{upstream}\0{stream_id}".encode("utf-8", "surrogatepass")
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()[:HASH_CHARACTERS]


def label_maker(settings: UpstreamSettings) -> Callable[[str], str]:
    """Return a function that returns the label of a stream that shares it with no other, given its name or id."""
    if settings.stream_label != "hash":
        return label_value
    return partial(hashed_label, settings.stream_hash_key.get() if settings.stream_hash_key else "", settings.name)


def anonymize(report: StreamReport, label: str) -> StreamReport:
    """Return the report without its stream key: ``label`` replaces the id and the key in all texts; names are empty."""
    keys = {part for part in (report.id, report.id.rpartition("/")[2], report.session, report.name) if part}
    ordered = sorted(keys, key=len, reverse=True)
    clean = {
        field: _replace_keys(getattr(report, field), ordered, label)
        for field in report.__struct_fields__
        if field not in ("id", "name", "session", "playback_id")
    }
    return type(report)(id=label, **clean)


def _replace_keys(value: Any, keys: list[str], label: str) -> Any:
    if type(value) is str:  # not an enum member
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
