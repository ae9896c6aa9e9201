from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter import __version__
from exporter.metrics.families.exporter_families import EXPORTER_FAMILIES
from exporter.metrics.families.upstream_families import POLLING_FAMILIES
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import Reason

STUDIO = {"platform": "livepeer", "upstream": "studio"}
EDGE = {"platform": "storm", "upstream": "edge"}


@pytest.fixture
def instruments() -> ExporterMetrics:
    instruments = ExporterMetrics()
    instruments.add_upstream(**STUDIO)
    return instruments


def values(text: bytes, name: str) -> dict[tuple[str, ...], float]:
    """The samples of this name, by the values of their labels besides platform and upstream, in label order."""
    return {
        tuple(v for k, v in sorted(sample.labels.items()) if k not in STUDIO): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def use_all(instruments: ExporterMetrics, labels: dict[str, str]) -> None:
    instruments.poll_finished(**labels, seconds=0.3, reason=Reason.TIMEOUT)
    instruments.stream_failed(**labels, reason=Reason.NOT_FOUND)
    instruments.field_dropped(**labels, field="a.b", times=2)
    instruments.poller_restarted(**labels)
    instruments.request_observer(**labels)("GET /x", "200", 0.02)


def test_counters_begin_at_0(instruments: ExporterMetrics) -> None:
    text = instruments.upstreams()
    assert values(text, "stream_upstream_polls_total") == {(): 0}
    assert values(text, "stream_upstream_poller_restarts_total") == {(): 0}
    reasons = {(reason.value,): 0.0 for reason in Reason}
    assert values(text, "stream_upstream_poll_failures_total") == reasons
    assert values(text, "stream_upstream_stream_failures_total") == reasons
    assert values(text, "stream_upstream_poll_duration_seconds_count") == {(): 0}


def test_a_family_without_series_has_no_heading(instruments: ExporterMetrics) -> None:
    assert b"stream_upstream_requests_total" not in instruments.upstreams()
    assert ExporterMetrics().upstreams() == b""


def test_what_happened_is_counted(instruments: ExporterMetrics) -> None:
    use_all(instruments, STUDIO)
    instruments.poll_finished(**STUDIO, seconds=3.0, reason=None)
    text = instruments.upstreams()
    assert values(text, "stream_upstream_polls_total") == {(): 2}
    assert values(text, "stream_upstream_poll_failures_total")["timeout",] == 1
    assert values(text, "stream_upstream_stream_failures_total")["not_found",] == 1
    assert values(text, "stream_upstream_fields_dropped_total") == {("a.b",): 2}
    assert values(text, "stream_upstream_poller_restarts_total") == {(): 1}
    assert values(text, "stream_upstream_requests_total") == {("200", "GET /x"): 1}
    assert values(text, "stream_upstream_request_duration_seconds_sum") == {("GET /x",): 0.02}
    assert values(text, "stream_upstream_poll_duration_seconds_sum") == {(): 3.3}
    assert values(text, "stream_upstream_poll_duration_seconds_bucket")["2.5",] == 1


def test_an_upstream_that_comes_back_is_counted_from_0_by_old_and_new_observers(instruments: ExporterMetrics) -> None:
    old = instruments.request_observer(**STUDIO)
    old("GET /x", "200", 0.02)
    instruments.remove_upstream(**STUDIO)
    old("GET /x", "200", 0.02)
    instruments.add_upstream(**STUDIO)
    for observe in (old, instruments.request_observer(**STUDIO)):
        observe("GET /x", "200", 0.02)
    text = instruments.upstreams()
    assert values(text, "stream_upstream_requests_total") == {("200", "GET /x"): 2}
    assert values(text, "stream_upstream_request_duration_seconds_count") == {("GET /x",): 2}


def test_nothing_of_a_removed_upstream_stays_or_comes_back(instruments: ExporterMetrics) -> None:
    use_all(instruments, STUDIO)
    instruments.add_upstream(**EDGE)
    use_all(instruments, EDGE)
    before = instruments.upstreams()
    observer = instruments.request_observer(**STUDIO)
    instruments.remove_upstream(**STUDIO)
    use_all(instruments, STUDIO)
    observer("GET /x", "200", 0.1)
    after = instruments.upstreams().decode()
    assert "studio" not in after
    assert after.splitlines() == [line for line in before.decode().splitlines() if "studio" not in line]


def test_field_names_cannot_break_a_scrape(instruments: ExporterMetrics) -> None:
    instruments.field_dropped(**STUDIO, field="\ud800" + "x" * 300, times=1)
    ((field,),) = values(instruments.upstreams(), "stream_upstream_fields_dropped_total")
    assert field.startswith("\ufffdxxx")
    assert len(field) == 249


def test_reloads(instruments: ExporterMetrics) -> None:
    instruments.reloaded(success=True, at=1000.5)
    instruments.reloaded(success=False, at=2000.5)
    text = instruments.exporter()
    assert values(text, "stream_exporter_config_last_reload_successful") == {(): 0}
    assert values(text, "stream_exporter_config_last_reload_success_timestamp_seconds") == {(): 1000.5}
    instruments.reloaded(success=True, at=3000.5)
    assert values(instruments.exporter(), "stream_exporter_config_last_reload_successful") == {(): 1}


def test_build_info(instruments: ExporterMetrics) -> None:
    ((_, version),) = values(instruments.exporter(), "stream_exporter_build_info")
    assert version == __version__


def test_types_labels_and_help_are_those_of_the_catalogue(instruments: ExporterMetrics) -> None:
    use_all(instruments, STUDIO)
    text = (instruments.exporter() + instruments.upstreams()).decode()
    catalogue = {family.name: family for family in (*EXPORTER_FAMILIES, *POLLING_FAMILIES)}
    seen = set()
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith("stream_"):
            seen.add(name)
            assert (family.type, family.documentation) == (catalogue[name].kind, catalogue[name].help)
            for sample in family.samples:
                assert sample.labels.keys() - {"le"} == set(catalogue[name].labels)
    assert {family.name for family in POLLING_FAMILIES} <= seen
