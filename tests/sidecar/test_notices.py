from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.payload import ISSUES_TOLD, AlertFormatter, rfc3339
from exporter.alerting.rules import RULES, Scope
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.runtime.redaction import redactor

WORDING = AlertFormatter(rules_in_force(), {})
ANY_TEXT = st.text(st.characters(codec=None), max_size=400)


def alert(rule: str = "StreamUnhealthy", stream: str = "main", extra: tuple[str, ...] = (), **more: Any) -> Alert:
    facts: dict[str, Any] = {
        "platform": "livepeer",
        "phase": Phase.FIRING,
        "active_at": 1.0,
        "fired_at": 2.0,
        "value": 0.4,
    } | more
    return Alert(AlertKey(rule, "studio", stream, extra), **facts)


def test_labels_of_a_rules_own() -> None:
    labels = WORDING.labels(alert("StreamMultistreamTargetDown", extra=("backup",)))
    assert labels["target"] == "backup"
    assert list(labels) == sorted(labels)


@given(
    external=st.dictionaries(st.sampled_from(["job", "site", "stream", "severity"]), ANY_TEXT),
    stream=ANY_TEXT,
    values=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
)
def test_what_changes_is_in_no_label(external: dict[str, str], stream: str, values: tuple[float, float]) -> None:
    """One alert is one alert to Alertmanager, however its value moves; and no label is empty or beyond UTF-8."""
    wording = AlertFormatter(rules_in_force(), external)
    first, second = (wording.notice(alert(stream=stream, value=value), 240.0) for value in values)
    assert first.fingerprint == second.fingerprint
    assert all(first.labels.values())
    assert first.labels["severity"] == "critical"
    assert msgspec.json.decode(msgspec.json.encode(first.wire(100.0, ""))) == first.wire(100.0, "")


def test_issues_are_told_in_the_platforms_words() -> None:
    redactor.add("hunter2-issue-canary")
    issues = ("No  key\nframes", "key hunter2-issue-canary is wrong", *(f"issue {n}" for n in range(10)))
    text = WORDING.annotations(alert(issues=issues))["issues"]
    assert text.startswith("No key frames; key <secret> is wrong; issue 0;")
    assert text.endswith(f"and {len(issues) - ISSUES_TOLD} more")
    assert len(WORDING.annotations(alert(issues=("x" * 1024,) * 5))["issues"]) <= 1000
    assert "issues" not in WORDING.annotations(alert())


@given(st.lists(ANY_TEXT, max_size=8).map(tuple))
def test_any_issue_can_be_sent(issues: tuple[str, ...]) -> None:
    msgspec.json.encode(WORDING.annotations(alert(issues=issues)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_test_alert_has_the_labels_that_routes_go_by(rule: Any) -> None:
    notice = WORDING.test(rule.name, 100.0, 240.0)
    assert notice.labels["test"] == "true"
    assert notice.labels["scope"] == rule.scope
    assert notice.labels.get("upstream") == (None if rule.scope is Scope.EXPORTER else "test")
    assert notice.labels.get("stream") == ("test" if rule.scope is Scope.STREAM else None)
    assert notice.ends_at is None
    assert notice.wire(100.0, "")["endsAt"] == rfc3339(340.0)
    assert "generatorURL" not in notice.wire(100.0, "")


def test_an_unknown_rule() -> None:
    assert not WORDING.knows(alert("StreamOfBefore"))
    with pytest.raises(KeyError):
        WORDING.test("StreamOfBefore", 0.0, 0.0)
