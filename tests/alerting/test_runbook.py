from __future__ import annotations

import re
from inspect import cleandoc
from pathlib import Path

import pytest

from exporter.alerting.annotations import runbook_url
from exporter.alerting.rules import RULES, RULES_BY_NAME, Rule
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.runbook.page import GUIDANCE, render_runbook, worst_case_seconds

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
ACTIVE = {active.rule.name: active for active in rules_in_force()}
FAMILIES = Path(__file__).parents[1] / "metrics" / "families.txt"
NOT_METRICS = {"stream_label"}
HEADINGS = ["Impact", "Diagnosis", "Mitigation", "Tuning", "Rationale", "Time to page (worst case)"]


@pytest.fixture(scope="module")
def page() -> str:
    return render_runbook()


def section(page: str, name: str) -> str:
    return re.split(r"^#{2,3} ", page.partition(f"\n### {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_committed_runbook_is_up_to_date(page: str) -> None:
    assert RUNBOOK.read_text(encoding="utf-8") == page, "run: make generate"


def test_every_rule_and_no_other_has_guidance() -> None:
    assert GUIDANCE.keys() == RULES_BY_NAME.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_runbook_url_leads_to_the_rules_heading(rule: Rule, page: str) -> None:
    anchors = {line.lstrip("# ").lower() for line in page.splitlines() if line.startswith("### ")}
    assert runbook_url(rule).partition("#")[2] in anchors


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_section_has_every_heading_with_text(rule: Rule, page: str) -> None:
    _, *parts = re.split(r"^#### (.*)\n", section(page, rule.name), flags=re.MULTILINE)
    assert parts[::2] == HEADINGS
    assert all(text.strip() for text in parts[1::2])


def test_index_comes_first_and_has_every_rule(page: str) -> None:
    index = page.partition("## Index\n")[2].partition("\n## ")[0]
    links = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| ([a-z, ]+) \| .+ \|$", index, flags=re.MULTILINE)
    assert sorted(name for name, _, _ in links) == sorted(RULES_BY_NAME)
    assert all(anchor == name.lower() for name, anchor, _ in links)
    assert all(severities.split(", ")[0] == RULES_BY_NAME[name].severity for name, _, severities in links)
    assert page.index("## Index") < page.index("\n### ")


def test_both_severities_of_a_rule_are_shown(page: str) -> None:
    text = section(page, "StreamUpstreamUnstable")
    assert "| warning | `0.2` (20%) | 5m | 2m | 5m |\n| critical | `0.5` (50%) | 10m | 2m | 5m |\n" in text
    assert "Warning after 8m10s, critical after 13m10s." in text
    assert text.count("```promql") == 2
    assert "| [StreamUpstreamUnstable](#streamupstreamunstable) | warning, critical |" in page


@pytest.mark.parametrize("name", [name for name, active in ACTIVE.items() if len(active.grades) == 1])
def test_table_has_one_row_for_a_single_severity(name: str, page: str) -> None:
    rows = [line for line in section(page, name).splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows] == [
        "| severity",
        "|---|---|---|---|---|",
        f"| {RULES_BY_NAME[name].severity}",
    ]


def test_links_lead_to_headings(page: str) -> None:
    anchors = {line.lstrip("# ").lower() for line in page.splitlines() if line.startswith("### ")}
    links = re.findall(r"\]\(#([^)]*)\)", page)
    assert len(links) > len(RULES), "guidance links other alerts"
    assert set(links) <= anchors


def test_alert_does_not_link_itself(page: str) -> None:
    for name in RULES_BY_NAME:
        assert f"](#{name.lower()})" not in section(page, name), name


@pytest.mark.parametrize("name", GUIDANCE)
def test_guidance_is_whole_sentences(name: str) -> None:
    guidance = GUIDANCE[name]
    for text in (guidance.impact, guidance.diagnosis, guidance.mitigation, guidance.tuning):
        for step in re.split(r"\n(?=\d\. |- )", cleandoc(text)):
            assert step[-1] in ".?…", step
            assert step.count("`") % 2 == 0, step


@pytest.mark.parametrize("name", GUIDANCE)
def test_guidance_names_only_alerts_and_metrics_that_exist(name: str) -> None:
    guidance = GUIDANCE[name]
    text = " ".join((guidance.impact, guidance.diagnosis, guidance.mitigation, guidance.tuning))
    assert set(re.findall(r"\bStream[A-Z]\w+", text)) <= GUIDANCE.keys()
    families = {line.split(" ", 1)[0].removesuffix("_total") for line in FAMILIES.read_text().splitlines()}
    named = {metric.removesuffix("_total") for metric in re.findall(r"\bstream_[a-z_]+", text)}
    assert named - NOT_METRICS <= families


@pytest.mark.parametrize("name", ["StreamUpstreamDown", "StreamUpstreamAuthFailing"])
def test_upstream_outage_pages_within_two_minutes(name: str) -> None:
    assert worst_case_seconds(ACTIVE[name]) <= 120


def test_tables_have_all_columns(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4, 6}
