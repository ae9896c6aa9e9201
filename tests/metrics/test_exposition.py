"""The exposition as text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.exposition import Exposition, ExpositionCache
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import (
    NO_REPORT,
    HealthReason,
    Identity,
    PlatformMetric,
    Reason,
    Rendition,
    SampledHistogram,
    Status,
    StreamReport,
    StreamState,
)
from exporter.polling.self_metrics import PollingMetrics
from tests.metrics.generated_views import ALL, rendered, samples_of, stream, view

LABELS = 'platform="livepeer",upstream="studio",stream="main"'


def test_exact_text_of_a_stream() -> None:
    state = stream(
        name="main",
        protocol="rtmp",
        viewers=12,
        ingest_bitrate_bytes_per_second=312500.5,
        ingest_bytes=1234567.0,
        healthy=True,
        health_conditions={"ingest": True, "Transcoding": False},
    )
    lines = rendered(view(state), upstreams=False).text.decode().splitlines(keepends=True)
    assert "".join(line for line in lines if not line.startswith("# HELP")) == (
        "# TYPE stream_info gauge\n"
        f'stream_info{{{LABELS},name="",application="",protocol="rtmp",session="",kind="",video_codec="",'
        'audio_codec="",resolution="",playback_id=""} 1\n'
        "# TYPE stream_live gauge\n"
        f"stream_live{{{LABELS}}} 1\n"
        "# TYPE stream_status gauge\n"
        f'stream_status{{{LABELS},status="live"}} 1\n'
        "# TYPE stream_healthy gauge\n"
        f"stream_healthy{{{LABELS}}} 1\n"
        "# TYPE stream_health_condition gauge\n"
        f'stream_health_condition{{{LABELS},condition="Transcoding"}} 0\n'
        f'stream_health_condition{{{LABELS},condition="ingest"}} 1\n'
        "# TYPE stream_ingest_bitrate_bytes_per_second gauge\n"
        f"stream_ingest_bitrate_bytes_per_second{{{LABELS}}} 312500.5\n"
        "# TYPE stream_ingest_bytes_total counter\n"
        f"stream_ingest_bytes_total{{{LABELS}}} 1234567.0\n"
        "# TYPE stream_viewers gauge\n"
        f"stream_viewers{{{LABELS}}} 12\n"
    )


def test_exact_text_of_an_upstream() -> None:
    text = rendered(
        view(
            up=False,
            last_error_reason=Reason.TIMEOUT,
            version="1.2",
            poll_interval_seconds=15.0,
            last_success_timestamp_seconds=1700000000.25,
            clock_skew_seconds=-0.5,
            rate_limit_remaining=40,
        )
    ).text.decode()
    labels = 'platform="livepeer",upstream="studio"'
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        f'stream_upstream_info{{{labels},host="livepeer.studio",version="1.2",health_score="derived"}} 1',
        f"stream_upstream_up{{{labels}}} 0",
        f'stream_upstream_failing{{{labels},reason="timeout"}} 1',
        f"stream_upstream_streams{{{labels}}} 0",
        f"stream_upstream_streams_dropped{{{labels}}} 0",
        f"stream_upstream_poll_interval_seconds{{{labels}}} 15.0",
        f"stream_upstream_last_success_timestamp_seconds{{{labels}}} 1700000000.25",
        f"stream_upstream_clock_skew_seconds{{{labels}}} -0.5",
        f"stream_upstream_rate_limit_remaining{{{labels}}} 40",
    ]


def test_upstream_has_no_up_series_before_the_first_poll() -> None:
    text = rendered(view()).text.decode()
    assert "stream_upstream_info{" in text
    assert "stream_upstream_up" not in text
    assert "stream_upstream_streams" not in text


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"live": False, "status": Status.ENDED}, f'stream_status{{{LABELS},status="ended"}} 1'),
        ({"live": False, "status": Status.ENDED}, f"stream_live{{{LABELS}}} 0"),
        ({"expected": True}, f"stream_expected{{{LABELS}}} 1"),
        ({"expected": False}, f"stream_expected{{{LABELS}}} 0"),
        ({"restarts": 2}, f"stream_restarts_total{{{LABELS}}} 2"),
        ({"health_score_ratio": 0.32}, f"stream_health_score_ratio{{{LABELS}}} 0.32"),
        ({"health_reasons": (HealthReason.LOSS,)}, f'stream_health_reason{{{LABELS},reason="loss"}} 1'),
        ({"health_grade": "Good"}, f'stream_health_grade{{{LABELS},grade="Good"}} 1'),
        ({"issues": ("a", "b")}, f"stream_issues{{{LABELS}}} 2"),
        ({"issues": ()}, f"stream_issues{{{LABELS}}} 0"),
        (
            {"expected_ingest_bitrate_bytes_per_second": 5e5},
            f"stream_expected_ingest_bitrate_bytes_per_second{{{LABELS}}} 500000.0",
        ),
        ({"expected_frames_per_second": 30}, f"stream_expected_frames_per_second{{{LABELS}}} 30"),
        ({"renditions": (Rendition("720p", 1e6),)}, f"stream_renditions{{{LABELS}}} 1"),
        (
            {"renditions": (Rendition("720p", 1e6),)},
            f'stream_rendition_target_bitrate_bytes_per_second{{{LABELS},rendition="720p"}} 1000000.0',
        ),
        (
            {"multistream_targets": {"yt": False}},
            f'stream_multistream_target_connected{{{LABELS},target="yt"}} 0',
        ),
        ({"recording_status": "ready"}, f'stream_recording_status{{{LABELS},status="ready"}} 1'),
        ({"ice_candidates": {"host": 2}}, f'stream_ice_candidates{{{LABELS},candidate_type="host"}} 2'),
        (
            {"platform_metrics": (PlatformMetric("quality.index", 1.5, "24h"),)},
            f'stream_platform_metric{{{LABELS},metric="quality.index",period="24h"}} 1.5',
        ),
    ],
)  # fmt: skip
def test_field_is_rendered_as_its_line(facts: dict[str, object], line: str) -> None:
    assert line in samples_of(stream(**facts))  # type: ignore[arg-type]


def test_unknown_value_has_no_line() -> None:
    lines = samples_of(stream(live=None, status=Status.UNKNOWN, reported_at=1.0))
    assert {line.partition("{")[0] for line in lines} == {"stream_info", "stream_status"}


def test_stream_without_report_has_only_status_and_expectation() -> None:
    state = StreamState(identity=Identity("livepeer", "studio", "main"), report=NO_REPORT, expected=True)
    assert samples_of(state) == [f'stream_status{{{LABELS},status="unknown"}} 1', f"stream_expected{{{LABELS}}} 1"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_value_has_no_line(value: float) -> None:
    lines = samples_of(stream(latency_seconds=value, platform_metrics=(PlatformMetric("m", value),)))
    assert not [line for line in lines if "latency" in line or "metric" in line]


@pytest.mark.parametrize(("largest", "shown"), [(3, "3"), (2**70, "1.1805916207174113e+21")])
def test_non_finite_value_does_not_affect_others(largest: float, shown: str) -> None:
    values = {"a": 1.5, "b": float("inf"), "c": None, "d": True, "e": float("nan"), "f": largest}
    text = rendered(view(*(stream(name, latency_seconds=value) for name, value in values.items()))).text.decode()
    lines = [line for line in text.splitlines() if line.startswith("stream_latency_seconds{")]
    found = {line.split(',stream="')[1][0]: line.rpartition(" ")[2] for line in lines}
    assert found == {"a": "1.5", "d": "1", "f": shown}


def test_family_occurs_once_over_all_upstreams() -> None:
    views = [
        view(stream(viewers=1), up=True),
        view(
            StreamState(identity=Identity("storm", "edge", "a/b"), report=StreamReport(id="a/b", viewers=2)),
            platform="storm",
            upstream="edge",
            up=True,
        ),
    ]
    text = rendered(*views).text.decode()
    assert text.count("# TYPE stream_viewers gauge\n") == 1
    viewers = [line for line in text.splitlines() if line.startswith("stream_viewers{")]
    assert viewers == [
        f"stream_viewers{{{LABELS}}} 1",
        'stream_viewers{platform="storm",upstream="edge",stream="a/b"} 2',
    ]


def test_family_without_samples_has_no_heading() -> None:
    assert rendered().text == b""


# -- duplicates --------------------------------------------------------------------------------------------------------


def test_duplicate_stream_keeps_the_first() -> None:
    rendering = rendered(view(stream(viewers=1), stream(viewers=2), stream("other", viewers=3)))
    lines = [line for line in rendering.text.decode().splitlines() if line.startswith("stream_viewers{")]
    assert sorted(line.rpartition(" ")[2] for line in lines) == ["1", "3"]
    assert rendering.duplicates == 1


def test_labels_that_become_equal_keep_the_first_series() -> None:
    conditions = {chr(0xD800): True, chr(0xDFFF): False, "other": True}
    rendering = rendered(view(stream(health_conditions=conditions), stream("second", health_conditions=conditions)))
    lines = [line for line in rendering.text.decode().splitlines() if line.startswith("stream_health_condition{")]
    assert [line.rpartition(",")[2] for line in lines] == ['condition="other"} 1', 'condition="\ufffd"} 1'] * 2
    assert rendering.duplicates == 2


def test_duplicate_upstream_keeps_the_first() -> None:
    rendering = rendered(view(up=True), view(up=False))
    assert 'stream_upstream_up{platform="livepeer",upstream="studio"} 1\n' in rendering.text.decode()
    assert rendering.duplicates == 1


def test_histograms_with_equal_labels_keep_the_first() -> None:
    family = "stream_sampled_health_score_ratio"
    counts = (0,) * 10 + (1,)
    histograms = tuple(
        SampledHistogram(family=family, protocol=protocol, counts=counts, sum=1.0) for protocol in ("\ud800", "\udfff")
    )
    rendering = rendered(view(sampled=histograms))
    assert rendering.text.decode().count(f"{family}_count{{") == 1
    assert rendering.duplicates == 1


# -- whole exposition --------------------------------------------------------------------------------------------------


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    metrics = ExporterMetrics()
    PollingMetrics(metrics.upstreams).add_upstream("livepeer", "studio")
    views = (view(stream(viewers=1), up=True),)
    return Exposition(lambda: views, metrics)  # type: ignore[return-value]


def families(text: bytes) -> set[str]:
    return {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE ")}


def test_parts_make_up_the_whole(exposition: Exposition) -> None:
    parts = {part: families(exposition.render(frozenset({part}))) for part in ALL}
    assert parts["streams"] == {"stream_info", "stream_live", "stream_status", "stream_viewers"}
    assert all(name.startswith("stream_upstream_") for name in parts["upstreams"])
    assert {"stream_upstream_up", "stream_upstream_polls_total"} <= parts["upstreams"]
    assert {"stream_exporter_build_info", "process_cpu_seconds_total", "python_info"} <= parts["exporter"]
    only_in_whole = {"stream_exporter_series", "stream_exporter_duplicates_dropped"}
    assert families(exposition.render()) == set().union(*parts.values(), only_in_whole)


def test_headings_occur_once(exposition: Exposition) -> None:
    text = exposition.render().decode()
    headings = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(headings) == len({tuple(line.split()[1:3]) for line in headings})
    assert text.endswith("\n")
    assert "_created" not in text


def test_exposition_counts_its_own_series(exposition: Exposition) -> None:
    samples = [
        sample
        for family in text_string_to_metric_families(exposition.render().decode())
        for sample in family.samples
        if not sample.name.startswith(("stream_exporter_", "process_", "python_"))
    ]
    text = exposition.render().decode()
    assert f"stream_exporter_series {len(samples)}\n" in text
    assert "stream_exporter_streams 1\n" in text
    assert "stream_exporter_duplicates_dropped 0\n" in text


def test_text_from_a_used_cache_is_the_same() -> None:
    cache = ExpositionCache()
    views = view(stream(viewers=1, health_grade="Good"))
    assert rendered(views, cache=cache).text == rendered(views, cache=cache).text
