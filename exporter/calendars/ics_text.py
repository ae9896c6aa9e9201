"""Split an iCalendar text into its events and time zones, without parsing their values.

Only the properties that say when an event is, and what it is called, are kept. Damage elsewhere, such as a description
with raw line breaks, is ignored, and a damaged event does not make the others unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from exporter.calendars.worker import CalendarError

_ONCE = frozenset({"UID", "SEQUENCE", "RECURRENCE-ID", "DTSTART", "DTEND", "DURATION", "SUMMARY", "STATUS"})
"""Properties that an event has at most once; only the first one is kept."""
_REPEATED = frozenset({"RRULE", "RDATE", "EXDATE"})
MAX_DEPTH = 10
"""Maximum number of nested components; a calendar has three."""
_NO_CALENDAR = "not an iCalendar file: it does not begin with BEGIN:VCALENDAR"
_LINE_END = re.compile(r"\r\n|\n|\r")
_PROPERTY = re.compile(r"([A-Za-z0-9-]+)\s*[;:]")


class IcsEvent(NamedTuple):
    """The kept lines of one event, by property."""

    properties: dict[str, list[str]]

    @property
    def uid(self) -> str:
        """Its id, which the changed occurrences of a recurring event share; empty if it has none."""
        return self.first("UID").partition(":")[2].strip()

    @property
    def is_single(self) -> bool:
        """Whether the event neither recurs nor changes an occurrence of another one."""
        return self.properties.keys().isdisjoint({"RRULE", "RDATE", "RECURRENCE-ID"})

    def cancellation(self) -> IcsEvent:
        """Return an event that cancels the occurrence that this one changes."""
        changed = self.first("RECURRENCE-ID")
        start = "DTSTART" + changed[len("RECURRENCE-ID") :]
        lines = {"UID": self.first("UID"), "RECURRENCE-ID": changed, "DTSTART": start, "STATUS": "STATUS:CANCELLED"}
        return IcsEvent({name: [line] for name, line in lines.items()})

    def has(self, name: str) -> bool:
        """Return whether the event has a property."""
        return name in self.properties

    def count(self, name: str) -> int:
        """Return how often the event has a property."""
        return len(self.properties.get(name, ()))

    def first(self, name: str) -> str:
        """Return the first line of a property; empty if there is none."""
        return next(iter(self.properties.get(name, ())), "")

    @property
    def text(self) -> str:
        """The event as iCalendar text."""
        lines = [line for lines in self.properties.values() for line in lines]
        return "\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT", ""])


class IcsText(NamedTuple):
    """The parts of a calendar that matter."""

    events: list[IcsEvent]
    zones: list[str]
    """``VTIMEZONE`` components."""


def split_calendar(content: bytes) -> IcsText:
    """Return the events and time zones of one or several calendars.

    Raises ``CalendarError`` if it is not a calendar, or if its end is missing.
    """
    splitter = _Splitter()
    for line in _unfold(content.decode("utf-8-sig", "replace")):
        match = _PROPERTY.match(line)
        if match is not None:
            splitter.add(match[1].upper(), line)
    return splitter.finish()


class _Splitter:
    """Follows the open components, and collects the lines that matter."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._events: list[IcsEvent] = []
        self._zones: list[str] = []
        self._zone: list[str] = []
        self._has_calendar = False

    def add(self, name: str, line: str) -> None:
        """Add the line of a property. Raises ``CalendarError``."""
        if name == "BEGIN":
            self._begin(_component(line))
        if self._open[1:2] == ["VTIMEZONE"]:
            self._zone.append(line)
        elif self._open[1:] == ["VEVENT"] and (name in _REPEATED or name in _ONCE):
            lines = self._events[-1].properties.setdefault(name, [])
            if name in _REPEATED or not lines:
                lines.append(line)
        if name == "END":
            self._end(_component(line))

    def finish(self) -> IcsText:
        """Return the parts. Raises ``CalendarError``."""
        if not self._has_calendar:
            raise CalendarError(_NO_CALENDAR)
        if self._open:
            raise CalendarError(f"the file is incomplete: END:{self._open[0]:.40} is missing")
        return IcsText(self._events, self._zones)

    def _begin(self, component: str) -> None:
        if not self._open and component != "VCALENDAR":
            raise CalendarError(_NO_CALENDAR)
        if len(self._open) == MAX_DEPTH:
            raise CalendarError("the file is damaged: components are nested too deeply")
        self._open.append(component)
        self._has_calendar = True
        if self._open[1:] == ["VEVENT"]:
            self._events.append(IcsEvent({}))

    def _end(self, component: str) -> None:
        if not self._open or self._open[-1] != component:
            raise CalendarError(f"the file is damaged: unexpected END:{component:.40}")
        self._open.pop()
        if self._zone and len(self._open) == 1:
            self._zones.append("\r\n".join([*self._zone, ""]))
            self._zone = []


def _unfold(text: str) -> Iterator[str]:
    """Yield the logical lines: a line that begins with a space or tab continues the previous one."""
    parts: list[str] = []
    for line in _LINE_END.split(text):
        if line[:1] in (" ", "\t") and parts:
            parts.append(line[1:])
        elif line:
            if parts:
                yield "".join(parts)
            parts = [line]
    if parts:
        yield "".join(parts)


def _component(line: str) -> str:
    return line.partition(":")[2].strip().upper()
