"""Numbers that WAVE says without a documented meaning or unit, under their dotted path."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from exporter.model import PlatformMetric

MAX_DEPTH = 4
MAX_LEAVES = 2000
"""Values looked at in one object: far beyond any real answer, and a bound for what is not one."""
MAX_NUMBER = sys.float_info.max

Path = tuple[str, ...]


def numbers_inside(inside: Mapping[str, Any], *, period: str, limit: int) -> tuple[PlatformMetric, ...]:
    """The numbers at any depth of an object; lists are not entered."""
    return first_numbers(islice(_leaves(inside, ()), MAX_LEAVES), period=period, limit=limit)


def first_numbers(leaves: Iterable[tuple[Path, Any]], *, period: str = "", limit: int) -> tuple[PlatformMetric, ...]:
    """The numbers among these values; at most ``limit``, the same ones whatever order the values come in."""
    numbers = [PlatformMetric(".".join(path), float(value), period) for path, value in leaves if _is_number(value)]
    numbers.sort(key=lambda number: number.metric)
    return tuple(numbers[:limit])


def _leaves(inside: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in inside.items():
        if not isinstance(value, dict):
            yield (*path, name), value
        elif len(path) + 1 < MAX_DEPTH:
            yield from _leaves(value, (*path, name))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER
