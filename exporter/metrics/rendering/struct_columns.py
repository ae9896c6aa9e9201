"""The fields of many structs, by columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from functools import reduce
from operator import attrgetter, iconcat
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import astuple


def columns(items: Sequence[Struct], names: Set[str]) -> dict[str, Sequence[Any]]:
    """What stands in each of these fields, which may be attributes of a struct's class instead.

    Most are of one kind and read whole, which takes a third of the time of field by field.
    """
    if not items:
        return dict.fromkeys(names, ())
    kinds = Counter(map(type, items))
    kind = cast("type[Struct]", max(kinds, key=kinds.__getitem__))
    fields = kind.__struct_fields__
    read = attrgetter(*fields)
    are_alike = len(kinds) == 1
    rows = map(astuple, items) if are_alike else (astuple(i) if type(i) is kind else read(i) for i in items)
    # one list for all: a tuple kept for each row would wake the garbage collector
    flat: list[Any] = reduce(iconcat, rows, [])
    found: dict[str, Sequence[Any]] = {
        name: flat[index :: len(fields)] for index, name in enumerate(fields) if name in names
    }
    for name in names - found.keys():
        found[name] = [getattr(kind, name)] * len(items) if are_alike else list(map(attrgetter(name), items))
    return found
