"""When a stream is on the air, and how it is doing meanwhile: spans of conditions, cut by what was ordered.

Time here is seconds since the natural start of a cycle's publish; ``fleet.py`` knows the wall clock. A cycle is a gap
off the air and then one publish. What happens in a publish repeats after ``PUBLISHES_BEFORE_REPEAT`` cycles, which lets
an all-time total be told without adding up every publish there ever was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from exporter.simulator.conditions import Condition
from exporter.simulator.fault_injection import Fault, FaultKind
from exporter.simulator.prng import Purpose, between, roll, unit
from exporter.simulator.streams import Stream

PERIOD_SECONDS = 4 * 3600.0
"""The fleet's beat: each stream has one place in it where it may be off the air."""
PUBLISHES_BEFORE_REPEAT = 4
OFF_AIR_SHARE = 0.03
"""At most this share of the fleet is off the air at once: the promise is 5 %."""

START_SECONDS = 60.0
_INCIDENT_CHANCE = 0.7
_STALL_CHANCE = 0.5

FLAP_SECONDS = 60.0
FLAP_OFF_SECONDS = 20.0

_OVERLAYS = {
    FaultKind.END: Condition.OFF_AIR,
    FaultKind.UNHEALTHY: Condition.UNHEALTHY,
    FaultKind.STALL: Condition.STALLED,
    FaultKind.BITRATE_LOW: Condition.BITRATE_LOW,
    FaultKind.SLOW_TRANSCODE: Condition.SLOW_TRANSCODE,
}


class Span(NamedTuple):
    """A time in one condition."""

    start: float
    end: float
    condition: Condition


def off_air_share(streams: int) -> float:
    """Which share of a period each stream may be off the air, so that 95 % of the fleet never are at once.

    Below 20 streams a single one would be more than 5 %: there a publish follows the former without a gap.
    """
    return min(OFF_AIR_SHARE, (streams * 5 // 100) / streams)


def gap(stream: Stream, slot: int, share: float, speed: float) -> float:
    """How many seconds the cycles whose number modulo ``PUBLISHES_BEFORE_REPEAT`` is ``slot`` begin off the air."""
    # A hair less than the share, so that rounding never lets one gap begin before another has ended.
    return 0.999 * share * (PERIOD_SECONDS / speed) * between(0.5, 1.0, Purpose.GAP, slot, since=stream.root)


def pattern(stream: Stream, slot: int, end: float, speed: float, *, incidents: bool = True) -> tuple[Span, ...]:
    """The natural course of the publishes of ``slot``: from 0 to ``end``, without holes."""
    spans = [Span(0.0, START_SECONDS / speed, Condition.START)]
    # Troubles come in order, after the start, and are over before any gap: none has to be cut.
    for trouble in _incidents(stream, slot, speed) if incidents else ():
        if spans[-1].end < trouble.start:
            spans.append(Span(spans[-1].end, trouble.start, Condition.STEADY))
        spans.append(trouble)
    spans.append(Span(spans[-1].end, end, Condition.STEADY))
    return tuple(spans)


def _incidents(stream: Stream, slot: int, speed: float) -> Iterator[Span]:
    """The encoder struggles, perhaps stalls, and recovers: at most once in a period."""
    of_slot = roll(Purpose.INCIDENT, slot, since=stream.root)
    for number in range(stream.cycles):
        root = roll(number, since=of_slot)
        if unit(0, since=root) >= _INCIDENT_CHANCE:
            continue
        at = PERIOD_SECONDS * (number + between(0.02, 0.9, 1, since=root))
        parts = [(Condition.STRUGGLING, between(60.0, 300.0, 2, since=root))]
        if unit(3, since=root) < _STALL_CHANCE:
            parts.append((Condition.STALLED, between(30.0, 180.0, 4, since=root)))
        parts.append((Condition.RECOVERING, between(60.0, 120.0, 5, since=root)))
        for condition, seconds in parts:
            yield Span(at / speed, (at + seconds) / speed, condition)
            at += seconds


def overlay(spans: Iterable[Span], news: Iterable[Span]) -> list[Span]:
    """``spans`` with ``news`` (in order) in the place of what is there; what is off the air stays so, the ends stay."""
    result = []
    waiting = deque(news)
    for span in spans:
        at = span.start
        while span.condition is not Condition.OFF_AIR and waiting and waiting[0].start < span.end:
            new = waiting[0]
            start, end = max(new.start, at), min(new.end, span.end)
            if start < end:
                result += [
                    part for part in (Span(at, start, span.condition), Span(start, end, new.condition)) if _some(part)
                ]
                at = end
            if new.end > span.end:
                break
            waiting.popleft()
        rest = Span(at, span.end, span.condition)
        if _some(rest):
            result.append(rest)
    return result


def _some(span: Span) -> bool:
    return span.start < span.end


def publishes(natural: Sequence[Span], natural_start: float, faults: Iterable[Fault]) -> list[tuple[Span, ...]]:
    """The publishes that a cycle really has: its ``natural`` one, cut by the faults of the stream.

    Each is its spans, in order and without holes. None at all: the stream was ended for the whole cycle.
    """
    spans = list(natural)
    for fault in faults:
        spans = overlay(spans, _spans_of(fault, natural_start, spans[-1].end))
    found: list[list[Span]] = []
    off = True
    for span in spans:
        if span.condition is not Condition.OFF_AIR:
            if off:
                found.append([])
            found[-1].append(span)
        off = span.condition is Condition.OFF_AIR
    return [tuple(publish) for publish in found]


def _spans_of(fault: Fault, natural_start: float, last: float) -> Iterator[Span]:
    start, end = fault.start - natural_start, min(fault.end - natural_start, last)
    if fault.kind is FaultKind.FLAP:
        # Counted from the order, so that the rhythm goes on from cycle to cycle.
        turn = max(0, int(-start // FLAP_SECONDS))
        while (off := start + turn * FLAP_SECONDS) < end:
            yield Span(off, min(off + FLAP_OFF_SECONDS, end), Condition.OFF_AIR)
            turn += 1
    elif start < end:
        yield Span(start, end, _OVERLAYS[fault.kind])
