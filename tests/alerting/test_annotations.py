"""The sidecar's annotations equal those that Prometheus renders from the templates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.alerting.annotations import (
    MAX_MEMBERS,
    REASON_WORDS,
    AlertFacts,
    AnnotationTemplates,
    AnnotationTexts,
    format_threshold,
    format_value,
    page_url,
    runbook_url,
)
from exporter.alerting.group_conditions import member_names
from exporter.alerting.promql import Dialect
from exporter.alerting.rules import RULES_BY_NAME, Owner, Rule, Scope
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.alerting.rules.rule import Unit
from exporter.config.alerting import AlertingSettings
from exporter.model import GroupMember, GroupState, HealthReason, Reason, Status
from tests import yaml_text
from tests.alerting.promtool import assert_tests_pass

ACTIVE = {active.rule.name: active for active in rules_in_force()}
OF_GROUPS = [active for active in ACTIVE.values() if active.rule.scope is Scope.GROUP]
SHARED = [active for active in ACTIVE.values() if active.rule.owner is Owner.BOTH and active not in OF_GROUPS]
PAGE = "https://exporter.example.com/"
DIALECT = Dialect(page=PAGE)
EXOTIC = ("main", 'a "b" \\c', "{{ .Value }}", "ü%s{x=1}", "live/a b\nc&d=+", "\u202egnp.exe", "<b>`$1`</b>", "y" * 200)
EDGES = [0.0, 0.9999, 1.0, 59.99, 60.0, 999.96, 1000.0, 1234.5678, 3599.9, 3600.0, 86400.0, 90061.5, 1e-7, 5e9, 0.12345]

numbers = (
    st.floats(0, 1e15, allow_subnormal=False)
    | st.floats(0, 2)
    | st.sampled_from(EDGES)
    | st.integers(0, 10**6).map(float)
)


@dataclass(frozen=True)
class Known:
    """Facts about one stream and its upstream."""

    value: float
    status: Status | None = None
    failure: Reason | None = None
    reference: float | None = None
    reasons: frozenset[HealthReason] = frozenset()
    bitrate: float | None = None
    viewers: int | None = None
    threshold: float | None = None
    """Override of every rule that has a threshold."""
    moment: float | None = None
    """Unix seconds."""

    def facts(self, rule: Rule) -> AlertFacts:
        """Return the facts of an alert that has been pending since the epoch."""
        state = {Unit.STATUS: self.status, Unit.FAILURE: self.failure}.get(rule.unit)
        scale = 1.0 if rule.reference is None else rule.reference.scale
        shown = self.moment if rule.shown_unit is Unit.TIME else self.reference
        return AlertFacts(
            value=self.value,
            state=str(state or ""),
            reference=None if shown is None else scale * shown,
            since=0.0,
            reasons=self.reasons,
            last_bitrate=self.bitrate,
            last_viewers=self.viewers,
            threshold=None if rule.threshold is None else self.threshold,
        )

    def series(self, stream: dict[str, str], upstream: dict[str, str]) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield family, labels and value of each series in Prometheus."""
        if self.status is not None:
            yield "stream_status", stream | {"status": self.status}, 1
        if self.failure is not None:
            yield "stream_upstream_failing", upstream | {"reason": self.failure}, 1
        for reason in self.reasons:
            yield "stream_health_reason", stream | {"reason": reason}, 1
        if self.reference is not None:
            compared = [active.rule.reference for active in SHARED if active.rule.shown is None]
            for family in {series.family for series in compared if series is not None}:
                yield family, stream, self.reference
        if self.bitrate is not None:
            yield "stream_ingest_bitrate_bytes_per_second", stream, self.bitrate
        if self.viewers is not None:
            yield "stream_viewers", stream, self.viewers


known = st.builds(
    Known,
    value=numbers,
    status=st.none() | st.sampled_from(Status),
    failure=st.none() | st.sampled_from(Reason),
    reference=st.none() | numbers,
    reasons=st.frozensets(st.sampled_from(HealthReason)),
    bitrate=st.none() | numbers,
    viewers=st.none() | st.integers(0, 10**7),
    threshold=st.none() | numbers.filter(bool),
    moment=st.none() | st.floats(0, 4e9),
)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def series_entry(family: str, labels: dict[str, str], value: float) -> dict[str, str]:
    text = ",".join(f"{label}={quoted(str(word))}" for label, word in labels.items())
    return {"series": f"{family}{{{text}}}", "values": f"{value!r}x2"}


def template_rules(active: ActiveRule) -> list[dict[str, Any]]:
    """Return the alerts of a rule, with a series of the test as condition."""
    return [
        {
            "alert": active.rule.name,
            "expr": f'shown{{rule="{active.rule.name}"}}',
            "for": "30s",
            "labels": {"severity": grade.severity.value},
            "annotations": AnnotationTemplates(active, grade, DIALECT).render(),
        }
        for grade in active.grades
    ]


def expected_alerts(active: ActiveRule, labels: dict[str, str], facts: AlertFacts) -> list[dict[str, Any]]:
    found = []
    for grade in active.grades:
        texts = AnnotationTexts(active, grade, labels, facts).render()
        texts |= {"runbook_url": runbook_url(active.rule)}
        texts |= {"page_url": page_url(PAGE, labels.get("upstream", ""), labels.get("stream", ""))}
        # Prometheus keeps annotations that turn out to be empty
        annotations = {name: texts.get(name, "") for name in AnnotationTemplates(active, grade, DIALECT).render()}
        assert texts.keys() <= annotations.keys()
        all_labels = labels | {"rule": active.rule.name, "severity": grade.severity.value}
        found.append({"exp_labels": all_labels, "exp_annotations": annotations})
    return found


def run_promtool(rules: list[dict[str, Any]], test: dict[str, Any], folder: Path) -> None:
    (folder / "rules.yaml").write_text(yaml_text.render_quickly({"groups": [{"name": "g", "rules": rules}]}))
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [{"interval": "15s"} | test]}
    (folder / "test.yaml").write_text(yaml_text.render_quickly(document))
    assert_tests_pass(folder / "test.yaml")


@pytest.mark.real
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(known, min_size=1, max_size=4))
@example(
    [Known(number, reference=number, bitrate=number, viewers=int(number), threshold=number or None) for number in EDGES]
)
@example([Known(0.4, status=Status.IDLE, failure=Reason.TIMEOUT, reasons=frozenset(HealthReason))] * len(EXOTIC))
def test_annotations_equal_those_of_prometheus(tmp_path: Path, streams: list[Known]) -> None:
    series: list[dict[str, str]] = []
    expected: dict[str, list[dict[str, Any]]] = {active.rule.name: [] for active in SHARED}
    for index, of_stream in enumerate(streams):
        upstream = {"platform": "storm", "upstream": f"edge & {EXOTIC[-index % len(EXOTIC)]} {index}"}
        stream = upstream | {"stream": EXOTIC[index % len(EXOTIC)]}
        target = {"job": "stream-exporter"}
        # two replicas with the same data
        series += [
            series_entry(family, labels | target | {"instance": instance}, value)
            for family, labels, value in of_stream.series(stream, upstream)
            for instance in "ab"
        ]
        for active in SHARED:
            labels = stream if active.rule.scope is Scope.STREAM else upstream
            labels = labels | {label: EXOTIC[(index + 1) % len(EXOTIC)] for label in active.rule.labels}
            if active.rule.shown is not None and of_stream.moment is not None:
                series.append(series_entry(active.rule.shown.family, labels | target, of_stream.moment))
            series.append(series_entry("shown", labels | {"rule": active.rule.name}, of_stream.value))
            if of_stream.threshold is not None and active.rule.threshold is not None:
                own = labels if active.rule.scope is Scope.STREAM else labels | {"stream": ""}
                overridden = own | {"rule": active.rule.name}
                series.append(series_entry("stream:alert_threshold", overridden, of_stream.threshold))
            expected[active.rule.name] += expected_alerts(active, labels, of_stream.facts(active.rule))
    checks = [{"eval_time": "30s", "alertname": name, "exp_alerts": alerts} for name, alerts in expected.items()]
    rules = [rule for active in SHARED for rule in template_rules(active)]
    run_promtool(rules, {"input_series": series, "alert_rule_test": checks}, tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("count", [len(EXOTIC), MAX_MEMBERS, MAX_MEMBERS + 1])
def test_annotations_of_groups_equal_those_of_prometheus(count: int, tmp_path: Path) -> None:
    """Names, roles and order of the streams, and where their list is cut off."""
    lives = (False, None, True)
    members = [
        GroupMember(
            platform="storm",
            upstream=f"edge-{index % 2}",
            stream=f"{EXOTIC[index % len(EXOTIC)]} {index} {live}",
            role=("", "main", 'a "b" \\c')[index % 3],
            live=live,
        )
        for live in lives
        for index in range(count)
    ]
    state = GroupState(group="final", need=len(members), members=tuple(members), expected=True)
    target = {"job": "stream-exporter"}
    group = {"group": "final"}
    series = [series_entry("group:needed", target | group, state.needed)]
    for member in members:
        stream = {"platform": member.platform, "upstream": member.upstream, "stream": member.stream}
        role = {"role": member.role} if member.role else {}
        series.append(series_entry("stream_group_member_info", target | {"instance": "a"} | group | role | stream, 1))
        if member.live is not None:
            series.append(series_entry("stream:live", target | stream, float(member.live)))
        if member.live is False:
            series.append(series_entry("group:dead_member", target | group | stream, 1))
    facts = AlertFacts(
        value=state.live,
        since=0.0,
        needed=state.needed,
        off_air=member_names(state, live=False),
        unknown=member_names(state, live=None),
    )
    series += [series_entry("shown", group | {"rule": active.rule.name}, state.live) for active in OF_GROUPS]
    checks = [
        {"eval_time": "30s", "alertname": active.rule.name, "exp_alerts": expected_alerts(active, group, facts)}
        for active in OF_GROUPS
    ]
    rules = [rule for active in OF_GROUPS for rule in template_rules(active)]
    run_promtool(rules, {"input_series": series, "alert_rule_test": checks}, tmp_path)


def texts_of(name: str, labels: dict[str, str] | None = None, severity: str = "", **facts: Any) -> dict[str, str]:
    """Return the annotations of an alert (default: the rule's own severity, stream ``s``)."""
    active = ACTIVE[name]
    grade = next((grade for grade in active.grades if grade.severity == severity), active.grades[-1])
    default = {"stream": "s", "upstream": "u", "platform": "p"}
    return AnnotationTexts(active, grade, default if labels is None else labels, AlertFacts(**facts)).render()


def test_reasons_are_listed_worst_first() -> None:
    reasons = ["issues", "loss", "silent", "of a later version"]
    texts = texts_of("StreamUnhealthy", value=0.1, reasons=reasons)
    assert texts["reasons"] == "no media, packet loss, issues reported by the platform"
    assert "reasons" not in texts_of("StreamUnhealthy", value=0.1)
    assert "reasons" not in texts_of("StreamUpstreamDown", {"upstream": "u", "platform": "p"}, value=0, reasons=reasons)
    assert set(REASON_WORDS) == set(HealthReason)


def test_bitrate_alert_shows_expected_and_last_known_values() -> None:
    texts = texts_of("StreamBitrateLow", value=2_000_000.0, reference=4_000_000.0, last_bitrate=250_000.0, since=0.0)
    assert texts == {
        "summary": "Ingest of s on u (p) is below 75% of its expected bitrate.",
        "description": "Ingest of s on u (p) is 2 Mbit/s (expected 4 Mbit/s; alert below 75%).",
        "value": "2 Mbit/s",
        "expected": "4 Mbit/s; alert below 75%",
        "since": "1970-01-01 00:00:00 UTC",
        "last_known": "2 Mbit/s",
    }
    assert texts_of("StreamError", value=1, last_viewers=3)["last_known"] == "3 viewers"
    assert "last_known" not in texts_of("StreamError", value=1)


def test_state_is_shown_instead_of_a_number() -> None:
    assert texts_of("StreamExpectedOffline", value=0.0, state="connecting")["value"] == "connecting"
    upstream = {"upstream": "u", "platform": "p"}
    assert texts_of("StreamUpstreamDown", upstream, value=0.0, state="timeout")["value"] == "timeout"
    assert "value" not in texts_of("StreamUpstreamDataStale", upstream, value=0.0, state="timeout")


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (Unit.BITRATE, 0.0, "0 bit/s"),
        (Unit.BITRATE, 2_800_000.0, "2.8 Mbit/s"),
        (Unit.BITRATE, 0.5, "500 mbit/s"),
        (Unit.RATIO, 0.12345, "12.35%"),
        (Unit.SECONDS, 0.3, "300ms"),
        (Unit.SECONDS, 0.0, "0s"),
        (Unit.SECONDS, 12.5, "12.5s"),
        (Unit.SECONDS, 3725.0, "1h 2m 5s"),
        (Unit.SECONDS, 90061.0, "1d 1h 1m 1s"),
        (Unit.SECONDS, -90.0, "-1m 30s"),
        (Unit.NUMBER, 29.97, "29.97"),
        (Unit.COUNT, 12345.0, "12345"),
    ],
)
def test_value_is_formatted_with_its_unit(unit: Unit, value: float, text: str) -> None:
    assert format_value(unit, value) == text


def test_threshold_is_formatted_in_the_compared_unit() -> None:
    assert format_threshold(ACTIVE["StreamIngestStalled"]) == "1 kbit/s"
    assert format_threshold(ACTIVE["StreamBitrateLow"]) == "75%"
    assert format_threshold(ACTIVE["StreamLatencyHigh"]) == "300%"
    assert format_threshold(ACTIVE["StreamFlapping"]) == "6"
    assert format_threshold(ACTIVE["StreamExpectedOffline"]) == ""


def test_each_severity_shows_its_own_threshold() -> None:
    active = ACTIVE["StreamUpstreamUnstable"]
    assert [format_threshold(active, grade) for grade in active.grades] == ["50%", "20%"]
    labels = {"upstream": "u", "platform": "p"}
    assert texts_of("StreamUpstreamUnstable", labels, value=0.6)["expected"] == "at most 20%"
    assert texts_of("StreamUpstreamUnstable", labels, "critical", value=0.6)["expected"] == "at most 50%"


def test_override_is_shown_instead_of_the_default() -> None:
    assert texts_of("StreamUnhealthy", value=0.3, threshold=0.4)["expected"] == "at least 40%"
    assert texts_of("StreamIngestStalled", value=0, threshold=2500)["expected"] == "at least 20 kbit/s"
    assert "below 60% of" in texts_of("StreamBitrateLow", value=0, reference=1.0, threshold=0.6)["summary"]
    assert texts_of("StreamFlapping", value=20, threshold=12.5)["expected"] == "fewer than 12.5 restarts"
    labels = {"upstream": "u", "platform": "p"}
    texts = {
        grade: texts_of("StreamUpstreamUnstable", labels, grade, value=0.6, threshold=0.3) for grade in ("", "critical")
    }
    assert texts[""]["expected"] == "at most 30%"
    assert texts["critical"]["expected"] == "at most 50%"


def test_missing_label_is_empty() -> None:
    text = texts_of("StreamMultistreamTargetDown", value=0.0)["description"]
    assert text == "s on u (p) is live, but its multistream target  is not connected."


def test_long_label_is_cut_as_in_the_exposition() -> None:
    text = texts_of("StreamError", {"stream": "x" * 300, "upstream": "u", "platform": "p"}, value=1.0)["description"]
    assert "x" * 240 in text
    assert "x" * 241 not in text


@pytest.mark.real
def test_selector_with_format_verbs_and_quotes_is_escaped_in_templates(tmp_path: Path) -> None:
    active = ACTIVE["StreamUnhealthy"]
    dialect = Dialect(selector='job=~"a%s|b\\\\.c"')
    annotations = AnnotationTemplates(active, active.grades[0], dialect).render()
    rule = {"alert": "A", "expr": "shown", "annotations": {"reasons": annotations["reasons"]}}
    labels = {"platform": "p", "upstream": "u", "stream": "s"}
    series = [
        series_entry("shown", labels, 0.4),
        series_entry("stream_health_reason", labels | {"job": "b.c", "reason": "loss"}, 1),
        series_entry("stream_health_reason", labels | {"job": "bxc", "reason": "silent"}, 1),
    ]
    expected = {"exp_labels": labels, "exp_annotations": {"reasons": "packet loss"}}
    check = {"eval_time": "0s", "alertname": "A", "exp_alerts": [expected]}
    run_promtool([rule], {"input_series": series, "alert_rule_test": [check]}, tmp_path)


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)), st.sampled_from(SHARED))
def test_any_name_gives_annotations(stream: str, upstream: str, active: ActiveRule) -> None:
    labels = {"platform": "p", "upstream": upstream, "stream": stream} | dict.fromkeys(active.rule.labels, stream)
    for grade in active.grades:
        texts = AnnotationTexts(active, grade, labels, AlertFacts(value=1.0, reference=2.0)).render()
        assert all(texts.values())
        "".join(texts.values()).encode()


def test_runbook_url_uses_the_given_base() -> None:
    rule = RULES_BY_NAME["StreamUnhealthy"]
    assert runbook_url(rule).endswith("/docs/runbook.md#streamunhealthy")
    assert runbook_url(rule, "https://wiki/streams") == "https://wiki/streams#streamunhealthy"


def test_configured_threshold_replaces_the_default() -> None:
    settings_ = AlertingSettings.model_validate({"thresholds": {"StreamUnhealthy": {"value": 0.3, "for": "5m"}}})
    active: ActiveRule = next(a for a in rules_in_force(settings_) if a.rule.name == "StreamUnhealthy")
    assert (active.threshold, active.for_seconds) == (0.3, 300.0)
    assert active.keep_firing_seconds == active.rule.keep_firing_seconds
