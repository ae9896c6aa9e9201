"""Routes, groups and inhibition in the example configuration for Alertmanager."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.alerting.rules import RULES, RULES_BY_NAME, Rule, Scope, Severity
from tests import yaml_text
from tests.alerting.promtool import ALERTS, run
from tests.real.alertmanager import Alertmanager
from tests.real.child_process import request_json, wait_until

EXAMPLE = ALERTS / "alertmanager.example.yaml"
RECEIVERS = {
    Severity.CRITICAL: "pager",
    Severity.WARNING: "tickets",
    Severity.INFO: "nobody",
    Severity.NONE: "nobody",
}
MAINTENANCE = "StreamMaintenance"
WATCHDOGS = {
    "StreamWatchdog": "dead-mans-switch-prometheus",
    "StreamSidecarWatchdog": "dead-mans-switch-sidecar",
}
JOB = "stream-exporter"
GRADES = [(rule, severity) for rule in RULES for severity in rule.severities]
"""All rules with each of their severities."""
BUDGET_RULES = [rule for rule in RULES if rule.name.startswith("StreamHealthBudgetBurn")]
STREAM_RULES = [rule for rule in RULES if rule.scope is Scope.STREAM]


def example_configuration() -> dict[str, Any]:
    configuration: dict[str, Any] = yaml_text.parse(EXAMPLE.read_text(encoding="utf-8"))
    return configuration


def labels_of(
    rule: Rule, severity: Severity | None = None, *, stream: str = "main", upstream: str = "edge", job: str = JOB
) -> dict[str, str]:
    """Return the labels of an alert of a rule; StreamMaintenance is about the whole upstream."""
    labels = {"alertname": rule.name, "job": job, **rule.static_labels}
    if severity is not None:
        labels["severity"] = severity.value
    if rule.scope in (Scope.UPSTREAM, Scope.STREAM):
        labels |= {"platform": "storm", "upstream": upstream}
    if rule.scope is Scope.STREAM:
        labels["stream"] = stream
    if rule.scope is Scope.GROUP:
        labels["group"] = "final"
    return labels


@pytest.mark.real
def test_example_with_its_templates_passes_amtool_check() -> None:
    done = run("amtool", "check-config", EXAMPLE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert " - 1 templates\n" in done.stdout


def documented_routes() -> list[dict[str, Any]]:
    """Return the example routes by team in ``docs/alerting.md``."""
    text = (ALERTS.parent / "docs" / "alerting.md").read_text(encoding="utf-8").partition("### Routing by team")[2]
    routes: list[dict[str, Any]] = yaml_text.parse(text.split("```")[1].removeprefix("yaml"))
    return routes


@pytest.mark.real
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"severity": "critical", "team": "sports"}, "sports-pager"),
        ({"severity": "info", "team": "sports"}, "sports-tickets"),
        ({"severity": "critical", "team": "news"}, "pager"),
        ({"severity": "warning"}, "tickets"),
    ],
)
def test_documented_routes_by_team(labels: dict[str, str], receiver: str, tmp_path: Path) -> None:
    configuration = example_configuration()
    routes = documented_routes()
    configuration["route"]["routes"] = [*routes, *configuration["route"]["routes"]]
    configuration["receivers"] += [{"name": route["receiver"]} for route in routes]
    del configuration["templates"]
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml_text.render(configuration))
    alert = labels_of(RULES_BY_NAME["StreamUnhealthy"]) | labels
    pairs = [f"{name}={value}" for name, value in alert.items()]
    done = run("amtool", "config", "routes", "test", f"--config.file={file}", *pairs)
    assert (done.returncode, done.stdout.split()) == (0, [receiver]), done.stderr


def test_secrets_are_read_from_files() -> None:
    keys = re.findall(r"^[\s-]*(\w*(?:password|key|token|secret|api_url)\w*):", EXAMPLE.read_text(), re.MULTILINE)
    assert len(keys) == 3
    assert all(key.endswith("_file") for key in keys)


# -- routes and groups -------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(("rule", "severity"), GRADES, ids=[f"{rule.name}-{severity}" for rule, severity in GRADES])
def test_alert_is_routed_by_severity(rule: Rule, severity: Severity) -> None:
    assert routed(labels_of(rule, severity)) == (WATCHDOGS.get(rule.name) or RECEIVERS[severity])


@pytest.mark.real
def test_foreign_alerts_do_not_reach_the_pager() -> None:
    assert routed({"alertname": "NodeDown", "severity": "critical", "scope": "exporter"}) == "tickets"
    assert routed({"alertname": "StreamlitDown", "severity": "critical"}) == "tickets"


def routed(labels: dict[str, str]) -> str:
    arguments = [f"{name}={value}" for name, value in labels.items()]
    done = run("amtool", "config", "routes", "test", f"--config.file={EXAMPLE}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_alerts_are_grouped_by_rule_and_stream_or_group() -> None:
    route = example_configuration()["route"]
    assert set(route["group_by"]) == {"alertname", "job", "cluster", "platform", "upstream", "stream", "group"}
    own = {child["receiver"]: child["group_by"] for child in route["routes"] if "group_by" in child}
    assert own == {receiver: ["alertname"] for receiver in WATCHDOGS.values()}


# -- inhibit rules as written ------------------------------------------------------------------------------------------

MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')
INHIBIT_RULES = example_configuration()["inhibit_rules"]


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    for matcher in matchers:
        parsed = MATCHER.fullmatch(matcher)
        assert parsed is not None, matcher
        name, operator, pattern = parsed.groups()
        is_equal = re.fullmatch(pattern if "~" in operator else re.escape(pattern), labels.get(name, "")) is not None
        if is_equal == operator.startswith("!"):
            return False
    return True


def alternatives(pattern: str) -> list[str]:
    """Expand ``A(B|C)|D`` to ``AB``, ``AC`` and ``D``."""
    found = []
    for alternative in re.split(r"\|(?![^(]*\))", pattern):
        head, _, rest = alternative.partition("(")
        found += [head + end for end in rest.removesuffix(")").split("|")]
    return found


@pytest.mark.parametrize("inhibit", INHIBIT_RULES, ids=lambda rule: rule["source_matchers"][0])
def test_inhibit_rule_matches_only_our_alerts(inhibit: dict[str, Any]) -> None:
    for side in ("source_matchers", "target_matchers"):
        matchers = [match.groups() for matcher in inhibit[side] if (match := MATCHER.fullmatch(matcher))]
        assert len(matchers) == len(inhibit[side])
        assert any(
            name == "alertname" and operator in ("=", "=~") and pattern.startswith("Stream")
            for name, operator, pattern in matchers
        )
        assert any(name == "scope" and operator in ("=", "=~") for name, operator, _ in matchers)
        # a name that no rule has would silently match nothing
        for name, _, pattern in matchers:
            if name == "alertname":
                missing = [
                    text for text in alternatives(pattern) if not any(re.fullmatch(text, n) for n in RULES_BY_NAME)
                ]
                assert missing == []


@pytest.mark.parametrize("inhibit", INHIBIT_RULES, ids=lambda rule: rule["source_matchers"][0])
def test_inhibit_rule_compares_the_labels_of_both_scopes(inhibit: dict[str, Any]) -> None:
    """A label that neither side has counts as equal. A label that only the target has must not be compared."""
    equal = inhibit["equal"]
    assert equal[:1] == ["alertname"] or equal[:1] == ["job"]
    assert {"job", "cluster"} <= set(equal)
    if equal[0] == "alertname":
        # all alerts of a rule have the same label names, whatever its scope
        assert set(equal) == {"alertname", "job", "cluster", "platform", "upstream", "stream", "group"}
        return
    if inhibit["source_matchers"][0] == f'alertname="{MAINTENANCE}"':
        assert ("stream" in equal) == ('stream!=""' in inhibit["source_matchers"])
        return
    scopes = [
        {rule.scope for rule, severity in GRADES if matches(inhibit[side], labels_of(rule, severity))}
        for side in ("source_matchers", "target_matchers")
    ]
    assert all(scopes)
    assert ("upstream" in equal) == all(Scope.EXPORTER not in found for found in scopes)
    assert ("platform" in equal) == ("upstream" in equal)
    assert ("stream" in equal) == all(found == {Scope.STREAM} for found in scopes)


@pytest.mark.parametrize("rule", BUDGET_RULES, ids=lambda rule: rule.name)
def test_nothing_inhibits_a_budget_rule(rule: Rule) -> None:
    for severity in Severity:
        for inhibit in INHIBIT_RULES:
            labels = labels_of(rule, severity)
            assert not matches(inhibit["target_matchers"], labels), inhibit
            for scope in Scope:
                assert not matches(inhibit["target_matchers"], {**labels, "scope": scope.value}), inhibit


# -- inhibition in a real Alertmanager ---------------------------------------------------------------------------------


@pytest.fixture
def example(alertmanager: Alertmanager) -> Iterator[Alertmanager]:
    """Configure Alertmanager with the routes and inhibit rules of the example, and no real receivers."""
    configuration = example_configuration()
    del configuration["global"], configuration["templates"]
    configuration["receivers"] = [{"name": receiver["name"]} for receiver in configuration["receivers"]]
    with alertmanager.configured(yaml_text.render(configuration)):
        yield alertmanager
        # each further alert makes it slower to find out which ones are inhibited
        end_alerts(alertmanager)


def send(example: Alertmanager, *alerts: dict[str, str]) -> None:
    request_json(f"{example.url}/api/v2/alerts", body=[{"labels": labels} for labels in alerts])


def end_alerts(example: Alertmanager) -> None:
    ended = datetime.now(UTC).isoformat()
    alerts = [{"labels": alert["labels"], "endsAt": ended} for alert in example.alerts()]
    request_json(f"{example.url}/api/v2/alerts", body=alerts)


def inhibited(example: Alertmanager, case: str) -> list[dict[str, str]]:
    """Return the labels of the inhibited alerts of a case, whose job starts with its name."""
    alerts = example.alerts(f'job=~"{case}/.*"')
    return [alert["labels"] for alert in alerts if alert["status"]["inhibitedBy"]]


def wait_until_inhibited(example: Alertmanager, case: str, last: dict[str, str]) -> list[dict[str, str]]:
    """Return the inhibited alerts once the last one sent is inhibited, so all earlier ones are processed too."""
    wait_until(lambda: last in inhibited(example, case), f"{last} is inhibited")
    return inhibited(example, case)


STREAM_NAMES = [rule.name for rule in STREAM_RULES]
CONSEQUENCES_OF_FAILED_POLLS = [
    "StreamUpstreamUnstable",
    "StreamUpstreamErrorRatioHigh",
    "StreamUpstreamListDoubtful",
    "StreamUpstreamStatisticsFrozen",
    "StreamUpstreamStatesUnknown",
]
NO_MEDIA = ("StreamExpectedOffline", "StreamIngestStalled", "StreamViewersGetNothing", "StreamUnplayable")
CONSEQUENCES = [name for name in STREAM_NAMES if name not in NO_MEDIA]
NOT_OF_EXPORTERS = [
    r.name for r in RULES if r.scope is not Scope.EXPORTER and r not in BUDGET_RULES and r.name != MAINTENANCE
]
INHIBITED = {
    "StreamExporterDown": [
        "StreamScrapesFailing",
        "StreamShardMissing",
        *NOT_OF_EXPORTERS,
    ],
    MAINTENANCE: [name for name in NOT_OF_EXPORTERS if RULES_BY_NAME[name].scope is not Scope.GROUP],
    "StreamUpstreamUnwatched": STREAM_NAMES,
    "StreamPlaybackVantageDown": [
        *STREAM_NAMES,
        "StreamUpstreamUnstable",
        "StreamUpstreamErrorRatioHigh",
        "StreamUpstreamStatesUnknown",
    ],
    "StreamUpstreamDown": [*STREAM_NAMES, *CONSEQUENCES_OF_FAILED_POLLS],
    "StreamUpstreamAuthFailing": [*STREAM_NAMES, "StreamUpstreamDown", *CONSEQUENCES_OF_FAILED_POLLS],
    "StreamExpectedOffline": [*CONSEQUENCES, "StreamIngestStalled"],
    "StreamIngestStalled": CONSEQUENCES,
    "StreamViewersGetNothing": CONSEQUENCES,
    "StreamUnplayable": CONSEQUENCES,
    "StreamBitrateCritical": ["StreamUnhealthy", "StreamDegraded", "StreamBitrateLow"],
    "StreamTranscodeBelowRealtime": ["StreamUnhealthy", "StreamDegraded"],
    "StreamUnhealthy": ["StreamDegraded"],
    "StreamMediaShortage": ["StreamDegraded", "StreamFlapping", "StreamSequenceUnsteady"],
    "StreamAudioMissing": ["StreamDegraded"],
    "StreamVideoMissing": ["StreamDegraded"],
    "StreamDeliverySlow": ["StreamDegraded"],
    "StreamRenditionMissing": ["StreamDegraded"],
    "StreamSequenceUnsteady": ["StreamDegraded"],
    "StreamPacketLossCritical": ["StreamPacketLossHigh"],
    "StreamDroppedFramesCritical": ["StreamDroppedFramesHigh"],
}


@pytest.mark.real
@pytest.mark.parametrize("name", INHIBITED)
def test_source_alert_inhibits_exactly_its_targets(name: str, example: Alertmanager) -> None:
    """Each pair of alerts has its own job, so nothing but the source can inhibit the other alert."""
    source = RULES_BY_NAME[name]
    others = [rule for rule in RULES if rule is not source and rule.name not in INHIBITED[name]]
    targets = [RULES_BY_NAME[target] for target in INHIBITED[name]]
    alerts = [labels_of(rule, job=f"{name}/{rule.name}") for rule in (*others, *targets)]
    sources = [labels_of(source, job=labels["job"]) for labels in alerts]
    elsewhere = [
        {**labels, label: f"{own['job']}-elsewhere"}
        for labels, own in zip(alerts, sources, strict=True)
        for label in ("job", "cluster", "upstream", "stream")
        if label == "cluster" or (label in own and label in labels)
    ]
    send(example, *elsewhere, *sources, *alerts)
    found = wait_until_inhibited(example, name, alerts[-1])
    assert [labels for labels in alerts[len(others) :] if labels not in found] == []
    assert [labels for labels in alerts[: len(others)] + elsewhere if labels in found] == []


@pytest.mark.real
def test_maintenance_of_a_stream_inhibits_only_the_alerts_of_that_stream(example: Alertmanager) -> None:
    case = "maintenance"
    source = {**labels_of(RULES_BY_NAME[MAINTENANCE], job=f"{case}/"), "stream": "main"}
    targets = [labels_of(rule, job=f"{case}/") for rule in STREAM_RULES if rule not in BUDGET_RULES]
    others = [labels_of(rule, stream="other", job=f"{case}/") for rule in STREAM_RULES if not rule.critical][:1]
    others += [labels_of(RULES_BY_NAME["StreamUpstreamListDoubtful"], job=f"{case}/")]
    others += [{**labels, label: "other"} for labels in targets[:1] for label in ("cluster", "upstream", "job")]
    send(example, *others, source, *targets)
    found = wait_until_inhibited(example, case, targets[-1])
    wait_until(lambda: len(inhibited(example, case)) == len(targets), "all are inhibited")
    assert [labels for labels in others if labels in found] == []


@pytest.mark.real
def test_nothing_inhibits_maintenance(example: Alertmanager) -> None:
    """Alertmanager would otherwise end the inhibition while the upstream is down."""
    case = "not-inhibited"
    sources = [labels_of(RULES_BY_NAME[name], job=f"{case}/") for name in INHIBITED]
    kinds = [{}, {"stream": "main"}]
    maintenance = [{**labels_of(RULES_BY_NAME[MAINTENANCE], job=f"{case}/"), **labels} for labels in kinds]
    last = labels_of(RULES_BY_NAME["StreamDegraded"], job=f"{case}/")
    send(example, *sources, *maintenance, last)
    found = wait_until_inhibited(example, case, last)
    assert [labels for labels in maintenance if labels in found] == []


@pytest.mark.real
@pytest.mark.parametrize("rule", [r for r in RULES if len(r.severities) > 1], ids=lambda rule: rule.name)
def test_critical_alert_inhibits_only_the_warning_with_equal_labels(rule: Rule, example: Alertmanager) -> None:
    case = f"grades-{rule.name}"
    critical, warning = (labels_of(rule, grade, job=f"{case}/") for grade in (Severity.CRITICAL, Severity.WARNING))
    elsewhere = [{**warning, label: "other"} for label in ("upstream", "stream", "group") if label in warning]
    by_sidecar = {**warning, "source": "sidecar"}
    send(example, critical, {**warning, "cluster": "other"}, *elsewhere, warning, by_sidecar)
    found = wait_until_inhibited(example, case, by_sidecar)
    assert sorted(found, key=len) == [warning, by_sidecar]


@pytest.mark.real
def test_budget_alerts_are_not_inhibited_when_everything_fires(example: Alertmanager) -> None:
    everything = [labels_of(rule, severity, job="budget/") for rule, severity in GRADES]
    last = {**labels_of(RULES_BY_NAME["StreamDegraded"], job="budget/"), "source": "sidecar"}
    send(example, *everything, last)
    found = {labels["alertname"] for labels in wait_until_inhibited(example, "budget", last)}
    assert BUDGET_RULES
    assert found & {rule.name for rule in BUDGET_RULES} == set()
