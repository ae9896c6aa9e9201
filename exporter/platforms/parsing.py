"""Read the records of a decoded response field by field.

A missing or null field is None. A value of the wrong type, out of range or not finite is also None, and is counted as
dropped under the platform's name for the field; the rest of its record is not affected. Numbers and flags may be
strings.
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
"""Maximum length of a string, in characters."""
MAX_COUNT = 2**63 - 1
LARGEST = float_info.max
"""The largest float."""
YEAR_2000 = 946_684_800.0
YEAR_2100 = 4_102_444_800.0
RATIO_SLACK = 1e-6
"""Rounding error by which a ratio may lie outside 0 to 1; it is then clamped."""
# units: factors to the model's base units (bytes per second, seconds, ratio)
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
    """Counts the fields that were dropped in one poll because their value was unreadable."""

    __slots__ = ("counts", "unknown_words")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """By the platform's name for the field; nested names are dotted."""
        self.unknown_words: dict[str, str] = {}
        """The last word without a known meaning, by the platform's name for the field."""

    def drop(self, name: str) -> None:
        """Count a dropped field."""
        self.counts[name] = self.counts.get(name, 0) + 1


class Record:
    """One object in a response: a JSON object, an XML element, or lines of text.

    XML and text have no types: numbers and flags are strings, and a list with one item looks like that item.
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
        """``prefix``: prepended to the names of dropped fields. ``is_text``: all values are strings, as in XML.

        ``parent``: the record that contains this one.
        """
        self.raw = raw
        self.is_text = is_text
        self._drops = drops
        self._prefix = prefix
        self._parent = parent
        self._dropped: set[str] | None = None

    @classmethod
    def from_response(cls, data: object, drops: DropCounter) -> Record:
        """Return a response that is an object. Raises ``UpstreamError`` (``bad_response``) if it is not one."""
        if not isinstance(data, dict):
            raise UpstreamError(Reason.BAD_RESPONSE, f"expected a JSON object, found {_kind(data)}")
        return cls(data, drops)

    def sibling(self, raw: dict[str, Any]) -> Record:
        """Return a record of another object, whose dropped fields are counted under the same prefix."""
        return Record(raw, self._drops, self._prefix, is_text=self.is_text)

    def __contains__(self, name: str) -> bool:
        """Whether the field is present and not null. An empty XML element is present."""
        return self.raw.get(name) is not None

    def has_unreadable(self, *names: str) -> bool:
        """Return whether one of these fields was read and dropped. Names of nested fields are dotted.

        The name of an object or a list includes everything inside it.
        """
        if self._dropped is None:
            return False
        start = len(self._prefix)
        dropped = [name[start:] for name in self._dropped]
        return any(found == name or found.startswith(f"{name}.") for found in dropped for name in names)

    # -- numbers -----------------------------------------------------------------------------------------------------

    def number(self, name: str, *, unit: float = 1.0, low: float = -LARGEST, high: float = LARGEST) -> float | None:
        """Return a finite number in the model's base unit, if the result lies in ``low`` to ``high`` (inclusive).

        ``unit``: factor to the base unit, such as ``KILOBITS_PER_SECOND``.
        """
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            if self.is_text and not value:
                return None
            if _NUMBER.fullmatch(value):
                value = float(value)
        # exact types, because bool is a subclass of int
        if type(value) is float or type(value) is int:
            try:
                result = value * unit
            except OverflowError:
                # an int beyond the range of float
                result = math.nan
            # false for NaN and infinities
            if low <= result <= high:
                return result
        self._drop(name)
        return None

    def total(self, name: str, unit: float = 1.0) -> float | None:
        """Return a running total: a finite number >= 0."""
        return self.number(name, unit=unit, low=0.0)

    def ratio(self, name: str, unit: float = 1.0) -> float | None:
        """Return a number that is from 0 to 1 after conversion from ``unit``."""
        result = self.number(name, unit=unit, low=-RATIO_SLACK, high=1.0 + RATIO_SLACK)
        return None if result is None else _clamped(result)

    def count(self, name: str) -> int | None:
        """Return an integer >= 0."""
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
        """Return the integer >= 0 of the first of these fields that has a readable one."""
        return next((value for name in names if (value := self.count(name)) is not None), None)

    # -- words -------------------------------------------------------------------------------------------------------

    def flag(self, name: str) -> bool | None:
        """Return a boolean, also from a string such as ``true``, ``yes`` or ``0``."""
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
        """Return a string, empty if missing. Control characters are kept; more than 1024 characters are unreadable.

        ``unique``: the string is not shared between streams, so it is not interned.
        """
        value = self.raw.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            self._drop(name)
            return ""
        # most strings repeat in every poll, and many are the same for every stream
        return value if unique else intern(value)

    def word(self, name: str) -> str:
        """Return a string in lower case, interned."""
        return intern(self.text(name, unique=True).lower())

    def meaning(self, name: str, words: Mapping[str, WordT]) -> WordT | None:
        """Return the meaning of a word, or None if the word is missing or unknown. Unknown words are recorded.

        ``words``: meanings by ``normalised`` word, as ``meanings`` returns them.
        """
        text = self.text(name, unique=True)
        word = normalised(text)
        meaning = words.get(word)
        if meaning is None and word:
            self._drops.unknown_words[self._prefix + name] = text
        return meaning

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return a list of strings, without items that are not strings or are too long."""
        value = self._as_list(name)
        if value is None:
            return None
        texts = tuple(item for item in value if isinstance(item, str) and len(item) <= MAX_TEXT)
        for _ in range(len(value) - len(texts)):
            self._drop(name)
        return texts

    # -- times -------------------------------------------------------------------------------------------------------

    def time_seconds(self, name: str) -> float | None:
        """Return unix seconds between the years 2000 and 2100; None for 0, which means never."""
        return self._unix_time(name, SECONDS)

    def time_ms(self, name: str) -> float | None:
        """Return unix seconds from unix milliseconds between the years 2000 and 2100; None for 0, which means never."""
        return self._unix_time(name, MILLISECONDS)

    def time_iso(self, name: str) -> float | None:
        """Return unix seconds from an ISO 8601 time between the years 2000 and 2100; without an offset, it is UTC."""
        return self._written_time(name, _iso_seconds)

    def time_http(self, name: str) -> float | None:
        """Return unix seconds from an HTTP date (RFC 1123) between the years 2000 and 2100."""
        return self._written_time(name, http_date)

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
        """Return the object under ``name``. Raises ``UpstreamError`` (``bad_response``) if there is none."""
        found = self.record(name)
        if found is None:
            raise UpstreamError(Reason.BAD_RESPONSE, f"the response has no {self._prefix}{name}")
        return found

    def required_records(self, name: str) -> list[Record]:
        """Return the objects in the list ``name``. Raises ``UpstreamError`` (``bad_response``) if there is no list."""
        if self._as_list(name) is None and not self.is_text:
            raise UpstreamError(Reason.BAD_RESPONSE, f"the response has no list {self._prefix}{name}")
        return self.records(name)

    def items(self, name: str) -> list[Any]:
        """Return the list ``name`` with any items. Raises ``UpstreamError`` (``bad_response``) if there is none."""
        found = self._as_list(name)
        if found is None:
            raise UpstreamError(Reason.BAD_RESPONSE, f"the response has no list {self._prefix}{name}")
        return found

    def record(self, name: str) -> Record | None:
        """Return the object under ``name``; its dropped fields are counted as ``name.field``."""
        value = self.raw.get(name)
        if value is None or (self.is_text and value == ""):
            return None
        if not isinstance(value, dict):
            self._drop(name)
            return None
        return Record(value, self._drops, f"{self._prefix}{name}.", is_text=self.is_text, parent=self)

    def records(self, name: str) -> list[Record]:
        """Return the objects in the list ``name``, without items that are not objects."""
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
    """Return a platform's words and their meanings in the form that ``Record.meaning`` takes."""
    return {normalised(word): meaning for word, meaning in words.items()}


@lru_cache(maxsize=1024)
def _clamped(ratio: float) -> float:
    """Clamp a ratio to 0 to 1. Cached because many streams share a value, such as 97 %, and then one object."""
    return min(1.0, max(0.0, ratio))


def _iso_seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _kind(raw: object) -> str:
    names: dict[type, str] = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(raw), "a number")
