"""What recorded timelines mean: a pure function from timelines to a report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.reports.report import Cause, Figures, Incident, Peak, Report, Row, Scope, Seconds, Span, Subject
from exporter.reports.timeline import Segment, StreamKey, StreamTimeline, Viewers

MAX_CAUSES: Final = 10
"""Maximum number of causes of one incident."""
MAX_INCIDENTS: Final = 1_000
"""Maximum number of incidents in a report; the longest are kept."""
MAX_ROWS: Final = 1_000
"""Maximum number of streams that a report lists one by one."""
NOW_SECONDS: Final = 1.0
"""A range that ends less than this before the report was made ends now."""
_ROUNDING: Final = 1e-3


def build_report(
    subject: Subject,
    timelines: Iterable[StreamTimeline],
    span: Span,
    *,
    viewers: Sequence[Viewers] = (),
    expectation: Sequence[Segment] = (),
    generated_at: float,
    started_at: float,
) -> Report:
    """Return the report on these timelines.

    ``viewers``: of all streams of an upstream or group together. ``expectation``: when the group was expected.
    ``generated_at``: the end of the timelines. ``started_at``: when recording began.
    """
    incidents = _Incidents()
    rows: list[Row] = []
    total = Figures()
    is_group = subject.scope is Scope.GROUP
    # an upstream may have many streams, so only one of their timelines is in memory at a time
    members: list[StreamTimeline] = []
    for index, timeline in enumerate(timelines):
        figures, found = _assess([timeline], 1, span, generated_at)
        figures.peak = _find_peak(timeline.viewers, span)
        role = subject.roles[index] if index < len(subject.roles) else ""
        rows.append(Row(key=timeline.key, role=role, figures=figures))
        if is_group:
            members.append(timeline)
        else:
            incidents.add(found)
            _add_figures(total, figures)
    if is_group:
        total, found = _assess(members, subject.needed, span, generated_at, expectation)
        incidents.add(found)
    if subject.scope is not Scope.STREAM:
        total.peak = _find_peak(viewers, span)
    if subject.scope is Scope.UPSTREAM:
        rows.sort(key=_worst_first)
    return Report(
        subject=subject,
        span=span,
        generated_at=generated_at,
        recording_started_at=started_at,
        figures=total,
        incidents=incidents.listed(),
        incident_count=incidents.count,
        rows=rows[:MAX_ROWS] if subject.scope is not Scope.STREAM else (),
        row_count=len(rows) if subject.scope is not Scope.STREAM else 0,
    )


def _worst_first(row: Row) -> tuple[float, float, StreamKey]:
    seconds = row.figures.seconds
    return -seconds.off_air_while_expected, -seconds.unknown_while_expected, row.key


def _add_figures(total: Figures, figures: Figures) -> None:
    total.seconds.add(figures.seconds)
    total.peak = figures.peak
    if figures.recorded_since is not None:
        total.recorded_since = min(figures.recorded_since, total.recorded_since or figures.recorded_since)
    if figures.restarts is not None:
        total.restarts = (total.restarts or 0) + figures.restarts


class _Incidents:
    """The longest incidents, and the number of all."""

    def __init__(self) -> None:
        self.count = 0
        self._longest: list[Incident] = []

    def add(self, incidents: Sequence[Incident]) -> None:
        self.count += len(incidents)
        self._longest += incidents
        if len(self._longest) > 2 * MAX_INCIDENTS:
            self._drop_short()

    def listed(self) -> list[Incident]:
        self._drop_short()
        return sorted(self._longest, key=lambda incident: (incident.start, incident.end))

    def _drop_short(self) -> None:
        self._longest = sorted(self._longest, key=lambda incident: -incident.seconds)[:MAX_INCIDENTS]


# -- states over time --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    """A member's next segment; None: not recorded."""

    at: float
    member: int
    segment: Segment | None
    not_live_since: float | None = None


def _changes(timelines: Sequence[StreamTimeline], span: Span) -> list[_Change]:
    """Return all changes in the range, including those at its end, in order of time."""
    changes: list[_Change] = []
    for member, timeline in enumerate(timelines):
        since: float | None = None
        end = None
        for segment in timeline.segments:
            is_adjacent = segment.start == end
            if segment.live:
                since = None
            elif since is None or not is_adjacent:
                since = segment.start
            if end is not None and not is_adjacent and span.start < end <= span.end:
                changes.append(_Change(end, member, None, end))
            end = segment.end
            if segment.end > span.start and segment.start <= span.end:
                changes.append(_Change(max(segment.start, span.start), member, segment, since))
        if end is not None and span.start < end <= span.end:
            changes.append(_Change(end, member, None, end))
    # stable, so that the end of a segment stays before the start of the member's next one
    changes.sort(key=lambda change: change.at)
    return changes


class _Members:
    """The members' segments at a moment, and how many of them have each fact."""

    def __init__(self, count: int, needed: int, start: float, *, has_expectation: bool) -> None:
        """``has_expectation``: whether they are a group, which has an expectation of its own."""
        self._count = count
        self._needed = needed
        self._has_expectation = has_expectation
        self.segments: list[Segment | None] = [None] * count
        self.not_live_since: list[float | None] = [start] * count
        self._facts: defaultdict[tuple[str, bool | None], int] = defaultdict(int)
        self._recorded = 0
        self._expectation: Segment | None = None
        """The group's own expectation; None: not recorded."""

    def apply(self, change: _Change) -> None:
        """Apply a change. The one after the last member is the group's own expectation."""
        if change.member == self._count:
            self._expectation = change.segment
            return
        for segment, step in ((self.segments[change.member], -1), (change.segment, 1)):
            if segment is not None:
                self._recorded += step
                for fact in ("expected", "live", "playable", "below_bitrate"):
                    self._facts[fact, getattr(segment, fact)] += step
        self.segments[change.member] = change.segment
        self.not_live_since[change.member] = change.not_live_since

    @property
    def is_recorded(self) -> bool:
        """Whether anything is known about any member."""
        return self._recorded > 0

    @property
    def expected(self) -> bool | None:
        """Whether the group, or the only member, is expected; None if unknown."""
        if not self._has_expectation:
            return self.any("expected")
        return None if self._expectation is None else self._expectation.expected

    @property
    def has_incident(self) -> bool:
        """Whether they are expected and not known to be live."""
        return self.is_recorded and self.expected is True and self.enough("live") is not True

    def enough(self, fact: str) -> bool | None:
        """Return whether enough members have the fact; None if members whose fact is unknown decide that."""
        have, lack = self._facts[fact, True], self._facts[fact, False]
        if have >= self._needed:
            return True
        return False if self._count - lack < self._needed else None

    def any(self, fact: str) -> bool | None:
        """Return whether any member has the fact; None if it is unknown for all of them."""
        if self._facts[fact, True]:
            return True
        return False if self._facts[fact, False] else None


def _slices(
    members: _Members, changes: Sequence[_Change], span: Span
) -> Iterator[tuple[float, float, Sequence[_Change]]]:
    """Yield periods without changes, and the changes at their start; ``members`` is as of each period.

    Afterwards, ``members`` is as of the end of the range.
    """
    start, applied = span.start, list[_Change]()
    for change in changes:
        if change.at > start:
            yield start, change.at, applied
            start, applied = change.at, []
        members.apply(change)
        applied.append(change)
    if span.end > start:
        yield start, span.end, applied


def _assess(
    timelines: Sequence[StreamTimeline],
    needed: int,
    span: Span,
    generated_at: float,
    expectation: Sequence[Segment] | None = None,
) -> tuple[Figures, list[Incident]]:
    """Return figures and incidents of a group of streams, of which ``needed`` must be live.

    A single stream is a group of one without an ``expectation`` of its own.
    """
    own = StreamTimeline(StreamKey("", ""), expectation or ())
    figures = Figures()
    members = _Members(len(timelines), needed, span.start, has_expectation=expectation is not None)
    changes = _changes([*timelines, own], span)
    incidents: list[Incident] = []
    current: Incident | None = None
    for start, end, applied in _slices(members, changes, span):
        live, expected = members.enough("live"), members.expected
        if members.is_recorded and figures.recorded_since is None:
            figures.recorded_since = start
        _add_seconds(figures.seconds, members, live, expected, end - start)
        if not members.has_incident:
            current = None
            continue
        if current is None:
            current = Incident(start, end)
            incidents.append(current)
            _add_causes(current, timelines, members, range(len(timelines)))
        else:
            changed = (change.member for change in applied if change.member < len(timelines))
            _add_causes(current, timelines, members, changed)
        current.end = end
        current.off_air += end - start if live is False else 0.0
        current.unknown += end - start if live is None else 0.0
    if incidents and incidents[-1].end >= min(span.end, generated_at) - _ROUNDING:
        incidents[-1].is_ongoing = span.end >= generated_at - NOW_SECONDS
        incidents[-1].continues = not incidents[-1].is_ongoing and members.has_incident
    figures.restarts = _count_restarts(changes, span)
    return figures, incidents


def _add_seconds(seconds: Seconds, members: _Members, live: bool | None, expected: bool | None, length: float) -> None:
    if not members.is_recorded:
        seconds.not_recorded += length
        return
    state = "unknown" if live is None else "live" if live else "off_air"
    names = [state]
    names.append("expectation_unknown" if expected is None else "expected" if expected else "not_expected")
    if expected:
        names.append(f"{state}_while_expected")
    playable = members.enough("playable")
    if playable is not None:
        names.append("playable" if playable else "not_playable")
    is_below = members.any("below_bitrate")
    if is_below is not None:
        names.append("below_bitrate" if is_below else "not_below_bitrate")
    elif live:
        names.append("bitrate_unknown")
    for name in names:
        setattr(seconds, name, getattr(seconds, name) + length)


def _add_causes(
    incident: Incident, timelines: Sequence[StreamTimeline], members: _Members, candidates: Iterable[int]
) -> None:
    """Add the causes of members that are not live and were not in this incident since the same moment."""
    found = []
    for member in candidates:
        segment, since = members.segments[member], members.not_live_since[member]
        if since is None:
            continue
        key = timelines[member].key
        if not any(cause.key == key and cause.since == since for cause in incident.causes):
            found.append(Cause(key, since, "not recorded" if segment is None else segment.cause))
    found.sort(key=lambda cause: cause.since)
    incident.causes += found[: MAX_CAUSES - len(incident.causes)]


def _count_restarts(changes: Sequence[_Change], span: Span) -> int | None:
    """Return the number of restarts; None if it is unknown all the time."""
    segments = [(change.at, change.segment) for change in changes if change.segment is not None]
    segments = [(at, segment) for at, segment in segments if at < span.end]
    known = [(at, segment, segment.restarts) for at, segment in segments if segment.restarts is not None]
    # restarts are counted at the start of a segment, which may be before the range
    return sum(restarts for at, segment, restarts in known if at == segment.start) if known else None


# -- viewers -----------------------------------------------------------------------------------------------------------


def _find_peak(viewers: Sequence[Viewers], span: Span) -> Peak | None:
    """Return the highest number of viewers in the range; None if no number is known."""
    known = [each for each in viewers if each.end > span.start and each.start < span.end]
    if not known:
        return None
    highest = max(known, key=lambda each: each.viewers)
    since = max(known[0].start, span.start)
    return Peak(highest.viewers, at=max(highest.start, span.start), recorded_since=since)
