"""When a stream is expected to be live: always, or in weekly hours, which may span midnight and DST changes.

Hours follow the wall clock. A local time that a DST change skips becomes the next existing minute, so hours entirely
within the skipped time have no length.
"""

from __future__ import annotations

import datetime
import math
from bisect import bisect_left
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from exporter.config.streams import CalendarSettings
from exporter.config.upstream import LiveHours, StreamSettings
from exporter.runtime.clock import Instant

_DAY = datetime.timedelta(days=1)
_DAYS_BACK, _DAYS_AHEAD = 1, 8
"""Days around today to consider: yesterday's hours may not be over, and weekly hours repeat within eight days."""


class ExpectedHours:
    """The expected hours of one stream; the current answer is cached until it may change."""

    def __init__(self, settings: StreamSettings, started_at: Instant) -> None:
        """``started_at``: when the exporter started; ``start_grace`` also applies after that."""
        self._expected = settings.expected
        self._grace = settings.start_grace
        self._started_at = started_at
        self._answer: bool | None = None
        self._from = self._until = -math.inf

    def is_expected(self, now: Instant) -> bool | None:
        """Return whether the stream is expected to be live; None if not configured, or within ``start_grace``.

        Within ``start_grace`` the stream may be live or not.
        """
        if not self._from <= now.wall < self._until:
            # computed with the current wall clock, which may have been set since the exporter started
            started_at = now.wall - (now.steady - self._started_at.steady)
            self._answer, self._until = self._compute_answer(now.wall, started_at)
            self._from = now.wall
        return self._answer

    @property
    def changes_at(self) -> float:
        """Unix seconds at which the result of ``is_expected`` may change."""
        return self._until

    def _compute_answer(self, now: float, started_at: float) -> tuple[bool | None, float]:
        if isinstance(self._expected, CalendarSettings):
            return None, now + _DAY.total_seconds()
        if not self._expected:
            return (None if self._expected is None else False), math.inf
        until = math.inf
        for start, end in self._expected_spans(now):
            if now >= end:
                continue
            if now < start:
                until = min(until, start)
                continue
            since = max(start, started_at) + self._grace
            return (True, end) if now >= since else (None, min(since, end))
        # compute again within a day, because only the next few days were considered
        return False, min(until, now + _DAY.total_seconds())

    def _expected_spans(self, now: float) -> Iterator[tuple[float, float]]:
        if self._expected is True:
            yield -math.inf, math.inf
            return
        hours_list = self._expected if isinstance(self._expected, tuple) else ()
        spans = sorted(span for hours in hours_list for span in _spans_around(hours, now))
        yield from _merge_spans(spans)


def _spans_around(hours: LiveHours, now: float) -> Iterator[tuple[float, float]]:
    """Yield the (start, end) of these hours on the days around ``now``, in unix seconds."""
    zone = ZoneInfo(hours.timezone)
    today = datetime.datetime.fromtimestamp(now, zone).date()
    for offset in range(-_DAYS_BACK, _DAYS_AHEAD + 1):
        day = today + offset * _DAY
        if day.weekday() not in hours.days:
            continue
        last_day = day if hours.to > hours.from_ else day + _DAY
        # where a local time occurs twice, hours start at the first occurrence and end at the second
        start = _find_timestamp(datetime.datetime.combine(day, hours.from_.replace(fold=0), zone))
        end = _find_timestamp(datetime.datetime.combine(last_day, hours.to.replace(fold=1), zone))
        if end > start:
            yield start, end


def _find_timestamp(moment: datetime.datetime) -> float:
    """Return the unix seconds of a local time, or of the next existing minute where the clock skips that time."""
    earlier, later = moment.replace(fold=1), moment.replace(fold=0)
    offset_before = _offset(later)
    if offset_before >= _offset(earlier):
        return moment.timestamp()
    # a skipped time: search for the clock change between its interpretations with either offset
    seconds = range(int(earlier.timestamp()), int(later.timestamp()) + 1)
    zone = moment.tzinfo
    index = bisect_left(
        seconds, True, key=lambda at: _offset(datetime.datetime.fromtimestamp(at, zone)) > offset_before
    )
    return float(seconds[index])


def _offset(moment: datetime.datetime) -> datetime.timedelta:
    return moment.utcoffset() or datetime.timedelta()


def _merge_spans(spans: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Merge adjacent and overlapping spans, so that the start grace applies only once."""
    current: tuple[float, float] | None = None
    for start, end in spans:
        if current is not None and start <= current[1]:
            current = (current[0], max(current[1], end))
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current
