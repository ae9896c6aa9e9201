"""Polling metrics: counts per upstream, and the removal of an upstream."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.families.upstream_families import POLLING_FAMILIES
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import Reason
from exporter.polling.self_metrics import PollingMetrics

STUDIO: Any = {"platform": "livepeer", "upstream": "studio"}
EDGE: Any = {"platform": "storm", "upstream": "edge"}


class StudioMetrics(PollingMetrics):
    """The metrics with their own registry, and one upstream."""

    def __init__(self) -> None:
        self.registry = FamilyRegistry()
        super().__init__(self.registry)
        self.add_upstream(**STUDIO)


@pytest.fixture
def metrics() -> StudioMetrics:
    return StudioMetrics()


def values(text: bytes, name: str) -> dict[tuple[str, ...], float]:
    """Return a metric's samples by their label values without platform and upstream, in label order."""
    return {
        tuple(v for k, v in sorted(sample.labels.items()) if k not in STUDIO): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def count_everything(metrics: PollingMetrics, labels: dict[str, str]) -> None:
    metrics.count_poll(**labels, seconds=0.3, reason=Reason.TIMEOUT)
    metrics.count_stream_failure(**labels, reason=Reason.NOT_FOUND)
    metrics.count_dropped_field(**labels, field="a.b", times=2)
    metrics.count_fetch_failures(**labels, kind="segment", reason="not_found", times=1)
    metrics.count_restart(**labels)
    metrics.request_observer(**labels)("GET /x", "200", 0.02)


def test_counters_of_a_new_upstream_start_at_0(metrics: StudioMetrics) -> None:
    text = metrics.registry.render()
    assert values(text, "stream_upstream_polls_total") == {(): 0}
    assert values(text, "stream_upstream_poller_restarts_total") == {(): 0}
    reasons = {(reason.value,): 0.0 for reason in Reason}
    assert values(text, "stream_upstream_poll_failures_total") == reasons
    assert values(text, "stream_upstream_stream_failures_total") == reasons
    assert values(text, "stream_upstream_poll_duration_seconds_count") == {(): 0}


def test_family_without_series_has_no_help_and_type_lines(metrics: StudioMetrics) -> None:
    assert b"stream_upstream_requests_total" not in metrics.registry.render()


def test_polls_failures_and_requests_are_counted(metrics: StudioMetrics) -> None:
    count_everything(metrics, STUDIO)
    metrics.count_poll(**STUDIO, seconds=3.0, reason=None)
    text = metrics.registry.render()
    assert values(text, "stream_upstream_polls_total") == {(): 2}
    assert values(text, "stream_upstream_poll_failures_total")["timeout",] == 1
    assert values(text, "stream_upstream_stream_failures_total")["not_found",] == 1
    assert values(text, "stream_upstream_fields_dropped_total") == {("a.b",): 2}
    assert values(text, "stream_upstream_poller_restarts_total") == {(): 1}
    assert values(text, "stream_upstream_requests_total") == {("200", "GET /x"): 1}
    assert values(text, "stream_upstream_request_duration_seconds_sum") == {("GET /x",): 0.02}
    assert values(text, "stream_upstream_poll_duration_seconds_sum") == {(): 3.3}
    assert values(text, "stream_upstream_poll_duration_seconds_bucket")["2.5",] == 1


def test_readded_upstream_is_counted_from_0_by_old_and_new_observers(metrics: StudioMetrics) -> None:
    old = metrics.request_observer(**STUDIO)
    old("GET /x", "200", 0.02)
    metrics.remove_upstream(**STUDIO)
    old("GET /x", "200", 0.02)
    metrics.add_upstream(**STUDIO)
    for observe in (old, metrics.request_observer(**STUDIO)):
        observe("GET /x", "200", 0.02)
    text = metrics.registry.render()
    assert values(text, "stream_upstream_requests_total") == {("200", "GET /x"): 2}
    assert values(text, "stream_upstream_request_duration_seconds_count") == {("GET /x",): 2}


def test_series_have_the_labels_of_their_upstream(metrics: StudioMetrics) -> None:
    def teams(upstream: str) -> set[str | None]:
        return {
            sample.labels.get("team")
            for family in text_string_to_metric_families(metrics.registry.render().decode())
            for sample in family.samples
            if sample.labels["upstream"] == upstream
        }

    metrics.add_upstream(**EDGE, labels=(("team", 'the "b" \\'),))
    count_everything(metrics, EDGE)
    metrics.request_observer(**EDGE)('GET /,upstream="studio"', "200", 0.02)
    assert (teams("studio"), teams("edge")) == ({None}, {'the "b" \\'})
    metrics.remove_upstream(**EDGE)
    metrics.add_upstream(**EDGE, labels=(("team", "c"),))
    assert (teams("studio"), teams("edge")) == ({None}, {"c"})
    metrics.remove_upstream(**EDGE)
    metrics.add_upstream(**EDGE)
    assert teams("edge") == {None}


def test_removed_upstream_has_no_series_and_is_not_counted(metrics: StudioMetrics) -> None:
    count_everything(metrics, STUDIO)
    metrics.add_upstream(**EDGE)
    count_everything(metrics, EDGE)
    before = metrics.registry.render()
    observer = metrics.request_observer(**STUDIO)
    metrics.remove_upstream(**STUDIO)
    count_everything(metrics, STUDIO)
    observer("GET /x", "200", 0.1)
    after = metrics.registry.render().decode()
    assert "studio" not in after
    assert after.splitlines() == [line for line in before.decode().splitlines() if "studio" not in line]


def test_field_names_are_made_valid_label_values(metrics: StudioMetrics) -> None:
    metrics.count_dropped_field(**STUDIO, field="\ud800" + "x" * 300, times=1)
    ((field,),) = values(metrics.registry.render(), "stream_upstream_fields_dropped_total")
    assert field.startswith("\ufffdxxx")
    assert len(field) == 249


def test_types_labels_and_help_match_the_catalogue(metrics: StudioMetrics) -> None:
    count_everything(metrics, STUDIO)
    text = metrics.registry.render().decode()
    catalogue = {family.name: family for family in POLLING_FAMILIES}
    seen = set()
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        seen.add(name)
        assert (family.type, family.documentation) == (catalogue[name].kind, catalogue[name].help)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(catalogue[name].labels)
    assert seen == set(catalogue)
