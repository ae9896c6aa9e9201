"""Histograms of gauges that come from outside: observed once per successful poll, never by a scrape.

So two Prometheus replicas, or a curious ``curl``, count nothing twice.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from exporter.metrics.families.sampled_families import HEALTH_SCORE, SAMPLED_FAMILIES, SampledFamily
from exporter.model import SampledHistogram, StreamState

OBSERVATIONS_PER_STEP = 200
"""So many streams are taken in before the event loop gets a turn."""

_Key = tuple[str, str | None]
"""Protocol, and the stream's label where each stream has its own histograms."""


class _Histogram:
    """One histogram, as it grows."""

    __slots__ = ("_counts", "_family", "_latest", "_sum", "protocol", "stream")

    def __init__(self, family: SampledFamily, protocol: str, stream: str | None) -> None:
        self.protocol = protocol
        self.stream = stream
        self._family = family
        self._counts = [0] * (len(family.bounds) + 1)
        self._sum = 0.0
        self._latest: SampledHistogram | None = None

    def add(self, values: Sequence[float]) -> None:
        """More observations."""
        for bucket, times in Counter(map(partial(bisect_left, self._family.bounds), values)).items():
            self._counts[bucket] += times
        self._sum = sum(values, self._sum)
        self._latest = None

    def latest(self) -> SampledHistogram:
        """The histogram as it is now."""
        if self._latest is None:
            self._latest = SampledHistogram(
                family=self._family.name,
                protocol=self.protocol,
                stream=self.stream,
                counts=tuple(self._counts),
                sum=self._sum,
            )
        return self._latest


class PollHistograms:
    """The sampled histograms of one upstream. Counts only grow; what it hands out never changes."""

    def __init__(self, *, platform: str, upstream: str, per_stream: bool = False) -> None:
        self.platform = platform
        self.upstream = upstream
        self._per_stream = per_stream
        self._histograms: dict[str, dict[_Key, _Histogram]] = {family.name: {} for family in SAMPLED_FAMILIES}

    def observe(self, states: Iterable[StreamState]) -> None:
        """Take in streams after a successful poll: the values of a live one, health 0 of one that should be live."""
        for key, streams in self._by_key(states).items():
            live = [state for state in streams if state.live]
            for family in SAMPLED_FAMILIES:
                # A negative or infinite one would spoil the sum, which has to grow like a counter.
                self._add(family, key, [v for v in map(family.observed, live) if v is not None and 0 <= v < math.inf])
            if len(live) < len(streams):
                missed = [0.0 for state in streams if state.expected and state.live is False]
                self._add(HEALTH_SCORE, key, missed)

    def observe_in_steps(self, states: Iterator[StreamState]) -> Iterator[None]:
        """The same of many; a generator, to be exhausted, that yields between steps."""
        while some := list(islice(states, OBSERVATIONS_PER_STEP)):
            self.observe(some)
            yield

    def snapshot(self) -> tuple[SampledHistogram, ...]:
        """All histograms as they are now."""
        return tuple(known.latest() for histograms in self._histograms.values() for known in histograms.values())

    def forget_all_but(self, streams: Iterable[str]) -> None:
        """Drop the histograms of single streams that are not served any more."""
        if self._per_stream:
            served = frozenset(streams)
            for name, histograms in self._histograms.items():
                self._histograms[name] = {key: kept for key, kept in histograms.items() if kept.stream in served}

    def _by_key(self, states: Iterable[StreamState]) -> dict[_Key, list[StreamState]]:
        """The streams that are observed in the same histograms."""
        found: defaultdict[_Key, list[StreamState]] = defaultdict(list)
        for state in states:
            found[state.report.protocol, state.identity.stream if self._per_stream else None].append(state)
        return found

    def _add(self, family: SampledFamily, key: _Key, values: Sequence[float]) -> None:
        if not values:
            return
        histograms = self._histograms[family.name]
        known = histograms.get(key)
        if known is None:
            known = histograms[key] = _Histogram(family, *key)
        known.add(values)
        if self._per_stream:
            # Thousands of them are made here, in small steps, and not all at once when they are asked for.
            known.latest()
