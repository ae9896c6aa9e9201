"""Histograms of gauges that come from outside: observed once per successful poll, never by a scrape.

So two Prometheus replicas, or a curious ``curl``, count nothing twice.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable

from exporter.catalogue.sampled import HEALTH_SCORE, SAMPLED_FAMILIES, SampledFamily
from exporter.model import SampledHistogram, StreamState

_Key = tuple[str, str, str | None]
"""Family, protocol, and the stream's label where each stream has its own histograms."""


class SampledHistograms:
    """The sampled histograms of one upstream. Counts only grow; what it hands out never changes."""

    def __init__(self, *, platform: str, upstream: str, per_stream: bool = False) -> None:
        self.platform = platform
        self.upstream = upstream
        self._per_stream = per_stream
        self._histograms: dict[_Key, SampledHistogram] = {}

    def observe(self, state: StreamState) -> None:
        """Take in one stream after a successful poll: the values of a live one, health 0 of one that should be live."""
        if state.live:
            for family in SAMPLED_FAMILIES:
                self._add(family, state, family.observed(state))
        elif state.expected and state.live is False:
            self._add(HEALTH_SCORE, state, 0.0)

    def snapshot(self) -> tuple[SampledHistogram, ...]:
        """All histograms as they are now."""
        return tuple(self._histograms.values())

    def forget_all_but(self, streams: Iterable[str]) -> None:
        """Drop the histograms of single streams that are not served any more."""
        if self._per_stream:
            served = frozenset(streams)
            self._histograms = {key: kept for key, kept in self._histograms.items() if kept.stream in served}

    def _add(self, family: SampledFamily, state: StreamState, value: float | None) -> None:
        # A negative or infinite one would spoil the sum, which has to grow like a counter.
        if value is None or not 0 <= value < math.inf:
            return
        protocol = state.sample.protocol
        stream = state.identity.stream if self._per_stream else None
        key = (family.name, protocol, stream)
        known = self._histograms.get(key)
        counts = list(known.counts) if known else [0] * (len(family.bounds) + 1)
        counts[bisect_left(family.bounds, value)] += 1
        self._histograms[key] = SampledHistogram(
            family=family.name,
            protocol=protocol,
            stream=stream,
            counts=tuple(counts),
            sum=(known.sum if known else 0.0) + value,
        )
