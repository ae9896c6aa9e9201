"""The fleet of simulated streams: a pure function of seed, stream, time and faults.

There is no background task. Caches only save work; the results do not depend on the order of calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

from exporter.simulator.fault_injection import Fault, FaultLog
from exporter.simulator.incremental_list import IncrementalList
from exporter.simulator.prng import Purpose, random_bits, random_unit
from exporter.simulator.simulated_streams import PLATFORMS, Platform, Stream, make_stream
from exporter.simulator.timeline import (
    PERIOD_SECONDS,
    SESSIONS_BEFORE_REPEAT,
    gap_seconds,
    max_off_air_share,
    natural_spans,
    split_sessions,
)
from exporter.simulator.totals import Course, IngestSession, Totals

EPOCH = 1_577_836_800.0
"""Start of the all-time totals: the first day of 2020."""
_CRASH_CHANCE = 0.3
_CACHED_CYCLES = 4


class Fleet:
    """Simulated streams, assigned to the platforms in turn.

    ``speed`` affects events and the time of day; bitrates, counters and timestamps stay in wall time.
    """

    def __init__(self, streams: int = 60, *, seed: int = 0, speed: float = 1.0, incidents: bool = True) -> None:
        """``incidents``: whether encoders sometimes struggle or crash without an injected fault."""
        if streams < 1 or speed <= 0:
            raise ValueError("a fleet needs at least one stream and a speed above 0")
        self.size = streams
        self.seed = seed
        self.speed = speed
        self._incidents = incidents
        self.faults = FaultLog()
        self._off_air_share = max_off_air_share(streams)
        self._period = PERIOD_SECONDS / speed
        self._stride = _coprime(streams, random_bits(seed, Purpose.ORDER, 1))
        self._shift = random_bits(seed, Purpose.ORDER, 2) % streams
        self._streams_by_platform: dict[Platform, _PlatformStreams] = {}
        self._caches: dict[int, _StreamCache] = {}
        self._live_streams: dict[Platform, _LiveStreams] = {}

    def streams(self, platform: Platform) -> list[Stream]:
        """Return all streams of the platform."""
        return self._platform_streams(platform).streams

    def _platform_streams(self, platform: Platform) -> _PlatformStreams:
        known = self._streams_by_platform.get(platform)
        if known is None:
            indexes = range(PLATFORMS.index(platform), self.size, len(PLATFORMS))
            known = self._streams_by_platform[platform] = _PlatformStreams(
                [make_stream(self.seed, index) for index in indexes]
            )
        return known

    def by_id(self, platform: Platform, text: str) -> Stream | None:
        """Return the stream with this id."""
        return self._platform_streams(platform).by_id.get(text)

    def by_playback_id(self, platform: Platform, text: str) -> Stream | None:
        """Return the stream with this playback id (Livepeer) or this id in analytics (WAVE)."""
        return self._platform_streams(platform).by_playback_id.get(text) if text else None

    def by_index(self, index: int) -> Stream:
        """Return the stream at this position in the fleet."""
        return self.streams(PLATFORMS[index % len(PLATFORMS)])[index // len(PLATFORMS)]

    def find_stream(self, platform: Platform, text: str) -> Stream | None:
        """Find a stream by name, id or playback id."""
        named = self._platform_streams(platform).by_name.get(text)
        return named or self.by_id(platform, text) or self.by_playback_id(platform, text)

    def latest_ingest(self, stream: Stream, now: float) -> IngestSession:
        """Return the current ingest session, or the last one if the stream is off air."""
        number = self._cycle_number(stream, now)
        while True:
            # This terminates: before a stream's first fault, every cycle has an ingest session.
            for ingest in reversed(self._cycle_ingests(stream, number)):
                if ingest.start <= now:
                    return ingest
            number -= 1

    def past_ingests(self, stream: Stream, now: float) -> Iterator[IngestSession]:
        """Yield the ingest sessions of the cached cycles that started up to ``now``, newest first."""
        number = self._cycle_number(stream, now)
        for cycle in range(number, number - _CACHED_CYCLES, -1):
            for ingest in reversed(self._cycle_ingests(stream, cycle)):
                if ingest.start <= now:
                    yield ingest

    def is_live(self, stream: Stream, now: float) -> bool:
        """Return whether the stream is live."""
        return self.latest_ingest(stream, now).is_live(now)

    def live_streams(self, platform: Platform, now: float) -> list[tuple[Stream, IngestSession]]:
        """Return the platform's live streams with their ingest sessions; cached for the pages of one list."""
        known = self._live_streams.get(platform)
        if known is None:
            known = self._live_streams[platform] = _LiveStreams(
                IncrementalList(self.streams(platform), self.faults, self._live_entry)
            )
        if known.entries.refresh(now):
            known.live = [entry for entry in known.entries.values if entry is not None]
        return known.live

    def _live_entry(self, stream: Stream, now: float) -> tuple[tuple[Stream, IngestSession] | None, float]:
        """Return the stream and its ingest session if it is live, and until when this is valid without a new fault."""
        ingest = self.latest_ingest(stream, now)
        if ingest.is_live(now):
            return (stream, ingest), ingest.end
        return None, self.next_start(stream, now)

    def next_start(self, stream: Stream, now: float) -> float:
        """Return the earliest time at which a stream that is off air can be live again."""
        number = self._cycle_number(stream, now)
        starts = [ingest.start for ingest in self._cycle_ingests(stream, number) if ingest.start > now]
        cache = self._cache(stream)
        return min(starts, default=cache.first_start + (number + 1) * cache.cycle_seconds)

    def prepare(self, now: float) -> None:
        """Fill the caches for the first list of each platform; this takes seconds for a large fleet."""
        for stream in self.streams(Platform.LIVEPEER):
            self.all_time(stream, self.latest_ingest(stream, now), now)
        for stream in self.streams(Platform.STORM):
            self.latest_ingest(stream, now).totals(now)

    def all_time(self, stream: Stream, ingest: IngestSession, now: float) -> Totals:
        """Return the totals of all ingest sessions up to ``ingest`` at ``now``, in whole numbers; egress is 0."""
        total = self._totals_before(stream, ingest).plus(ingest.totals(now).floor())
        return total._replace(egress_bytes=0.0)

    def _totals_before(self, stream: Stream, ingest: IngestSession) -> Totals:
        """Return the totals of all ingest sessions before this one."""
        number = ingest.course.number
        cache = self._cache(stream)
        ingests = self._cycle_ingests(stream, number)
        if cache.before is None or cache.before[0] is not ingest:
            total = self._natural_total(stream, number).plus(self._fault_effect_before(stream, number))
            for before in ingests:
                if before.start < ingest.start:
                    total = total.plus(before.final_totals())
            cache.before = (ingest, total)
        return cache.before[1]

    def _cache(self, stream: Stream) -> _StreamCache:
        cache = self._caches.get(stream.index)
        if cache is None:
            cache = self._caches[stream.index] = _StreamCache(
                self._first_cycle_start(stream), stream.cycles * self._period
            )
        return cache

    def _first_cycle_start(self, stream: Stream) -> float:
        """Return the start of the stream's first cycle, spread so that few streams are off air at once."""
        rank = (stream.index * self._stride + self._shift) % self.size
        turn = random_bits(Purpose.ORDER, 3, seed=stream.seed) % stream.cycles
        return EPOCH + (rank / self.size - turn) * self._period

    def _cycle_number(self, stream: Stream, now: float) -> int:
        cache = self._cache(stream)
        return math.floor((now - cache.first_start) / cache.cycle_seconds)

    def _cycle_ingests(self, stream: Stream, number: int) -> list[IngestSession]:
        """Return the ingest sessions of a cycle."""
        faults = self.faults.stream_faults(stream.index)
        cache = self._cache(stream)
        if cache.faults is not faults:
            cache.faults, cache.cycles, cache.fault_effect, cache.before = faults, {}, None, None
        ingests = cache.cycles.get(number)
        if ingests is None:
            ingests = cache.cycles[number] = self._make_cycle_ingests(stream, number, faults)
            if len(cache.cycles) > _CACHED_CYCLES:
                cache.cycles.pop(next(iter(cache.cycles)))
        return ingests

    def _make_cycle_ingests(self, stream: Stream, number: int, faults: tuple[Fault, ...]) -> list[IngestSession]:
        cache = self._cache(stream)
        slot = number % SESSIONS_BEFORE_REPEAT
        gap = gap_seconds(stream, slot, self._off_air_share, self.speed)
        natural = natural_spans(stream, slot, cache.cycle_seconds - gap, self.speed, incidents=self._incidents)
        start = cache.first_start + number * cache.cycle_seconds + gap
        course = Course(stream, number, start, self.speed)
        last = natural[-1].end
        crashes = self._incidents and random_unit(Purpose.CRASH, number, seed=stream.seed) < _CRASH_CHANCE
        sessions = split_sessions(natural, start, faults) if faults else [natural]
        return [IngestSession(course, spans, crashed=crashes and spans[-1].end == last) for spans in sessions]

    def _natural_total(self, stream: Stream, number: int) -> Totals:
        """Return the totals of all cycles between the epoch and this one, as if there were no faults."""
        sums = self._cycle_sums(stream)
        rounds, rest = divmod(number, SESSIONS_BEFORE_REPEAT)
        return sums[-1].times(rounds).plus(sums[rest])

    def _cycle_sums(self, stream: Stream) -> tuple[Totals, ...]:
        """Return the totals of the first 0, 1, 2, ... cycles of a round."""
        cache = self._cache(stream)
        if cache.sums is None:
            so_far = [Totals()]
            for slot in range(SESSIONS_BEFORE_REPEAT):
                so_far.append(so_far[-1].plus(_cycle_totals(self._make_cycle_ingests(stream, slot, ()))))
            cache.sums = tuple(so_far)
        return cache.sums

    def _fault_effect_before(self, stream: Stream, number: int) -> Totals:
        """Return how much faults changed the totals of the cycles before this one."""
        faults = self.faults.stream_faults(stream.index)
        if not faults:
            return Totals()
        cache = self._cache(stream)
        if cache.faults is not faults or cache.fault_effect is None or cache.fault_effect[0] != number:
            affected: set[int] = set()
            for fault in faults:
                last = number - 1 if math.isinf(fault.end) else min(self._cycle_number(stream, fault.end), number - 1)
                affected.update(range(self._cycle_number(stream, fault.start), last + 1))
            fault_effect = Totals()
            for cycle in affected:
                made = _cycle_totals(self._make_cycle_ingests(stream, cycle, faults))
                natural = _cycle_totals(self._make_cycle_ingests(stream, cycle, ()))
                fault_effect = fault_effect.plus(made).plus(natural.times(-1))
            # Updates the cache to these faults.
            self._cycle_ingests(stream, number)
            cache.fault_effect = (number, fault_effect)
        return cache.fault_effect[1]


class _PlatformStreams:
    """A platform's streams and lazily built lookup tables."""

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


class _LiveStreams:
    """The live streams at the last refresh."""

    def __init__(self, entries: IncrementalList[tuple[Stream, IngestSession] | None]) -> None:
        self.entries = entries
        self.live: list[tuple[Stream, IngestSession]] = []


class _StreamCache:
    """Results computed for one stream."""

    __slots__ = ("before", "cycle_seconds", "cycles", "fault_effect", "faults", "first_start", "sums")

    def __init__(self, first_start: float, cycle_seconds: float) -> None:
        self.first_start = first_start
        """Start of the stream's first cycle."""
        self.cycle_seconds = cycle_seconds
        self.sums: tuple[Totals, ...] | None = None
        self.faults: tuple[Fault, ...] = ()
        """Faults for which the rest of the cache is valid."""
        self.cycles: dict[int, list[IngestSession]] = {}
        self.before: tuple[IngestSession, Totals] | None = None
        """An ingest session and the totals of all earlier ones."""
        self.fault_effect: tuple[int, Totals] | None = None
        """A cycle number and how much faults changed the totals before it."""


def _cycle_totals(ingests: list[IngestSession]) -> Totals:
    """Return the totals of a whole cycle, without egress because that depends on the time of day."""
    total = Totals()
    for ingest in ingests:
        total = total.plus(ingest.final_totals())
    return total


def _coprime(size: int, start: int) -> int:
    """Return the first number from ``start`` that is coprime to ``size``, so that its multiples reach every place."""
    stride = start % size or 1
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride
