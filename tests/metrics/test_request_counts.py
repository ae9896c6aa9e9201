"""Counted requests of upstreams that come and go."""

from __future__ import annotations

import pytest

from exporter.metrics.self_metrics import ExporterMetrics


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
