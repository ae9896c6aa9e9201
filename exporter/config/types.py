"""The types of the configuration's values, each with the words that say what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, core_schema

from exporter.config.quantities import (
    format_bitrate,
    format_duration,
    format_size,
    parse_bitrate,
    parse_duration,
    parse_size,
)
from exporter.config.validation import refuse, resolve

__all__ = [
    "Between", "Bitrate", "ByteSize", "Computed", "ConfigPath", "Count", "Described", "Duration", "Flag",
    "Matching", "Number", "OffOrDuration", "Text", "format_bitrate", "format_duration", "format_size",
    "parse_bitrate", "parse_duration", "parse_size", "read_flag", "read_number",
]  # fmt: skip


@dataclass(frozen=True)
class Described:
    """What a type is in plain words, for error lines and the reference page."""

    words: str


@dataclass(frozen=True)
class Computed:
    """A default that depends on other keys, in plain words."""

    words: str


@dataclass(frozen=True)
class Between:
    """Bounds of a number, both allowed. ``show`` writes them as the type does."""

    low: float
    high: float
    show: Callable[[float], str] = "{:.15g}".format

    @property
    def words(self) -> str:
        """The range in plain words."""
        return f"from {self.show(self.low)} to {self.show(self.high)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: float | None) -> float | None:
        if value is not None and not self.low <= value <= self.high:
            raise refuse(f"a value {self.words}")
        return value


@dataclass(frozen=True)
class Matching:
    """Text of a given form: ``pattern`` matches it whole, ``words`` say it."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise refuse(self.words)
        return value


def _reader(parse: Callable[[str], float], words: str) -> BeforeValidator:
    def read(value: Any) -> float:
        # a plain 0 needs no unit; other numbers would leave the unit to be guessed
        text = "0" if type(value) is int and value == 0 else value
        try:
            return parse(text)
        except (TypeError, ValueError):
            raise refuse(words) from None

    return BeforeValidator(read)


def _size(value: Any) -> int:
    return parse_size(str(value) if type(value) is int else value)


def read_number(value: Any) -> float:
    """A number, or (from the environment) its text; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _count(value: Any) -> int:
    number = read_number(value)
    if number != int(number):
        raise ValueError
    return int(number)


_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def read_flag(value: Any) -> bool:
    """A truth value, or its word. Raises ``ValueError``."""
    known = value if isinstance(value, bool) else _FLAGS.get(value.lower()) if isinstance(value, str) else None
    if known is None:
        raise refuse("true or false")
    return known


def _off_or_duration(value: Any) -> float | None:
    if value is False or value == "false":
        return None
    try:
        return parse_duration(value)
    except (TypeError, ValueError):
        raise refuse("false (off) or " + _DURATION_WORDS) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse("text (a number is put in quotes)" if isinstance(value, int | float) else "text")
    if not value or len(value) > _MAX_TEXT or not value.isprintable():
        raise refuse(f"1 to {_MAX_TEXT} characters, none of them a control character")
    return value


def _path(value: Any) -> Path:
    return value if isinstance(value, Path) else resolve(_text(value))


_MAX_TEXT = 1024
_DURATION_WORDS = "a duration such as 500ms, 15s or 1m30s"
_SIZE_WORDS = "a size such as 512kB, 10MB or 16MiB"
_BITRATE_WORDS = "a bitrate such as 800kbps, 2.5Mbps or 64000bps"

Duration = Annotated[
    float, _reader(parse_duration, _DURATION_WORDS), PlainSerializer(format_duration), Described("duration")
]
"""Seconds; written as in Prometheus."""
OffOrDuration = Annotated[
    float | None,
    BeforeValidator(_off_or_duration),
    PlainSerializer(lambda value: False if value is None else format_duration(value)),
    Described("duration, or false (off)"),
]
"""Seconds, None for ``false``."""
ByteSize = Annotated[int, _reader(_size, _SIZE_WORDS), PlainSerializer(format_size), Described("size")]
Bitrate = Annotated[
    float, _reader(parse_bitrate, _BITRATE_WORDS), PlainSerializer(format_bitrate), Described("bitrate")
]
"""BYTES per second; written in bits per second."""
Count = Annotated[int, _reader(_count, "a whole number"), Described("whole number")]
Number = Annotated[float, _reader(read_number, "a number"), Described("number")]
Flag = Annotated[bool, BeforeValidator(read_flag), Described("true or false")]
Text = Annotated[str, BeforeValidator(_text), Described("text")]
ConfigPath = Annotated[Path, BeforeValidator(_path), PlainSerializer(str), Described("path")]
"""A file; a relative path begins at the configuration file."""
