"""Reading one JSON object of a platform, field by field: the one place where a value is believed or dropped.

A field that is missing or null is None and nothing else. A value of the wrong type, out of range or not finite is None
too, and counted under the platform's name for it; it never fails the rest of its record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from sys import float_info, intern
from typing import Any

from exporter.http.errors import UpstreamError
from exporter.model import Reason

MAX_TEXT = 1024
MAX_COUNT = 2**63 - 1
LARGEST = float_info.max
"""The largest number that a float can be."""
YEAR_2000 = 946_684_800.0
YEAR_2100 = 4_102_444_800.0
RATIO_SLACK = 1e-6
"""How far a ratio may lie outside 0 to 1 by rounding; it is then taken as the bound."""
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,4})?\s*")


class Fields:
    """Counts, over one poll, the fields that were left out because their value was bad."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        """How many times, by the platform's name of the field; dotted for nested ones."""

    def drop(self, name: str) -> None:
        """Count one more."""
        self.dropped[name] = self.dropped.get(name, 0) + 1


class Record:
    """One JSON object."""

    __slots__ = ("_fields", "_prefix", "raw")

    def __init__(self, raw: dict[str, Any], fields: Fields, prefix: str = "") -> None:
        self.raw = raw
        self._fields = fields
        self._prefix = prefix

    @classmethod
    def of(cls, raw: object, fields: Fields) -> Record:
        """The object that an answer consists of. Raises ``UpstreamError`` when it is none."""
        if not isinstance(raw, dict):
            raise UpstreamError(Reason.BAD_RESPONSE, f"a JSON object was expected, found {_kind(raw)}")
        return cls(raw, fields)

    def within(self, raw: dict[str, Any]) -> Record:
        """Another object whose fields count as being in the same place as this one's."""
        return Record(raw, self._fields, self._prefix)

    def __contains__(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.raw.get(name) is not None

    # -- numbers -----------------------------------------------------------------------------------------------------

    def number(
        self,
        name: str,
        *,
        scale: float = 1.0,
        low: float = -LARGEST,
        high: float = LARGEST,
        text_ok: bool = False,
    ) -> float | None:
        """A finite number, times ``scale``; ``low`` and ``high`` bound the result, both included."""
        value = self.raw.get(name)
        if value is None:
            return None
        if text_ok and isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        # of JSON there are no subclasses but bool, which is no number
        if type(value) is float or type(value) is int:
            try:
                result = value * scale
            except OverflowError:
                # a whole number beyond the range of a float
                result = math.nan
            # neither NaN nor an infinity lies within
            if low <= result <= high:
                return result
        self._drop(name)
        return None

    def total(self, name: str, scale: float = 1.0) -> float | None:
        """A running total: a finite number of 0 or more, times ``scale``."""
        return self.number(name, scale=scale, low=0.0)

    def ratio(self, name: str, scale: float = 1.0) -> float | None:
        """A number from 0 to 1, after ``scale``."""
        result = self.number(name, scale=scale, low=-RATIO_SLACK, high=1.0 + RATIO_SLACK)
        return None if result is None else _clamped(result)

    def count(self, name: str) -> int | None:
        """A whole number of 0 or more."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            self._drop(name)
            return None
        return value

    # -- words -------------------------------------------------------------------------------------------------------

    def flag(self, name: str) -> bool | None:
        """True or false; no other value stands for them."""
        value = self.raw.get(name)
        if value is None or isinstance(value, bool):
            return value
        self._drop(name)
        return None

    def text(self, name: str, *, unique: bool = False) -> str:
        """A text, empty when missing. Control characters stay; one of more than 1024 characters is dropped.

        ``unique``: no other stream has the same, and nothing will keep it.
        """
        value = self.raw.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            self._drop(name)
            return ""
        # the same words come with every poll, and many for every stream
        return value if unique else intern(value)

    def word(self, name: str) -> str:
        """A text in lower case, which many streams have in common."""
        return intern(self.text(name, unique=True).lower())

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts; those that are none, or too long, are left out of it."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            self._drop(name)
            return None
        texts = tuple(item for item in value if isinstance(item, str) and len(item) <= MAX_TEXT)
        for _ in range(len(value) - len(texts)):
            self._drop(name)
        return texts

    # -- times -------------------------------------------------------------------------------------------------------

    def time_ms(self, name: str) -> float | None:
        """Unix seconds, from unix milliseconds between the years 2000 and 2100; 0 stands for never."""
        value = self.raw.get(name)
        if value is None or (value == 0 and not isinstance(value, bool)):
            return None
        return self.number(name, scale=0.001, low=YEAR_2000, high=YEAR_2100)

    def time_iso(self, name: str) -> float | None:
        """Unix seconds, from ISO 8601 between the years 2000 and 2100; UTC where it names no zone. Empty: none."""
        value = self.raw.get(name)
        if value is None or value == "":
            return None
        seconds = _iso_seconds(value) if isinstance(value, str) else None
        if seconds is None or not YEAR_2000 <= seconds <= YEAR_2100:
            self._drop(name)
            return None
        return seconds

    # -- what is nested ----------------------------------------------------------------------------------------------

    def record(self, name: str) -> Record | None:
        """The object under ``name``; its own fields are counted as ``name.field``."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._drop(name)
            return None
        return Record(value, self._fields, f"{self._prefix}{name}.")

    def records(self, name: str) -> list[Record]:
        """The objects of the list under ``name``; what is no object is left out."""
        value = self.raw.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self._drop(name)
            return []
        return list(self._records(name, value))

    def _records(self, name: str, items: list[Any]) -> Iterator[Record]:
        prefix = f"{self._prefix}{name}."
        for item in items:
            if isinstance(item, dict):
                yield Record(item, self._fields, prefix)
            else:
                self._drop(name)

    def _drop(self, name: str) -> None:
        self._fields.drop(self._prefix + name)


@lru_cache(maxsize=1024)
def _clamped(ratio: float) -> float:
    """Between 0 and 1. Many streams have the same, such as 97 %: one number does for them."""
    return min(1.0, max(0.0, ratio))


def _iso_seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _kind(raw: object) -> str:
    names: dict[type, str] = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(raw), "a number")
