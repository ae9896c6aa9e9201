"""The text of whole columns of numbers.

orjson writes a list of numbers twenty times as fast as Python writes one after the other, in the shortest form that
reads back as the same number. ``textformat.number`` is the same for a single one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from exporter.metrics.families.family import Number
from exporter.metrics.text_format import number

ABSENT: Final = b"null"
"""Stands where there is no report: the value is missing or not finite."""


class NumberTexts(NamedTuple):
    """The text of each value of a column, ``ABSENT`` for those that have none."""

    texts: list[bytes]
    gaps: int
    """How often ``ABSENT`` is among them."""


def number_texts(column: Sequence[Number | None]) -> NumberTexts | None:
    """The texts of a column; None when it is empty."""
    if not column:
        return None
    text = number_text(column)
    return NumberTexts(text.split(b","), text.count(ABSENT))


def number_text(column: Sequence[Number | None]) -> bytes:
    """The same in one, with commas between them."""
    try:
        text = orjson.dumps(column)[1:-1]
    except TypeError:
        # a whole number beyond 64 bits, which orjson refuses
        return b",".join(ABSENT if value is None else (number(value) or "null").encode() for value in column)
    if b"e" in text:
        text = text.replace(b"true", b"1").replace(b"false", b"0")
    return text
