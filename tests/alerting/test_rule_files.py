from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.alerting.promql import PromQL
from exporter.alerting.rule_files import Dialect, alerts_file, listing, needs_recordings, recordings_file
from exporter.alerting.rules import RULES, Owner, Rule, Scope, Severity
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.rules.rule import Present, Series, Threshold
from exporter.alerting.rules.slo_rules import SLO_RECORDINGS
from exporter.config.alerting import AlertingSettings, HealthSlo
from exporter.metrics.families import FAMILIES
from exporter.metrics.families.family import Kind
from tests.alerting import rule_cases
from tests.alerting.promtool import ALERTS, assert_tests_pass, run
from tests.alerting.rule_inputs import INPUTS

SCALES = (0.5, 1.0, 30.0, 60.0)
TARGET_LABELS = {"job", "instance", "pod"}
FAMILY_LABELS = {family.name: set(family.labels) for family in FAMILIES} | {"up": set()}
for _family in FAMILIES:
    if _family.kind is Kind.HISTOGRAM:
        FAMILY_LABELS[f"{_family.name}_bucket"] = {*_family.labels, "le", "stream"}
        FAMILY_LABELS[f"{_family.name}_count"] = {*_family.labels, "stream"}
for _recording in SLO_RECORDINGS:
    FAMILY_LABELS[_recording.record] = {"platform", "upstream"}


def assert_lints(*files: Path) -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *files)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_committed_rule_files_are_up_to_date() -> None:
    assert (ALERTS / "stream-alerts.yaml").read_text() == alerts_file(rules_in_force(), Dialect()), "run: make generate"
    assert (ALERTS / "stream-recordings.yaml").read_text() == recordings_file(Dialect()), "run: make generate"


def test_committed_promtool_tests_are_up_to_date() -> None:
    for file, text in rule_cases.FILES.items():
        assert (ALERTS / "tests" / file).read_text() == text(), "run: make generate"


def test_every_prometheus_rule_has_a_promtool_test() -> None:
    always = {"StreamWatchdog"}
    assert [given.rule for given in INPUTS] == list(dict.fromkeys(given.rule for given in INPUTS))
    assert {given.rule for given in INPUTS} | always == {r.name for r in RULES if r.owner is not Owner.SIDECAR}


def test_committed_rule_files_lint() -> None:
    assert_lints(ALERTS / "stream-alerts.yaml", ALERTS / "stream-recordings.yaml")


@pytest.mark.parametrize("selector", ["", 'job=~"a|b",cluster="x"'])
@pytest.mark.parametrize("scale", SCALES)
def test_rule_files_lint_with_any_selector_and_scale(selector: str, scale: float, tmp_path: Path) -> None:
    settings = AlertingSettings.model_validate(
        {
            "thresholds": {
                "StreamIngestStalled": {"value": 1234.5, "for": "1m30s"},
                "StreamUpstreamDown": {"for": "1s"},
            },
            "health_slo": {"goal": 1.0, "objective": 0.9995},
        }
    )
    dialect = Dialect(selector, scale, "https://runbooks.example.com/streams", settings.health_slo)
    (tmp_path / "a.yaml").write_text(alerts_file(rules_in_force(settings, time_scale=scale), dialect))
    (tmp_path / "r.yaml").write_text(recordings_file(dialect))
    assert_lints(tmp_path / "a.yaml", tmp_path / "r.yaml")


@pytest.mark.parametrize("file", ["traps.yaml", "slo.yaml"])
def test_committed_promtool_tests_pass(file: str) -> None:
    assert_tests_pass(ALERTS / "tests" / file)


@pytest.mark.parametrize("part", range(4))
def test_promtool_tests_of_every_rule_pass(part: int, tmp_path: Path) -> None:
    """In parts, so that several workers share them."""
    document = yaml.safe_load((ALERTS / "tests" / "rules.yaml").read_text())
    document["tests"] = document["tests"][part::4]
    document["rule_files"] = [str(ALERTS / "tests" / file) for file in document["rule_files"]]
    (tmp_path / "part.yaml").write_text(yaml.safe_dump(document))
    assert_tests_pass(tmp_path / "part.yaml")


# -- the parts ---------------------------------------------------------------------------------------------------------


def names_in(text: str) -> set[str]:
    return set(re.findall(r"alert: (\w+)", text))


def test_each_rule_has_exactly_one_evaluator() -> None:
    prometheus = names_in(alerts_file(rules_in_force(owners=[Owner.PROMETHEUS]), Dialect()))
    sidecar = names_in(alerts_file(rules_in_force(owners=[Owner.BOTH, Owner.SIDECAR]), Dialect()))
    everything = names_in(alerts_file(rules_in_force(), Dialect()))
    assert prometheus | sidecar == everything
    assert not prometheus & sidecar
    assert {"StreamExpectedOffline", "StreamUpstreamDown"} <= sidecar
    assert {"StreamExporterDown", "StreamWatchdog", "StreamHealthBudgetBurnFast", "StreamVanished"} <= prometheus


def test_sidecar_rules_need_no_recordings() -> None:
    assert not needs_recordings(rules_in_force(owners=[Owner.BOTH, Owner.SIDECAR]))
    assert needs_recordings(rules_in_force())


def test_listing_names_every_rule() -> None:
    lines = listing(rules_in_force()).splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *(rule.name for rule in RULES)]


# -- thresholds and times ----------------------------------------------------------------------------------------------


def written_rule(settings: dict[str, Any], name: str, *, scale: float = 1.0) -> dict[str, Any]:
    alerting = AlertingSettings.model_validate(settings)
    text = alerts_file(rules_in_force(alerting, time_scale=scale), Dialect(time_scale=scale, slo=alerting.health_slo))
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    found: dict[str, Any] = next(rule for rule in rules if rule["alert"] == name)
    return found


def test_threshold_in_bytes_per_second_is_compared_in_bits() -> None:
    rule = written_rule({"thresholds": {"StreamIngestStalled": {"value": 2500, "for": "90s"}}}, "StreamIngestStalled")
    assert " < 20000\n" in rule["expr"]
    assert rule["for"] == "1m30s"


def test_relative_threshold_has_no_unit() -> None:
    rule = written_rule({"thresholds": {"StreamBitrateLow": 0.6}}, "StreamBitrateLow")
    assert " < 0.6 * 8 * max" in rule["expr"]
    assert "less than 60% of what" in rule["annotations"]["description"]


def test_time_scale_divides_every_duration() -> None:
    assert written_rule({}, "StreamExpectedOffline", scale=60)["for"] == "1s"
    assert written_rule({}, "StreamUpstreamDown", scale=60)["keep_firing_for"] == "5s"
    assert "[15s]" in written_rule({}, "StreamFlapping", scale=60)["expr"]
    assert "offset 10s" in written_rule({}, "StreamViewersDropped", scale=60)["expr"]
    assert ">= 1\n" in written_rule({}, "StreamHealthBudgetBurnFast", scale=60)["expr"] + "\n"
    assert "[1m]" in recordings_file(Dialect(time_scale=60))


def test_configured_slo_is_used() -> None:
    settings = {"health_slo": {"goal": 0.95, "objective": 0.995, "minimum_observations": 500}}
    rule = written_rule(settings, "StreamHealthBudgetBurnFast")
    assert "> 14.4 * 0.005" in rule["expr"]
    assert ">= 500" in rule["expr"]
    assert "not above 95%, where 0.5% are allowed" in rule["annotations"]["description"]
    assert 'le="0.95"' in recordings_file(Dialect(slo=HealthSlo(goal=0.95)))


def test_selector_narrows_every_series() -> None:
    text = alerts_file(rules_in_force(), Dialect(selector='cluster="here"'))
    expressions = [rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    for expression in expressions:
        selected = re.findall(r"\b(?:stream_\w+|up)\b(?=[{\[)])(\{[^}]*\})?", expression)
        assert all('cluster="here"' in matchers for matchers in selected), expression
    assert r"{cluster=\"here\",platform=%q" in text


# -- every rule --------------------------------------------------------------------------------------------------------


def series_of(rule: Rule) -> list[Series]:
    if rule.condition is None:
        return []
    guards = [rule.condition.measure, *rule.condition.also, *rule.condition.unless]
    series = [guard.series if isinstance(guard, Present) else guard.left for guard in guards]
    right = rule.condition.measure.right
    return [*series, right.of] if isinstance(right, Threshold) and right.of else series


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_is_complete(rule: Rule) -> None:
    assert re.fullmatch(r"Stream[A-Z][A-Za-z]+", rule.name)
    assert re.fullmatch(r"[A-Z].*\.", rule.summary)
    assert "{" not in rule.summary
    assert re.fullmatch(r"(?s).*\.(\{reasons\})?", rule.description)
    assert rule.why.endswith(".")
    if rule.scope is Scope.STREAM:
        assert "{stream} on {upstream} ({platform})" in rule.description
    elif rule.scope is Scope.UPSTREAM:
        assert "{upstream} ({platform})" in rule.description
    assert ("{threshold}" in rule.description) <= (rule.threshold is not None)


@pytest.mark.parametrize("rule", [r for r in RULES if r.severity is not Severity.NONE], ids=lambda rule: rule.name)
def test_rule_waits_by_window_or_by_for(rule: Rule) -> None:
    """Both together would only add their delays. And no window is shorter than three of the longest intervals."""
    assert (rule.for_seconds > 0) != (rule.settling_seconds > 0)
    assert rule.settling_seconds == 0 or rule.settling_seconds >= 3 * 30


def test_stream_alert_is_kept_until_the_upstream_alert_fires() -> None:
    """After the last good poll: stale in three intervals, then kept firing; the upstream's fires within two minutes."""
    for rule in RULES:
        if rule.scope is Scope.STREAM and rule.severity in (Severity.CRITICAL, Severity.WARNING):
            assert 3 * 15 + rule.keep_firing_seconds > 120, rule.name


@pytest.mark.parametrize(
    "text",
    [PromQL().expression(active) for active in rules_in_force()]
    + [PromQL().fill_template(recording.promql, HealthSlo()) for recording in SLO_RECORDINGS],
)
def test_every_metric_and_label_of_an_expression_exists(text: str) -> None:
    without_strings = re.sub(r'"[^"]*"', '""', text)
    used = re.findall(
        r"(?<![\w:])((?:stream_|upstream:)[\w:]+|up)(?:\{([^}]*)\})?",
        re.sub(r"\b(?:without|ignoring) \([^)]*\)", "", without_strings),
    )
    known = set().union(*(FAMILY_LABELS[name] for name, _ in used)) if used else set()
    for name, matchers in used:
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= FAMILY_LABELS[name] | TARGET_LABELS, name
    joined = {label for names in re.findall(r"(?:without|ignoring) \(([^)]*)\)", text) for label in names.split(", ")}
    assert joined <= known | TARGET_LABELS
    assert used or text in ("vector(1)", "")


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.condition], ids=lambda rule: rule.name)
def test_labels_of_a_condition_belong_to_its_families(rule: Rule) -> None:
    for series in series_of(rule):
        assert set(series.labels) <= FAMILY_LABELS[series.family]
    assert rule.condition is not None
    measured = rule.condition.measure.left
    own = FAMILY_LABELS[measured.family] - set(measured.labels) - {"platform", "upstream", "stream"}
    assert own == set(rule.labels)
