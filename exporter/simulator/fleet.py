"""The fleet: a pure function of seed, stream, time and faults.

Nothing ticks. What is kept between questions is only remembered work, which any other order of questions brings again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from exporter.simulator import life
from exporter.simulator.amounts import Amounts, Course, Publish
from exporter.simulator.configuration import configuration
from exporter.simulator.dice import Purpose, roll, unit
from exporter.simulator.faults import Fault, FaultBook
from exporter.simulator.life import PERIOD_SECONDS, PUBLISHES_BEFORE_REPEAT
from exporter.simulator.streams import PLATFORMS, Platform, Stream, make_stream

WORLD_BEGAN = 1_577_836_800.0
"""All-time totals count from here: the first day of 2020."""
_CRASH_CHANCE = 0.3
_CYCLES_REMEMBERED = 4


class Fleet:
    """So many streams in all, dealt to the platforms in turn, whose life runs ``speed`` times as fast as a real one.

    Speed moves what happens and the time of day; bytes per second, counters and timestamps stay in wall time.
    """

    def __init__(self, streams: int = 60, *, seed: int = 0, speed: float = 1.0, incidents: bool = True) -> None:
        """``incidents``: whether an encoder struggles or crashes at times, though nobody orders it."""
        if streams < 1 or speed <= 0:
            raise ValueError("a fleet has at least one stream, and a speed above 0")
        self.size = streams
        self.seed = seed
        self.speed = speed
        self._incidents = incidents
        self.faults = FaultBook()
        self._share = life.off_air_share(streams)
        self._period = PERIOD_SECONDS / speed
        self._stride = _coprime(streams, roll(seed, Purpose.ORDER, 1))
        self._shift = roll(seed, Purpose.ORDER, 2) % streams
        self._timelines: dict[int, _Memory] = {}
        self._on_air: dict[Platform, _OnAir] = {}
        self._sums_of: dict[int, tuple[Amounts, ...]] = {}
        self._lost: dict[int, tuple[tuple[Fault, ...], int, Amounts]] = {}

    @cached_property
    def _streams(self) -> dict[Platform, list[Stream]]:
        dealt: dict[Platform, list[Stream]] = {platform: [] for platform in PLATFORMS}
        for index in range(self.size):
            stream = make_stream(self.seed, index)
            dealt[stream.platform].append(stream)
        return dealt

    def of(self, platform: Platform) -> list[Stream]:
        """A platform's streams, on the air or not."""
        return self._streams[platform]

    @cached_property
    def _by_id(self) -> dict[tuple[Platform, str], Stream]:
        return {(stream.platform, stream.id): stream for streams in self._streams.values() for stream in streams}

    @cached_property
    def _by_name(self) -> dict[tuple[Platform, str], Stream]:
        return {(stream.platform, stream.name): stream for streams in self._streams.values() for stream in streams}

    @cached_property
    def _by_playback_id(self) -> dict[str, Stream]:
        return {stream.playback_id: stream for streams in self._streams.values() for stream in streams}

    def by_id(self, platform: Platform, text: str) -> Stream | None:
        """The stream of this id."""
        return self._by_id.get((platform, text))

    def by_playback_id(self, platform: Platform, text: str) -> Stream | None:
        """The stream of this playback id (Livepeer), or of this id in analytics (WAVE)."""
        stream = self._by_playback_id.get(text)
        return stream if stream is not None and stream.platform is platform else None

    def by_index(self, index: int) -> Stream:
        """The stream at this place of the fleet."""
        return self._streams[PLATFORMS[index % len(PLATFORMS)]][index // len(PLATFORMS)]

    def find(self, platform: Platform, text: str) -> Stream | None:
        """The stream that a person means: by name, id, or playback id."""
        named = self._by_name.get((platform, text))
        return named or self.by_id(platform, text) or self.by_playback_id(platform, text)

    def publish(self, stream: Stream, now: float) -> Publish:
        """The publish that is on the air, or else the last one that was."""
        number = self._cycle(stream, now)
        while True:
            # Ends: before the first fault of a stream, every cycle has its publish.
            for publish in reversed(self._timeline(stream, number)):
                if publish.start <= now:
                    return publish
            number -= 1

    def past_publishes(self, stream: Stream, now: float) -> Iterator[Publish]:
        """The publishes up to ``now``, newest first, of the cycles that are remembered."""
        number = self._cycle(stream, now)
        for cycle in range(number, number - _CYCLES_REMEMBERED, -1):
            for publish in reversed(self._timeline(stream, cycle)):
                if publish.start <= now:
                    yield publish

    def live(self, stream: Stream, now: float) -> bool:
        """Whether it is on the air."""
        return self.publish(stream, now).live(now)

    def live_streams(self, platform: Platform, now: float) -> list[tuple[Stream, Publish]]:
        """A platform's streams that are on the air, with their publish."""
        known = self._on_air.get(platform)
        if known is None or known.changes != self.faults.changes or not known.since <= now < known.until:
            known = self._on_air[platform] = self._look_round(platform, now)
        return known.live

    def _look_round(self, platform: Platform, now: float) -> _OnAir:
        """Who is on the air, and until when that cannot change by itself: the pages of one list share a look."""
        live, until = [], math.inf
        for stream in self.of(platform):
            publish = self.publish(stream, now)
            if publish.live(now):
                live.append((stream, publish))
                until = min(until, publish.end)
            else:
                until = min(until, self._next_start(stream, now))
        return _OnAir(self.faults.changes, now, until, live)

    def _next_start(self, stream: Stream, now: float) -> float:
        """When a stream off the air may begin again, at the earliest."""
        number = self._cycle(stream, now)
        starts = [publish.start for publish in self._timeline(stream, number) if publish.start > now]
        return min(starts, default=self._first_cycle_start(stream) + (number + 1) * self._cycle_seconds(stream))

    def all_time(self, stream: Stream, publish: Publish, now: float) -> Amounts:
        """Totals of all publishes, of ``publish`` up to ``now``, in whole numbers; egress has none and is 0."""
        number = publish.course.number
        total = self._natural_total(stream, number).plus(self._lost_before(stream, number))
        for before in self._timeline(stream, number):
            if before.start < publish.start:
                total = total.plus(before.amounts(math.inf).whole())
        return total.plus(publish.amounts(now).whole())._replace(egress_bytes=0.0)

    def configuration(self, base_url: str) -> dict[str, Any]:
        """What an exporter needs to watch this fleet; ``base_url`` is where the simulator stands."""
        return configuration(self, base_url)

    def _cycle_seconds(self, stream: Stream) -> float:
        return stream.cycles * self._period

    def _first_cycle_start(self, stream: Stream) -> float:
        """Every stream has its own place in the period, so that few are off the air at once."""
        rank = (stream.index * self._stride + self._shift) % self.size
        turn = roll(self.seed, stream.index, Purpose.ORDER, 3) % stream.cycles
        return WORLD_BEGAN + (rank / self.size - turn) * self._period

    def _cycle(self, stream: Stream, now: float) -> int:
        return math.floor((now - self._first_cycle_start(stream)) / self._cycle_seconds(stream))

    def _timeline(self, stream: Stream, number: int) -> list[Publish]:
        """The publishes of a cycle."""
        faults = self.faults.of_stream(stream.index)
        memory = self._timelines.get(stream.index)
        if memory is None or memory.faults is not faults:
            memory = self._timelines[stream.index] = _Memory(faults)
        timeline = memory.cycles.get(number)
        if timeline is None:
            timeline = memory.cycles[number] = self._make_timeline(stream, number, faults)
            if len(memory.cycles) > _CYCLES_REMEMBERED:
                memory.cycles.pop(next(iter(memory.cycles)))
        return timeline

    def _make_timeline(self, stream: Stream, number: int, faults: tuple[Fault, ...]) -> list[Publish]:
        natural = self._pattern(stream, number)
        start = self._first_cycle_start(stream) + number * self._cycle_seconds(stream) + natural.gap_seconds
        course = Course(stream, number, start, self.speed)
        last = natural.spans[-1].end
        crashes = self._incidents and unit(self.seed, stream.index, Purpose.CRASH, number) < _CRASH_CHANCE
        return [
            Publish(course, spans, crashed=crashes and spans[-1].end == last)
            for spans in life.publishes(natural, start, faults)
        ]

    def _pattern(self, stream: Stream, number: int) -> life.Pattern:
        slot = number % PUBLISHES_BEFORE_REPEAT
        return life.pattern(self.seed, stream, slot, self._share, self.speed, incidents=self._incidents)

    def _natural_total(self, stream: Stream, number: int) -> Amounts:
        """What all cycles from the world's beginning up to this one would have brought without faults."""
        sums = self._sums(stream)
        rounds, rest = divmod(number, PUBLISHES_BEFORE_REPEAT)
        return sums[-1].times(rounds).plus(sums[rest])

    def _sums(self, stream: Stream) -> tuple[Amounts, ...]:
        """What the first 0, 1, 2, ... cycles of a round bring together."""
        sums = self._sums_of.get(stream.index)
        if sums is None:
            so_far = [Amounts()]
            for slot in range(PUBLISHES_BEFORE_REPEAT):
                so_far.append(so_far[-1].plus(_total(self._make_timeline(stream, slot, ()))))
            sums = self._sums_of[stream.index] = tuple(so_far)
        return sums

    def _lost_before(self, stream: Stream, number: int) -> Amounts:
        """What faults changed in the totals of the cycles before this one."""
        faults = self.faults.of_stream(stream.index)
        known = self._lost.get(stream.index)
        if known is None or known[0] is not faults or known[1] != number:
            touched: set[int] = set()
            for fault in faults:
                last = number - 1 if math.isinf(fault.end) else min(self._cycle(stream, fault.end), number - 1)
                touched.update(range(self._cycle(stream, fault.start), last + 1))
            lost = Amounts()
            for cycle in touched:
                made = _total(self._make_timeline(stream, cycle, faults))
                lost = lost.plus(made).plus(_total(self._make_timeline(stream, cycle, ())).times(-1))
            known = self._lost[stream.index] = (faults, number, lost)
        return known[2]


class _OnAir(NamedTuple):
    """Who is on the air from ``since`` to ``until``, as long as no fault changes it."""

    changes: int
    since: float
    until: float
    live: list[tuple[Stream, Publish]]


class _Memory:
    """Timelines that were made already, as long as the stream's faults stay the same."""

    __slots__ = ("cycles", "faults")

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        self.cycles: dict[int, list[Publish]] = {}


def _total(timeline: list[Publish]) -> Amounts:
    """What a cycle brings from its start to its end; egress, which knows the time of day, left out."""
    total = Amounts()
    for publish in timeline:
        total = total.plus(publish.amounts(math.inf).whole())
    return total._replace(egress_bytes=0.0)


def _coprime(size: int, start: int) -> int:
    """The next number from ``start`` on that shares no divisor with ``size``: steps of it visit every place once."""
    stride = start % size or 1
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride
