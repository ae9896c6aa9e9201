"""Totals of a stream: integrals in closed form, so that the cost does not depend on the time span.

Bitrate is ``setting x level x (1 + w sin B)`` and the audience ``average x level x (1 + d sin A)``, with B turning
once in about a minute and A once in a simulated day. Both, and their product, have an antiderivative.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

from exporter.simulator.simulated_streams import Stream
from exporter.simulator.stream_conditions import LEVELS, Condition
from exporter.simulator.timeline import Span

WOBBLE = 0.06
"""Amplitude of an encoder's bitrate around its setting, as a share."""
DAY_SWING = 0.8
"""Amplitude of the audience around its average, as a share."""
DAY_SECONDS = 86400.0

_EVENING = -2 * math.pi * (13 / 24)
"""Phase that puts the middle of the upward swing at 13:00 of the simulated day and the peak at 19:00."""


class Totals(NamedTuple):
    """Totals over a time span."""

    bytes: float = 0.0
    egress_bytes: float = 0.0
    media_seconds: float = 0.0
    transcoded_seconds: float = 0.0
    """Seconds of media that the transcoder has processed, for each rendition."""
    frames: float = 0.0
    dropped_frames: float = 0.0

    def plus(self, other: Totals) -> Totals:
        """Add two totals."""
        return Totals(
            self.bytes + other.bytes,
            self.egress_bytes + other.egress_bytes,
            self.media_seconds + other.media_seconds,
            self.transcoded_seconds + other.transcoded_seconds,
            self.frames + other.frames,
            self.dropped_frames + other.dropped_frames,
        )

    def times(self, factor: int) -> Totals:
        """Multiply by a whole number."""
        return Totals(*(factor * value for value in self))

    def floor(self) -> Totals:
        """Round down to whole bytes, seconds and frames."""
        return Totals(*(float(math.floor(value)) for value in self))


class Course:
    """A stream's bitrate and audience over a cycle. Times are seconds since ``natural_start``."""

    __slots__ = ("_day_start", "_day_turn", "_turn", "natural_start", "number", "stream")

    def __init__(self, stream: Stream, number: int, natural_start: float, speed: float) -> None:
        self.stream = stream
        self.number = number
        """Number of the cycle."""
        self.natural_start = natural_start
        self._turn = 2 * math.pi / stream.wobble_seconds
        self._day_turn = 2 * math.pi * speed / DAY_SECONDS
        seconds = natural_start * speed % DAY_SECONDS
        # Time of the simulated day at the start of the cycle, as an angle.
        self._day_start = 2 * math.pi * seconds / DAY_SECONDS + stream.day_angle + _EVENING

    def bitrate(self, offset: float, condition: Condition) -> float:
        """Return bytes per second."""
        swing = 1 + WOBBLE * math.sin(self._turn * offset + self.stream.wobble_angle)
        return self.stream.bitrate * LEVELS[condition].bitrate * swing

    def audience(self, offset: float, condition: Condition) -> float:
        """Return the number of viewers, not rounded."""
        swing = 1 + DAY_SWING * math.sin(self._day_turn * offset + self._day_start)
        return self.stream.audience * LEVELS[condition].audience * swing

    def largest_audience(self, span: Span, until: float) -> float:
        """Return the largest audience of the span up to ``until``."""
        start, end = (self._day_turn * offset + self._day_start for offset in (span.start, until))
        top = math.pi / 2 + 2 * math.pi * math.ceil((start - math.pi / 2) / (2 * math.pi))
        if top <= end:
            return self.stream.audience * LEVELS[span.condition].audience * (1 + DAY_SWING)
        return max(self.audience(span.start, span.condition), self.audience(until, span.condition))

    def totals(self, start: float, end: float, condition: Condition, *, with_egress: bool = True) -> Totals:
        """Return the totals between ``start`` and ``end`` in one condition."""
        level = LEVELS[condition]
        seconds = end - start
        swings = _sine_integral(self._turn, self.stream.wobble_angle, start, end)
        media = level.media * seconds
        frames = self.stream.frame_rate * level.frame_rate * seconds
        bitrate = self.stream.bitrate * level.bitrate
        egress = 0.0
        if with_egress:
            egress = bitrate * self.stream.audience * level.audience * self._egress_integral(start, end, swings)
        return Totals(
            bytes=bitrate * (seconds + WOBBLE * swings),
            egress_bytes=egress,
            media_seconds=media,
            transcoded_seconds=media * min(1.0, level.pace),
            frames=frames,
            dropped_frames=frames * level.dropped,
        )

    def _egress_integral(self, start: float, end: float, swing: float) -> float:
        """Return the integral of (1 + w sin B)(1 + d sin A); ``swing`` is the integral of sin B."""
        turn, angle = self._turn, self.stream.wobble_angle
        day_turn, day = self._day_turn, self._day_start
        day_swing = _sine_integral(day_turn, day, start, end)
        # sin A sin B = (cos(A - B) - cos(A + B)) / 2, and a cosine is a sine a quarter turn on.
        quarter = math.pi / 2
        product = (
            _sine_integral(day_turn - turn, day - angle + quarter, start, end)
            - _sine_integral(day_turn + turn, day + angle + quarter, start, end)
        ) / 2
        return (end - start) + WOBBLE * swing + DAY_SWING * day_swing + WOBBLE * DAY_SWING * product


def _sine_integral(turn: float, angle: float, start: float, end: float) -> float:
    """Return the integral of sin(turn x + angle), numerically stable for slow turns too."""
    half = turn * (end - start) / 2
    spread = math.sin(half) / half if half else 1.0
    return (end - start) * math.sin(turn * (start + end) / 2 + angle) * spread


class IngestSession:
    """One ingest session, from the encoder's connect to its disconnect. Times are Unix seconds."""

    __slots__ = ("_before", "_largest", "_starts", "course", "crashed", "end", "spans", "start")

    def __init__(self, course: Course, spans: tuple[Span, ...], *, crashed: bool) -> None:
        self.course = course
        self.spans = spans
        self.start = course.natural_start + spans[0].start
        self.end = course.natural_start + spans[-1].end
        """Planned end; a fault may still end the session earlier."""
        self.crashed = crashed
        """Whether the encoder disappears at the end instead of disconnecting."""
        self._starts = [span.start for span in spans]
        # Values before each span, filled in as needed.
        self._before = [Totals()]
        self._largest = [0.0]

    def is_live(self, now: float) -> bool:
        """Return whether the stream is live."""
        return self.start <= now < self.end

    def _offset(self, now: float) -> float:
        return min(max(now - self.course.natural_start, self._starts[0]), self.spans[-1].end)

    def _span_index(self, offset: float) -> int:
        return bisect_right(self._starts, offset) - 1

    def span(self, now: float) -> Span:
        """Return the span at ``now``; the first one before the start, the last one after the end."""
        return self.spans[self._span_index(self._offset(now))]

    def condition(self, now: float) -> Condition:
        """Return the current or, after the end, the last condition."""
        return self.span(now).condition

    def bitrate(self, now: float) -> float:
        """Return the ingest in bytes per second while live."""
        return self.course.bitrate(self._offset(now), self.condition(now))

    def audience(self, now: float) -> float:
        """Return the number of viewers while live, not rounded."""
        return self.course.audience(self._offset(now), self.condition(now))

    def viewers(self, now: float) -> int:
        """Return the number of viewers; 0 while off air."""
        return int(self.audience(now) + 0.5) if self.is_live(now) else 0

    def peak_viewers(self, now: float) -> int:
        """Return the largest number of viewers so far."""
        offset = self._offset(now)
        place = self._span_index(offset)
        for span in self.spans[len(self._largest) - 1 : place]:
            self._largest.append(max(self._largest[-1], self.course.largest_audience(span, span.end)))
        return int(max(self._largest[place], self.course.largest_audience(self.spans[place], offset)) + 0.5)

    def totals(self, now: float) -> Totals:
        """Return the totals so far."""
        offset = self._offset(now)
        place = self._span_index(offset)
        for span in self.spans[len(self._before) - 1 : place]:
            self._before.append(self._before[-1].plus(self.course.totals(span.start, span.end, span.condition)))
        span = self.spans[place]
        return self._before[place].plus(self.course.totals(span.start, offset, span.condition))

    def final_totals(self) -> Totals:
        """Return the totals from start to end, as whole numbers, without egress (it depends on the time of day)."""
        total = Totals()
        for span in self.spans:
            total = total.plus(self.course.totals(span.start, span.end, span.condition, with_egress=False))
        return total.floor()
