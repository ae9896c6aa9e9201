"""The fleet: a pure function of seed, stream, time and faults.

Nothing ticks. What is kept between questions is only remembered work, which any other order of questions brings again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from exporter.simulator import timeline as life
from exporter.simulator.configuration import configuration
from exporter.simulator.fault_injection import Fault, FaultBook
from exporter.simulator.incremental_list import IncrementalList
from exporter.simulator.prng import Purpose, roll, unit
from exporter.simulator.streams import PLATFORMS, Platform, Stream, make_stream
from exporter.simulator.timeline import PERIOD_SECONDS, PUBLISHES_BEFORE_REPEAT
from exporter.simulator.totals import Course, Publish, Totals

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
        self._registers: dict[Platform, _Register] = {}
        self._memories: dict[int, _Memory] = {}
        self._on_air: dict[Platform, _OnAir] = {}

    def of(self, platform: Platform) -> list[Stream]:
        """A platform's streams, on the air or not."""
        return self._register(platform).streams

    def _register(self, platform: Platform) -> _Register:
        known = self._registers.get(platform)
        if known is None:
            indexes = range(PLATFORMS.index(platform), self.size, len(PLATFORMS))
            known = self._registers[platform] = _Register([make_stream(self.seed, index) for index in indexes])
        return known

    def by_id(self, platform: Platform, text: str) -> Stream | None:
        """The stream of this id."""
        return self._register(platform).by_id.get(text)

    def by_playback_id(self, platform: Platform, text: str) -> Stream | None:
        """The stream of this playback id (Livepeer), or of this id in analytics (WAVE)."""
        return self._register(platform).by_playback_id.get(text) if text else None

    def by_index(self, index: int) -> Stream:
        """The stream at this place of the fleet."""
        return self.of(PLATFORMS[index % len(PLATFORMS)])[index // len(PLATFORMS)]

    def find(self, platform: Platform, text: str) -> Stream | None:
        """The stream that a person means: by name, id, or playback id."""
        named = self._register(platform).by_name.get(text)
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
        """A platform's streams that are on the air, with their publish. The pages of one list share it."""
        known = self._on_air.get(platform)
        if known is None:
            known = self._on_air[platform] = _OnAir(IncrementalList(self.of(platform), self.faults, self._row))
        if known.looks.look(now):
            known.live = [row for row in known.looks.answers if row is not None]
        return known.live

    def _row(self, stream: Stream, now: float) -> tuple[tuple[Stream, Publish] | None, float]:
        """The stream with its publish, if it is on the air, and until when that cannot change by itself."""
        publish = self.publish(stream, now)
        if publish.live(now):
            return (stream, publish), publish.end
        return None, self.next_start(stream, now)

    def asked(self, platform: Platform) -> int:
        """How many streams had to be looked at so far to tell who is on the air."""
        return self._on_air[platform].looks.asked

    def next_start(self, stream: Stream, now: float) -> float:
        """When a stream off the air may begin again, at the earliest."""
        number = self._cycle(stream, now)
        starts = [publish.start for publish in self._timeline(stream, number) if publish.start > now]
        memory = self._memory(stream)
        return min(starts, default=memory.first_start + (number + 1) * memory.cycle_seconds)

    def prepare(self, now: float) -> None:
        """Do beforehand what the first list of each platform that has lists would cost; a large fleet wants it."""
        for stream in self.of(Platform.LIVEPEER):
            self.all_time(stream, self.publish(stream, now), now)
        for stream in self.of(Platform.STORM):
            self.publish(stream, now).amounts(now)

    def all_time(self, stream: Stream, publish: Publish, now: float) -> Totals:
        """Amounts of all publishes, of ``publish`` up to ``now``, in whole numbers; egress has none and is 0."""
        total = self._before(stream, publish).plus(publish.amounts(now).whole())
        return total._replace(egress_bytes=0.0)

    def _before(self, stream: Stream, publish: Publish) -> Totals:
        """Amounts of all publishes before this one."""
        number = publish.course.number
        memory = self._memory(stream)
        timeline = self._timeline(stream, number)
        if memory.before is None or memory.before[0] is not publish:
            total = self._natural_total(stream, number).plus(self._lost_before(stream, number))
            for before in timeline:
                if before.start < publish.start:
                    total = total.plus(before.whole_total())
            memory.before = (publish, total)
        return memory.before[1]

    def configuration(self, base_url: str) -> dict[str, Any]:
        """What an exporter needs to watch this fleet; ``base_url`` is where the simulator stands."""
        return configuration(self, base_url)

    def _memory(self, stream: Stream) -> _Memory:
        memory = self._memories.get(stream.index)
        if memory is None:
            memory = self._memories[stream.index] = _Memory(
                self._first_cycle_start(stream), stream.cycles * self._period
            )
        return memory

    def _first_cycle_start(self, stream: Stream) -> float:
        """Every stream has its own place in the period, so that few are off the air at once."""
        rank = (stream.index * self._stride + self._shift) % self.size
        turn = roll(Purpose.ORDER, 3, since=stream.root) % stream.cycles
        return WORLD_BEGAN + (rank / self.size - turn) * self._period

    def _cycle(self, stream: Stream, now: float) -> int:
        memory = self._memory(stream)
        return math.floor((now - memory.first_start) / memory.cycle_seconds)

    def _timeline(self, stream: Stream, number: int) -> list[Publish]:
        """The publishes of a cycle."""
        faults = self.faults.of_stream(stream.index)
        memory = self._memory(stream)
        if memory.faults is not faults:
            memory.faults, memory.cycles, memory.lost, memory.before = faults, {}, None, None
        timeline = memory.cycles.get(number)
        if timeline is None:
            timeline = memory.cycles[number] = self._make_timeline(stream, number, faults)
            if len(memory.cycles) > _CYCLES_REMEMBERED:
                memory.cycles.pop(next(iter(memory.cycles)))
        return timeline

    def _make_timeline(self, stream: Stream, number: int, faults: tuple[Fault, ...]) -> list[Publish]:
        memory = self._memory(stream)
        slot = number % PUBLISHES_BEFORE_REPEAT
        gap = life.gap(stream, slot, self._share, self.speed)
        natural = life.pattern(stream, slot, memory.cycle_seconds - gap, self.speed, incidents=self._incidents)
        start = memory.first_start + number * memory.cycle_seconds + gap
        course = Course(stream, number, start, self.speed)
        last = natural[-1].end
        crashes = self._incidents and unit(Purpose.CRASH, number, since=stream.root) < _CRASH_CHANCE
        published = life.publishes(natural, start, faults) if faults else [natural]
        return [Publish(course, spans, crashed=crashes and spans[-1].end == last) for spans in published]

    def _natural_total(self, stream: Stream, number: int) -> Totals:
        """What all cycles from the world's beginning up to this one would have brought without faults."""
        sums = self._sums(stream)
        rounds, rest = divmod(number, PUBLISHES_BEFORE_REPEAT)
        return sums[-1].times(rounds).plus(sums[rest])

    def _sums(self, stream: Stream) -> tuple[Totals, ...]:
        """What the first 0, 1, 2, ... cycles of a round bring together."""
        memory = self._memory(stream)
        if memory.sums is None:
            so_far = [Totals()]
            for slot in range(PUBLISHES_BEFORE_REPEAT):
                so_far.append(so_far[-1].plus(_total(self._make_timeline(stream, slot, ()))))
            memory.sums = tuple(so_far)
        return memory.sums

    def _lost_before(self, stream: Stream, number: int) -> Totals:
        """What faults changed in the totals of the cycles before this one."""
        faults = self.faults.of_stream(stream.index)
        if not faults:
            return Totals()
        memory = self._memory(stream)
        if memory.faults is not faults or memory.lost is None or memory.lost[0] != number:
            touched: set[int] = set()
            for fault in faults:
                last = number - 1 if math.isinf(fault.end) else min(self._cycle(stream, fault.end), number - 1)
                touched.update(range(self._cycle(stream, fault.start), last + 1))
            lost = Totals()
            for cycle in touched:
                made = _total(self._make_timeline(stream, cycle, faults))
                lost = lost.plus(made).plus(_total(self._make_timeline(stream, cycle, ())).times(-1))
            # Brings what is remembered up to these faults.
            self._timeline(stream, number)
            memory.lost = (number, lost)
        return memory.lost[1]


class _Register:
    """The streams of a platform, and the tables to find them, made when they are asked for first."""

    def __init__(self, streams: list[Stream]) -> None:
        self.streams = streams

    @cached_property
    def by_id(self) -> dict[str, Stream]:
        return {stream.id: stream for stream in self.streams}

    @cached_property
    def by_name(self) -> dict[str, Stream]:
        return {stream.name: stream for stream in self.streams}

    @cached_property
    def by_playback_id(self) -> dict[str, Stream]:
        return {stream.playback_id: stream for stream in self.streams}


class _OnAir:
    """Who is on the air, as it was looked at last."""

    def __init__(self, looks: IncrementalList[tuple[Stream, Publish] | None]) -> None:
        self.looks = looks
        self.live: list[tuple[Stream, Publish]] = []


class _Memory:
    """What was worked out of a stream already."""

    __slots__ = ("before", "cycle_seconds", "cycles", "faults", "first_start", "lost", "sums")

    def __init__(self, first_start: float, cycle_seconds: float) -> None:
        self.first_start = first_start
        """When the first of its cycles begins."""
        self.cycle_seconds = cycle_seconds
        self.sums: tuple[Totals, ...] | None = None
        self.faults: tuple[Fault, ...] = ()
        """For as long as these are the stream's faults, the rest holds."""
        self.cycles: dict[int, list[Publish]] = {}
        self.before: tuple[Publish, Totals] | None = None
        """What all publishes before this one brought."""
        self.lost: tuple[int, Totals] | None = None
        """What faults changed before the cycle of this number."""


def _total(timeline: list[Publish]) -> Totals:
    """What a cycle brings from its start to its end; egress, which knows the time of day, left out."""
    total = Totals()
    for publish in timeline:
        total = total.plus(publish.whole_total())
    return total


def _coprime(size: int, start: int) -> int:
    """The next number from ``start`` on that shares no divisor with ``size``: steps of it visit every place once."""
    stride = start % size or 1
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride
