"""Event calendars in use: read each one at its own interval, and keep the last good copy while it cannot be read.

There is one reader per file or URL, however many streams and groups use it. Readers survive a reload.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import structlog

from exporter.calendars.local_time import Span, merge_spans
from exporter.calendars.worker import DAYS_BACK, CalendarError, Expansion, expand
from exporter.config.calendars import CalendarSettings
from exporter.config.groups import GroupSettings
from exporter.config.secrets import Secret
from exporter.http.errors import UpstreamError
from exporter.model import CalendarState
from exporter.polling.calendar_sources import CalendarFile, CalendarUrl
from exporter.runtime.clock import Clock
from exporter.runtime.files import FileError
from exporter.runtime.logging import describe_exception
from exporter.runtime.tasks import cancel_tasks

log = structlog.get_logger()

CHECK_SECONDS = 5.0
"""Interval for checking whether a calendar must be read or expanded again."""
EXPAND_AGAIN_SECONDS = 3 * 3600.0
"""Age at which an unchanged calendar is expanded again, because its horizon moves."""
EXPAND_RETRY_SECONDS = 600.0
"""Time after which a copy that could not be expanded is tried again, unless it is read before."""
RETRY_SECONDS = 60.0
"""Time after which a failed read is tried again, unless ``refresh`` is shorter. It doubles with each failure."""


class KnownSpans(NamedTuple):
    """The times when a stream or group is expected, between two times. Nothing is known about other times."""

    since: float
    """Unix seconds."""
    until: float
    spans: tuple[Span, ...]
    """Sorted, without overlaps, as ``unknown``."""
    unknown: tuple[Span, ...] = ()
    """When an event that cannot be read may be; the time outside of ``spans`` is unknown then."""


def known_spans(expansion: Expansion, calendar: CalendarSettings) -> KnownSpans:
    """Return the spans of matching events with their margins. The calendar is expanded for its time zone."""
    pattern = None if calendar.summary is None else calendar.summary.lower()
    spans = (
        (event.start, event.end)
        for event in expansion.events[calendar.timezone]
        if pattern is None or fnmatchcase(event.summary.lower(), pattern)
    )

    def with_margins(spans: Iterable[Span]) -> tuple[Span, ...]:
        return tuple(merge_spans(sorted((start - calendar.before, end + calendar.after) for start, end in spans)))

    return KnownSpans(
        expansion.known_from + calendar.after,
        expansion.known_until - calendar.before,
        with_margins(spans),
        with_margins(expansion.unknown),
    )


class Calendars:
    """All calendars in use, by the upstreams and groups that use them."""

    def __init__(self, clock: Clock) -> None:
        self.version = 0
        """Changes whenever a calendar has other events, or can be read again or no longer."""
        self._clock = clock
        self._readers: dict[Path | Secret, _Reader] = {}
        self._by_upstream: dict[str, tuple[CalendarSettings, ...]] = {}
        self._by_group: tuple[GroupSettings, ...] = ()
        self._closing: set[asyncio.Task[None]] = set()
        self._expanding = asyncio.Lock()
        """Held while a process expands a calendar: one at a time."""

    def use(self, upstream: str, calendars: tuple[CalendarSettings, ...]) -> None:
        """Set the calendars that the streams of an upstream use, and start reading new ones."""
        if self._by_upstream.get(upstream, ()) != calendars:
            self._by_upstream[upstream] = calendars
            self._update_readers()

    def use_for_groups(self, groups: tuple[GroupSettings, ...]) -> None:
        """Set the groups whose calendars are used. They count as calendars of the upstreams of the groups' streams."""
        if self._by_group != groups:
            self._by_group = groups
            self._update_readers()

    def retain(self, upstreams: Iterable[str]) -> None:
        """Forget the calendars of all other upstreams."""
        gone = self._by_upstream.keys() - set(upstreams)
        if gone:
            self._by_upstream = {name: used for name, used in self._by_upstream.items() if name not in gone}
            self._update_readers()

    def spans(self, calendar: CalendarSettings) -> KnownSpans | None:
        """Return when something with this calendar is expected; None while nothing is known about it."""
        reader = self._readers.get(calendar.source)
        return None if reader is None else reader.spans(calendar)

    def states(self, upstream: str) -> tuple[CalendarState, ...]:
        """Return the calendars that an upstream uses, one per name, as far as their first read has finished."""
        used: dict[Path | Secret, None] = dict.fromkeys(
            calendar.source for calendar in self._by_upstream.get(upstream, ())
        )
        for group in self._by_group:
            if isinstance(group.expected, CalendarSettings) and upstream in {item.upstream for item in group.streams}:
                used[group.expected.source] = None
        by_name: dict[str, CalendarState] = {}
        for reader in [self._readers[source] for source in used if source in self._readers]:
            state = reader.state()
            if state is not None:
                other = by_name.get(state.name)
                by_name[state.name] = state if other is None else _worse_of(state, other)
        return tuple(by_name[name] for name in sorted(by_name))

    async def close(self) -> None:
        """Stop reading."""
        self._by_upstream, self._by_group = {}, ()
        self._update_readers()
        await cancel_tasks(list(self._closing))

    def _update_readers(self) -> None:
        users: dict[Path | Secret, list[CalendarSettings]] = {}
        groups = (group.expected for group in self._by_group)
        for calendar in (*(item for used in self._by_upstream.values() for item in used), *groups):
            if isinstance(calendar, CalendarSettings):
                users.setdefault(calendar.source, []).append(calendar)
        for source in [source for source in self._readers if source not in users]:
            task = self._readers.pop(source).stop()
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for source, calendars in users.items():
            reader = self._readers.get(source)
            if reader is None:
                reader = self._readers[source] = _Reader(source, self._clock, self._expanding, self._count_change)
            reader.configure(
                refresh=min(calendar.refresh for calendar in calendars),
                timezones=frozenset(calendar.timezone for calendar in calendars),
            )

    def _count_change(self) -> None:
        self.version += 1


class _Reader:
    """Reads one calendar in a task of its own."""

    def __init__(
        self, source: Path | Secret, clock: Clock, expanding: asyncio.Lock, on_change: Callable[[], None]
    ) -> None:
        self._source = CalendarFile(source) if isinstance(source, Path) else CalendarUrl(source, clock)
        self._clock = clock
        self._expanding = expanding
        self._on_change = on_change
        self._refresh = math.inf
        self._timezones: frozenset[str] = frozenset()
        self._content: bytes | None = None
        """The last good copy."""
        self._expansion: Expansion | None = None
        self._expanded_at = -math.inf
        """Unix seconds."""
        self._expand_from = -math.inf
        """Steady seconds: when the copy is expanded again after a failed attempt."""
        self._spans: dict[tuple[object, ...], KnownSpans] = {}
        """Results of ``spans`` for the current expansion."""
        self._is_readable: bool | None = None
        self._read_at: float | None = None
        """Unix seconds of the last good read."""
        self._failures = 0
        self._next_read = -math.inf
        """Steady seconds."""
        self._logged_warnings: list[str] = []
        self._task = asyncio.create_task(self._run(), name=f"calendar {self._source.name}")

    def configure(self, *, refresh: float, timezones: frozenset[str]) -> None:
        """Set the time between two reads, and the time zones that streams use for local times."""
        if refresh < self._refresh < math.inf:
            self._next_read = min(self._next_read, self._clock.monotonic() + refresh)
        self._refresh, self._timezones = refresh, timezones

    def stop(self) -> asyncio.Task[None]:
        """Stop reading; return the task, which still closes its connection."""
        self._task.cancel()
        return self._task

    def state(self) -> CalendarState | None:
        """Return whether the calendar can be read; None before the first read."""
        if self._is_readable is None:
            return None
        return CalendarState(name=self._source.name, readable=self._is_readable, read_at=self._read_at)

    def spans(self, calendar: CalendarSettings) -> KnownSpans | None:
        """Return the spans of matching events with their margins; None while nothing is known."""
        if self._expansion is None or calendar.timezone not in self._expansion.events:
            return None
        key = calendar.timezone, calendar.summary, calendar.before, calendar.after
        if key not in self._spans:
            self._spans[key] = known_spans(self._expansion, calendar)
        return self._spans[key]

    async def _run(self) -> None:
        try:
            while True:
                await self._update()
                await self._clock.sleep(CHECK_SECONDS)
        finally:
            await self._source.close()

    async def _update(self) -> None:
        """Read or expand the calendar if that is due."""
        now = self._clock.monotonic()
        is_due = now >= self._next_read
        try:
            if is_due:
                self._next_read = math.inf
                # None: unchanged
                content = await self._source.read() or self._content
                if content is not None and (content != self._content or self._is_outdated()):
                    await self._expand(content)
            elif self._content is not None and self._is_outdated() and now >= self._expand_from:
                await self._expand(self._content)
        except (CalendarError, FileError, UpstreamError) as error:
            self._note_failure(error.strerror or "" if isinstance(error, FileError) else str(error))
        except Exception as error:
            log.error("internal error in calendar", calendar=self._source.name, error=describe_exception(error))
            self._note_failure("internal error")
        else:
            if is_due:
                self._note_success()

    def _is_outdated(self) -> bool:
        """Return whether the last good copy must be expanded again: for other time zones, or a later time."""
        if self._expansion is None:
            return False
        age = self._clock.now() - self._expanded_at
        # a negative age means that the clock was set back
        is_old = not -(DAYS_BACK - 1) * 86_400 < age < EXPAND_AGAIN_SECONDS
        return is_old or not self._timezones <= self._expansion.events.keys()

    async def _expand(self, content: bytes) -> None:
        """Use this content if it can be expanded. Raises ``CalendarError``."""
        now = self._clock.instant()
        self._expand_from = now.steady + EXPAND_RETRY_SECONDS
        async with self._expanding:
            expansion = await expand(content, now.wall, self._timezones)
        self._content, self._expansion, self._expanded_at = content, expansion, now.wall
        self._expand_from = -math.inf
        self._spans = {}
        self._on_change()
        found = expansion.warnings()
        if found and found != self._logged_warnings:
            log.warning("parts of a calendar are not used", calendar=self._source.name, problems=found)
        self._logged_warnings = found

    def _note_success(self) -> None:
        if self._is_readable is False:
            log.info("calendar can be read again", calendar=self._source.name)
        self._failures = 0
        self._read_at = self._clock.now()
        self._next_read = self._clock.monotonic() + self._refresh
        self._set_readable(is_readable=True)

    def _note_failure(self, why: str) -> None:
        # read it as a whole next time, even if it does not change
        self._source.forget()
        if self._is_readable is not False:
            used = "it is unknown when its streams are expected" if self._expansion is None else "its last good copy"
            log.warning("calendar cannot be read", calendar=self._source.name, error=why, using=used)
        delay = min(self._refresh, RETRY_SECONDS * 2.0 ** min(self._failures, 10))
        self._next_read = min(self._next_read, self._clock.monotonic() + delay)
        self._failures += 1
        self._set_readable(is_readable=False)

    def _set_readable(self, *, is_readable: bool) -> None:
        if is_readable is not self._is_readable:
            self._is_readable = is_readable
            self._on_change()


def _worse_of(state: CalendarState, other: CalendarState) -> CalendarState:
    """Combine the states of two calendars with the same name."""
    read_at = None if state.read_at is None or other.read_at is None else min(state.read_at, other.read_at)
    return CalendarState(name=state.name, readable=state.readable and other.readable, read_at=read_at)
