"""Samples with room for what a platform can say: there may be a hundred thousand of them, of two polls at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from exporter.model import DEPARTURE_FIELDS, StreamReport

_ALWAYS = frozenset({"id", "status", "live"}) | DEPARTURE_FIELDS


def slim_report(feeds: Iterable[str]) -> type[StreamReport]:
    """``StreamReport`` with these fields and those that every stream has; ``feeds`` as ``Platform.feeds`` names them.

    The other fields read as missing, and have no place of their own: with 20 of them it takes 200 bytes, not 650.
    """
    room = _ALWAYS.union(feeds)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    others: dict[str, Any] = {"__doc__": StreamReport.__doc__, "departed": StreamReport.departed}
    for field in msgspec.structs.fields(StreamReport):
        is_made = field.default_factory is not msgspec.NODEFAULT
        if field.name not in room:
            others[field.name] = field.default_factory() if is_made else field.default
        elif field.required:
            fields.append((field.name, field.type))
        else:
            default = msgspec.field(default_factory=field.default_factory) if is_made else field.default
            fields.append((field.name, field.type, default))
    slim = msgspec.defstruct(StreamReport.__name__, fields, namespace=others, frozen=True, kw_only=True, gc=False)
    return cast("type[StreamReport]", slim)
