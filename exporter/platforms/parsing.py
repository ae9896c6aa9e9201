"""Parsing helpers: reading the records of a decoded response field by field.

A field that is missing or null is None and nothing else. A value of the wrong type, out of range or not finite is None
too, and counted under the platform's name for it; it never fails the rest of its record. Numbers and flags may be given
as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from sys import float_info, intern
from typing import Any, TypeVar

from exporter.http.errors import UpstreamError
from exporter.http.response import http_date
from exporter.model import Reason

WordT = TypeVar("WordT")

MAX_TEXT = 1024
"""Maximum length of a text, in characters."""
MAX_COUNT = 2**63 - 1
LARGEST = float_info.max
"""The largest number that a float can be."""
YEAR_2000 = 946_684_800.0
YEAR_2100 = 4_102_444_800.0
RATIO_SLACK = 1e-6
"""How far a ratio may lie outside 0 to 1 by rounding; it is then taken as the bound."""
# units: the factor to the model's base unit (bytes per second, seconds, ratio)
BITS_PER_SECOND = 0.125
KILOBITS_PER_SECOND = 125.0
MEGABITS_PER_SECOND = 125_000.0
BYTES_PER_SECOND = 1.0
KILOBYTES_PER_SECOND = 1000.0
SECONDS = 1.0
MILLISECONDS = 0.001
MICROSECONDS = 0.000001
NANOSECONDS = 0.000000001
PERCENT = 0.01

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,4})?\s*")
_FLAGS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}


class DropCounter:
    """Counts, over one poll, the fields that were dropped because their value was bad."""

    __slots__ = ("counts", "unknown_words")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """By the platform's name of the field; dotted for nested ones."""
        self.unknown_words: dict[str, str] = {}
        """The last word without a known meaning, by the platform's name of the field."""

    def drop(self, name: str) -> None:
        """Count a dropped field."""
        self.counts[name] = self.counts.get(name, 0) + 1


class Record:
    """One object of a response: a JSON object, an XML element, or lines of text.

    XML and text have no types: their numbers and flags are texts, and an element that stands once is no list.
    """

    __slots__ = ("_dropped", "_drops", "_parent", "_prefix", "is_text", "raw")

    def __init__(
        self,
        raw: dict[str, Any],
        drops: DropCounter,
        prefix: str = "",
        *,
        is_text: bool = False,
        parent: Record | None = None,
    ) -> None:
        """``prefix``: counted before the names of dropped fields; ``is_text``: all values are texts, as in XML.

        ``parent``: the record that this one is a part of.
        """
        self.raw = raw
        self.is_text = is_text
        self._drops = drops
        self._prefix = prefix
        self._parent = parent
        self._dropped: set[str] | None = None

    @classmethod
    def from_response(cls, data: object, drops: DropCounter) -> Record:
        """Return the object that a response is. Raises ``UpstreamError`` (``bad_response``) when it is not one."""
        if not isinstance(data, dict):
            raise UpstreamError(Reason.BAD_RESPONSE, f"a JSON object was expected, found {_kind(data)}")
        return cls(data, drops)

    def sibling(self, raw: dict[str, Any]) -> Record:
        """Return another object whose fields count as being in the same place as this one's."""
        return Record(raw, self._drops, self._prefix, is_text=self.is_text)

    def __contains__(self, name: str) -> bool:
        """Whether the field is there and not null. An empty XML element is there."""
        return self.raw.get(name) is not None

    def has_unreadable(self, *names: str) -> bool:
        """Return whether one of these fields was read and dropped, in this record or (dotted) in a part of it.

        A field that holds an object or a list stands for everything inside it.
        """
        if self._dropped is None:
            return False
        start = len(self._prefix)
        dropped = [name[start:] for name in self._dropped]
        return any(found == name or found.startswith(f"{name}.") for found in dropped for name in names)

    # -- numbers -----------------------------------------------------------------------------------------------------

    def number(self, name: str, *, unit: float = 1.0, low: float = -LARGEST, high: float = LARGEST) -> float | None:
        """Return a finite number in the model's base unit; ``low`` and ``high`` bound the result, both included.

        ``unit``: the factor to the base unit, such as ``KILOBITS_PER_SECOND``.
        """
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            if self.is_text and not value:
                return None
            if _NUMBER.fullmatch(value):
                value = float(value)
        # JSON gives no subclasses of these but bool, which is not a number
        if type(value) is float or type(value) is int:
            try:
                result = value * unit
            except OverflowError:
                # a whole number beyond the range of a float
                result = math.nan
            # neither NaN nor an infinity lies within
            if low <= result <= high:
                return result
        self._drop(name)
        return None

    def total(self, name: str, unit: float = 1.0) -> float | None:
        """Return a running total: a finite number of 0 or more."""
        return self.number(name, unit=unit, low=0.0)

    def ratio(self, name: str, unit: float = 1.0) -> float | None:
        """Return a number from 0 to 1, after conversion from ``unit``."""
        result = self.number(name, unit=unit, low=-RATIO_SLACK, high=1.0 + RATIO_SLACK)
        return None if result is None else _clamped(result)

    def count(self, name: str) -> int | None:
        """Return a whole number of 0 or more."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            if self.is_text and not value:
                return None
            text = value.strip()
            if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_COUNT)):
                value = int(text)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            self._drop(name)
            return None
        return value

    def first_count(self, *names: str) -> int | None:
        """Return the whole number of 0 or more under the first of these names that has a readable one."""
        return next((value for name in names if (value := self.count(name)) is not None), None)

    # -- words -------------------------------------------------------------------------------------------------------

    def flag(self, name: str) -> bool | None:
        """Return true or false, also from a text such as ``true``, ``yes`` or ``0``."""
        value = self.raw.get(name)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            known = _FLAGS.get(value.strip().lower())
            if known is not None or (self.is_text and not value):
                return known
        self._drop(name)
        return None

    def text(self, name: str, *, unique: bool = False) -> str:
        """Return a text, empty when missing. Control characters stay; one of more than 1024 characters is dropped.

        ``unique``: no other stream has the same text, and nothing will keep it.
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
        """Return a text in lower case that many streams have in common."""
        return intern(self.text(name, unique=True).lower())

    def meaning(self, name: str, words: Mapping[str, WordT]) -> WordT | None:
        """Return what a word stands for. ``words``: the meanings by ``normalised`` word; a word without one is noted.

        None: there is no word, or not a known one.
        """
        text = self.text(name, unique=True)
        word = normalised(text)
        meaning = words.get(word)
        if meaning is None and word:
            self._drops.unknown_words[self._prefix + name] = text
        return meaning

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return a list of texts; items that are not texts, or too long, are left out of it."""
        value = self._as_list(name)
        if value is None:
            return None
        texts = tuple(item for item in value if isinstance(item, str) and len(item) <= MAX_TEXT)
        for _ in range(len(value) - len(texts)):
            self._drop(name)
        return texts

    # -- times -------------------------------------------------------------------------------------------------------

    def time_seconds(self, name: str) -> float | None:
        """Return unix seconds between the years 2000 and 2100; 0 means never."""
        return self._unix_time(name, SECONDS)

    def time_ms(self, name: str) -> float | None:
        """Return unix seconds, from unix milliseconds between the years 2000 and 2100; 0 means never."""
        return self._unix_time(name, MILLISECONDS)

    def time_iso(self, name: str) -> float | None:
        """Return unix seconds, from ISO 8601 between the years 2000 and 2100; UTC where it names no zone."""
        return self._written_time(name, _iso_seconds)

    def time_http(self, name: str) -> float | None:
        """Return unix seconds, from a date as HTTP and e-mail write it (RFC 1123), between the years 2000 and 2100."""
        return self._written_time(name, http_date)

    def time_since(self, name: str, now: float, unit: float = SECONDS) -> float | None:
        """Return unix seconds, from the time that has passed. ``now``: unix seconds on the platform's clock."""
        passed = self.number(name, unit=unit, low=0.0, high=now - YEAR_2000)
        return None if passed is None else now - passed

    def _unix_time(self, name: str, unit: float) -> float | None:
        value = self.raw.get(name)
        if value is None or value == "0" or (value == 0 and not isinstance(value, bool)):
            return None
        return self.number(name, unit=unit, low=YEAR_2000, high=YEAR_2100)

    def _written_time(self, name: str, parse: Any) -> float | None:
        value = self.raw.get(name)
        if value is None or value == "":
            return None
        seconds: float | None = parse(value) if isinstance(value, str) else None
        if seconds is None or not YEAR_2000 <= seconds <= YEAR_2100:
            self._drop(name)
            return None
        return seconds

    # -- nested objects ----------------------------------------------------------------------------------------------

    def required_record(self, name: str) -> Record:
        """Return the object under ``name``. Raises ``UpstreamError`` (``bad_response``) where there is none."""
        found = self.record(name)
        if found is None:
            raise UpstreamError(Reason.BAD_RESPONSE, f"no {self._prefix}{name} in the response")
        return found

    def required_records(self, name: str) -> list[Record]:
        """Return the objects of the list under ``name``. Raises ``UpstreamError`` (``bad_response``) without a list."""
        if self._as_list(name) is None and not self.is_text:
            raise UpstreamError(Reason.BAD_RESPONSE, f"no list {self._prefix}{name} in the response")
        return self.records(name)

    def items(self, name: str) -> list[Any]:
        """Return the list under ``name``, whatever is in it. Raises ``UpstreamError`` (``bad_response``) without it."""
        found = self._as_list(name)
        if found is None:
            raise UpstreamError(Reason.BAD_RESPONSE, f"no list {self._prefix}{name} in the response")
        return found

    def record(self, name: str) -> Record | None:
        """Return the object under ``name``; its own fields are counted as ``name.field``."""
        value = self.raw.get(name)
        if value is None or (self.is_text and value == ""):
            return None
        if not isinstance(value, dict):
            self._drop(name)
            return None
        return Record(value, self._drops, f"{self._prefix}{name}.", is_text=self.is_text, parent=self)

    def records(self, name: str) -> list[Record]:
        """Return the objects of the list under ``name``; items that are not objects are left out."""
        value = self._as_list(name)
        return [] if value is None else list(self._records(name, value))

    def _records(self, name: str, items: list[Any]) -> Iterator[Record]:
        prefix = f"{self._prefix}{name}."
        for item in items:
            if isinstance(item, dict):
                yield Record(item, self._drops, prefix, is_text=self.is_text, parent=self)
            else:
                self._drop(name)

    def _as_list(self, name: str) -> list[Any] | None:
        value = self.raw.get(name)
        if value is None or isinstance(value, list):
            return value
        if self.is_text:
            return [] if value == "" else [value]
        self._drop(name)
        return None

    def _drop(self, name: str) -> None:
        full_name = self._prefix + name
        self._drops.drop(full_name)
        self._note_dropped(full_name)

    def _note_dropped(self, full_name: str) -> None:
        if self._dropped is None:
            self._dropped = set()
        self._dropped.add(full_name)
        if self._parent is not None:
            self._parent._note_dropped(full_name)  # noqa: SLF001 - of the same class


# -- values ------------------------------------------------------------------------------------------------------------


def normalised(word: str) -> str:
    """Return a word in lower case without spaces, ``_`` and ``-``."""
    return word.strip().lower().translate(_IGNORED)


_IGNORED = {ord(character): None for character in "_- "}


def meanings(words: Mapping[str, WordT]) -> dict[str, WordT]:
    """Return the meanings of a platform's words for ``Record.meaning``."""
    return {normalised(word): meaning for word, meaning in words.items()}


@lru_cache(maxsize=1024)
def _clamped(ratio: float) -> float:
    """Return the ratio between 0 and 1. Many streams share one, such as 97 %, so one number does for them."""
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
