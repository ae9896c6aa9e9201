"""Introspect the settings classes: types, keys and descriptions by location."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from exporter.config.secrets import SOURCE_SUFFIXES, Secret
from exporter.config.section import Section
from exporter.config.types import Described

TAG_PREFIX = "\0"
"""Prefix of our unions' tags, to tell them from keys in the location of an error."""

_COUNTABLE = re.compile(r"(mapping|list|duration|size|bitrate|number|whole number|path|secret|string|time|URL|value)\b")

_PLURALS = {"string": "strings", "mapping": "mappings"}
_WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "string",
    Path: "path",
    Secret: "secret",
    dict: "mapping",
}


def annotation_of(info: FieldInfo) -> Any:
    """Return a field's type with the metadata that pydantic removed from ``Annotated``."""
    annotation: Any = info.annotation
    for item in info.metadata:
        annotation = Annotated[annotation, item]
    return annotation


def known_keys(annotation: Any) -> dict[str, Any] | None:
    """Return the keys of a mapping and their types; None for a mapping with arbitrary keys, and for other types."""
    for member in union_members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return _keys_of(member)
    return None


def _keys_of(model: type[BaseModel]) -> dict[str, Any]:
    names = model.known_keys() if issubclass(model, Section) else {name: name for name in model.model_fields}
    return {key: annotation_of(model.model_fields[name]) for key, name in names.items()}


def union_members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, without None and ``Annotated``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from union_members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from union_members(member)
    elif annotation is not NoneType:
        yield annotation


def annotation_at(annotation: Any, place: Sequence[str | int]) -> Any:
    """Return the type at an error's location, which may contain union tags; None if unknown."""
    for part in place:
        annotation = annotation_below(annotation, part)
        if annotation is None:
            return None
    return annotation


def annotation_below(annotation: Any, part: str | int) -> Any:
    """Return the type below a key, index or union tag; None if unknown."""
    if isinstance(part, str) and part.startswith(TAG_PREFIX):
        return _tagged(annotation, part)
    known = known_keys(annotation)
    if known is not None and part in known:
        return known[part]
    for member in union_members(annotation):
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, list) and isinstance(part, int):
            return arguments[0]
        if origin is dict and isinstance(part, str):
            return arguments[1]
    return None


def _tagged(annotation: Any, tag: str) -> Any:
    """Return the union member with this tag, looking through ``Annotated`` and optional types."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and any(isinstance(item, Tag) and item.tag == tag for item in arguments[1:]):
        return arguments[0]
    inner = arguments[:1] if origin is Annotated else arguments if origin in (Union, UnionType) else ()
    return next((found for found in (_tagged(member, tag) for member in inner) if found is not None), None)


def describe_type(annotation: Any) -> str:
    """Return the type in plain words: ``list of mappings``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        described = [item.words for item in arguments[1:] if isinstance(item, Described)]
        return described[-1] if described else describe_type(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(describe_type(member) for member in arguments if member is not NoneType))
    if origin is Literal:
        return join_or([str(choice) for choice in arguments])
    if origin in (tuple, list, frozenset):
        item = describe_type(arguments[0])
        return f"list of {_PLURALS.get(item, item)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _WORDS.get(origin or annotation, "value of another type")


def phrase_type(annotation: Any) -> str:
    """Return the type with its article: ``a duration``."""
    plain = describe_type(annotation)
    return f"a {plain}" if _COUNTABLE.match(plain) else plain


def join_or(choices: Sequence[str]) -> str:
    """Return ``a``, ``a or b``, or ``a, b or c``."""
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def join_and(words: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def spellings(key: str) -> tuple[str, ...]:
    """Return the spellings of a secret's key in a file."""
    return (key, *(key + suffix for suffix in SOURCE_SUFFIXES))
