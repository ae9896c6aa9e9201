"""The exporter's own metrics: registries, build information and reloads."""

from __future__ import annotations

import platform

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter import __version__
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.metrics.families.exporter_families import EXPORTER_FAMILIES
from exporter.metrics.families.family import Family, Kind, Part
from exporter.metrics.self_metrics import ExporterMetrics, FamilyRegistry
from exporter.polling.self_metrics import PollingMetrics
from exporter.runtime.revision import revision


@pytest.fixture
def metrics() -> ExporterMetrics:
    return ExporterMetrics()


def values(text: bytes, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of this name by label values, sorted by label name."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def test_family_without_samples_has_no_heading() -> None:
    registry = FamilyRegistry()
    PollingMetrics(registry)
    SidecarMetrics(registry)
    assert registry.render() == b""


def test_metrics_of_other_layers_precede_process_metrics(metrics: ExporterMetrics) -> None:
    metrics.exporter.gauge(Family(name="stream_x", kind=Kind.GAUGE, help="X.", part=Part.EXPORTER))
    lines = metrics.render_exporter().decode().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert (
        names.index("stream_exporter_build_info") < names.index("stream_x") < names.index("process_cpu_seconds_total")
    )


def test_failed_reload_keeps_the_time_of_the_last_success(metrics: ExporterMetrics) -> None:
    metrics.set_reload_result(success=True, at=1000.5)
    metrics.set_reload_result(success=False, at=2000.5)
    text = metrics.render_exporter()
    assert values(text, "stream_exporter_config_last_reload_successful") == {(): 0}
    assert values(text, "stream_exporter_config_last_reload_success_timestamp_seconds") == {(): 1000.5}
    metrics.set_reload_result(success=True, at=3000.5)
    assert values(metrics.render_exporter(), "stream_exporter_config_last_reload_successful") == {(): 1}


def test_build_info_has_version_revision_and_python_version(metrics: ExporterMetrics) -> None:
    (labels,) = values(metrics.render_exporter(), "stream_exporter_build_info")
    assert set(labels) == {__version__, revision(), platform.python_version()}


def test_types_labels_and_help_equal_the_families(metrics: ExporterMetrics) -> None:
    families = {family.name: family for family in EXPORTER_FAMILIES}
    for family in text_string_to_metric_families(metrics.render_exporter().decode()):
        if family.name.startswith("stream_"):
            expected = families[family.name]
            assert (family.type, family.documentation) == (expected.kind, expected.help)
            assert all(sample.labels.keys() == set(expected.labels) for sample in family.samples)
