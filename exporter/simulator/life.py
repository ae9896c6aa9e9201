"""When a stream is on the air, and how it is doing meanwhile: spans of conditions, cut by what was ordered.

Time here is seconds since the natural start of a cycle's publish; ``fleet.py`` knows the wall clock. A cycle is a gap
off the air and then one publish. What happens in a publish repeats after ``PUBLISHES_BEFORE_REPEAT`` cycles, which lets
an all-time total be told without adding up every publish there ever was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exporter.simulator.conditions import Condition
from exporter.simulator.dice import Purpose, between, unit
from exporter.simulator.faults import Fault, FaultKind
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


@dataclass(frozen=True, slots=True)
class Span:
    """A time in one condition."""

    start: float
    end: float
    condition: Condition


@dataclass(frozen=True, slots=True)
class Pattern:
    """The natural course of one cycle."""

    gap_seconds: float
    spans: tuple[Span, ...]
    """From 0 to the publish's end, without holes."""


def off_air_share(streams: int) -> float:
    """Which share of a period each stream may be off the air, so that 95 % of the fleet never are at once.

    Below 20 streams a single one would be more than 5 %: there a publish follows the former without a gap.
    """
    return min(OFF_AIR_SHARE, (streams * 5 // 100) / streams)


def pattern(seed: int, stream: Stream, slot: int, share: float, speed: float, *, incidents: bool = True) -> Pattern:
    """The course of the cycles whose number modulo ``PUBLISHES_BEFORE_REPEAT`` is ``slot``."""
    period = PERIOD_SECONDS / speed
    # A hair less than the share, so that rounding never lets one gap begin before another has ended.
    gap = 0.999 * share * period * between(0.5, 1.0, seed, stream.index, Purpose.GAP, slot)
    end = stream.cycles * period - gap
    starting = Span(0.0, START_SECONDS / speed, Condition.START)
    troubles = _incidents(seed, stream.index, slot, stream.cycles, speed) if incidents else ()
    return Pattern(gap, tuple(overlay([Span(0.0, end, Condition.STEADY)], (starting, *troubles))))


def _incidents(seed: int, index: int, slot: int, cycles: int, speed: float) -> Iterator[Span]:
    """The encoder struggles, perhaps stalls, and recovers: at most once in a period."""
    for number in range(cycles):
        keys = (seed, index, Purpose.INCIDENT, slot, number)
        if unit(*keys, 0) >= _INCIDENT_CHANCE:
            continue
        at = PERIOD_SECONDS * (number + between(0.02, 0.9, *keys, 1))
        parts = [(Condition.STRUGGLING, between(60.0, 300.0, *keys, 2))]
        if unit(*keys, 3) < _STALL_CHANCE:
            parts.append((Condition.STALLED, between(30.0, 180.0, *keys, 4)))
        parts.append((Condition.RECOVERING, between(60.0, 120.0, *keys, 5)))
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


def publishes(natural: Pattern, natural_start: float, faults: Iterable[Fault]) -> list[tuple[Span, ...]]:
    """The publishes that a cycle really has: its natural one, cut by the faults of the stream.

    Each is its spans, in order and without holes. None at all: the stream was ended for the whole cycle.
    """
    spans = list(natural.spans)
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
