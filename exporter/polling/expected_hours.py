"""When a stream should be live: always, or in its hours, over midnight and the change of summer time."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from exporter.config.upstream import LiveHours, StreamSettings

_DAY = datetime.timedelta(days=1)
_DAYS_BACK, _DAYS_AHEAD = 1, 8
"""Hours that began yesterday may still run; a weekly slot begins again within eight days."""


class ExpectedHours:
    """Whether one stream is expected now. Asked often, it works out the calendar only when the answer may change."""

    def __init__(self, settings: StreamSettings, started_at: float) -> None:
        """``started_at``: unix seconds of the exporter's own start, after which ``start_grace`` runs too."""
        self._expected = settings.expected
        self._grace = settings.start_grace
        self._started_at = started_at
        self._answer: bool | None = None
        self._from = self._until = -math.inf

    def at(self, now: float) -> bool | None:
        """True: it should be live; False: not in these hours; None: the configuration says nothing."""
        if not self._from <= now < self._until:
            self._answer, self._until = self._work_out(now)
            self._from = now
        return self._answer

    @property
    def changes_at(self) -> float:
        """Unix seconds until which the last answer holds."""
        return self._until

    def _work_out(self, now: float) -> tuple[bool | None, float]:
        if not self._expected:
            return (None if self._expected is None else False), math.inf
        until = math.inf
        for start, end in self._windows(now):
            since = max(start, self._started_at) + self._grace
            if now >= end:
                continue
            if since >= end:
                until = min(until, end)
            elif now >= since:
                return True, end
            else:
                until = min(until, since)
        # a week without a boundary ahead is worked out again in a day: the calendar was only read so far
        return False, min(until, now + _DAY.total_seconds())

    def _windows(self, now: float) -> Iterator[tuple[float, float]]:
        if self._expected is True:
            yield -math.inf, math.inf
            return
        spans = sorted(span for hours in self._expected or () for span in _spans(hours, now))
        yield from _merged(spans)


def _spans(hours: LiveHours, now: float) -> Iterator[tuple[float, float]]:
    """The (start, end) in unix seconds of these hours on the days around ``now``."""
    zone = ZoneInfo(hours.timezone)
    today = datetime.datetime.fromtimestamp(now, zone).date()
    for offset in range(-_DAYS_BACK, _DAYS_AHEAD + 1):
        day = today + offset * _DAY
        if day.weekday() not in hours.days:
            continue
        last_day = day if hours.to > hours.from_ else day + _DAY
        # of an hour that comes twice, the first begins it and the second ends it
        start = datetime.datetime.combine(day, hours.from_.replace(fold=0), zone)
        end = datetime.datetime.combine(last_day, hours.to.replace(fold=1), zone)
        if end.timestamp() > start.timestamp():
            yield start.timestamp(), end.timestamp()


def _merged(spans: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Touching and overlapping spans as one, so that the grace of the second does not cut a hole."""
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
