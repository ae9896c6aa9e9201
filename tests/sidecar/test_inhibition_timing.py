"""A stream alert that inhibits others must not end before them, or they would page after the fault is over.

An upstream alert must end with its outage, so that a stream that died meanwhile pages when the upstream is back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.alerting.rules import RULES, RULES_BY_NAME, Rule, Scope, Severity
from exporter.alerting.rules.upstream_rules import MAINTENANCE

SAMPLE = Path(__file__).parents[2] / "alerts" / "alertmanager.example.yaml"
INHIBIT_RULES: list[dict[str, Any]] = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))["inhibit_rules"]
NEEDS_A_LIVE_STREAM = "StreamIngestStalled"
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')


def matching(matchers: Iterable[str]) -> Iterator[Rule]:
    """Yield the rules whose alerts match."""
    conditions = [match.groups() for matcher in matchers if (match := _MATCHER.fullmatch(matcher))]

    def matches(**labels: str) -> bool:
        return all(
            bool(re.fullmatch(value, labels[name])) is not sign.startswith("!") for name, sign, value in conditions
        )

    for rule in RULES:
        labels = [
            {"alertname": rule.name, "scope": rule.scope, "severity": severity, "stream": stream}
            for severity in rule.severities
            for stream in ("", "main")
        ]
        if any(matches(**each) for each in labels):
            yield rule


def inhibit_rules(scope: Scope) -> list[Any]:
    """Return the inhibit rules whose sources have this scope, except those between severities of one rule."""
    between_rules = (inhibit for inhibit in INHIBIT_RULES if "alertname" not in inhibit["equal"])
    return [
        pytest.param(inhibit, id=inhibit["source_matchers"][0])
        for inhibit in between_rules
        if {rule.scope for rule in matching(inhibit["source_matchers"])} == {scope}
    ]


def test_sources_of_an_inhibit_rule_have_one_scope() -> None:
    found = [inhibit_rules(scope) for scope in Scope if scope is not Scope.GROUP]
    assert all(found)
    assert sum(map(len, found)) == len(INHIBIT_RULES) - 1


@pytest.mark.parametrize("inhibit", inhibit_rules(Scope.UPSTREAM))
def test_inhibiting_upstream_alert_is_not_kept_firing(inhibit: dict[str, Any]) -> None:
    sources = list(matching(inhibit["source_matchers"]))
    assert sources
    assert {rule.keep_firing_seconds for rule in sources if rule.name != MAINTENANCE} <= {0.0}


def test_maintenance_is_kept_firing_longer_than_alerts_that_page() -> None:
    """Otherwise work that ends as soon as the stream is back would page."""
    paging = [rule.keep_firing_seconds for rule in RULES if Severity.CRITICAL in rule.severities]
    assert RULES_BY_NAME[MAINTENANCE].keep_firing_seconds > max(paging)


@pytest.mark.parametrize("inhibit", inhibit_rules(Scope.STREAM))
def test_inhibiting_stream_alert_is_kept_firing_as_long_as_its_targets(inhibit: dict[str, Any]) -> None:
    sources, targets = list(matching(inhibit["source_matchers"])), list(matching(inhibit["target_matchers"]))
    assert targets
    shortest = min(rule.keep_firing_seconds for rule in sources)
    longest = max(rule.keep_firing_seconds for rule in targets)
    assert shortest >= longest
    others = [rule.keep_firing_seconds for rule in targets if rule.name != NEEDS_A_LIVE_STREAM]
    if len(targets) > 3:
        assert shortest > max(others), "alerts that end with the same poll may reach Alertmanager in any order"
