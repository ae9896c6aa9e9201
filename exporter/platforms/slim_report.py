"""Report classes with only the fields that a platform fills: up to 100,000 reports of two polls exist at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from exporter.model import DEPARTURE_FIELDS, StreamReport

_ALWAYS = frozenset({"id", "status", "live"}) | DEPARTURE_FIELDS


def slim_report(feeds: Iterable[str]) -> type[StreamReport]:
    """Return a ``StreamReport`` class with only these fields (as in ``Platform.feeds``) and those of every stream.

    The other fields read as missing and take no memory: a report with 20 fields takes 200 bytes instead of 650.
    """
    kept_fields = _ALWAYS.union(feeds)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    attributes: dict[str, Any] = {"__doc__": StreamReport.__doc__, "departed": StreamReport.departed}
    for field in msgspec.structs.fields(StreamReport):
        has_factory = field.default_factory is not msgspec.NODEFAULT
        if field.name not in kept_fields:
            attributes[field.name] = field.default_factory() if has_factory else field.default
        elif field.required:
            fields.append((field.name, field.type))
        else:
            default = msgspec.field(default_factory=field.default_factory) if has_factory else field.default
            fields.append((field.name, field.type, default))
    slim = msgspec.defstruct(StreamReport.__name__, fields, namespace=attributes, frozen=True, kw_only=True, gc=False)
    return cast("type[StreamReport]", slim)
