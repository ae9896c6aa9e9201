"""The times that start and end a report: RFC 3339, Unix seconds, or a duration before now."""

from __future__ import annotations

import datetime
import math
import re
from typing import Final

from exporter.config.types import parse_duration
from exporter.reports.report import Span

DEFAULT_SECONDS: Final = 3600.0
MAX_SECONDS: Final = 31 * 86_400.0
ALLOWED: Final = (
    'expected a time with its UTC offset ("2026-12-06T20:00:00+01:00"), Unix seconds, "now", or a duration before now '
    '("2h", "90m ago")'
)
_LATEST = 253_402_214_400.0
"""The last day of the year 9999."""
_SPACED_OFFSET = re.compile(r"(T[0-9:.]+) ([0-9]{2}:?[0-9]{2})$")
_UNIX_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


class MomentError(ValueError):
    """An unreadable time, or an invalid range."""


def parse_moment(text: str, now: float) -> float:
    """Return Unix seconds. Raises ``MomentError``."""
    # an unencoded "+" in a query is decoded to a space
    words = _SPACED_OFFSET.sub(r"\1+\2", text.strip())
    if words == "now":
        return now
    if _UNIX_SECONDS.fullmatch(words):
        return _check(float(words))
    try:
        return _check(now - parse_duration(words.removesuffix("ago").rstrip()))
    except ValueError:
        pass
    try:
        moment = datetime.datetime.fromisoformat(words)
    except ValueError:
        raise MomentError(ALLOWED) from None
    if moment.tzinfo is None:
        raise MomentError(ALLOWED)
    try:
        return _check(moment.timestamp())
    except OverflowError:
        raise MomentError(ALLOWED) from None


def _check(seconds: float) -> float:
    if not (math.isfinite(seconds) and 0.0 <= seconds <= _LATEST):
        raise MomentError(ALLOWED)
    return seconds


def parse_span(start: str | None, end: str | None, now: float) -> Span:
    """Return the range of a report; without ``start`` and ``end``, the last hour. Raises ``MomentError``."""
    to = now if end is None else _named("to", end, now)
    from_ = to - DEFAULT_SECONDS if start is None else _named("from", start, now)
    if from_ >= to:
        raise MomentError("from must be before to")
    if to - from_ > MAX_SECONDS:
        raise MomentError("a report covers at most 31 days")
    return Span(from_, to)


def _named(name: str, text: str, now: float) -> float:
    try:
        return parse_moment(text, now)
    except MomentError as error:
        raise MomentError(f"{name}: {error}") from None
