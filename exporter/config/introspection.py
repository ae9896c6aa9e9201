"""Introspection of the settings classes: the type at a place, its keys, and its description."""

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
"""Prefix of the tags of our unions, which are not keys in the location of an error."""

_COUNTABLE = re.compile(r"(mapping|list|duration|size|bitrate|number|whole number|path|secret|time|URL|value)\b")

_PLURALS = {"text": "texts", "mapping": "mappings"}
_WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Secret: "secret",
    dict: "mapping",
}


def annotation_of(info: FieldInfo) -> Any:
    """Return a field's type, including the metadata that pydantic took out of ``Annotated``."""
    annotation: Any = info.annotation
    for item in info.metadata:
        annotation = Annotated[annotation, item]
    return annotation


def known_keys(annotation: Any) -> dict[str, Any] | None:
    """Return the known keys of a mapping and their types; None for a mapping with any keys, and for other types."""
    for member in union_members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return _keys_of(member)
    return None


def _keys_of(model: type[BaseModel]) -> dict[str, Any]:
    names = model.known_keys() if issubclass(model, Section) else {name: name for name in model.model_fields}
    return {key: annotation_of(model.model_fields[name]) for key, name in names.items()}


def union_members(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union without None and ``Annotated``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from union_members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from union_members(member)
    elif annotation is not NoneType:
        yield annotation


def annotation_at(annotation: Any, place: Sequence[str | int]) -> Any:
    """Return the type at the location of an error (which includes tags of unions); None if unknown."""
    for part in place:
        annotation = annotation_below(annotation, part)
        if annotation is None:
            return None
    return annotation


def annotation_below(annotation: Any, part: str | int) -> Any:
    """Return the type one key, index or tag further; None if unknown."""
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
    """Return the member of a union that carries this tag, however ``Annotated`` and ``None`` wrap it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and any(isinstance(item, Tag) and item.tag == tag for item in arguments[1:]):
        return arguments[0]
    inner = arguments[:1] if origin is Annotated else arguments if origin in (Union, UnionType) else ()
    return next((found for found in (_tagged(member, tag) for member in inner) if found is not None), None)


def describe_type(annotation: Any) -> str:
    """Return the type in plain words."""
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
    return _WORDS.get(origin or annotation, "value of another kind")


def phrase_type(annotation: Any) -> str:
    """Return the type as the object of a sentence: ``a duration``."""
    plain = describe_type(annotation)
    return f"a {plain}" if _COUNTABLE.match(plain) else plain


def join_or(choices: Sequence[str]) -> str:
    """Return ``a``, ``a or b``, or ``a, b or c``."""
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def spellings(key: str) -> tuple[str, ...]:
    """Return the keys that set a field in a file."""
    return (key, *(key + suffix for suffix in SOURCE_SUFFIXES))
