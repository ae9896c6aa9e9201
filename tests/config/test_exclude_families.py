"""``exclude_families``: which families match, per upstream, and the warnings about rules that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.alerting.affected_rules import excluded_family_warnings, rules_that_read
from exporter.alerting.rules import RULES_BY_NAME
from exporter.cli.settings import load_settings
from exporter.config.alerting import AlertingSettings
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings
from exporter.metrics.families import EXCLUDABLE

ALERTMANAGERS = AlertingSettings.model_validate({"alertmanagers": [{"url": "http://127.0.0.1:9"}]})


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return load_settings(file, {})


def warnings_about(settings: Settings) -> list[str]:
    return list(excluded_family_warnings(settings))


def excluded(folder: Path, *patterns: str) -> frozenset[str]:
    written = f"{{name: a, platform: livepeer, exclude_families: [{', '.join(map(repr, patterns))}]}}"
    return loaded(folder, f"upstreams: [{written}]").upstreams[0].excluded_families


def test_patterns_are_globs_on_names_of_stream_families(tmp_path: Path) -> None:
    assert excluded(tmp_path, "stream_rendition*") == {
        "stream_renditions",
        "stream_renditions_playable",
        "stream_rendition_target_bitrate_bytes_per_second",
    }
    assert excluded(tmp_path, "stream_viewers", "stream_viewers") == {"stream_viewers"}
    assert excluded(tmp_path, "*") == set(EXCLUDABLE)
    assert excluded(tmp_path) == set()


@pytest.mark.parametrize("pattern", ["STREAM_VIEWERS", "viewers", "stream_upstream_up", "stream_exporter_streams"])
def test_pattern_that_matches_no_stream_family_is_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no metric family of streams matches"):
        excluded(tmp_path, "stream_viewers", pattern)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("stream_viewer", "stream_viewers"),
        ("latency", "stream_latency_seconds"),
        ("stream_live*e", "stream_live"),
    ],
)
def test_pattern_without_a_match_gets_suggestions(pattern: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean (.*[, ])?{meant}\b"):
        excluded(tmp_path, pattern)


def test_pattern_in_settings_created_in_code_is_taken_as_a_name() -> None:
    made = UpstreamSettings.model_validate(
        {"name": "a", "platform": "p", "url": "http://a", "exclude_families": ["stream_viewers", "stream_live*"]}
    )
    assert made.excluded_families >= {"stream_viewers"}
    assert made.excluded_families.isdisjoint(set(EXCLUDABLE) - {"stream_viewers"})


def test_upstream_overrides_excluded_families_of_defaults(tmp_path: Path) -> None:
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
    assert [u.excluded_families for u in settings.upstreams] == [{"stream_viewers_peak"}, {"stream_issues"}, set()]
    assert warnings_about(settings) == []


def test_warning_names_the_rules_that_read_an_excluded_family(tmp_path: Path) -> None:
    text = """
        upstreams:
          - {name: a, platform: node_media_server, url: "http://127.0.0.1:9", exclude_families: [stream_restarts_total]}
        """
    (warning,) = warnings_about(loaded(tmp_path, text))
    assert warning.startswith("upstream a: exclude_families ")
    assert set(warning.partition("need: ")[2].split(", ")) == set(
        rules_that_read({"stream_restarts_total"}, AlertingSettings())
    )


def test_no_warning_about_families_that_the_platform_never_reports(tmp_path: Path) -> None:
    text = """
        defaults: {exclude_families: [stream_health_condition]}
        upstreams: [{name: a, platform: PLATFORM, url: "http://127.0.0.1:9", auth: {bearer_token: canary-token}}]
    """
    assert len(warnings_about(loaded(tmp_path, text.replace("PLATFORM", "livepeer")))) == 1
    assert warnings_about(loaded(tmp_path, text.replace("PLATFORM", "storm"))) == []


def test_rules_of_the_sidecar_do_not_read_excluded_families() -> None:
    assert "StreamExpectedOffline" in set(rules_that_read({"stream_live"}, AlertingSettings()))
    assert "StreamExpectedOffline" not in set(rules_that_read({"stream_live"}, ALERTMANAGERS))
    slo = set(rules_that_read({"stream_sampled_health_score_ratio"}, ALERTMANAGERS))
    assert slo
    assert slo <= RULES_BY_NAME.keys()
    assert not set(rules_that_read({"stream_viewers_peak"}, AlertingSettings()))
