"""What a stream has sent: integrals in closed form, so that any moment can be asked for at the same cost.

Bitrate is ``setting x level x (1 + w sin B)`` and the audience ``average x level x (1 + d sin A)``, with B turning
once in about a minute and A once in a simulated day. Both, and their product, have an antiderivative; no step is ever
added up.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

from exporter.simulator.conditions import LEVELS, Condition
from exporter.simulator.streams import Stream
from exporter.simulator.timeline import Span

WOBBLE = 0.06
"""An encoder's bitrate swings by this share around its setting."""
DAY_SWING = 0.8
"""The audience swings by this share around its average."""
DAY_SECONDS = 86400.0

_EVENING = -2 * math.pi * (13 / 24)
"""Puts the middle of the upward swing at 13 h of the simulated day, and its top at 19 h."""


class Totals(NamedTuple):
    """Amounts over a time."""

    bytes: float = 0.0
    egress_bytes: float = 0.0
    media_seconds: float = 0.0
    transcoded_seconds: float = 0.0
    """Media that the transcoder has got through, for each rendition."""
    frames: float = 0.0
    dropped_frames: float = 0.0

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            self.bytes + other.bytes,
            self.egress_bytes + other.egress_bytes,
            self.media_seconds + other.media_seconds,
            self.transcoded_seconds + other.transcoded_seconds,
            self.frames + other.frames,
            self.dropped_frames + other.dropped_frames,
        )

    def times(self, factor: int) -> Totals:
        """So many times as much."""
        return Totals(*(factor * amount for amount in self))

    def whole(self) -> Totals:
        """In whole bytes, seconds and frames, which add up without a rest."""
        return Totals(*(float(math.floor(amount)) for amount in self))


class Course:
    """What a stream sends over a cycle, before any condition takes from it. Time is seconds since ``natural_start``."""

    __slots__ = ("_day_start", "_day_turn", "_turn", "natural_start", "number", "stream")

    def __init__(self, stream: Stream, number: int, natural_start: float, speed: float) -> None:
        self.stream = stream
        self.number = number
        """Of the cycle."""
        self.natural_start = natural_start
        self._turn = 2 * math.pi / stream.wobble_seconds
        self._day_turn = 2 * math.pi * speed / DAY_SECONDS
        seconds = natural_start * speed % DAY_SECONDS
        # Where in the simulated day the cycle starts, as an angle.
        self._day_start = 2 * math.pi * seconds / DAY_SECONDS + stream.day_angle + _EVENING

    def bitrate(self, offset: float, condition: Condition) -> float:
        """Bytes per second."""
        swing = 1 + WOBBLE * math.sin(self._turn * offset + self.stream.wobble_angle)
        return self.stream.bitrate * LEVELS[condition].bitrate * swing

    def audience(self, offset: float, condition: Condition) -> float:
        """People watching; not yet a whole number."""
        swing = 1 + DAY_SWING * math.sin(self._day_turn * offset + self._day_start)
        return self.stream.audience * LEVELS[condition].audience * swing

    def largest_audience(self, span: Span, until: float) -> float:
        """The most people at any moment of the span up to ``until``."""
        start, end = (self._day_turn * offset + self._day_start for offset in (span.start, until))
        top = math.pi / 2 + 2 * math.pi * math.ceil((start - math.pi / 2) / (2 * math.pi))
        if top <= end:
            return self.stream.audience * LEVELS[span.condition].audience * (1 + DAY_SWING)
        return max(self.audience(span.start, span.condition), self.audience(until, span.condition))

    def amounts(self, start: float, end: float, condition: Condition, *, with_egress: bool = True) -> Totals:
        """What the time from ``start`` to ``end`` in one condition adds."""
        level = LEVELS[condition]
        seconds = end - start
        swings = _sine(self._turn, self.stream.wobble_angle, start, end)
        media = level.media * seconds
        frames = self.stream.frame_rate * level.frame_rate * seconds
        bitrate = self.stream.bitrate * level.bitrate
        egress = 0.0
        if with_egress:
            egress = bitrate * self.stream.audience * level.audience * self._both(start, end, swings)
        return Totals(
            bytes=bitrate * (seconds + WOBBLE * swings),
            egress_bytes=egress,
            media_seconds=media,
            transcoded_seconds=media * min(1.0, level.pace),
            frames=frames,
            dropped_frames=frames * level.dropped,
        )

    def _both(self, start: float, end: float, swing: float) -> float:
        """The integral of (1 + w sin B)(1 + d sin A); ``swing`` is that of sin B."""
        turn, angle = self._turn, self.stream.wobble_angle
        day_turn, day = self._day_turn, self._day_start
        day_swing = _sine(day_turn, day, start, end)
        # sin A sin B = (cos(A - B) - cos(A + B)) / 2, and a cosine is a sine a quarter turn on.
        quarter = math.pi / 2
        product = (
            _sine(day_turn - turn, day - angle + quarter, start, end)
            - _sine(day_turn + turn, day + angle + quarter, start, end)
        ) / 2
        return (end - start) + WOBBLE * swing + DAY_SWING * day_swing + WOBBLE * DAY_SWING * product


def _sine(turn: float, angle: float, start: float, end: float) -> float:
    """The integral of sin(turn x + angle), stable for slow turns too."""
    half = turn * (end - start) / 2
    spread = math.sin(half) / half if half else 1.0
    return (end - start) * math.sin(turn * (start + end) / 2 + angle) * spread


class Publish:
    """One publish: from the encoder's connect to its disconnect. Times are unix seconds."""

    __slots__ = ("_before", "_largest", "_starts", "course", "crashed", "end", "spans", "start")

    def __init__(self, course: Course, spans: tuple[Span, ...], *, crashed: bool) -> None:
        self.course = course
        self.spans = spans
        self.start = course.natural_start + spans[0].start
        self.end = course.natural_start + spans[-1].end
        """As planned: a fault may still end it earlier."""
        self.crashed = crashed
        """Whether the encoder vanishes at the end instead of saying goodbye."""
        self._starts = [span.start for span in spans]
        # What came before each span; filled as far as somebody asked.
        self._before = [Totals()]
        self._largest = [0.0]

    def live(self, now: float) -> bool:
        """Whether it is on the air."""
        return self.start <= now < self.end

    def _offset(self, now: float) -> float:
        return min(max(now - self.course.natural_start, self._starts[0]), self.spans[-1].end)

    def _span(self, offset: float) -> int:
        return bisect_right(self._starts, offset) - 1

    def span(self, now: float) -> Span:
        """The span that ``now`` lies in; before the start the first, after the end the last."""
        return self.spans[self._span(self._offset(now))]

    def condition(self, now: float) -> Condition:
        """How it is, or in the end was, doing."""
        return self.span(now).condition

    def bitrate(self, now: float) -> float:
        """Bytes per second that come in while it is live."""
        return self.course.bitrate(self._offset(now), self.condition(now))

    def audience(self, now: float) -> float:
        """How many watch while it is live, not yet a whole number."""
        return self.course.audience(self._offset(now), self.condition(now))

    def viewers(self, now: float) -> int:
        """How many watch; nobody off the air."""
        return int(self.audience(now) + 0.5) if self.live(now) else 0

    def peak_viewers(self, now: float) -> int:
        """The most that watched at once so far."""
        offset = self._offset(now)
        place = self._span(offset)
        for span in self.spans[len(self._largest) - 1 : place]:
            self._largest.append(max(self._largest[-1], self.course.largest_audience(span, span.end)))
        return int(max(self._largest[place], self.course.largest_audience(self.spans[place], offset)) + 0.5)

    def amounts(self, now: float) -> Totals:
        """What it has sent so far; after the end, in all."""
        offset = self._offset(now)
        place = self._span(offset)
        for span in self.spans[len(self._before) - 1 : place]:
            self._before.append(self._before[-1].plus(self.course.amounts(span.start, span.end, span.condition)))
        span = self.spans[place]
        return self._before[place].plus(self.course.amounts(span.start, offset, span.condition))

    def whole_total(self) -> Totals:
        """What it sends from its start to its end, in whole numbers; egress, which knows the time of day, left out."""
        total = Totals()
        for span in self.spans:
            total = total.plus(self.course.amounts(span.start, span.end, span.condition, with_egress=False))
        return total.whole()
