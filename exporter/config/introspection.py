"""What the settings' classes say about a place in the configuration: its type, its keys, its words."""

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
"""The tags of our unions begin so: in an error's place they are no key."""

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
    """A field's type with what pydantic took out of ``Annotated`` put back."""
    annotation: Any = info.annotation
    for item in info.metadata:
        annotation = Annotated[annotation, item]
    return annotation


def keys(annotation: Any) -> dict[str, Any] | None:
    """The known keys of a mapping and their types; None where any key may stand, or none."""
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return _keys_of(member)
    return None


def _keys_of(model: type[BaseModel]) -> dict[str, Any]:
    names = model.known_keys() if issubclass(model, Section) else {name: name for name in model.model_fields}
    return {key: annotation_of(model.model_fields[name]) for key, name in names.items()}


def members(annotation: Any) -> Iterator[Any]:
    """The types of a union, None left out, bare of ``Annotated``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from members(member)
    elif annotation is not NoneType:
        yield annotation


def at(annotation: Any, place: Sequence[str | int]) -> Any:
    """The type at a place as pydantic's errors give it (tags of unions included); None where nothing is known."""
    for part in place:
        annotation = step(annotation, part)
        if annotation is None:
            return None
    return annotation


def step(annotation: Any, part: str | int) -> Any:
    """The type one key, index or tag further; None where nothing is known."""
    if isinstance(part, str) and part.startswith(TAG_PREFIX):
        return _tagged(annotation, part)
    known = keys(annotation)
    if known is not None and part in known:
        return known[part]
    for member in members(annotation):
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, list) and isinstance(part, int):
            return arguments[0]
        if origin is dict and isinstance(part, str):
            return arguments[1]
    return None


def _tagged(annotation: Any, tag: str) -> Any:
    """The member of a union that carries this tag, wherever ``Annotated`` and ``None`` wrap it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and any(isinstance(item, Tag) and item.tag == tag for item in arguments[1:]):
        return arguments[0]
    inner = arguments[:1] if origin is Annotated else arguments if origin in (Union, UnionType) else ()
    return next((found for found in (_tagged(member, tag) for member in inner) if found is not None), None)


def words(annotation: Any) -> str:
    """The type in plain words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        described = [item.words for item in arguments[1:] if isinstance(item, Described)]
        return described[-1] if described else words(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(words(member) for member in arguments if member is not NoneType))
    if origin is Literal:
        return any_of([str(choice) for choice in arguments])
    if origin in (tuple, list, frozenset):
        item = words(arguments[0])
        return f"list of {_PLURALS.get(item, item)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _WORDS.get(origin or annotation, "value of another kind")


def phrase(annotation: Any) -> str:
    """The type as the object of a sentence: ``a duration``."""
    plain = words(annotation)
    return f"a {plain}" if _COUNTABLE.match(plain) else plain


def any_of(choices: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def spellings(key: str) -> tuple[str, ...]:
    """The keys under which the value of a field may stand in a file."""
    return (key, *(key + suffix for suffix in SOURCE_SUFFIXES))
