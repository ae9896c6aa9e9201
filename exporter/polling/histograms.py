"""Histograms of the platforms' gauges, observed once per successful poll.

Scrapes add no observations, so two Prometheus replicas, or a ``curl``, do not count anything twice.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from exporter.metrics.families.stream_families import HEALTH_SCORE, SAMPLED_FAMILIES, SampledFamily
from exporter.model import SampledHistogram, StreamState
from exporter.polling.maintenance import NO_MAINTENANCE, ActiveMaintenance

OBSERVATIONS_PER_STEP = 200
"""Number of streams to observe before yielding to the event loop."""

_Key = tuple[str, str | None]
"""Protocol and, with histograms per stream, the stream's label."""


class _Histogram:
    """One mutable histogram."""

    __slots__ = ("_counts", "_family", "_latest", "_sum", "protocol", "stream")

    def __init__(self, family: SampledFamily, protocol: str, stream: str | None) -> None:
        self.protocol = protocol
        self.stream = stream
        self._family = family
        self._counts = [0] * (len(family.bounds) + 1)
        self._sum = 0.0
        self._latest: SampledHistogram | None = None

    def add(self, values: Sequence[float]) -> None:
        """Add observations."""
        for bucket, times in Counter(map(partial(bisect_left, self._family.bounds), values)).items():
            self._counts[bucket] += times
        self._sum = sum(values, self._sum)
        self._latest = None

    def latest(self) -> SampledHistogram:
        """Return an immutable copy, cached until the next observation."""
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
    """The per-poll histograms of one upstream. Counts never decrease, and snapshots are immutable."""

    def __init__(self, *, platform: str, upstream: str, per_stream: bool = False) -> None:
        self.platform = platform
        self.upstream = upstream
        self._per_stream = per_stream
        self._histograms: dict[str, dict[_Key, _Histogram]] = {family.name: {} for family in SAMPLED_FAMILIES}

    def observe(self, states: Iterable[StreamState], maintenance: ActiveMaintenance = NO_MAINTENANCE) -> None:
        """Observe streams after a successful poll: the values of live ones, and health 0 for missing ones.

        No health is observed during maintenance.
        """
        for key, streams in self._group_by_key(states).items():
            live = [state for state in streams if state.live]
            judged = streams
            if maintenance is not NO_MAINTENANCE:
                judged = [state for state in streams if not maintenance.covers(state.identity.stream)]
            for family in SAMPLED_FAMILIES:
                observed = live if judged is streams or family is not HEALTH_SCORE else [s for s in judged if s.live]
                # the sum must behave like a counter, so negative and infinite values are left out
                values = [v for v in map(family.observed, observed) if v is not None and 0 <= v < math.inf]
                self._add(family, key, values)
            if len(live) < len(streams):
                missed = [0.0 for state in judged if state.expected and state.live is False]
                self._add(HEALTH_SCORE, key, missed)

    def observe_in_steps(
        self, states: Iterator[StreamState], maintenance: ActiveMaintenance = NO_MAINTENANCE
    ) -> Iterator[None]:
        """Observe many streams. The caller must exhaust the generator, which yields between steps."""
        while batch := list(islice(states, OBSERVATIONS_PER_STEP)):
            self.observe(batch, maintenance)
            yield

    def snapshot(self) -> tuple[SampledHistogram, ...]:
        """Return immutable copies of all histograms."""
        return tuple(
            histogram.latest() for histograms in self._histograms.values() for histogram in histograms.values()
        )

    def forget_all_but(self, streams: Iterable[str]) -> None:
        """Drop per-stream histograms of streams that are no longer served."""
        if self._per_stream:
            served = frozenset(streams)
            for name, histograms in self._histograms.items():
                self._histograms[name] = {
                    key: histogram for key, histogram in histograms.items() if histogram.stream in served
                }

    def _group_by_key(self, states: Iterable[StreamState]) -> dict[_Key, list[StreamState]]:
        """Group streams that share histograms."""
        groups: defaultdict[_Key, list[StreamState]] = defaultdict(list)
        for state in states:
            groups[state.report.protocol, state.identity.stream if self._per_stream else None].append(state)
        return groups

    def _add(self, family: SampledFamily, key: _Key, values: Sequence[float]) -> None:
        if not values:
            return
        histograms = self._histograms[family.name]
        histogram = histograms.get(key)
        if histogram is None:
            histogram = histograms[key] = _Histogram(family, *key)
        histogram.add(values)
        if self._per_stream:
            # copy thousands of histograms here, in small steps, rather than all at once in snapshot()
            histogram.latest()


class NoHistograms(PollHistograms):
    """No histograms, for polls on demand, which must not change the distribution of the scheduled ones."""

    def observe_in_steps(
        self,
        states: Iterator[StreamState],  # noqa: ARG002 - nothing is kept
        maintenance: ActiveMaintenance = NO_MAINTENANCE,  # noqa: ARG002
    ) -> Iterator[None]:
        """Observe nothing."""
        return iter(())
