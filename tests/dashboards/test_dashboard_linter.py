"""The dashboards pass the linter's rules, and each rule finds a problem."""

import copy
from collections.abc import Callable

import pytest

from tests.dashboards import grafana_linter as linter
from tests.dashboards.dashboard_files import Json, read_dashboards
from tests.dashboards.grafana_linter import RULES, Rule

DASHBOARDS = {dashboard["title"]: dashboard for dashboard in read_dashboards()}


@pytest.mark.parametrize("title", DASHBOARDS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_dashboard_passes_the_linter_rule(rule: Rule, title: str) -> None:
    assert list(rule(DASHBOARDS[title])) == []


def _panel(dashboard: Json) -> Json:
    panel: Json = dashboard["panels"][0]
    return panel


def _expression(text: str) -> Callable[[Json], None]:
    return lambda dashboard: _panel(dashboard)["targets"][0].update(expr=text)


BROKEN: list[tuple[Rule, Callable[[Json], None]]] = [
    (linter.template_datasource, lambda d: d["templating"]["list"][0].update(name="source")),
    (linter.template_datasource, lambda d: d["templating"]["list"][0].update(label="Prometheus")),
    (linter.template_job, lambda d: d["templating"]["list"][1].update(allValue=".*")),
    (linter.template_instance, lambda d: d["templating"]["list"][2].update(multi=False)),
    (linter.template_label_promql, lambda d: d["templating"]["list"][1]["query"].update(query="up")),
    (linter.template_on_time_change_reload, lambda d: d["templating"]["list"][1].update(refresh=1)),
    (linter.panel_datasource, lambda d: _panel(d).update(datasource={"type": "prometheus", "uid": "abc"})),
    (linter.panel_title_description, lambda d: _panel(d).update(description="")),
    (linter.panel_units, lambda d: _panel(d)["fieldConfig"]["defaults"].update(unit="fps")),
    (linter.panel_no_targets, lambda d: _panel(d).update(targets=[])),
    (linter.target_logql, lambda d: _panel(d)["targets"][0].update(datasource={"type": "loki"})),
    (linter.target_logql_auto, _expression("rate({job='a'}[$__auto])")),
    (linter.target_promql, _expression("sum(")),
    (linter.target_rate_interval, _expression("rate(a_total[5m])")),
    (linter.target_rate_interval, _expression("a_total[5m]")),
    (linter.target_job, _expression('up{job="$job"}')),
    (linter.target_instance, _expression('up{job=~"$job"}')),
    (linter.target_counter_agg, _expression('sum(a_total{job=~"$job"})')),
    (linter.target_counter_agg, _expression("max_over_time(a_total[5m])")),
    (linter.uneditable_dashboard, lambda d: d.update(editable=True)),
]


@pytest.mark.parametrize(("rule", "break_it"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_linter_rule_finds_the_problem(rule: Rule, break_it: Callable[[Json], None]) -> None:
    dashboard = copy.deepcopy(DASHBOARDS["Streams / Overview"])
    break_it(dashboard)
    assert list(rule(dashboard))


def test_every_linter_rule_is_tested() -> None:
    assert {rule for rule, _ in BROKEN} == set(RULES)
