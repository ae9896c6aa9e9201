"""When a stream is live and in which condition: spans of conditions, overlaid by injected faults.

Times are seconds since the natural start of a cycle's ingest session; ``fleet.py`` converts them to wall time. A cycle
is a gap off air followed by one ingest session. Incidents repeat after ``SESSIONS_BEFORE_REPEAT`` cycles, so an
all-time total does not need the sum over every session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from exporter.simulator.fault_injection import Fault, FaultKind
from exporter.simulator.prng import Purpose, random_between, random_bits, random_unit
from exporter.simulator.simulated_streams import Stream
from exporter.simulator.stream_conditions import Condition

PERIOD_SECONDS = 4 * 3600.0
"""Period of the fleet; each stream has its own time in the period at which it may be off air."""
SESSIONS_BEFORE_REPEAT = 4
OFF_AIR_SHARE = 0.03
"""Maximum share of the fleet that is off air at once; documented as 5 %."""

START_SECONDS = 60.0
_INCIDENT_CHANCE = 0.7
_STALL_CHANCE = 0.5

FLAP_SECONDS = 60.0
FLAP_OFF_SECONDS = 20.0

_FAULT_CONDITIONS = {
    FaultKind.END: Condition.OFF_AIR,
    FaultKind.UNHEALTHY: Condition.UNHEALTHY,
    FaultKind.STALL: Condition.STALLED,
    FaultKind.BITRATE_LOW: Condition.BITRATE_LOW,
    FaultKind.SLOW_TRANSCODE: Condition.SLOW_TRANSCODE,
    # The encoder stays connected, but the platform receives no media.
    FaultKind.ERROR: Condition.STALLED,
}


class Span(NamedTuple):
    """A time span in one condition."""

    start: float
    end: float
    condition: Condition


def max_off_air_share(streams: int) -> float:
    """Return the share of a period that each stream may be off air, so that 95 % of the fleet is always live.

    With fewer than 20 streams a single one would be more than 5 %, so sessions follow each other without a gap.
    """
    return min(OFF_AIR_SHARE, (streams * 5 // 100) / streams)


def gap_seconds(stream: Stream, slot: int, share: float, speed: float) -> float:
    """Return how long cycles with ``number % SESSIONS_BEFORE_REPEAT == slot`` are off air at their start."""
    # Slightly less than the share, so that rounding never makes two gaps overlap.
    return 0.999 * share * (PERIOD_SECONDS / speed) * random_between(0.5, 1.0, Purpose.GAP, slot, seed=stream.seed)


def natural_spans(stream: Stream, slot: int, end: float, speed: float, *, incidents: bool = True) -> tuple[Span, ...]:
    """Return the spans of the slot's sessions without faults: from 0 to ``end``, without gaps."""
    spans = [Span(0.0, START_SECONDS / speed, Condition.START)]
    # Incidents are in order and end before any gap, so none has to be cut.
    for incident in _incident_spans(stream, slot, speed) if incidents else ():
        if spans[-1].end < incident.start:
            spans.append(Span(spans[-1].end, incident.start, Condition.STEADY))
        spans.append(incident)
    spans.append(Span(spans[-1].end, end, Condition.STEADY))
    return tuple(spans)


def _incident_spans(stream: Stream, slot: int, speed: float) -> Iterator[Span]:
    """Yield spans in which the encoder struggles, perhaps stalls, and recovers: at most once per period."""
    slot_seed = random_bits(Purpose.INCIDENT, slot, seed=stream.seed)
    for number in range(stream.cycles):
        incident_seed = random_bits(number, seed=slot_seed)
        if random_unit(0, seed=incident_seed) >= _INCIDENT_CHANCE:
            continue
        at = PERIOD_SECONDS * (number + random_between(0.02, 0.9, 1, seed=incident_seed))
        parts = [(Condition.STRUGGLING, random_between(60.0, 300.0, 2, seed=incident_seed))]
        if random_unit(3, seed=incident_seed) < _STALL_CHANCE:
            parts.append((Condition.STALLED, random_between(30.0, 180.0, 4, seed=incident_seed)))
        parts.append((Condition.RECOVERING, random_between(60.0, 120.0, 5, seed=incident_seed)))
        for condition, seconds in parts:
            yield Span(at / speed, (at + seconds) / speed, condition)
            at += seconds


def overlay_spans(spans: Iterable[Span], overlays: Iterable[Span]) -> list[Span]:
    """Replace parts of ``spans`` by ``overlays`` (in order), except where off air; both ends stay the same."""
    result = []
    waiting = deque(overlays)
    for span in spans:
        at = span.start
        while span.condition is not Condition.OFF_AIR and waiting and waiting[0].start < span.end:
            overlay = waiting[0]
            start, end = max(overlay.start, at), min(overlay.end, span.end)
            if start < end:
                parts = (Span(at, start, span.condition), Span(start, end, overlay.condition))
                result += [part for part in parts if _has_length(part)]
                at = end
            if overlay.end > span.end:
                break
            waiting.popleft()
        rest = Span(at, span.end, span.condition)
        if _has_length(rest):
            result.append(rest)
    return result


def _has_length(span: Span) -> bool:
    return span.start < span.end


def split_sessions(natural: Sequence[Span], natural_start: float, faults: Iterable[Fault]) -> list[tuple[Span, ...]]:
    """Return the spans of each ingest session in a cycle: the ``natural`` one, cut by the stream's faults.

    The spans are in order and without gaps. The list is empty if the stream was ended for the whole cycle.
    """
    spans = list(natural)
    for fault in faults:
        spans = overlay_spans(spans, _fault_spans(fault, natural_start, spans[-1].end))
    sessions: list[list[Span]] = []
    off_air = True
    for span in spans:
        if span.condition is not Condition.OFF_AIR:
            if off_air:
                sessions.append([])
            sessions[-1].append(span)
        off_air = span.condition is Condition.OFF_AIR
    return [tuple(session) for session in sessions]


def _fault_spans(fault: Fault, natural_start: float, last: float) -> Iterator[Span]:
    start, end = fault.start - natural_start, min(fault.end - natural_start, last)
    if fault.kind is FaultKind.FLAP:
        # Count from the injection, so that the rhythm continues across cycles.
        turn = max(0, int(-start // FLAP_SECONDS))
        while (off := start + turn * FLAP_SECONDS) < end:
            yield Span(off, min(off + FLAP_OFF_SECONDS, end), Condition.OFF_AIR)
            turn += 1
    elif start < end and fault.kind in _FAULT_CONDITIONS:
        # Other faults affect only the reports about the stream.
        yield Span(start, end, _FAULT_CONDITIONS[fault.kind])
