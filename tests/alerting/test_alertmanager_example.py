from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from exporter.alerting.rules import RULES, RULES_BY_NAME, Rule, Scope, Severity
from tests.alerting.promtool import ALERTS, run
from tests.real.alertmanager import Alertmanager
from tests.real.child_process import request_json, wait_until

EXAMPLE = ALERTS / "alertmanager.example.yaml"
RECEIVERS = {Severity.CRITICAL: "pager", Severity.WARNING: "tickets", Severity.INFO: "nobody"}
WATCHDOGS = {
    "StreamWatchdog": "dead-mans-switch-prometheus",
    "StreamSidecarWatchdog": "dead-mans-switch-sidecar",
}


def test_example_passes_amtool_check() -> None:
    done = run("amtool", "check-config", EXAMPLE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_alert_is_routed_by_severity(rule: Rule) -> None:
    labels = {"alertname": rule.name, "job": "stream-exporter", **rule.static_labels}
    receiver = WATCHDOGS.get(rule.name) or RECEIVERS[rule.severity]
    assert routed(labels) == receiver


def test_foreign_alerts_do_not_reach_the_pager() -> None:
    assert routed({"alertname": "NodeDown", "severity": "critical", "scope": "exporter"}) == "tickets"
    assert routed({"alertname": "StreamlitDown", "severity": "critical"}) == "tickets"


def routed(labels: dict[str, str]) -> str:
    arguments = [f"{name}={value}" for name, value in labels.items()]
    done = run("amtool", "config", "routes", "test", f"--config.file={EXAMPLE}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- inhibition --------------------------------------------------------------------------------------------------------


def inhibit_rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(EXAMPLE.read_text())["inhibit_rules"]
    return found


@pytest.mark.parametrize("rule", inhibit_rules(), ids=lambda rule: rule["source_matchers"][0])
def test_inhibit_rule_matches_only_our_alerts(rule: dict[str, Any]) -> None:
    for side in ("source_matchers", "target_matchers"):
        assert any(re.fullmatch(r'alertname=~?"Stream.+"', matcher) for matcher in rule[side])
        assert any(matcher.startswith("scope=") for matcher in rule[side])
    names = {name for matcher in rule["source_matchers"] for name in re.findall(r"Stream\w+\b(?!\()", matcher)}
    assert names <= RULES_BY_NAME.keys()
    # labels that neither side has count as equal
    is_about_streams = 'scope="stream"' in rule["source_matchers"] and 'scope="stream"' in rule["target_matchers"]
    assert ("stream" in rule["equal"]) == is_about_streams
    assert "job" in rule["equal"]


def alert(name: str, stream: str = "main", *, upstream: str = "edge", job: str = "stream-exporter") -> dict[str, Any]:
    """An alert as Prometheus sends it, for a test's own Alertmanager."""
    rule = RULES_BY_NAME[name]
    labels = {"alertname": name, "job": job, **rule.static_labels}
    if rule.scope is not Scope.EXPORTER:
        labels |= {"platform": "storm", "upstream": upstream}
    if rule.scope is Scope.STREAM:
        labels["stream"] = stream
    return {"labels": labels, "annotations": {"summary": rule.summary}}


@pytest.fixture
def example(alertmanager: Alertmanager) -> Iterator[Alertmanager]:
    text = EXAMPLE.read_text()
    with alertmanager.configured(re.sub(r"https://\w+\.example\.com/", "http://127.0.0.1:9/", text)):
        yield alertmanager


STREAM_NAMES = [rule.name for rule in RULES if rule.scope is Scope.STREAM]
INHIBITED = [
    (["StreamExporterDown"], ["StreamUpstreamDown", "StreamExpectedOffline"], "exporter"),
    (["StreamUpstreamDown"], [*STREAM_NAMES, "StreamUpstreamErrorRatioHigh"], "upstream"),
    (["StreamUpstreamAuthFailing"], [*STREAM_NAMES, "StreamUpstreamDown"], "auth"),
    (["StreamExpectedOffline"], [n for n in STREAM_NAMES if n != "StreamExpectedOffline"], "offline"),
    (["StreamIngestStalled"], ["StreamUnhealthy", "StreamBitrateCritical", "StreamDegraded"], "stalled"),
    (["StreamBitrateCritical"], ["StreamUnhealthy", "StreamDegraded", "StreamBitrateLow"], "bitrate"),
    (["StreamTranscodeBelowRealtime"], ["StreamUnhealthy", "StreamDegraded"], "transcode"),
    (["StreamUnhealthy"], ["StreamDegraded"], "unhealthy"),
    (["StreamPacketLossCritical"], ["StreamPacketLossHigh"], "loss"),
    (["StreamDroppedFramesCritical"], ["StreamDroppedFramesHigh"], "frames"),
    (
        ["StreamHealthBudgetBurnFast"],
        ["StreamHealthBudgetBurnSteady", "StreamHealthBudgetBurnSlow", "StreamHealthBudgetBurnCreeping"],
        "burn",
    ),
]


@pytest.mark.real
@pytest.mark.parametrize(("sources", "targets", "job"), INHIBITED, ids=[case[2] for case in INHIBITED])
def test_source_alert_inhibits_only_its_targets(
    sources: list[str], targets: list[str], job: str, example: Alertmanager
) -> None:
    """Each case has its own job: the Alertmanager remembers the alerts of the others."""
    own = f"inhibition-{job}"
    elsewhere = alert(targets[-1], upstream="other", job="elsewhere" if job == "exporter" else own)
    request_json(
        f"{example.url}/api/v2/alerts", body=[*(alert(name, job=own) for name in (*sources, *targets)), elsewhere]
    )

    def inhibited(one: dict[str, Any]) -> bool | None:
        found = example.alerts(*(f'{name}="{value}"' for name, value in one["labels"].items()))
        return bool(found[0]["status"]["inhibitedBy"]) if found else None

    for name in targets:
        wait_until(lambda name=name: inhibited(alert(name, job=own)), f"{name} is inhibited")  # type: ignore[misc]
    assert [name for name in sources if inhibited(alert(name, job=own)) is not False] == []
    assert inhibited(elsewhere) is False
