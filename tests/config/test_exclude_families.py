"""Families that are left out: which ones, of which upstream, and what goes without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.alerting.affected_rules import rules_that_read
from exporter.alerting.rules import RULES_BY_NAME
from exporter.config.alerting import AlertingSettings
from exporter.config.loading import load
from exporter.config.root import Settings
from exporter.metrics.families.exclusion import EXCLUDABLE, excluded, near_misses

ALERTMANAGERS = AlertingSettings.model_validate({"alertmanagers": [{"url": "http://127.0.0.1:9"}]})


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, {})


def test_patterns_are_globs_on_the_names_of_stream_families() -> None:
    assert excluded(["stream_rendition*"]) == {"stream_renditions", "stream_rendition_target_bitrate_bytes_per_second"}
    assert excluded(["stream_viewers", "stream_viewers"]) == {"stream_viewers"}
    assert excluded(["*"]) == set(EXCLUDABLE)
    assert excluded(["STREAM_VIEWERS", "viewers", "stream_upstream_up", "stream_exporter_streams"]) == set()
    assert excluded([]) == set()


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("stream_viewer", "stream_viewers"),
        ("latency", "stream_latency_seconds"),
        ("stream_live*e", "stream_live"),
    ],
)
def test_near_misses(pattern: str, meant: str) -> None:
    assert excluded([pattern]) == set()
    assert meant in near_misses(pattern)


def test_globally_and_per_upstream(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        """
        defaults: {exclude_families: [stream_viewers_peak]}
        upstreams:
          - {name: a, platform: node_media_server, url: "http://127.0.0.1:9"}
          - {name: b, platform: node_media_server, url: "http://127.0.0.1:9", exclude_families: [stream_issues]}
          - {name: c, platform: node_media_server, url: "http://127.0.0.1:9", exclude_families: []}
        """,
    )
    assert [u.exclude_families for u in settings.upstreams] == [("stream_viewers_peak",), ("stream_issues",), ()]
    assert settings.warnings == ()


def test_a_warning_names_the_rules_that_read_it(tmp_path: Path) -> None:
    (warning,) = loaded(
        tmp_path,
        """
        upstreams:
          - {name: a, platform: node_media_server, url: "http://127.0.0.1:9", exclude_families: [stream_restarts_total]}
        """,
    ).warnings
    assert warning.startswith("upstream a: exclude_families leaves out what these rules of Prometheus read: Stream")
    assert set(warning.partition("read: ")[2].split(", ")) == set(
        rules_that_read({"stream_restarts_total"}, AlertingSettings())
    )


def test_no_word_on_what_the_platform_never_says(tmp_path: Path) -> None:
    text = """
        defaults: {exclude_families: [stream_health_condition]}
        upstreams: [{name: a, platform: PLATFORM, url: "http://127.0.0.1:9", auth: {bearer_token: canary-token}}]
    """
    assert len(loaded(tmp_path, text.replace("PLATFORM", "livepeer")).warnings) == 1
    assert loaded(tmp_path, text.replace("PLATFORM", "storm")).warnings == ()


def test_the_sidecar_reads_the_model() -> None:
    assert "StreamExpectedOffline" in set(rules_that_read({"stream_live"}, AlertingSettings()))
    assert "StreamExpectedOffline" not in set(rules_that_read({"stream_live"}, ALERTMANAGERS))
    slo = set(rules_that_read({"stream_sampled_health_score_ratio"}, ALERTMANAGERS))
    assert slo
    assert slo <= RULES_BY_NAME.keys()
    assert not set(rules_that_read({"stream_viewers_peak"}, AlertingSettings()))
