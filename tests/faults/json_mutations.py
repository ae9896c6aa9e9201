"""Strategies: any JSON, and good answers that went wrong in a few places."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        "",
        "live",
        "LIVE",
        "PUBLISHED",
        "webrtc",
        "1",
        "1e999",
        "2026-03-01T10:05:00Z",
        "n" * 300,
        "k" * 2000,
        "a/b",
        "..",
        "\0",
    ]
)
"""Half surrogate pairs among them."""
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 10**400, -(10**400), 2**63, 1e308, -0.0, 1726000149000])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=8,
)

Place = tuple[str | int, ...]
Edit = tuple[str, int, Any]
"""What is done, to which of all places (by their number, modulo), with what."""

EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "drop", "rename", "double", "everywhere"]),
        st.integers(0, 10_000),
        ANYTHING,
    ),
    min_size=1,
    max_size=4,
)


def broken(data: Any, edits: list[Edit]) -> Any:
    """A copy of a JSON value with all of this done to it."""
    data = copy.deepcopy(data)
    for kind, number, value in edits:
        found = places(data)
        if not found:
            return value
        *way, last = found[number % len(found)]
        holder = data
        for key in way:
            holder = holder[key]
        if kind == "everywhere":
            data = _everywhere(data, last, value)
        else:
            _edit(holder, last, kind, value)
    return data


def _everywhere(data: Any, name: str | int, value: Any) -> Any:
    if isinstance(data, dict):
        return {key: value if key == name else _everywhere(inner, name, value) for key, inner in data.items()}
    if isinstance(data, list):
        return [_everywhere(inner, name, value) for inner in data]
    return data


def _edit(holder: Any, key: str | int, kind: str, value: Any) -> None:
    if kind == "drop":
        del holder[key]
    elif kind == "rename" and isinstance(key, str):
        holder[f"{key}2"] = holder.pop(key)
    elif kind == "double" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[int(key)]))
    else:
        holder[key] = value


def places(value: Any) -> list[Place]:
    """Every place inside a JSON value, those inside others after them."""
    found: list[Place] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(key,), *((key, *place) for place in places(inner))]
    return found


def encoded(data: Any) -> bytes:
    """As careless servers write it: NaN and Infinity, half surrogate pairs, numbers of any length."""
    return json.dumps(data).encode()
