"""What is found inside WAVE's ``metrics``, ``connection`` and ``quality``, of which no inside is published."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from exporter.model import PlatformMetric
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.wave.metric_aliases import (
    MEASURED,
    NOT_MAPPED,
    QUALITY,
    Alias,
    Kind,
    Scope,
    normalised,
    scope_of,
)
from exporter.platforms.wave.unmapped_numbers import MAX_DEPTH, MAX_LEAVES, first_numbers

MAX_PLATFORM_METRICS = 50
_RESOLUTION = re.compile(r"\s*(\d{2,5})\s*[x×]\s*(\d{2,5})\s*", re.IGNORECASE)


class Leaf(msgspec.Struct, frozen=True):
    """One value inside an object, and what stands around it."""

    path: tuple[str, ...]
    """As the platform spells it, the object's own name first."""
    name: str
    """Normalised, without what tells its scope."""
    scope: Scope
    mapped: bool
    value: Any


class Measurements(msgspec.Struct, frozen=True):
    """Facts by their field in ``StreamReport``, and the numbers that no field was found for."""

    facts: Mapping[str, float | int | str]
    numbers: tuple[PlatformMetric, ...]


def read_measurements(session: Record, drops: DropCounter) -> Measurements:
    """The facts of one session's objects; bad values of known names are dropped and counted."""
    quality = list(_leaves(session, "quality"))
    measured = [leaf for name in ("metrics", "connection") for leaf in _leaves(session, name)]
    facts: dict[str, float | int | str] = {}
    used: set[tuple[str, ...]] = set()
    for leaves, aliases in ((quality, QUALITY), (measured, MEASURED)):
        for field, (leaf, alias) in _chosen(leaves, aliases).items():
            used.add(leaf.path)
            value = _value(leaf, alias, drops)
            if value is not None:
                facts[field] = value
    _add_resolution(facts)
    others = ((leaf.path, leaf.value) for leaf in quality + measured if leaf.path not in used)
    return Measurements(facts, first_numbers(others, limit=MAX_PLATFORM_METRICS))


def _leaves(session: Record, name: str) -> list[Leaf]:
    """The values inside one object of the session, nearest first."""
    inside = session.raw.get(name)
    if not isinstance(inside, dict):
        # a wrong type is dropped, and counted, by reading it
        session.record(name)
        return []
    found = islice(_walk(inside, (name,), Scope.ALL, mapped=True), MAX_LEAVES)
    return sorted(found, key=lambda leaf: len(leaf.path))


def _walk(inside: Mapping[str, Any], path: tuple[str, ...], scope: Scope, *, mapped: bool) -> Iterator[Leaf]:
    for key, value in inside.items():
        own_scope, name = scope_of(normalised(key))
        inner_scope = own_scope or scope
        inner_path = (*path, key)
        if isinstance(value, dict):
            if len(path) < MAX_DEPTH:
                yield from _walk(value, inner_path, inner_scope, mapped=mapped and name not in NOT_MAPPED)
        elif value is not None and not isinstance(value, list):
            yield Leaf(inner_path, name, inner_scope, mapped, value)


def _chosen(leaves: list[Leaf], aliases: Mapping[str, Alias]) -> dict[str, tuple[Leaf, Alias]]:
    """For each field the leaf that speaks for the stream: of the whole rather than of the video, of that rather than of
    the audio; among equals the nearest, then the first.
    """
    chosen: dict[str, tuple[Leaf, Alias]] = {}
    for leaf in sorted(leaves, key=lambda leaf: leaf.scope):
        alias = aliases.get(leaf.name) if leaf.mapped else None
        if alias is None or (leaf.scope is Scope.AUDIO and not alias.audio_counts):
            continue
        field = _codec_field(leaf.scope) if alias.field == "codec" else alias.field
        if field:
            chosen.setdefault(field, (leaf, alias))
    return chosen


def _codec_field(scope: Scope) -> str:
    return {Scope.VIDEO: "video_codec", Scope.AUDIO: "audio_codec"}.get(scope, "")


def _value(leaf: Leaf, alias: Alias, drops: DropCounter) -> float | int | str | None:
    # counted under the known name: the platform's own path may hold anything
    name, record = leaf.name, Record({leaf.name: leaf.value}, drops, f"{leaf.path[0]}.")
    if alias.kind is Kind.TEXT:
        return record.text(name) or None
    if alias.kind is Kind.COUNT:
        return record.count(name)
    if alias.kind is Kind.TOTAL:
        return record.total(name)
    if alias.kind is Kind.RATIO:
        return record.ratio(name, unit=alias.scale)
    return record.number(name, unit=alias.scale, low=0.0, high=alias.high)


def _add_resolution(facts: dict[str, float | int | str]) -> None:
    """Width and height from the resolution where they are not given, and the other way round."""
    match = _RESOLUTION.fullmatch(str(facts.pop("resolution", "")))
    if match:
        facts.setdefault("width_pixels", int(match[1]))
        facts.setdefault("height_pixels", int(match[2]))
    width, height = facts.get("width_pixels"), facts.get("height_pixels")
    if width and height:
        facts["resolution"] = f"{width}x{height}"
