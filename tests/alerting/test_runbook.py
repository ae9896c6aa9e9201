from __future__ import annotations

from pathlib import Path

import pytest

from exporter.alerting.annotations import runbook_url
from exporter.alerting.rules import RULES, RULES_BY_NAME, Rule, Scope
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.runbook import guidance, page, worst_seconds
from exporter.alerting.runbook.exporter_guidance import GUIDANCE
from exporter.alerting.runbook.stream_guidance import STREAM_GUIDANCE

PAGE = Path(__file__).parents[2] / "docs" / "runbook.md"
ACTIVE = {active.rule.name: active for active in rules_in_force()}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: make generate"


def test_there_is_prose_on_every_rule_and_on_no_other() -> None:
    assert GUIDANCE.keys() | STREAM_GUIDANCE.keys() == RULES_BY_NAME.keys()
    assert {name for name in STREAM_GUIDANCE if RULES_BY_NAME[name].scope is not Scope.STREAM} == set()
    assert {name for name in GUIDANCE if RULES_BY_NAME[name].scope is Scope.STREAM} == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_link_of_an_alert_leads_to_its_heading(rule: Rule) -> None:
    anchors = {line.lstrip("# ").lower() for line in page().splitlines() if line.startswith("### ")}
    assert runbook_url(rule).partition("#")[2] in anchors


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_prose_is_whole_sentences(rule: Rule) -> None:
    prose = guidance(rule.name)
    for text in (prose.viewers, prose.look, prose.act, prose.tune):
        assert text[-1] in ".?"
        assert text.count("`") % 2 == 0


@pytest.mark.parametrize("name", ["StreamUpstreamDown", "StreamUpstreamAuthFailing"])
def test_blindness_pages_within_two_minutes(name: str) -> None:
    assert worst_seconds(ACTIVE[name]) <= 120


def test_tables_are_whole() -> None:
    rows = [line for line in page().splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}
