"""Histograms of gauges that come from outside: observed once per successful poll, never by a scrape.

So two Prometheus replicas, or a curious ``curl``, count nothing twice.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable

from exporter.catalogue.sampled import HEALTH_SCORE, SAMPLED_FAMILIES, SampledFamily
from exporter.model import SampledHistogram, StreamState

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

    def add(self, value: float) -> None:
        """One more observation."""
        self._counts[bisect_left(self._family.bounds, value)] += 1
        self._sum += value
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


class SampledHistograms:
    """The sampled histograms of one upstream. Counts only grow; what it hands out never changes."""

    def __init__(self, *, platform: str, upstream: str, per_stream: bool = False) -> None:
        self.platform = platform
        self.upstream = upstream
        self._per_stream = per_stream
        self._histograms: dict[str, dict[_Key, _Histogram]] = {family.name: {} for family in SAMPLED_FAMILIES}

    def observe(self, state: StreamState) -> None:
        """Take in one stream after a successful poll: the values of a live one, health 0 of one that should be live."""
        if state.live:
            for family in SAMPLED_FAMILIES:
                value = family.observed(state)
                # A negative or infinite one would spoil the sum, which has to grow like a counter.
                if value is not None and 0 <= value < math.inf:
                    self._add(family, state, value)
        elif state.expected and state.live is False:
            self._add(HEALTH_SCORE, state, 0.0)

    def snapshot(self) -> tuple[SampledHistogram, ...]:
        """All histograms as they are now."""
        return tuple(known.latest() for histograms in self._histograms.values() for known in histograms.values())

    def forget_all_but(self, streams: Iterable[str]) -> None:
        """Drop the histograms of single streams that are not served any more."""
        if self._per_stream:
            served = frozenset(streams)
            for name, histograms in self._histograms.items():
                self._histograms[name] = {key: kept for key, kept in histograms.items() if kept.stream in served}

    def _add(self, family: SampledFamily, state: StreamState, value: float) -> None:
        protocol = state.sample.protocol
        stream = state.identity.stream if self._per_stream else None
        histograms = self._histograms[family.name]
        known = histograms.get((protocol, stream))
        if known is None:
            known = histograms[protocol, stream] = _Histogram(family, protocol, stream)
        known.add(value)
        if self._per_stream:
            # Thousands of them are made here, in small steps, and not all at once when they are asked for.
            known.latest()
