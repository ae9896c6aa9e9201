"""An alert that inhibits others must not end before them: what is over would page all the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.alerting.rules import RULES, Rule, Scope

SAMPLE = Path(__file__).parents[2] / "alerts" / "alertmanager.example.yaml"
INHIBIT_RULES: list[dict[str, Any]] = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))["inhibit_rules"]
NEEDS_A_LIVE_STREAM = "StreamIngestStalled"
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')


def matching(matchers: Iterable[str]) -> Iterator[Rule]:
    """The rules whose alerts these matchers match."""
    conditions = [match.groups() for matcher in matchers if (match := _MATCHER.fullmatch(matcher))]
    for rule in RULES:
        labels = {"alertname": rule.name, "scope": rule.scope.value, "severity": rule.severity.value}
        if all(bool(re.fullmatch(value, labels[name])) is not sign.startswith("!") for name, sign, value in conditions):
            yield rule


@pytest.mark.parametrize("inhibit", INHIBIT_RULES, ids=lambda inhibit: inhibit["source_matchers"][0])
def test_it_is_kept_for_at_least_as_long(inhibit: dict[str, Any]) -> None:
    sources, targets = list(matching(inhibit["source_matchers"])), list(matching(inhibit["target_matchers"]))
    assert sources
    assert targets
    if sources[0].scope is Scope.EXPORTER:
        # without the exporter there are no series: nothing begins to be kept before it is back
        return
    shortest = min(rule.keep_firing_seconds for rule in sources)
    longest = max(rule.keep_firing_seconds for rule in targets)
    assert shortest >= longest
    others = [rule.keep_firing_seconds for rule in targets if rule.name != NEEDS_A_LIVE_STREAM]
    if len(targets) > 3 and sources[0].scope is Scope.STREAM:
        assert shortest > max(others), "what ends with one poll may reach Alertmanager in any order"
