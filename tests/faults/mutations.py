"""Hypothesis strategies: valid responses in JSON, XML and text with a few defects, and arbitrary data."""

from __future__ import annotations

import copy
import json
from typing import Any
from xml.etree import ElementTree

from hypothesis import strategies as st

from exporter.platforms.testing import RecordedResponse

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
"""Including lone surrogates."""
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 10**400, -(10**400), 2**63, 1e308, -0.0, 1726000149000])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=8,
)

Place = tuple[str | int, ...]
Edit = tuple[str, int, Any]
"""The kind of edit, the places (numbers modulo the number of places), and the value."""

EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "drop", "rename", "double", "everywhere"]),
        st.integers(0, 10_000),
        ANYTHING,
    ),
    min_size=1,
    max_size=4,
)


def spoilt_bodies(good: RecordedResponse) -> st.SearchStrategy[bytes]:
    """Return bodies to send instead of a valid one."""
    if good.content_type == "application/json":
        data = json.loads(good.body)
        edited = EDITS.map(lambda edits: encoded(broken(data, edits)))
        other = ANYTHING.map(encoded)
    elif good.content_type == "text/xml":
        edited = EDITS.map(lambda edits: broken_xml(good.body, edits))
        other = TEXTS.map(lambda text: f"<a>{text}</a>".encode(errors="surrogatepass"))
    else:
        edited = cut_and_crossed(good.body)
        other = st.text(max_size=100).map(str.encode)
    cut_off = st.integers(0, len(good.body)).map(lambda end: good.body[:end])
    return st.one_of(edited, edited, other, cut_off, st.binary(max_size=30))


def cut_and_crossed(good: bytes) -> st.SearchStrategy[bytes]:
    """The beginning of a text, something else, and any end of the text."""
    text = good.decode()
    cut = st.integers(0, len(text))
    return st.tuples(cut, st.text(max_size=20), cut).map(
        lambda parts: (text[: parts[0]] + parts[1] + text[parts[2] :]).encode()
    )


# -- JSON --------------------------------------------------------------------------------------------------------------


def broken(data: Any, edits: list[Edit]) -> Any:
    """Return a copy of a JSON value with these edits."""
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
    """Return every place inside a JSON value; nested ones come after their parents."""
    found: list[Place] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(key,), *((key, *place) for place in places(inner))]
    return found


def encoded(data: Any) -> bytes:
    """Encode like careless servers: with NaN and Infinity, lone surrogates, and numbers of any length."""
    return json.dumps(data).encode()


# -- XML ---------------------------------------------------------------------------------------------------------------


def broken_xml(good: bytes, edits: list[Edit]) -> bytes:
    """Return an XML document with these edits; text that XML cannot contain makes it malformed."""
    root = ElementTree.fromstring(good)
    for kind, number, value in edits:
        holders = [(holder, child) for holder in root.iter() for child in holder]
        if not holders:
            break
        holder, child = holders[number % len(holders)]
        if kind == "drop":
            holder.remove(child)
        elif kind == "rename":
            child.tag = f"{child.tag}2"
        elif kind == "double":
            holder.append(copy.deepcopy(child))
        else:
            for element in list(root.iter(child.tag)) if kind == "everywhere" else [child]:
                _put(element, value)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) if _is_encodable(root) else b"<a>\xff</a>"


def _put(element: ElementTree.Element, value: Any) -> None:
    """Insert a value: lists and objects become elements, anything else a text."""
    element[:], element.text = [], None
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else ((element.tag, item) for item in value):
            tag = name if name.isascii() and name.isidentifier() else "other"
            _put(ElementTree.SubElement(element, tag), inner)
    elif value is not None:
        element.text = str(value).lower() if isinstance(value, bool) else str(value)


def _is_encodable(root: ElementTree.Element) -> bool:
    return not any("\ud800" <= char <= "\udfff" for element in root.iter() for char in element.text or "")
