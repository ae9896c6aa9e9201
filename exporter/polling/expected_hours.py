"""When a stream or group is expected to be live: always, in weekly hours, or during the events of a calendar.

Hours follow the wall clock and may span midnight and DST changes. A local time that a DST change skips becomes the next
existing minute, so hours entirely within the skipped time have no length.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo

from exporter.calendars.local_time import Span, local_span, merge_spans
from exporter.config.calendars import CalendarSettings
from exporter.config.groups import GroupSettings
from exporter.config.upstream import LiveHours, StreamSettings
from exporter.polling.calendars import Calendars
from exporter.runtime.clock import Instant

_DAY = datetime.timedelta(days=1)
_DAYS_BACK, _DAYS_AHEAD = 1, 8
"""Days around today to consider: yesterday's hours may not be over, and weekly hours repeat within eight days."""


class ExpectedHours:
    """The expected hours of one stream or group; the current answer is cached until it may change."""

    def __init__(
        self, settings: StreamSettings | GroupSettings, started_at: Instant, calendars: Calendars | None = None
    ) -> None:
        """``started_at``: when the exporter started; ``start_grace`` also applies after that.

        ``calendars``: without them, expectations from a calendar are unknown.
        """
        self._expected = settings.expected
        self._grace = settings.start_grace
        self._started_at = started_at
        self._calendars = calendars if isinstance(settings.expected, CalendarSettings) else None
        self._calendars_version = -1
        self._answer: bool | None = None
        self._from = self._until = -math.inf

    def is_expected(self, now: Instant) -> bool | None:
        """Return whether it is expected to be live.

        None if not configured, within ``start_grace``, or while nothing is known about its calendar. Within
        ``start_grace`` it may be live or not.
        """
        if not self._from <= now.wall < self._until or self.has_news:
            # computed with the current wall clock, which may have been set since the exporter started
            started_at = now.wall - (now.steady - self._started_at.steady)
            self._answer, self._until = self._compute_answer(now.wall, started_at)
            self._from = now.wall
        return self._answer

    @property
    def changes_at(self) -> float:
        """Unix seconds at which the result of ``is_expected`` may change, unless its calendar does."""
        return self._until

    @property
    def has_news(self) -> bool:
        """Whether a calendar has changed since the last call of ``is_expected``."""
        return self._calendars is not None and self._calendars.version != self._calendars_version

    def _compute_answer(self, now: float, started_at: float) -> tuple[bool | None, float]:
        if isinstance(self._expected, CalendarSettings):
            return self._compute_calendar_answer(self._expected, now, started_at)
        if not self._expected:
            return (None if self._expected is None else False), math.inf
        # compute again within a day, because only the next few days are considered
        return self._find_answer(self._expected_spans(now), now, started_at, now + _DAY.total_seconds())

    def _compute_calendar_answer(
        self, calendar: CalendarSettings, now: float, started_at: float
    ) -> tuple[bool | None, float]:
        if self._calendars is None:
            return None, math.inf
        self._calendars_version = self._calendars.version
        known = self._calendars.spans(calendar)
        if known is None or now >= known.until:
            return None, math.inf
        if now < known.since:
            return None, known.since
        answer, until = self._find_answer(known.spans, now, started_at, known.until)
        for start, end in known.unknown if answer is False else ():
            if start <= now < end:
                return None, min(until, end)
            if now < start:
                until = min(until, start)
        return answer, min(until, known.until)

    def _find_answer(
        self, spans: Iterable[Span], now: float, started_at: float, known_until: float
    ) -> tuple[bool | None, float]:
        """Return the answer, and until when it holds. ``known_until``: end of the time that the spans cover."""
        until = known_until
        for start, end in spans:
            if now >= end:
                continue
            if now < start:
                until = min(until, start)
                continue
            since = max(start, started_at) + self._grace
            return (True, end) if now >= since else (None, min(since, end))
        return False, until

    def _expected_spans(self, now: float) -> Iterator[Span]:
        if self._expected is True:
            yield -math.inf, math.inf
            return
        hours_list = self._expected if isinstance(self._expected, tuple) else ()
        yield from merge_spans(sorted(span for hours in hours_list for span in _spans_around(hours, now)))


def _spans_around(hours: LiveHours, now: float) -> Iterator[tuple[float, float]]:
    """Yield the (start, end) of these hours on the days around ``now``, in unix seconds."""
    zone = ZoneInfo(hours.timezone)
    today = datetime.datetime.fromtimestamp(now, zone).date()
    for offset in range(-_DAYS_BACK, _DAYS_AHEAD + 1):
        day = today + offset * _DAY
        if day.weekday() not in hours.days:
            continue
        last_day = day if hours.to > hours.from_ else day + _DAY
        start, end = local_span(
            datetime.datetime.combine(day, hours.from_, zone), datetime.datetime.combine(last_day, hours.to, zone)
        )
        if end > start:
            yield start, end
