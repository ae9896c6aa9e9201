"""The metric families: their names, labels and HELP texts, and that all of them are exposed."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.exposition import Exposition
from exporter.metrics.families import FAMILIES
from exporter.metrics.families.family import (
    GROUP_LABELS,
    STREAM_LABELS,
    UPSTREAM_LABELS,
    Family,
    Kind,
    ModelFamily,
    Part,
)
from exporter.metrics.families.group_families import GROUP_FAMILIES
from exporter.metrics.families.stream_families import (
    ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    SAMPLED_FAMILIES,
    STREAM_FAMILIES,
)
from exporter.metrics.passthrough import ExportParser
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.metrics.text_format import heading, label_text, label_value
from exporter.model import (
    Analytics,
    CalendarState,
    GroupMember,
    GroupState,
    HealthReason,
    Labels,
    Maintenance,
    PassthroughText,
    PlatformMetric,
    Reason,
    Rendition,
    StreamReport,
    StreamState,
    UpstreamState,
)
from exporter.polling.histograms import PollHistograms
from exporter.polling.self_metrics import MaintenanceMetrics, PollingMetrics
from exporter.web.connections import OpenConnections
from tests.metrics.generated_views import labelled, stream, view
from tests.real.tools import tool

COMMITTED = Path(__file__).parent / "families.txt"

PER_STREAM: tuple[ModelFamily[Any], ...] = (*STREAM_FAMILIES, *ANALYTICS_FAMILIES, PLATFORM_METRIC)
NOT_EXPOSED = {"id"}
"""Fields of a report that have no family."""
ATTACHED_LABELS = {
    "job", "instance", "endpoint", "service", "container", "namespace", "pod", "node",
    "cluster", "prometheus", "prometheus_replica", "replica", "shard", "region",
}  # fmt: skip
"""Labels that Prometheus, its operator, or external labels of common setups attach."""


def describe(family: Family) -> str:
    per_stream = " [stream]" if family in SAMPLED_FAMILIES else ""
    return f"{family.name} {family.kind} {{{', '.join(family.labels)}}}{per_stream}"


def test_families_are_as_committed() -> None:
    """Names, types and labels are an interface: a change can break users' dashboards and rules."""
    assert sorted(map(describe, FAMILIES)) == COMMITTED.read_text().splitlines()


def test_names_are_unique() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_prometheus_conventions(family: Family) -> None:
    assert re.fullmatch(r"stream_[a-z0-9_]*[a-z0-9]", family.name)
    assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
    assert not family.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert family.help.endswith(".")
    assert "\n" not in family.help
    assert len(set(family.labels)) == len(family.labels)
    assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in family.labels)
    assert not {"le", "type", "env"} & set(family.labels)
    assert bool(family.bounds) == (family.kind is Kind.HISTOGRAM)
    assert list(family.bounds) == sorted(set(family.bounds))
    assert all(type(upper) is float for upper in family.bounds)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_labels_do_not_collide_with_target_labels(family: Family) -> None:
    """Prometheus would rename them to ``exported_…``, so rules and dashboards would not find them."""
    assert not ATTACHED_LABELS & set(family.labels)
    assert not [label for label in family.labels if label.startswith(("exported_", "__"))]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_labels_start_with_platform_upstream_and_stream(family: Family) -> None:
    if family in GROUP_FAMILIES:
        assert family.labels[: len(GROUP_LABELS)] == GROUP_LABELS
    elif family.part is Part.UPSTREAMS or family in SAMPLED_FAMILIES:
        assert family.labels[: len(UPSTREAM_LABELS)] == UPSTREAM_LABELS
    elif family.part is Part.STREAMS:
        assert family.labels[: len(STREAM_LABELS)] == STREAM_LABELS


def test_every_field_of_a_report_has_a_family() -> None:
    shown = frozenset().union(*(family.fields for family in PER_STREAM)) - {"analytics"}
    # These only affect the health score or the status, or are texts for the page.
    indirect = {"health_score_ratio", "health_unreadable", "last_seen_age_seconds", "playback_findings"}
    indirect |= {"playback_detail", "playback_notes"}
    assert shown == set(StreamReport.__struct_fields__) - NOT_EXPOSED - indirect


def full_state() -> StreamState:
    """Return a stream with a value for every field."""
    facts: dict[str, object] = {}
    for name, kind in StreamReport.__annotations__.items():
        if kind == "str" and name != "id":
            facts[name] = f"some {name}"
        elif kind in ("float | None", "int | None", "bool | None"):
            facts[name] = 1
    return stream(
        **facts
        | {
            "status_changed_at": 1.0,
            "health_score_ratio": 0.9,
            "health_conditions": {"ingest": True},
            "issues": ("one",),
            "renditions": (Rendition("720p", 1e6),),
            "multistream_targets": {"yt": True},
            "ice_candidates": {"host": 1},
            "media_bitrates": {"720p": 1.0},
            "platform_metrics": (PlatformMetric("a.b", 1.0),),
            "expected": True,
            "restarts": 0,
            "health_reasons": (HealthReason.LOSS,),
            "expected_ingest_bitrate_bytes_per_second": 1.0,
            "expected_frames_per_second": 30.0,
            "source_platform": "livepeer",
            "source_upstream": "studio",
            "source_stream": "other",
            "source_live": True,
        }  # type: ignore[arg-type]
    )


def full_exposition(configured: Labels = ()) -> bytes:
    """Return an exposition with every family that can have samples. ``configured`` are the labels of ``studio``."""
    labels = {"platform": "livepeer", "upstream": "studio"}
    metrics = ExporterMetrics()
    polling_metrics = PollingMetrics(metrics.upstreams)
    polling_metrics.add_upstream(**labels, labels=configured)
    polling_metrics.request_observer(**labels)("GET /x", "200", 0.1)
    polling_metrics.count_dropped_field(**labels, field="a", times=1)
    polling_metrics.count_fetch_failures(**labels, kind="segment", reason="not_found", times=1)
    polling_metrics.count_poll(**labels, seconds=1.0, reason=Reason.TLS)
    metrics.set_reload_result(success=True, at=1.0)
    metrics.set_config_hash(2**48 - 1)
    metrics.set_retired_upstreams(["old-edge"])
    MaintenanceMetrics(metrics.exporter).set_saved(True)
    OpenConnections(registry=metrics.exporter)
    histograms = PollHistograms(**labels, per_stream=False)
    histograms.observe([full_state()])
    full: UpstreamState = view(
        full_state(),
        up=True,
        answering=True,
        list_complete=True,
        are_statistics_frozen=False,
        former_labels=("before",),
        threshold_rows=((("main", "StreamUnhealthy"), 0.4),),
        off_rows=((("", "StreamUpstreamDown"), 1.0),),
        calendars=(CalendarState(name="matches.ics", readable=True, read_at=1.0),),
        maintained_streams={"main": Maintenance(until=1.0)},
        version="1",
        poll_interval_seconds=15.0,
        last_success_timestamp_seconds=1.0,
        clock_skew_seconds=0.0,
        rate_limit_remaining=1,
        sampled=histograms.snapshot(),
        analytics=(
            Analytics(
                stream="main", period="24h", viewers=1, peak_viewers=1, average_watch_seconds=1.5, stale_at=math.inf
            ),
        ),
        passthrough=ExportParser(**labels, labels=configured)(
            PassthroughText(text='# TYPE a gauge\na{team="their"} 1\n', prefix="wave_", max_series=9, stale_at=math.inf)
        ),
    )
    full = labelled(full, configured)
    failing = view(upstream="other", up=False, last_error_reason=Reason.TLS)
    group = GroupState(
        group="final",
        need=1,
        members=(GroupMember(platform="livepeer", upstream="studio", stream="main", role="main"),),
        expected=True,
    )
    return Exposition(lambda: (full, failing), metrics, lambda: (group,)).render()


CONFIGURED: Labels = (("note", 'a "b" \\ c'), ("site", "é" * 300), ("team", "sports"))


def test_every_series_of_an_upstream_has_its_labels() -> None:
    samples = [
        s for family in text_string_to_metric_families(full_exposition(CONFIGURED).decode()) for s in family.samples
    ]
    expected = {name: label_value(value) for name, value in CONFIGURED}
    # the series of a group name the upstreams of its members, but belong to none of them
    of_upstreams = [sample for sample in samples if not sample.name.startswith("stream_group_")]
    ours = [sample for sample in of_upstreams if sample.labels.get("upstream") == "studio"]
    assert len(ours) > len(FAMILIES)
    assert [sample for sample in ours if not expected.items() <= sample.labels.items()] == []
    assert [s for s in samples if s not in ours and not expected.keys().isdisjoint(s.labels)] == []
    (passed,) = [sample for sample in ours if sample.name == "wave_a"]
    assert (passed.labels["team"], passed.labels["exported_team"]) == ("sports", "their")


def test_configured_labels_do_not_change_other_labels_or_values() -> None:
    def read(text: bytes) -> dict[str, float]:
        return {
            f"{s.name}{sorted((k, v) for k, v in s.labels.items() if k not in dict(CONFIGURED))}": s.value
            for family in text_string_to_metric_families(text.decode())
            for s in family.samples
            if s.labels.get("upstream") == "studio" and s.name != "wave_a"
        }

    assert read(full_exposition(CONFIGURED)) == read(full_exposition())


def promtool_check(text: bytes) -> str:
    """Return the output of ``promtool check metrics``; empty if there are no problems."""
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


def family_names(text: bytes) -> set[str]:
    return {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE ")}


def test_every_family_can_have_samples() -> None:
    unread = {f.name for f in PER_STREAM if f.value is None and f.values is None}
    unread |= {f.name for f in FAMILIES if f.source == "alerting sidecar"}
    assert family_names(full_exposition()) >= {family.name for family in FAMILIES} - unread
    assert not family_names(full_exposition()) & unread


@pytest.mark.real
def test_promtool_accepts_a_full_exposition() -> None:
    assert promtool_check(full_exposition()) == ""
    assert promtool_check(full_exposition(CONFIGURED)) == ""


@pytest.mark.real
def test_promtool_accepts_every_family() -> None:
    text = ""
    for family in FAMILIES:
        labels = label_text(family.labels, ["x"] * len(family.labels))
        text += heading(family.name, family.kind, family.help)
        if family.kind is Kind.HISTOGRAM:
            bucket = ",".join([labels, 'le="+Inf"'])
            text += f"{family.name}_bucket{{{bucket}}} 1\n"
            text += f"{family.name}_count{{{labels}}} 1\n{family.name}_sum{{{labels}}} 1\n"
        else:
            text += f"{family.name}{{{labels}}} 1\n"
    assert promtool_check(text.encode()) == ""


@pytest.mark.real
def test_promtool_reports_a_family_without_help() -> None:
    assert "no help text" in promtool_check(b"# TYPE stream_x gauge\nstream_x 1\n")
