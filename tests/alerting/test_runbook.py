from __future__ import annotations

from pathlib import Path

import pytest

from exporter.alerting.annotations import runbook_url
from exporter.alerting.rules import RULES, RULES_BY_NAME, Rule
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.runbook.guidance import GUIDANCE
from exporter.alerting.runbook.page import render_runbook, worst_case_seconds

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
ACTIVE = {active.rule.name: active for active in rules_in_force()}


def test_committed_runbook_is_up_to_date() -> None:
    assert RUNBOOK.read_text() == render_runbook(), "run: make generate"


def test_every_rule_and_no_other_has_guidance() -> None:
    assert GUIDANCE.keys() == RULES_BY_NAME.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_runbook_url_leads_to_the_rules_heading(rule: Rule) -> None:
    anchors = {line.lstrip("# ").lower() for line in render_runbook().splitlines() if line.startswith("### ")}
    assert runbook_url(rule).partition("#")[2] in anchors


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_guidance_is_whole_sentences(rule: Rule) -> None:
    guidance = GUIDANCE[rule.name]
    for text in (guidance.impact, guidance.diagnosis, guidance.mitigation, guidance.tuning):
        assert text[-1] in ".?"
        assert text.count("`") % 2 == 0


@pytest.mark.parametrize("name", ["StreamUpstreamDown", "StreamUpstreamAuthFailing"])
def test_upstream_outage_pages_within_two_minutes(name: str) -> None:
    assert worst_case_seconds(ACTIVE[name]) <= 120


def test_tables_have_all_columns() -> None:
    rows = [line for line in render_runbook().splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}
