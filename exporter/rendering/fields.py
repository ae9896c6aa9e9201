"""The fields of many structs, by columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, cast

from msgspec import Struct
from msgspec.structs import astuple

ROWS_AT_ONCE: Final = 200
"""Read before the next: few enough for the processor's cache, and for a list of all that they hold to be small."""


def columns(items: Sequence[Struct], names: Collection[str]) -> dict[str, Sequence[Any]]:
    """What stands in each of these fields, which may be attributes of a struct's class instead; ``items``: one or more.

    Most are of one kind and read whole, which takes half as long as field by field.
    """
    kinds = Counter(map(type, items))
    kind = cast("type[Struct]", max(kinds, key=kinds.__getitem__))
    fields = kind.__struct_fields__
    read = attrgetter(*fields)
    found: dict[str, list[Any]] = {name: [] for name in fields if name in names}
    for start in range(0, len(items), ROWS_AT_ONCE):
        some = items[start : start + ROWS_AT_ONCE]
        rows = map(astuple, some) if len(kinds) == 1 else (astuple(i) if type(i) is kind else read(i) for i in some)
        # one list for all: a tuple kept for each row would wake the garbage collector
        flat = list(chain.from_iterable(rows))
        for index, name in enumerate(fields):
            if name in found:
                found[name] += flat[index :: len(fields)]
    return {name: found[name] if name in found else list(map(attrgetter(name), items)) for name in names}
