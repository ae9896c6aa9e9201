"""Types of configuration values, with descriptions for errors: durations, sizes, bitrates, text, …"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, core_schema

from exporter.config.validation import refuse, refuse_because, resolve

_DURATION_UNITS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
"""Milliseconds by unit, in the order that Prometheus requires."""
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in _DURATION_UNITS))
_WHOLE_ONLY = ("y", "w", "d")
"""Units that are used only without a remainder: 90m becomes 1h30m, but 36h does not become 1d12h."""

_SIZE_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(B|kB|KB|MB|GB|KiB|MiB|GiB)?")

_BITRATE_UNITS = {"bps": 1, "kbps": 10**3, "Kbps": 10**3, "Mbps": 10**6, "Gbps": 10**9}
_BITRATE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(bps|[kKMG]bps)")


def parse_duration(text: str) -> float:
    """Parse a Prometheus duration (``500ms``, ``15s``, ``1h30m``, ``7d``, ``0``) to seconds. Raises ``ValueError``."""
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        raise ValueError("not a duration")
    milliseconds = sum(int(n) * factor for n, factor in zip(match.groups(), _DURATION_UNITS.values(), strict=True) if n)
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """Format seconds as a Prometheus duration, to the millisecond."""
    left = round(seconds * 1000)
    if left == 0:
        return "0s"
    parts = []
    for unit, factor in _DURATION_UNITS.items():
        if unit in _WHOLE_ONLY and left % factor:
            continue
        count, left = divmod(left, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(text: str) -> int:
    """Parse ``16MiB``, ``10MB``, ``512kB`` or a plain number to bytes. Raises ``ValueError``."""
    match = _SIZE.fullmatch(text)
    if match is None or ("." in match[1] and not match[2]):
        raise ValueError("not a size")
    return round(float(match[1]) * _SIZE_UNITS[match[2] or "B"])


def format_size(size: float) -> str:
    """Format a size in the largest unit that needs no fraction."""
    for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{int(size) // _SIZE_UNITS[unit]}{unit}"
    return f"{int(size)}B"


def parse_bitrate(text: str) -> float:
    """Parse ``4Mbps``, ``2.5Mbps``, ``800kbps`` or ``64000bps`` (bits) to bytes per second. Raises ``ValueError``."""
    match = _BITRATE.fullmatch(text)
    if match is None:
        raise ValueError("not a bitrate")
    return float(match[1]) * _BITRATE_UNITS[match[2]] / 8


def format_bitrate(rate: float) -> str:
    """Format bytes per second as bits per second."""
    bits = rate * 8
    for unit in ("Gbps", "Mbps", "kbps"):
        if bits >= _BITRATE_UNITS[unit]:
            return f"{bits / _BITRATE_UNITS[unit]:.6g}{unit}"
    return f"{bits:.6g}bps"


@dataclass(frozen=True)
class Described:
    """Description of a type in plain words, for errors and the reference page."""

    words: str


@dataclass(frozen=True)
class Computed:
    """Description of a default that depends on other keys."""

    words: str


@dataclass(frozen=True)
class Between:
    """Inclusive bounds of a number. ``show`` formats them like values of the type."""

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
    """A regular expression that must match the whole text, and its description."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise refuse(self.words)
        return value


def _reading_with(parse: Callable[[str], float], words: str) -> BeforeValidator:
    def read(value: Any) -> float:
        # 0 needs no unit; for any other number we would have to guess it
        text = "0" if type(value) is int and value == 0 else value
        try:
            return parse(text)
        except (TypeError, ValueError):
            raise refuse(words) from None

    return BeforeValidator(read)


def _read_size(value: Any) -> int:
    return parse_size(str(value) if type(value) is int else value)


def read_number(value: Any) -> float:
    """Return a number, also from text (environment variables). Raises ``TypeError`` and ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_count(value: Any) -> int:
    number = read_number(value)
    if number != int(number):
        raise ValueError
    return int(number)


_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def read_flag(value: Any) -> bool:
    """Return a boolean, also from text such as ``yes``. Raises ``ValueError``."""
    known = value if isinstance(value, bool) else _FLAGS.get(value.lower()) if isinstance(value, str) else None
    if known is None:
        raise refuse("true or false")
    return known


def _read_off_or_duration(value: Any) -> float | None:
    if value is False or value == "false":
        return None
    try:
        return parse_duration(value)
    except (TypeError, ValueError):
        raise refuse("false (off) or " + _DURATION_WORDS) from None


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse("a string (put numbers in quotes)" if isinstance(value, int | float) else "a string")
    if not value or len(value) > _MAX_TEXT or not value.isprintable():
        raise refuse(f"1 to {_MAX_TEXT} characters without control characters")
    return value


def _read_path(value: Any) -> Path:
    return value if isinstance(value, Path) else resolve(_read_text(value))


def _check_metric_prefix(prefix: str) -> str:
    if prefix.startswith(OWN_METRIC_PREFIXES):
        raise refuse_because(f"must not start with {', '.join(OWN_METRIC_PREFIXES)}, the prefixes of our own metrics")
    return prefix


OWN_METRIC_PREFIXES: Final = ("stream_", "process_", "python_")
"""Prefixes of the exporter's own metrics, which pass-through metrics must not have."""
_MAX_TEXT = 1024
_DURATION_WORDS = "a duration such as 500ms, 15s or 1m30s"
_SIZE_WORDS = "a size such as 512kB, 10MB or 16MiB"
_BITRATE_WORDS = "a bitrate such as 800kbps, 2.5Mbps or 64000bps"

Duration = Annotated[
    float, _reading_with(parse_duration, _DURATION_WORDS), PlainSerializer(format_duration), Described("duration")
]
"""Seconds; formatted as in Prometheus."""
OffOrDuration = Annotated[
    float | None,
    BeforeValidator(_read_off_or_duration),
    PlainSerializer(lambda value: False if value is None else format_duration(value)),
    Described("duration, or false (off)"),
]
"""Seconds; None for ``false``."""
ByteSize = Annotated[int, _reading_with(_read_size, _SIZE_WORDS), PlainSerializer(format_size), Described("size")]
Bitrate = Annotated[
    float, _reading_with(parse_bitrate, _BITRATE_WORDS), PlainSerializer(format_bitrate), Described("bitrate")
]
"""BYTES per second; formatted as bits per second."""
Count = Annotated[int, _reading_with(_read_count, "a whole number"), Described("whole number")]
Number = Annotated[float, _reading_with(read_number, "a number"), Described("number")]
Flag = Annotated[bool, BeforeValidator(read_flag), Described("true or false")]
Text = Annotated[str, BeforeValidator(_read_text), Described("string")]
Name = Annotated[Text, Matching("[a-zA-Z0-9_.-]{1,64}", "1 to 64 characters (letters, digits, _ . -)")]
"""Name of an upstream, a group, or a receiver of alerts."""
ConfigPath = Annotated[Path, BeforeValidator(_read_path), PlainSerializer(str), Described("path")]
"""Path of a file, resolved against the folder of the configuration file."""
MetricPrefix = Annotated[
    Text,
    Matching("[a-zA-Z_:][a-zA-Z0-9_:]*", "the start of a metric name"),
    AfterValidator(_check_metric_prefix),
]
"""Prefix of the names of pass-through metrics."""
