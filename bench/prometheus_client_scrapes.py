"""The same scrapes through prometheus_client: in memory (``main``) and by its own server (``serving``)."""

from __future__ import annotations

import gzip
import statistics
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bench.case_runner import Figures, measure_cpu, peak_bytes
from bench.generated_streams import GeneratedStreams, load_patterns
from exporter.metrics.families.family import Kind, Labelled
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.model import StreamState, UpstreamState

Series = tuple[tuple[str, ...], float]


def labelled_values(family: Any, state: StreamState) -> Iterator[Series]:
    """Yield label values and value of each sample of a stream."""
    identity = (state.identity.platform, state.identity.upstream, state.identity.stream)
    own: Sequence[Labelled] = [((), family.value(state))] if family.value else family.values(state)
    for values, value in own:
        if value is not None:
            yield (*identity, *values), value


class FamiliesCollector(Collector):
    """A custom collector: families are created for every scrape from existing values."""

    def __init__(self, views: Sequence[UpstreamState]) -> None:
        self.rows: list[tuple[type[Any], str, str, tuple[str, ...], list[Series]]] = []
        for family in STREAM_FAMILIES:
            rows = [row for view in views for state in view.streams for row in labelled_values(family, state)]
            if rows:
                kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
                self.rows.append((kind, family.name, family.help, family.labels, rows))

    def collect(self) -> Iterator[Metric]:
        for kind, name, help_, labels, rows in self.rows:
            family = kind(name, help_, labels=labels)
            for values, value in rows:
                family.add_metric(values, value)
            yield family


def make_child_setter(registry: CollectorRegistry, collector: FamiliesCollector) -> Callable[[], None]:
    """Register metrics with a child per series; return a function that sets them all."""
    setters: list[tuple[Any, float]] = []
    for kind, name, help_, labels, rows in collector.rows:
        metric = Gauge(name, help_, labels, registry=registry)
        if kind is CounterMetricFamily:
            registry.unregister(metric)
            counter = Counter(name, help_, labels, registry=registry)
            # a Counter cannot be set, so exporters of other systems' totals modify its value
            setters += [(counter.labels(*values)._value, value) for values, value in rows]  # noqa: SLF001
        else:
            setters += [(metric.labels(*values), value) for values, value in rows]

    def update() -> None:
        for child, value in setters:
            child.set(value)

    return update


def main(streams: int, patterns: str, repetitions: int, way: str) -> Figures:
    """Return CPU seconds for an update of all values, and for a scrape. ``way``: ``collector`` or ``children``."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    collector = FamiliesCollector(GeneratedStreams(streams, load_patterns(patterns)).upstream_states())
    registry = CollectorRegistry()
    update = None
    if way == "children":
        update = make_child_setter(registry, collector)
    else:
        registry.register(collector)
    texts: list[bytes] = []
    updates = [measure_cpu(update) if update else 0.0 for _ in range(repetitions)]
    plain = [measure_cpu(lambda: texts.append(generate_latest(registry))) for _ in range(repetitions)]
    # the compression level of its own server
    packing = measure_cpu(lambda: texts.append(gzip.compress(texts[0])))
    return {
        "update": 0.0,
        "read": statistics.median(updates),
        "plain": statistics.median(plain),
        "gzip": statistics.median(plain) + packing,
        "bytes": len(texts[0]),
        "gzip bytes": len(texts[-1]),
        "samples": sum(not line.startswith(b"#") for line in texts[0].splitlines()),
        "peak": peak_bytes(),
    }


@asynccontextmanager
async def serving(streams: int, patterns: str) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """There are no commands."""
    registry = CollectorRegistry()
    registry.register(FamiliesCollector(GeneratedStreams(streams, load_patterns(patterns)).upstream_states()))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port, {}
    server.shutdown()
    thread.join()
