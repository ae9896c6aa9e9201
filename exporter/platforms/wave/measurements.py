"""Read the values in WAVE's ``metrics``, ``connection`` and ``quality``, whose contents are not documented."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from exporter.platforms.api import LARGEST, DropCounter, PlatformMetric, Record
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

MAX_PLATFORM_METRICS = 50
MAX_DEPTH = 4
MAX_LEAVES = 2000
"""Maximum number of values to read in one object; far more than any real response has."""
_RESOLUTION = re.compile(r"\s*(\d{2,5})\s*[x×]\s*(\d{2,5})\s*", re.IGNORECASE)


class Leaf(msgspec.Struct, frozen=True):
    """A value in an object, with its place."""

    path: tuple[str, ...]
    """The keys as the platform spells them, starting with the session's field."""
    name: str
    """The normalised name without its scope."""
    scope: Scope
    mapped: bool
    value: Any


class Measurements(msgspec.Struct, frozen=True):
    """Facts by field of ``StreamReport``, and the numbers that belong to no field."""

    facts: Mapping[str, float | int | str]
    numbers: tuple[PlatformMetric, ...]
    unreadable: frozenset[str]
    """Fields whose value was present but unreadable."""


def read_measurements(session: Record, drops: DropCounter) -> Measurements:
    """Return the facts in a session's objects; unreadable values of known names are dropped and counted."""
    quality = list(_leaves(session, "quality"))
    measured = [leaf for name in ("metrics", "connection") for leaf in _leaves(session, name)]
    facts: dict[str, float | int | str] = {}
    used: set[tuple[str, ...]] = set()
    unreadable: set[str] = set()
    for leaves, aliases in ((quality, QUALITY), (measured, MEASURED)):
        for field, (leaf, alias) in _select_leaves(leaves, aliases).items():
            used.add(leaf.path)
            value = _read_value(leaf, alias, drops)
            if value is None:
                unreadable.add(field)
            else:
                facts[field] = value
        unreadable |= _unreadable_fields(leaves, aliases, facts, drops)
    _add_resolution(facts)
    others = ((leaf.path, leaf.value) for leaf in quality + measured if leaf.path not in used)
    return Measurements(facts, first_numbers(others, limit=MAX_PLATFORM_METRICS), frozenset(unreadable))


def _leaves(session: Record, name: str) -> list[Leaf]:
    """Return the values in one object of the session, least nested first."""
    content = session.raw.get(name)
    if not isinstance(content, dict):
        # counts a value of the wrong type as dropped
        session.record(name)
        return []
    found = islice(_walk(content, (name,), Scope.ALL, mapped=True), MAX_LEAVES)
    return sorted(found, key=lambda leaf: len(leaf.path))


def _walk(content: Mapping[str, Any], path: tuple[str, ...], scope: Scope, *, mapped: bool) -> Iterator[Leaf]:
    for key, value in content.items():
        own_scope, name = scope_of(normalised(key))
        inner_scope = own_scope or scope
        inner_path = (*path, key)
        if isinstance(value, dict) and len(path) < MAX_DEPTH:
            yield from _walk(value, inner_path, inner_scope, mapped=mapped and name not in NOT_MAPPED)
        if value is not None:
            yield Leaf(inner_path, name, inner_scope, mapped, value)


def _select_leaves(leaves: list[Leaf], aliases: Mapping[str, Alias]) -> dict[str, tuple[Leaf, Alias]]:
    """Return the leaf to use for each field: values of the whole stream take precedence over video, and video over
    audio; then the least nested, then the first.
    """
    selected: dict[str, tuple[Leaf, Alias]] = {}
    for leaf in sorted(leaves, key=lambda leaf: leaf.scope):
        if not isinstance(leaf.value, dict | list):
            field, alias = _field_of(leaf, aliases)
            if alias is not None:
                selected.setdefault(field, (leaf, alias))
    return selected


def _unreadable_fields(
    leaves: list[Leaf], aliases: Mapping[str, Alias], facts: Collection[str], drops: DropCounter
) -> set[str]:
    """Return the fields whose known names hold an object or a list, unless another leaf has the value."""
    unreadable = set()
    for leaf in leaves:
        field, alias = _field_of(leaf, aliases)
        if isinstance(leaf.value, dict | list) and alias is not None and field not in facts:
            unreadable.add(field)
            drops.drop(f"{leaf.path[0]}.{leaf.name}")
    return unreadable


def _field_of(leaf: Leaf, aliases: Mapping[str, Alias]) -> tuple[str, Alias | None]:
    """Return the field and the alias of a leaf; an empty string and None for an unknown name."""
    alias = aliases.get(leaf.name) if leaf.mapped else None
    if alias is None or (leaf.scope is Scope.AUDIO and not alias.audio_counts):
        return "", None
    field = _codec_field(leaf.scope) if alias.field == "codec" else alias.field
    return field, alias if field else None


def _codec_field(scope: Scope) -> str:
    return {Scope.VIDEO: "video_codec", Scope.AUDIO: "audio_codec"}.get(scope, "")


def _read_value(leaf: Leaf, alias: Alias, drops: DropCounter) -> float | int | str | None:
    # count drops under the known name, because the platform's own path may contain anything
    name, record = leaf.name, Record({leaf.name: leaf.value}, drops, f"{leaf.path[0]}.")
    if alias.kind is Kind.TEXT:
        return record.text(name) or None
    if alias.kind is Kind.COUNT:
        return record.count(name)
    if alias.kind is Kind.TOTAL:
        return record.total(name)
    if alias.kind is Kind.RATIO:
        return record.ratio(name, unit=alias.unit)
    return record.number(name, unit=alias.unit, low=0.0, high=alias.high)


def _add_resolution(facts: dict[str, float | int | str]) -> None:
    """Add width and height from the resolution if they are missing, and vice versa."""
    match = _RESOLUTION.fullmatch(str(facts.pop("resolution", "")))
    if match:
        facts.setdefault("width_pixels", int(match[1]))
        facts.setdefault("height_pixels", int(match[2]))
    width, height = facts.get("width_pixels"), facts.get("height_pixels")
    if width and height:
        facts["resolution"] = f"{width}x{height}"


# -- numbers without a documented meaning or unit ----------------------------------------------------------------------


def numbers_inside(content: Mapping[str, Any], *, period: str, limit: int) -> tuple[PlatformMetric, ...]:
    """Return the numbers in an object and its nested objects by dotted path, without those in lists."""
    return first_numbers(islice(_values(content, ()), MAX_LEAVES), period=period, limit=limit)


def first_numbers(
    leaves: Iterable[tuple[tuple[str, ...], Any]], *, period: str = "", limit: int
) -> tuple[PlatformMetric, ...]:
    """Return at most ``limit`` numbers among these values, in alphabetical order so that the choice is stable."""
    numbers = [PlatformMetric(".".join(path), float(value), period) for path, value in leaves if _is_number(value)]
    numbers.sort(key=lambda number: number.metric)
    return tuple(numbers[:limit])


def _values(content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in content.items():
        if not isinstance(value, dict):
            yield (*path, name), value
        elif len(path) + 1 < MAX_DEPTH:
            yield from _values(value, (*path, name))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST
