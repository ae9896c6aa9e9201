from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.payload import MAX_ISSUES, AlertFormatter, fingerprint, rfc3339
from exporter.alerting.rules import RULES, RULES_BY_NAME, Scope
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.runtime.redaction import redactor
from tests.sidecar.fake_alertmanager import parse_time

FORMATTER = AlertFormatter(rules_in_force(), {})
ANY_TEXT = st.text(st.characters(codec=None), max_size=400)


def alert(
    rule: str = "StreamUnhealthy",
    stream: str = "main",
    extra: tuple[str, ...] = (),
    severity: str | None = None,
    **more: Any,
) -> Alert:
    """Return an alert of a rule; the default severity is that of the rule."""
    if severity is None:
        severity = RULES_BY_NAME[rule].severity.value
    facts: dict[str, Any] = {
        "platform": "livepeer",
        "phase": Phase.FIRING,
        "active_at": 1.0,
        "fired_at": 2.0,
        "value": 0.4,
    } | more
    return Alert(AlertKey(rule, "studio", stream, extra, severity), **facts)


def test_own_labels_of_a_rule_are_set() -> None:
    labels = FORMATTER.labels(alert("StreamMultistreamTargetDown", extra=("backup",)))
    assert labels["target"] == "backup"
    assert list(labels) == sorted(labels)


@given(
    external=st.dictionaries(st.sampled_from(["job", "site", "stream", "severity"]), ANY_TEXT),
    stream=ANY_TEXT,
    values=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
)
def test_changing_value_is_in_no_label(external: dict[str, str], stream: str, values: tuple[float, float]) -> None:
    """Changing labels would make it a new alert in Alertmanager. All labels are non-empty and valid UTF-8."""
    formatter = AlertFormatter(rules_in_force(), external, page="http://exporter:10071/")
    first, second = (formatter.payload(alert(stream=stream, value=value), 240.0) for value in values)
    assert first.labels == second.labels
    assert all(first.labels.values())
    assert first.labels["severity"] == "critical"
    assert msgspec.json.decode(msgspec.json.encode(first.to_json(100.0))) == first.to_json(100.0)


def test_issues_annotation_quotes_the_platform_without_secrets() -> None:
    redactor.add("hunter2-issue-canary")
    issues = ("No  key\nframes", "key hunter2-issue-canary is wrong", *(f"issue {n}" for n in range(10)))
    text = FORMATTER.annotations(alert(issues=issues))["issues"]
    assert text.startswith("No key frames; key <secret> is wrong; issue 0;")
    assert text.endswith(f"and {len(issues) - MAX_ISSUES} more")
    assert len(FORMATTER.annotations(alert(issues=("x" * 1024,) * 5))["issues"]) <= 1000
    assert "issues" not in FORMATTER.annotations(alert())


@given(st.lists(ANY_TEXT, max_size=8).map(tuple))
def test_any_issue_can_be_sent(issues: tuple[str, ...]) -> None:
    msgspec.json.encode(FORMATTER.annotations(alert(issues=issues)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_test_alert_has_the_labels_for_routing(rule: Any) -> None:
    payload = FORMATTER.test_payload(rule.name, 100.0, 240.0)
    assert payload.labels["test"] == "true"
    assert payload.labels["scope"] == rule.scope
    assert payload.labels.get("upstream") == ("test" if rule.scope in (Scope.UPSTREAM, Scope.STREAM) else None)
    assert payload.labels.get("group") == ("test" if rule.scope is Scope.GROUP else None)
    assert payload.labels.get("stream") == ("test" if rule.scope is Scope.STREAM else None)
    assert payload.ends_at is None
    assert payload.to_json(100.0)["endsAt"] == rfc3339(340.0)
    assert "generatorURL" not in payload.to_json(100.0)


@pytest.mark.parametrize("clock_step", [-3600.0, 0.0, 3600.0])
def test_firing_alert_keeps_its_start_and_horizon_after_a_clock_step(clock_step: float) -> None:
    payload = FORMATTER.payload(alert(active_at=9_900.0, fired_at=10_000.0), 240.0)
    now = 10_060.0 + clock_step
    sent = payload.to_json(now)
    assert sent["startsAt"] == rfc3339(10_000.0)
    assert parse_time(sent["endsAt"]) >= max(now, 10_000.0) + 240


OFFSETS = st.none() | st.floats(-1e6, 1e6)


@given(st.floats(1e6, 1e9), st.floats(-1e4, 1e4), OFFSETS, st.floats(0, 1e4))
def test_firing_alert_lasts_on_both_clocks(now: float, started: float, offset: float | None, least: float) -> None:
    receiver_now = None if offset is None else now + offset
    payload = FORMATTER.payload(alert(active_at=now, fired_at=now + started), 240.0)
    ends_at = parse_time(payload.to_json(now, receiver_now, min_horizon=least)["endsAt"])
    assert ends_at >= max(now, receiver_now or now, now + started) + max(240.0, least) - 0.001


@given(st.floats(1e6, 1e9), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), OFFSETS)
def test_resolved_alert_has_ended_on_both_clocks(
    now: float, started: float, ended: float, offset: float | None
) -> None:
    receiver_now = None if offset is None else now + offset
    resolved = alert(phase=Phase.RESOLVED, fired_at=now + started, resolved_at=now + ended, resolved_steady=50.0)
    sent = FORMATTER.payload(resolved, 240.0).to_json(now, receiver_now)
    assert sent["startsAt"] <= sent["endsAt"]
    assert parse_time(sent["endsAt"]) <= min(now, receiver_now or now) + 0.001


@given(st.floats(1e6, 1e9), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), OFFSETS)
def test_lapsing_alert_ends_later_if_alertmanagers_clock_is_ahead(
    now: float, started: float, left: float, offset: float | None
) -> None:
    receiver_now = None if offset is None else now + offset
    resolved = alert(phase=Phase.RESOLVED, fired_at=now + started, resolved_at=now - 1, resolved_steady=50.0)
    payload = replace(FORMATTER.payload(resolved, 240.0), lapses_at=now + left)
    ends_at = parse_time(payload.to_json(now, receiver_now, min_horizon=1e6)["endsAt"])
    assert ends_at == pytest.approx(max(now + left + max(0.0, offset or 0.0), now + started), abs=0.001)
    assert payload.to_webhook_json()["status"] == "resolved"


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4))
def test_fingerprint_depends_on_names_and_values_only(labels: dict[str, str]) -> None:
    assert fingerprint(labels) == fingerprint(dict(reversed(labels.items())))
    assert len(fingerprint(labels)) == 16


@pytest.mark.parametrize("fired_at", [9_000.0, 13_000.0])
@pytest.mark.parametrize("resolved_at", [10_000.0, 14_000.0])
@pytest.mark.parametrize("now", [10_100.0, 8_000.0])
def test_resolved_alert_never_ends_in_the_future_or_before_its_start(
    fired_at: float, resolved_at: float, now: float
) -> None:
    """The clock may have been set back since the alert fired, and since it was resolved."""
    resolved = alert(phase=Phase.RESOLVED, fired_at=fired_at, resolved_at=resolved_at, resolved_steady=50.0)
    sent = FORMATTER.payload(resolved, 240.0).to_json(now)
    assert parse_time(sent["startsAt"]) <= parse_time(sent["endsAt"]) <= now


def test_unknown_rule_is_refused() -> None:
    assert not FORMATTER.knows(alert("StreamOfBefore", severity="critical"))
    assert not FORMATTER.knows(alert("StreamUnhealthy", severity="info")), "the rule has no such severity"
    with pytest.raises(KeyError):
        FORMATTER.test_payload("StreamOfBefore", 0.0, 0.0)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (10.0, "1970-01-01T00:00:10Z"),
        (0.8, "1970-01-01T00:00:00.8Z"),
        (1.05, "1970-01-01T00:00:01.05Z"),
        (1.2345, "1970-01-01T00:00:01.234Z"),
    ],
)
def test_time_is_written_without_trailing_zeros_as_go_does(at: float, text: str) -> None:
    assert rfc3339(at) == text
