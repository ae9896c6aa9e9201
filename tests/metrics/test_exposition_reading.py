"""Compare the exposition with that of prometheus_client and with the reference renderer, for generated states."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.metrics.exposition import ExpositionCache
from exporter.metrics.families import EXCLUDABLE
from exporter.metrics.families.family import Kind, ModelFamily
from exporter.metrics.families.stream_families import (
    ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    SAMPLED_FAMILIES,
    STREAM_FAMILIES,
)
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES
from exporter.model import (
    Analytics,
    HealthReason,
    Identity,
    Labels,
    PlatformMetric,
    Rendition,
    SampledHistogram,
    Status,
    StreamReport,
    StreamState,
    UpstreamState,
)
from tests.exposition_text import samples
from tests.metrics.generated_views import labelled, rendered
from tests.metrics.reference_renderer import render_reference

Series = tuple[str, tuple[tuple[str, str], ...]]


def clean(text: str) -> str:
    """Return the expected label value, implemented differently than in the exporter."""
    paired = json.loads(json.dumps(text))
    text = "".join("\ufffd" if 0xD800 <= ord(character) <= 0xDFFF else character for character in paired)
    if len(text) > 256:
        return text[:240] + "#" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return text


def first_of_each(objects: Iterable[tuple[tuple[str, ...], Any]]) -> list[tuple[tuple[str, ...], Any]]:
    """Return only the first of objects whose labels are, or become, equal."""
    first: dict[tuple[str, ...], Any] = {}
    for identity, item in objects:
        first.setdefault(tuple(map(clean, identity)), item)
    return list(first.items())


class Reference(Collector):
    """The same states, as prometheus_client's metric families."""

    def __init__(self, views: Sequence[UpstreamState]) -> None:
        self.views = views

    def collect(self) -> Iterator[Metric]:
        upstreams = first_of_each(((view.platform, view.upstream), view) for view in self.views)
        streams = first_of_each(
            ((state.identity.platform, state.identity.upstream, state.identity.stream), state)
            for view in self.views
            for state in view.streams
        )
        for upstream_family in UPSTREAM_FAMILIES:
            yield from self.family(upstream_family, upstreams)
        for stream_family in STREAM_FAMILIES:
            yield from self.family(stream_family, streams)
        yield from self.analytics(streams)
        yield from self.histograms()

    def analytics(self, streams: Sequence[tuple[tuple[str, ...], Any]]) -> Iterator[Metric]:
        figures = first_of_each(
            ((view.platform, view.upstream, item.stream), item) for view in self.views for item in view.analytics
        )
        for family in ANALYTICS_FAMILIES:
            yield from self.family(family, figures)
        numbers = [(identity, state.report.platform_metrics) for identity, state in streams]
        numbers += [(identity, item.platform_metrics) for identity, item in figures]
        yield from self.family(PLATFORM_METRIC, numbers)

    def family(self, family: ModelFamily[Any], objects: Sequence[tuple[tuple[str, ...], Any]]) -> Iterator[Metric]:
        kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
        metric = kind(family.name, family.help, labels=family.labels)
        seen = set()
        for identity, item in objects:
            own = [((), family.value(item))] if family.value else family.values(item) if family.values else []
            for values, value in own:
                labels = tuple(clean(v) for v in (*identity, *values))
                if value is not None and math.isfinite(value) and labels not in seen:
                    metric.add_metric(labels, value)
                    seen.add(labels)
        if metric.samples:
            yield metric

    def histograms(self) -> Iterator[Metric]:
        for family in SAMPLED_FAMILIES:
            for per_stream in (False, True):
                names = ("platform", "upstream", *(("stream",) if per_stream else ()), "protocol")
                metric = HistogramMetricFamily(family.name, family.help, labels=names)
                seen = set()
                bounds = [floatToGoString(b) for b in (*family.bounds, math.inf)]  # type: ignore[no-untyped-call]
                for view in self.views:
                    for h in view.sampled:
                        if h.family != family.name or (h.stream is not None) != per_stream:
                            continue
                        values = (view.platform, view.upstream, *((h.stream or "",) if per_stream else ()), h.protocol)
                        labels = tuple(map(clean, values))
                        if labels not in seen:
                            seen.add(labels)
                            buckets = list(zip(bounds, accumulate(h.counts), strict=True))
                            metric.add_metric(labels, buckets, sum_value=h.sum)
                if metric.samples:
                    yield metric


def read(text: str) -> dict[Series, float]:
    """Return the samples by series; fail if a series occurs twice."""
    found: dict[Series, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = sample.name, tuple(sorted(sample.labels.items()))
            assert series not in found
            assert sample.timestamp is None
            # The parser keeps integers exact; Prometheus and the client use floats.
            found[series] = float(sample.value)
    return found


def meta(text: str) -> dict[str, tuple[str, str]]:
    return {family.name: (family.type, family.documentation) for family in text_string_to_metric_families(text)}


ANY_TEXT = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=()), max_size=8),
    st.text('a"\\\n{},= \t\r\0\x85\u2028é😀\ud800', max_size=8),
    st.text(min_size=250, max_size=260),
)
NUMBER = st.floats() | st.integers(-(2**80), 2**80)
RATE = st.floats().map(lambda rate: rate + 0.0)
"""Without negative zero, which equals zero but has a different text, while equal entries share their text."""
FLOATS = [
    name for name, kind in StreamReport.__annotations__.items() if kind in ("float | None", "int | None", "bool | None")
]
TEXTS = [name for name, kind in StreamReport.__annotations__.items() if kind == "str" and name != "id"]
MAPPING = st.dictionaries(ANY_TEXT, st.booleans(), max_size=3)
REPORT = st.builds(
    StreamReport,
    id=st.just("id"),
    health_conditions=MAPPING,
    multistream_targets=MAPPING,
    ice_candidates=st.dictionaries(ANY_TEXT, st.integers(0, 9), max_size=2),
    issues=st.none() | st.lists(ANY_TEXT, max_size=2).map(tuple),
    renditions=st.none() | st.lists(st.builds(Rendition, ANY_TEXT, RATE), max_size=3).map(tuple),
    platform_metrics=st.lists(st.builds(PlatformMetric, ANY_TEXT, NUMBER, ANY_TEXT), max_size=3).map(tuple),
    **{name: st.none() | NUMBER | st.booleans() for name in FLOATS},
    **{name: st.just("") | ANY_TEXT for name in TEXTS},
)


def states(platform: str, upstream: str) -> st.SearchStrategy[StreamState]:
    return st.builds(
        StreamState,
        identity=(st.sampled_from("ab") | ANY_TEXT).map(lambda name: Identity(platform, upstream, name)),
        report=REPORT,
        status=st.none() | st.sampled_from(Status),
        live=st.none() | st.booleans(),
        expected=st.none() | st.booleans(),
        restarts=st.none() | st.integers(0, 9),
        health_score_ratio=st.none() | st.floats(0, 1),
        health_reasons=st.lists(st.sampled_from(HealthReason), unique=True, max_size=3).map(tuple),
        expected_ingest_bitrate_bytes_per_second=st.none() | NUMBER,
    )


def histograms() -> st.SearchStrategy[SampledHistogram]:
    return st.sampled_from(SAMPLED_FAMILIES).flatmap(
        lambda family: st.builds(
            SampledHistogram,
            family=st.just(family.name),
            protocol=ANY_TEXT,
            stream=st.none() | ANY_TEXT,
            counts=st.tuples(*[st.integers(0, 5)] * (len(family.bounds) + 1)),
            sum=st.floats(0, 1e12),
        )
    )


ANALYTICS = st.builds(
    Analytics,
    stream=st.sampled_from(["", "a", "b"]) | ANY_TEXT,
    period=ANY_TEXT,
    viewers=st.none() | st.integers(0, 9),
    peak_viewers=st.none() | st.integers(0, 9),
    average_watch_seconds=st.none() | st.floats(),
    platform_metrics=st.lists(st.builds(PlatformMetric, st.sampled_from("xy"), NUMBER, ANY_TEXT), max_size=2).map(
        tuple
    ),
    stale_at=st.just(math.inf),
)
VIEWS = st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=2, unique=True).flatmap(
    lambda names: st.tuples(
        *(
            st.builds(
                UpstreamState,
                platform=st.just(platform),
                upstream=st.just(upstream),
                host=ANY_TEXT,
                health_score=ANY_TEXT,
                version=ANY_TEXT,
                up=st.none() | st.booleans(),
                streams=st.lists(states(platform, upstream), max_size=3).map(tuple),
                clock_skew_seconds=st.none() | NUMBER,
                sampled=st.lists(histograms(), max_size=3).map(tuple),
                analytics=st.lists(ANALYTICS, max_size=2).map(tuple),
            )
            for platform, upstream in names
        )
    )
)


@pytest.mark.no_cover
@given(VIEWS)
def test_samples_equal_those_of_prometheus_client(views: tuple[UpstreamState, ...]) -> None:
    registry = CollectorRegistry()
    registry.register(Reference(views))
    expected = generate_latest(registry).decode()
    rendering = rendered(*views)
    ours = rendering.text.decode()
    assert read(ours) == read(expected)
    assert meta(ours) == meta(expected)
    assert rendering.series == len(read(ours))
    assert {(name, labels): value for name, labels, value in samples(ours)} == read(ours)


WITH_EXCLUSIONS = st.tuples(VIEWS, st.tuples(*[st.frozensets(st.sampled_from(EXCLUDABLE), max_size=30)] * 2)).map(
    lambda both: tuple(msgspec.structs.replace(view, excluded=without) for view, without in zip(*both, strict=False))
)
"""Upstreams with excluded families."""


@pytest.mark.no_cover
@given(VIEWS | WITH_EXCLUSIONS)
def test_text_equals_the_reference(views: tuple[UpstreamState, ...]) -> None:
    rendering, reference = rendered(*views), render_reference(views)
    assert rendering.text.decode() == reference.text
    assert (rendering.series, rendering.duplicates) == (reference.series, reference.duplicates)


LABELS = st.dictionaries(st.sampled_from(["team", "site", "x1"]), ANY_TEXT.filter(bool), max_size=3).map(
    lambda labels: tuple(sorted(labels.items()))
)
WITH_LABELS = st.tuples(VIEWS | WITH_EXCLUSIONS, st.tuples(LABELS, LABELS)).map(
    lambda both: tuple(labelled(view, labels) for view, labels in zip(*both, strict=False))
)
"""Upstreams with configured labels."""


@pytest.mark.no_cover
@given(WITH_LABELS)
def test_labelled_text_equals_the_reference(views: tuple[UpstreamState, ...]) -> None:
    rendering, reference = rendered(*views), render_reference(views)
    assert rendering.text.decode() == reference.text
    assert (rendering.series, rendering.duplicates) == (reference.series, reference.duplicates)


@pytest.mark.no_cover
@given(VIEWS | WITH_EXCLUSIONS, LABELS)
def test_configured_labels_are_added_to_every_series(views: tuple[UpstreamState, ...], labels: Labels) -> None:
    plain = read(rendered(*views).text.decode())
    ours = read(rendered(*(labelled(view, labels) for view in views)).text.decode())
    added = tuple((name, clean(value)) for name, value in labels)
    assert ours == {(name, tuple(sorted((*own, *added)))): value for (name, own), value in plain.items()}


def check_text_equals_the_reference() -> None:
    """Check that text rendered with the cache of earlier states equals the reference."""
    cache = ExpositionCache()

    @given(VIEWS | WITH_EXCLUSIONS | WITH_LABELS)
    def check(views: tuple[UpstreamState, ...]) -> None:
        assert rendered(*views, cache=cache).text.decode() == render_reference(views).text

    check()


@pytest.mark.no_cover
def test_text_from_a_cache_equals_the_reference() -> None:
    check_text_equals_the_reference()
