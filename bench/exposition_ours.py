"""Scrapes of this exporter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from bench.fleet import Streams, load_patterns, trackers
from bench.measuring import Figures, cpu_of, peak_bytes
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import PollResult, UpstreamState
from exporter.polling.histograms import PollHistograms
from exporter.polling.tracker import Tracker
from exporter.runtime.memory_tuning import tune_allocator

POLLED_AT = 1_700_000_000.0


def main(streams: int, patterns: str, repetitions: int) -> Figures:
    """CPU seconds: of taking in new values of all streams, of reading them for scrapes, of a scrape, and of a second.

    Scrapes are plain and gzip. Taking in is what makes states, health and histograms of values; the others don't.
    """
    tune_allocator()
    fleet = Streams(streams, load_patterns(patterns))
    upstreams = [
        Upstream(view, tracker) for view, tracker in zip(fleet.patterns, trackers(fleet.patterns), strict=True)
    ]
    served: tuple[UpstreamState, ...] = ()
    exposition = Exposition(lambda: served, ExporterMetrics())
    seconds: dict[str, list[float]] = {"update": [], "read": [], "plain": [], "gzip": [], "again": []}
    for number in range(repetitions + 1):
        for kind, render in (("plain", exposition.pieces), ("gzip", exposition.packed)):
            spent = poll_all(upstreams, fleet, exposition, POLLED_AT + number)
            served = tuple(upstream.view for upstream in upstreams)
            rendering = cpu_of(render)
            if number:  # the first time it makes what is kept from then on
                seconds["update"].append(spent.update)
                seconds["read"].append(spent.read)
                seconds[kind].append(rendering)
                seconds["again"] += [cpu_of(render)] if kind == "gzip" else []
    peak = peak_bytes()
    text = exposition.render()
    return {
        **{name: statistics.median(found) for name, found in seconds.items()},
        "bytes": len(text),
        "gzip bytes": sum(map(len, exposition.packed())),
        "samples": sum(not line.startswith(b"#") for line in text.splitlines()),
        "peak": peak,
    }


class Upstream:
    """What stands between a poll's snapshot and the view that is served."""

    def __init__(self, view: UpstreamState, tracker: Tracker) -> None:
        self.view = view
        self._tracker = tracker
        self._histograms = PollHistograms(platform=view.platform, upstream=view.upstream)

    def take(self, snapshot: PollResult, now: float) -> None:
        """A poll's news, as the coordinator takes them in."""
        _exhaust(self._tracker.apply(snapshot, now))
        _exhaust(self._histograms.observe_in_steps(self._tracker.fresh()))
        self.view = msgspec.structs.replace(
            self.view, streams=self._tracker.states(), sampled=self._histograms.snapshot()
        )


class Spent(NamedTuple):
    """CPU seconds of polls."""

    update: float
    """Of what is made of their news."""
    read: float
    """Of reading these for scrapes."""


def poll_all(upstreams: Sequence[Upstream], fleet: Streams, exposition: Exposition, now: float) -> Spent:
    """A poll of every upstream; its news are read for scrapes as soon as they are published, as in the exporter."""
    spent = []
    for upstream, snapshot in zip(upstreams, fleet.snapshots(), strict=True):
        update = cpu_of(partial(upstream.take, snapshot, now))
        began = time.process_time()
        exposition.prepare(upstream.view)
        spent.append(Spent(update, time.process_time() - began))
    return Spent(sum(each.update for each in spent), sum(each.read for each in spent))


def _exhaust(steps: Iterable[None]) -> None:
    for _ in steps:
        pass
