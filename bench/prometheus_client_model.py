"""The same model through prometheus_client, in the two ways that exporters are written with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.metrics.families.family import Kind, Labelled
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.model import StreamState, UpstreamState

Series = tuple[tuple[str, ...], float]


def series_of(family: Any, state: StreamState) -> Iterator[Series]:
    """The label values and the value of each sample of a stream."""
    identity = (state.identity.platform, state.identity.upstream, state.identity.stream)
    own: Sequence[Labelled] = [((), family.value(state))] if family.value else family.values(state)
    for values, value in own:
        if value is not None:
            yield (*identity, *values), value


class FamiliesCollector(Collector):
    """A custom collector: families made anew for every scrape, from values that are there already."""

    def __init__(self, views: Sequence[UpstreamState]) -> None:
        self.rows: list[tuple[type[Any], str, str, tuple[str, ...], list[Series]]] = []
        for family in STREAM_FAMILIES:
            rows = [row for view in views for state in view.streams for row in series_of(family, state)]
            if rows:
                kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
                self.rows.append((kind, family.name, family.help, family.labels, rows))

    def collect(self) -> Iterator[Metric]:
        for kind, name, help_, labels, rows in self.rows:
            family = kind(name, help_, labels=labels)
            for values, value in rows:
                family.add_metric(values, value)
            yield family


def children(registry: CollectorRegistry, collector: FamiliesCollector) -> Callable[[], None]:
    """Registered metrics with a child for each series; returns what sets them all."""
    setters: list[tuple[Any, float]] = []
    for kind, name, help_, labels, rows in collector.rows:
        metric = Gauge(name, help_, labels, registry=registry)
        if kind is CounterMetricFamily:
            registry.unregister(metric)
            counter = Counter(name, help_, labels, registry=registry)
            # a Counter can't be set: exporters of foreign totals reach for its value
            setters += [(counter.labels(*values)._value, value) for values, value in rows]  # noqa: SLF001
        else:
            setters += [(metric.labels(*values), value) for values, value in rows]

    def update() -> None:
        for child, value in setters:
            child.set(value)

    return update
