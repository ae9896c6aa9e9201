"""Expand the events of a calendar. Imported only by the process that does so, because it imports the libraries."""

from __future__ import annotations

import datetime
import math
import re
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events

from exporter.calendars.ics_text import IcsEvent, split_calendar
from exporter.calendars.local_time import Span, local_span, merge_spans
from exporter.calendars.worker import (
    DAYS_AHEAD,
    DAYS_BACK,
    LEAST_DAYS_AHEAD,
    MAX_EVENTS,
    CalendarError,
    Event,
    Expansion,
)

CPU_SECONDS_PER_EVENT = 1.0
"""Maximum CPU time to expand one event and its changed occurrences."""
SUMMARY_CHARACTERS = 500
NAMES_KEPT, NAME_CHARACTERS = 3, 60
_DAY = datetime.timedelta(days=1)
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_DATE = re.compile(r":\s*(\d{8})")
_UNTIL = re.compile(r"[:;]UNTIL=(\d{8})")
_INVALID = "invalid values"
_TOO_SLOW = "its occurrences take too long to compute"


class _Window(NamedTuple):
    start: datetime.datetime
    end: datetime.datetime

    @property
    def local(self) -> _Window:
        """The window for times without a time zone: a day longer on both sides."""
        return _Window(self.start.replace(tzinfo=None) - _DAY, self.end.replace(tzinfo=None) + _DAY)


class _Occurrence(NamedTuple):
    start: datetime.date
    end: datetime.date
    summary: str


class _TimeLimitError(BaseException):
    """The time limit has passed. No library catches it, because it is not an ``Exception``."""


@contextmanager
def cpu_limit() -> Iterator[None]:
    """Raise ``_TimeLimitError`` if the block takes too long. Only for the main thread."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _TimeLimitError

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_PER_EVENT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, previous)


def expand_calendar(
    content: bytes,
    now: float,
    timezones: Collection[str],
    limit: Callable[[], AbstractContextManager[None]] = cpu_limit,
) -> Expansion:
    """Return the events around ``now`` (Unix seconds). Raises ``CalendarError``."""
    text = split_calendar(content)
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    window = _Window(moment - DAYS_BACK * _DAY, moment + DAYS_AHEAD * _DAY)
    expander = _Expander(window, timezones)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _define_zones(text.zones, limit)
        for events in _group_events(text.events, window):
            try:
                with limit():
                    expander.add(events)
            except (_TimeLimitError, MemoryError):
                expander.ignore(events, _TOO_SLOW)
            except Exception:
                # the libraries raise many kinds of errors for values that they cannot use
                expander.ignore(events, _INVALID)
    return expander.build()


class _UnusableError(Exception):
    """An event that cannot be used. The message is the cause."""


class _Expander:
    """Collects the occurrences of events."""

    def __init__(self, window: _Window, timezones: Collection[str]) -> None:
        self.ignored: Counter[str] = Counter()
        """Number of events that could not be used, by cause."""
        self._unknown: list[Span] = []
        """When they may be."""
        self._window = window
        self._known_from, self._known_until = (moment.timestamp() for moment in window)
        self._zones = [ZoneInfo(name) for name in timezones]
        self._found: dict[str, list[tuple[float, float, str]]] = {zone.key: [] for zone in self._zones}
        self._unknown_zones: dict[str, None] = {}

    def add(self, events: list[IcsEvent]) -> None:
        """Add an event and its changed occurrences."""
        components, readable = [], []
        for event in events:
            try:
                components.append(self._parse(event))
                readable.append(event)
            except _UnusableError as error:
                self.ignore([event], str(error))
                if event.has("RECURRENCE-ID"):
                    # the occurrence that it changes is unknown too
                    components.append(self._parse(event.cancellation()))
                    readable.append(event)
        if not components:
            return
        is_single = len(components) == 1 and readable[0].is_single
        occurrences = [_single(components[0])] if is_single else _recurring(components, self._window)
        for zone in self._zones:
            spans = [(*_span(occurrence, zone), occurrence.summary) for occurrence in occurrences]
            self._found[zone.key] += [span for span in spans if span[0] < span[1] and self._is_near(span)]

    def ignore(self, events: list[IcsEvent], cause: str) -> None:
        """Count an event that cannot be used; when it and its changed occurrences may be is unknown."""
        self.ignored[cause] += 1
        self._unknown += [_possible_span(event) for event in events]

    def build(self) -> Expansion:
        """Return the result. Raises ``CalendarError`` if there are too many events."""
        known_until = self._known_until
        for found in self._found.values():
            found.sort()
            if len(found) > MAX_EVENTS:
                known_until = min(known_until, found[MAX_EVENTS][0])
        if known_until < (self._window.end - (DAYS_AHEAD - LEAST_DAYS_AHEAD) * _DAY).timestamp():
            raise CalendarError(f"it has more than {MAX_EVENTS} events within {DAYS_BACK + LEAST_DAYS_AHEAD} days")
        events = {zone: [Event(*span) for span in found[:MAX_EVENTS]] for zone, found in self._found.items()}
        unknown = list(self._unknown_zones)[:NAMES_KEPT]
        clipped = ((max(start, self._known_from), min(end, self._known_until)) for start, end in self._unknown)
        spans = merge_spans(sorted(span for span in clipped if span[0] < span[1]))
        return Expansion(self._known_from, known_until, events, dict(self.ignored), list(spans), unknown)

    def _is_near(self, span: tuple[float, float, str]) -> bool:
        return span[1] > self._known_from and span[0] < self._known_until

    def _parse(self, event: IcsEvent) -> Any:
        """Return the library's component. Raises ``_UnusableError``."""
        # untyped, because a property can be of many types
        component: Any = icalendar.Event.from_ical(event.text)
        if component.errors:
            broken = ", ".join(sorted({str(name) for name, _ in component.errors}))
            raise _UnusableError(f"invalid {broken}")
        if "DTSTART" not in component:
            raise _UnusableError("DTSTART is missing")
        for name in ("DTSTART", "DTEND", "RECURRENCE-ID"):
            value = component.get(name)
            zone = str(value.params.get("TZID", "")) if value is not None else ""
            if zone and isinstance(value.dt, datetime.datetime) and value.dt.tzinfo is None:
                self._unknown_zones["".join(filter(str.isprintable, zone))[:NAME_CHARACTERS]] = None
        start, end = component["DTSTART"].dt, component["DTEND"].dt if "DTEND" in component else None
        if end is not None and _in_zone(end, self._zones[0]) < _in_zone(start, self._zones[0]):
            raise _UnusableError("DTEND is before DTSTART")
        return component


def _define_zones(zones: Iterable[str], limit: Callable[[], AbstractContextManager[None]]) -> None:
    """Make the calendar's own time zones known to the library. An invalid one is then unknown."""
    for zone in zones:
        try:
            with limit():
                icalendar.Calendar.from_ical(f"BEGIN:VCALENDAR\r\n{zone}END:VCALENDAR\r\n")
        except (Exception, _TimeLimitError):  # noqa: S110 - the events that use it are reported
            pass


def _group_events(events: Iterable[IcsEvent], window: _Window) -> Iterator[list[IcsEvent]]:
    """Yield each event together with its changed occurrences, unless all of them are far outside of the window."""
    groups: dict[str, list[IcsEvent]] = {}
    for index, event in enumerate(events):
        # events without an id do not belong together
        groups.setdefault(event.uid or f"\0{index}", []).append(event)
    for group in groups.values():
        if not all(_is_far(event, window.local) for event in group):
            yield group


def _is_far(event: IcsEvent, window: _Window) -> bool:
    """Return whether an event certainly ends before or starts after the window. Parsing old events takes seconds."""
    start, end, until = (
        _find_day(event, *where) for where in (("DTSTART", _DATE), ("DTEND", _DATE), ("RRULE", _UNTIL))
    )
    is_complex = event.has("RDATE") or "RANGE" in event.first("RECURRENCE-ID") or event.count("RRULE") > 1
    if start is None or is_complex:
        return False
    if start > window.end.date():
        return True
    if end is None or (event.has("RRULE") and until is None):
        return False
    last_day = end.toordinal()
    if until is not None:
        last_day = max(last_day, until.toordinal() + end.toordinal() - start.toordinal())
    return last_day < window.start.toordinal()


def _possible_span(event: IcsEvent) -> Span:
    """Return the days, in any time zone, on which an event that cannot be used may be: all if that is unknown."""
    days = [_find_day(event, name, _DATE) for name in ("DTSTART", "DTEND", "RECURRENCE-ID") if event.has(name)]
    known = [day.toordinal() - _EPOCH for day in days if day is not None]
    repeats = event.has("RRULE") or event.has("RDATE") or "RANGE" in event.first("RECURRENCE-ID")
    if repeats or event.has("DURATION") or not event.has("DTSTART") or len(known) < len(days):
        return -math.inf, math.inf
    return (min(known) - 1) * 86_400.0, (max(known) + 2) * 86_400.0


def _find_day(event: IcsEvent, name: str, pattern: re.Pattern[str]) -> datetime.date | None:
    """Return the day in a property's only line; None if there is none, or no valid one."""
    match = pattern.search(event.first(name)) if event.has(name) else None
    try:
        return None if match is None else datetime.date.fromisoformat(match[1])
    except ValueError:
        return None


def _recurring(components: list[Any], window: _Window) -> list[_Occurrence]:
    """Return the occurrences of an event within the window."""
    start = components[0]["DTSTART"].dt
    is_local = not isinstance(start, datetime.datetime) or start.tzinfo is None
    calendar = icalendar.Calendar()
    for component in components:
        calendar.add_component(component)
    found = recurring_ical_events.of(calendar).between(*(window.local if is_local else window))
    return [_occurrence(each, each["DTSTART"].dt, each["DTEND"].dt) for each in found]


def _single(component: Any) -> _Occurrence:
    """Return an event that does not recur; much faster than the library."""
    start = component["DTSTART"].dt
    if "DTEND" in component:
        return _occurrence(component, start, component["DTEND"].dt)
    return _occurrence(component, start, start + component["DURATION"].dt if "DURATION" in component else start)


def _occurrence(component: Any, start: datetime.date, end: datetime.date) -> _Occurrence:
    if end == start and not isinstance(start, datetime.datetime):
        # all day; some programs write the same day as start and end
        end = start + _DAY
    if str(component.get("STATUS", "")).strip().upper() == "CANCELLED":
        # an event without a length is ignored
        end = start
    return _Occurrence(start, end, str(component.get("SUMMARY", ""))[:SUMMARY_CHARACTERS])


def _span(occurrence: _Occurrence, zone: ZoneInfo) -> tuple[float, float]:
    return local_span(_in_zone(occurrence.start, zone), _in_zone(occurrence.end, zone))


def _in_zone(moment: datetime.date, zone: ZoneInfo) -> datetime.datetime:
    """Return a time; all-day events and times without a time zone are in ``zone``."""
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime.combine(moment, datetime.time())
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
