from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from exporter.alerting.promql import ConfiguredUpstream, Dialect
from exporter.alerting.recordings import OPERANDS, series_of
from exporter.alerting.rule_files import alerts_file, recordings_file
from exporter.alerting.rules import RULES, Owner, Rule, Scope, Severity
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.rules.rule import Series
from exporter.alerting.rules.slo_rules import SLO_RECORDINGS, SLO_RULES
from exporter.config.alerting import AlertingSettings, HealthSlo
from exporter.metrics.families import FAMILIES
from exporter.metrics.families.family import Kind
from tests import yaml_text
from tests.alerting import rule_cases
from tests.alerting.promtool import ALERTS, assert_alert_tests_pass, assert_tests_pass, run
from tests.alerting.rule_inputs import INPUTS, Input

EDGE = ConfiguredUpstream("storm", "edge")
SCALES = (0.5, 1.0, 30.0, 60.0)
TARGET_LABELS = {"job", "instance", "pod"}
FAMILY_LABELS = {family.name: set(family.labels) for family in FAMILIES} | {"up": set()}
for _family in FAMILIES:
    if _family.kind is Kind.HISTOGRAM:
        FAMILY_LABELS[f"{_family.name}_bucket"] = {*_family.labels, "le", "stream"}
        FAMILY_LABELS[f"{_family.name}_count"] = {*_family.labels, "stream"}
for _recording in (*SLO_RECORDINGS, *OPERANDS.values()):
    FAMILY_LABELS[_recording.record] = {"platform", "upstream", "stream", "target", "rule", "group"}
FAMILY_LABELS["ALERTS"] = {"alertname", "alertstate", "severity", "scope", "platform", "upstream", "stream"}


def assert_lints(*files: Path) -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *files)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_committed_promtool_tests_are_up_to_date() -> None:
    for file in rule_cases.FILES:
        assert (ALERTS / "tests" / file).read_text() == rule_cases.page(file), "run: make generate"


def test_every_prometheus_rule_and_grade_has_a_promtool_test() -> None:
    tested = [(given.rule, rule_cases.severity_of(given)) for given in INPUTS]
    assert len(tested) == len(set(tested))
    assert set(tested) == {
        (rule.name, severity) for rule in RULES if rule.owner is not Owner.SIDECAR for severity in rule.severities
    }


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: f"{given.rule}-{rule_cases.severity_of(given)}")
def test_description_equals_the_expected_text(given: Input) -> None:
    """The other annotations in the promtool tests come from the tested code itself."""
    assert rule_cases.expected_texts(given)["description"] == given.description


@cache
def cases_in(file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml_text.parse((ALERTS / "tests" / file).read_text())["tests"]
    return found


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: f"{given.rule}-{rule_cases.severity_of(given)}")
def test_promtool_tests_cover_every_case_of_a_rule(given: Input) -> None:
    """Every rule is tested when firing, pending, healthy, resolving, without series, and with two instances."""
    subject = f"{given.rule} ({rule_cases.severity_of(given)}): "
    is_tested = False
    for file in rule_cases.FILES:
        names = [test["name"] for test in cases_in(file)]
        found = {name.removeprefix(subject) for name in names if name.startswith(subject)}
        is_tested = is_tested or bool(found)
        if given.always:
            assert not found or found == {"always fires", "two instances raise one alert"}
        elif found and "escalates on time" not in found:
            assert found >= {"fires on time", "healthy", "resolves", "two instances disagree"}
            assert "series missing" in found or given.is_series_gone or not given.bad
    assert is_tested


@pytest.mark.real
def test_committed_rule_files_lint() -> None:
    assert_lints(ALERTS / "stream-alerts.yaml", ALERTS / "stream-recordings.yaml")


@pytest.mark.real
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
    dialect = Dialect(
        selector=selector,
        time_scale=scale,
        runbook="https://runbooks.example.com/streams",
        page="https://exporter.example.com/",
        slo=settings.health_slo,
        target_labels=("site",),
        upstreams=(
            ConfiguredUpstream("storm", 'odd "name" \\ {window}', (("site", "a"), ("team", 'x $1 "\\ {window}'))),
            ConfiguredUpstream("wave", "b"),
        ),
    )
    (tmp_path / "a.yaml").write_text(alerts_file(rules_in_force(settings, time_scale=scale), dialect))
    (tmp_path / "r.yaml").write_text(recordings_file(dialect))
    assert_lints(tmp_path / "a.yaml", tmp_path / "r.yaml")


TRAPS: dict[str, Any] = yaml_text.parse((ALERTS / "tests" / "traps.yaml").read_text())


@pytest.mark.real
@pytest.mark.parametrize("test", TRAPS["tests"], ids=lambda test: test["name"])
def test_committed_trap_test_passes(test: dict[str, Any], tmp_path: Path) -> None:
    every_alert = {rule.name for rule in RULES if rule.owner is not Owner.SIDECAR}
    assert_alert_tests_pass(TRAPS | {"tests": [test]}, every_alert, tmp_path, with_annotations=False)


@pytest.mark.real
def test_committed_test_files_can_be_run_as_documented(tmp_path: Path) -> None:
    """With the committed rule files, and a single test, because all of them would take a minute."""
    for file in ("traps.yaml", *rule_cases.FILES):
        document = yaml_text.parse((ALERTS / "tests" / file).read_text())
        (tmp_path / "tests").mkdir(exist_ok=True)
        for rules in document["rule_files"]:
            shutil.copy(ALERTS / "tests" / rules, tmp_path)
        (tmp_path / "tests" / file).write_text(yaml_text.render_quickly(document | {"tests": document["tests"][:1]}))
        assert_tests_pass(tmp_path / "tests" / file)


ANNOTATED_CASES = ("fires on time", "escalates on time", "two instances raise one alert")
"""Cases whose annotations are compared too; these take promtool most of the time, and are the same in the others."""
LABELLED_CASES = ("fires on time", "escalates on time", "two instances disagree")


def with_configured_label(test: dict[str, Any]) -> dict[str, Any]:
    """Return a promtool test whose upstreams have the configured label ``team``, as their alerts must have."""
    series = [
        {**one, "series": re.sub(r'(,upstream="[^"]*")', r'\1,team="sports"', one["series"])}
        for one in test["input_series"]
    ]
    alerts = [
        {
            **expected,
            "exp_alerts": [
                {**alert, "exp_labels": alert["exp_labels"] | {"team": "sports"}}
                if "upstream" in alert["exp_labels"]
                else alert
                for alert in expected["exp_alerts"]
            ],
        }
        for expected in test["alert_rule_test"]
    ]
    return {**test, "input_series": series, "alert_rule_test": alerts}


def without_annotations(test: dict[str, Any]) -> dict[str, Any]:
    """Return a promtool test of a rule file without annotations."""
    alerts = [
        {**expected, "exp_alerts": [{"exp_labels": alert["exp_labels"]} for alert in expected["exp_alerts"]]}
        for expected in test["alert_rule_test"]
    ]
    return {**test, "alert_rule_test": alerts}


OTHER_INTERVALS = ("rules-15s.yaml", "rules-30s.yaml")
"""Tests with other scrape intervals than the default; ``make soak PART=scenarios`` runs them."""


@pytest.mark.real
@pytest.mark.parametrize(
    "files",
    [
        pytest.param([file for file in rule_cases.FILES if file not in OTHER_INTERVALS], id="default interval"),
        pytest.param(OTHER_INTERVALS, id="scenarios of other intervals", marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize("rule", [rule.name for rule in RULES if rule.owner is not Owner.SIDECAR])
def test_promtool_tests_of_rule_pass(rule: str, files: Sequence[str], tmp_path: Path) -> None:
    """In some of the cases, the upstreams have configured labels."""
    for file in files:
        tests = [
            with_configured_label(test) if test["name"].endswith(LABELLED_CASES) else test
            for test in cases_in(file)
            if test["name"].startswith(f"{rule} ")
        ]
        annotated = [test for test in tests if test["name"].endswith(ANNOTATED_CASES)]
        plain = [without_annotations(test) for test in tests if test not in annotated]
        for some in filter(None, (annotated, plain)):
            document = rule_cases.document(file, some)
            assert_alert_tests_pass(document, [rule], tmp_path, with_annotations=some is annotated)


# -- contents ----------------------------------------------------------------------------------------------------------


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


# -- thresholds and times ----------------------------------------------------------------------------------------------


def written_rules(settings: dict[str, Any], name: str, *, scale: float = 1.0) -> list[dict[str, Any]]:
    return [rule for rule in all_written_rules(json.dumps(settings), scale) if name in rule.values()]


@cache
def all_written_rules(settings: str, scale: float) -> list[dict[str, Any]]:
    alerting = AlertingSettings.model_validate(json.loads(settings))
    text = alerts_file(rules_in_force(alerting, time_scale=scale), Dialect(time_scale=scale, slo=alerting.health_slo))
    return [rule for group in yaml_text.parse(text)["groups"] for rule in group["rules"]]


def written_rule(settings: dict[str, Any], name: str, *, scale: float = 1.0) -> dict[str, Any]:
    return written_rules(settings, name, scale=scale)[-1]


def test_threshold_in_bytes_per_second_is_compared_in_bits() -> None:
    rule = written_rule({"thresholds": {"StreamIngestStalled": {"value": 2500, "for": "90s"}}}, "StreamIngestStalled")
    assert " < 20000 unless on" in rule["expr"]
    assert rule["for"] == "1m30s"


def test_relative_threshold_has_no_unit() -> None:
    rule = written_rule({"thresholds": {"StreamBitrateLow": 0.6}}, "StreamBitrateLow")
    assert "(0.6 * 8 * stream:expected_ingest_bitrate_bytes_per_second)" in rule["expr"]
    assert "60%" in rule["annotations"]["summary"]


def test_critical_grade_is_never_easier_to_reach_than_the_lower_one() -> None:
    thresholds = {"StreamUpstreamUnstable": {"value": 0.7, "for": "20m"}, "StreamExpectedUnknown": {"for": "1m"}}
    settings = {"thresholds": thresholds}
    critical, warning = written_rules(settings, "StreamUpstreamUnstable")
    assert [rule["labels"]["severity"] for rule in (critical, warning)] == ["critical", "warning"]
    assert critical["for"] == warning["for"] == "20m"
    assert "(upstream:poll_failures:ratio10m) + 0.7\n" in critical["expr"]
    critical, warning = written_rules(settings, "StreamExpectedUnknown")
    assert (critical["for"], warning["for"]) == ("15m", "1m")


def test_time_scale_divides_every_duration() -> None:
    assert written_rule({}, "StreamExpectedOffline", scale=60)["for"] == "1s"
    assert written_rule({}, "StreamUpstreamDataStale", scale=60)["keep_firing_for"] == "5s"
    assert "[15s]" in written_rule({}, "stream:restarts_total:rises15m", scale=60)["expr"]
    assert "[2s500ms]" in written_rule({}, "stream:live", scale=60)["expr"]
    assert "offset 10s" in written_rule({}, "StreamViewersDropped", scale=60)["expr"]
    assert ">= 1\n" in written_rule({}, "StreamHealthBudgetBurnFast", scale=60)["expr"] + "\n"
    assert "[1m]" in recordings_file(Dialect(time_scale=60))


def test_configured_slo_is_used() -> None:
    settings = {"health_slo": {"goal": 0.95, "objective": 0.995, "minimum_observations": 500}}
    rule = written_rule(settings, "StreamHealthBudgetBurnFast")
    assert "group_left () 0.005 * (" in rule["expr"]
    assert "ratio_rate1h) + 14.4\n" in rule["expr"]
    assert ">= 500" in rule["expr"]
    assert "95% (allowed: 0.5%)" in rule["annotations"]["description"]
    assert 'le="0.95"' in recordings_file(Dialect(slo=HealthSlo(goal=0.95)))


def test_selector_narrows_every_series() -> None:
    text = alerts_file(rules_in_force(), Dialect(selector='cluster="here"', upstreams=(EDGE,)))
    expressions = [rule["expr"] for group in yaml_text.parse(text)["groups"] for rule in group["rules"]]
    for expression in expressions:
        selected = re.findall(r"(?<![\w:])(?:stream_\w+|up)\b(?=[{\[)])(\{[^}]*\})?", expression)
        assert all('cluster="here"' in matchers for matchers in selected), expression
    assert r"{cluster=\"here\",platform=%q" in text


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.scope in (Scope.UPSTREAM, Scope.STREAM)], ids=lambda rule: rule.name
)
def test_rule_honours_overrides(rule: Rule) -> None:
    selected = f'rule="{rule.name}"' + ("" if rule.scope is Scope.STREAM else ',stream=""')
    for written in written_rules({}, rule.name):
        assert f"stream:alert_off{{{selected}}}" in written["expr"]
        assert (f"stream:alert_threshold{{{selected}}}" in written["expr"]) == (rule.threshold is not None)


# -- Prometheus set-up -------------------------------------------------------------------------------------------------


def expressions_of(dialect: Dialect) -> list[str]:
    files = (alerts_file(rules_in_force(), dialect), recordings_file(dialect))
    return [rule["expr"] for file in files for group in yaml_text.parse(file)["groups"] for rule in group["rules"]]


def test_joins_list_their_labels() -> None:
    """Targets have additional labels, which some families may lack, so joins must not depend on them."""
    for expression in expressions_of(Dialect(upstreams=(EDGE,))):
        assert "ignoring" not in expression
        operators = re.findall(r"\b(?:and|unless)\b(?! on \()", re.sub(r'"[^"]*"', "", expression))
        # timestamp(up) and up are the same series
        assert not operators or expression.startswith("max by (job, cluster, instance) (timestamp(up"), expression


def test_target_and_replica_labels_are_joined() -> None:
    dialect = Dialect(target_labels=("site",), replica_labels=("instance", "pod", "prometheus_replica"))
    text = "\n".join(expressions_of(dialect))
    assert "on (job, cluster, site, platform, upstream, stream)" in text
    assert "on (job, cluster, site, instance, prometheus_replica) up" in text
    assert "without (instance, pod, prometheus_replica)" in text
    assert not re.search(r"on \(job, cluster(?!, site)", text)


def test_scrape_interval_sets_how_long_a_failing_scrape_is_bridged() -> None:
    assert any("[37s500ms]" in expression for expression in expressions_of(Dialect(scrape_interval_seconds=15)))


def test_keep_firing_is_left_out_on_request() -> None:
    assert "keep_firing_for" not in alerts_file(rules_in_force(), Dialect(keep_firing=False))


def test_configured_upstreams_must_be_served() -> None:
    dialect = Dialect(
        upstreams=(ConfiguredUpstream("storm", 'a "b"', (("team", "$1"),)), ConfiguredUpstream("wave", "c"))
    )
    rules = yaml_text.parse(alerts_file(rules_in_force(), dialect))["groups"][0]["rules"]
    (unwatched,) = [rule for rule in rules if rule.get("alert") == "StreamUpstreamUnwatched"]
    assert 'upstream="a \\"b\\""}[2m30s]), "team", "$$1", "", "")' in unwatched["expr"]


def test_page_urls_lead_to_the_exporter() -> None:
    text = alerts_file(rules_in_force(), Dialect(page="https://streams.example.com/x/"))
    assert "https://streams.example.com/x/streams?upstream={{ urlquery $labels.upstream }}&stream={{ urlquery" in text


# -- every rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_is_complete(rule: Rule) -> None:
    assert re.fullmatch(r"Stream[A-Z][A-Za-z]+", rule.name)
    for text in (rule.summary, rule.description):
        assert re.fullmatch(r"(?s)[A-Z{].*\.", text)
        assert ("{subject}" in text) or rule.scope is Scope.EXPORTER
        assert ("{threshold}" in text) <= (rule.threshold is not None)
    assert rule.expected or rule.severity is Severity.NONE
    assert rule.rationale.endswith(".")


WINDOW_AND_FOR = {
    "StreamExporterDown",
    "StreamUpstreamUnstable",
    "StreamUpstreamUnwatched",
    "StreamShardMissing",
    "StreamShardsDisagree",
}
"""A target counts as gone only after a while, and a share of polls may be high for a moment."""


@pytest.mark.parametrize("rule", [r for r in RULES if r.severity is not Severity.NONE], ids=lambda rule: rule.name)
def test_rule_has_either_a_window_or_for(rule: Rule) -> None:
    """Both together would add their delays. No window is shorter than three of the longest intervals."""
    if rule.name not in WINDOW_AND_FOR:
        assert (rule.for_seconds > 0) != (rule.settling_seconds > 0)
    assert rule.settling_seconds == 0 or rule.settling_seconds >= 3 * 30


def test_inhibiting_alerts_are_not_kept_firing() -> None:
    """Otherwise the alert of a stream that died during an outage would stay inhibited after the outage."""
    inhibiting = {"StreamExporterDown", "StreamUpstreamDown", "StreamUpstreamAuthFailing", "StreamUpstreamUnwatched"}
    assert all(rule.keep_firing_seconds == 0 for rule in RULES if rule.name in inhibiting)


@pytest.mark.parametrize(
    "rule", [r for r in RULES if r.is_downgraded_by_groups or r.group_guards], ids=lambda rule: rule.name
)
def test_alert_keeps_firing_until_its_other_severity_takes_over(rule: Rule) -> None:
    """Otherwise a change of severity would resolve it, and fire it again.

    StreamPacketLossCritical must end before the alerts that inhibit it, so it cannot be kept firing for three minutes.
    """
    assert (rule.keep_firing_seconds >= rule.for_seconds) is (rule.name != "StreamPacketLossCritical")


def test_budget_rules_are_tickets() -> None:
    assert {rule.severity for rule in SLO_RULES} == {Severity.WARNING}
    assert all(rule.critical is None for rule in SLO_RULES)


@pytest.mark.parametrize("text", expressions_of(Dialect()))
def test_every_metric_and_label_of_an_expression_exists(text: str) -> None:
    without_strings = re.sub(r'"[^"]*"', '""', text)
    without_labels = re.sub(r"\b(?:without|on|by) \([^)]*\)", "", without_strings)
    name = r"(?<![\w:])((?:stream_|(?:stream|upstream|group|target):)[\w:]+|up|ALERTS)"
    used = re.findall(rf"{name}(?:\{{([^}}]*)\}})?", without_labels)
    known = set().union(*(FAMILY_LABELS[name] for name, _ in used)) if used else set()
    for name, matchers in used:
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= FAMILY_LABELS[name] | TARGET_LABELS, name
    joined = {label for names in re.findall(r"(?:without) \(([^)]*)\)", text) for label in names.split(", ")}
    assert joined <= known | TARGET_LABELS
    assert used or text == "vector(1)"


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.condition], ids=lambda rule: rule.name)
def test_labels_of_a_condition_belong_to_its_families(rule: Rule) -> None:
    assert rule.condition is not None
    for series in series_of(rule.condition):
        assert set(series.labels) <= FAMILY_LABELS[series.family]
    measured = rule.condition.measure.left
    if isinstance(measured, Series):
        of_scope = {"platform", "upstream"} | ({"stream"} if rule.scope is Scope.STREAM else set())
        own = FAMILY_LABELS[measured.family] - set(measured.labels) - of_scope
        assert own == set(rule.labels)
