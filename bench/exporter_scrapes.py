"""Scrapes of this exporter: in memory (``main``) and over HTTP (``serving``)."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from bench.case_runner import Figures, measure_cpu, peak_bytes
from bench.generated_streams import GeneratedStreams, load_patterns, make_trackers
from bench.server_process import serve_app
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import PollResult, UpstreamState
from exporter.polling.histograms import PollHistograms
from exporter.polling.tracker import Tracker
from exporter.runtime.clock import Instant
from exporter.runtime.memory_tuning import tune_allocator
from exporter.web.metrics_handler import MetricsHandler

POLLED_AT = 1_700_000_000.0


def main(
    streams: int, patterns: str, repetitions: int, labels: Mapping[str, str] | None = None, overrides: int = 0
) -> Figures:
    """Return CPU seconds for applying new values of all streams, reading them for scrapes, a scrape, and a second one.

    Scrapes are plain and gzip. Applying values computes states, health and histograms; the other cases do not.
    ``labels`` are added to every upstream; ``overrides``: number of streams with a threshold of their own.
    """
    tune_allocator()
    fleet = GeneratedStreams(streams, load_patterns(patterns))
    trackers = make_trackers(fleet.patterns, labels or {}, fleet.ids(overrides))
    upstreams = [
        PolledUpstream(msgspec.structs.replace(view, labels=tuple(sorted((labels or {}).items()))), tracker)
        for view, tracker in zip(fleet.patterns, trackers, strict=True)
    ]
    served: tuple[UpstreamState, ...] = ()
    exposition = Exposition(lambda: served, ExporterMetrics())
    seconds: dict[str, list[float]] = {"update": [], "read": [], "plain": [], "gzip": [], "again": []}
    for number in range(repetitions + 1):
        for kind, render in (("plain", exposition.pieces), ("gzip", exposition.packed)):
            spent = poll_all(upstreams, fleet, exposition, POLLED_AT + number)
            served = tuple(upstream.view for upstream in upstreams)
            rendering = measure_cpu(render)
            if number:  # the first time creates what is kept
                seconds["update"].append(spent.update)
                seconds["read"].append(spent.read)
                seconds[kind].append(rendering)
                seconds["again"] += [measure_cpu(render)] if kind == "gzip" else []
    peak = peak_bytes()
    text = exposition.render()
    return {
        **{name: statistics.median(found) for name, found in seconds.items()},
        "bytes": len(text),
        "gzip bytes": sum(map(len, exposition.packed())),
        "samples": sum(not line.startswith(b"#") for line in text.splitlines()),
        "peak": peak,
    }


class PolledUpstream:
    """Applies poll results to one upstream."""

    def __init__(self, view: UpstreamState, tracker: Tracker) -> None:
        self.view = view
        self._tracker = tracker
        self._histograms = PollHistograms(platform=view.platform, upstream=view.upstream)

    def apply_result(self, result: PollResult, now: float) -> None:
        """Apply a poll's result as the coordinator does."""
        _exhaust(self._tracker.apply(result, Instant(now, now)))
        _exhaust(self._histograms.observe_in_steps(self._tracker.updated_states()))
        streams = self._tracker.states()
        thresholds, off = self._tracker.overrides.rows(streams)
        self.view = msgspec.structs.replace(
            self.view,
            streams=streams,
            sampled=self._histograms.snapshot(),
            threshold_rows=thresholds,
            off_rows=off,
        )


class PollCpu(NamedTuple):
    """CPU seconds of polls."""

    update: float
    """For applying the results."""
    read: float
    """For reading the new values for scrapes."""


def poll_all(
    upstreams: Sequence[PolledUpstream], fleet: GeneratedStreams, exposition: Exposition, now: float
) -> PollCpu:
    """Poll every upstream; read the new values for scrapes as soon as they are published, like the exporter."""
    spent = []
    for upstream, result in zip(upstreams, fleet.poll_results(), strict=True):
        update = measure_cpu(partial(upstream.apply_result, result, now))
        began = time.process_time()
        exposition.prepare(upstream.view)
        spent.append(PollCpu(update, time.process_time() - began))
    return PollCpu(sum(each.update for each in spent), sum(each.read for each in spent))


def _exhaust(steps: Iterable[None]) -> None:
    for _ in steps:
        pass


@asynccontextmanager
async def serving(streams: int, patterns: str) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Commands: ``update``."""
    tune_allocator()
    fleet = GeneratedStreams(streams, load_patterns(patterns))
    upstreams = [PolledUpstream(*pair) for pair in zip(fleet.patterns, make_trackers(fleet.patterns), strict=True)]
    views: tuple[UpstreamState, ...] = ()

    def update() -> None:
        nonlocal views
        poll_all(upstreams, fleet, exposition, POLLED_AT)
        views = tuple(upstream.view for upstream in upstreams)

    exposition = Exposition(lambda: views, ExporterMetrics())
    update()
    scrapes = MetricsHandler(exposition)
    app = web.Application()
    app.router.add_get("/metrics", scrapes.handle)
    async with serve_app(app) as port:
        yield port, {"update": update}
    scrapes.close()
