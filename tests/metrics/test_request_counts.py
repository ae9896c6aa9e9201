"""Counted requests: the same text as prometheus_client's own counter and histogram of them."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from exporter.metrics.families.upstream_families import REQUEST_DURATION, REQUESTS
from exporter.metrics.request_counts import RequestCounts, UpstreamRequests
from exporter.metrics.self_metrics import ExporterMetrics

ENDPOINTS = ("GET /a", "GET /b/{id}")
SECONDS = st.one_of(st.sampled_from(REQUEST_DURATION.bounds), st.floats(0.0, 1e6))
OBSERVED = st.tuples(
    st.sampled_from(["one", "two"]), st.sampled_from(ENDPOINTS), st.sampled_from(["200", "503", "timeout"]), SECONDS
)


def lines(registry: CollectorRegistry) -> tuple[list[str], set[str]]:
    """The headings in their order, and the samples."""
    text = generate_latest(registry).decode().splitlines()
    return [line for line in text if line.startswith("#")], {line for line in text if not line.startswith("#")}


@given(st.lists(OBSERVED, min_size=1, max_size=30))
def test_same_text(observed: list[tuple[str, str, str, float]]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    reference, ours = CollectorRegistry(), CollectorRegistry()
    requests = Counter(REQUESTS.name, REQUESTS.help, REQUESTS.labels, registry=reference)
    durations = Histogram(
        REQUEST_DURATION.name,
        REQUEST_DURATION.help,
        REQUEST_DURATION.labels,
        registry=reference,
        buckets=REQUEST_DURATION.bounds,
    )
    upstreams: defaultdict[tuple[str, str], UpstreamRequests] = defaultdict(UpstreamRequests)
    ours.register(RequestCounts(upstreams))
    for upstream, endpoint, code, seconds in observed:
        requests.labels("storm", upstream, endpoint, code).inc()
        durations.labels("storm", upstream, endpoint).observe(seconds)
        upstreams["storm", upstream].add(endpoint, code, seconds)
    assert lines(ours) == lines(reference)


@pytest.mark.parametrize("gone", [True, False])
def test_an_upstream_that_is_gone_has_no_series(gone: bool) -> None:
    instruments = ExporterMetrics()
    instruments.add_upstream("storm", "one")
    observe = instruments.request_observer("storm", "one")
    observe("GET /a", "200", 0.1)
    if gone:
        instruments.remove_upstream("storm", "one")
    # a poll that is being cancelled still counts
    observe("GET /a", "200", 0.1)
    assert (b"stream_upstream_requests_total{" in instruments.upstreams()) is not gone
    instruments.add_upstream("storm", "one")
    observe("GET /a", "200", 0.1)
    labels = b'{code="200",endpoint="GET /a",platform="storm",upstream="one"}'
    expected = b"stream_upstream_requests_total" + labels + (b" 1.0\n" if gone else b" 3.0\n")
    assert expected in instruments.upstreams()
