"""The rules of Grafana's dashboard linter (https://github.com/grafana/dashboard-linter).

Each function yields the problems in a dashboard's JSON. Some are stricter than the original, as described.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.dashboards.dashboard_files import (
    Json,
    Target,
    is_rate_interval,
    metric_name,
    node_types,
    panels,
    parse,
    selectors,
    targets,
    variables,
    walk,
)

Rule = Callable[[Json], Iterator[str]]

DATASOURCES = ("$datasource", "${datasource}")
UNITS = {
    "none", "string", "short", "percent", "percentunit", "bytes", "decbytes", "bits", "decbits", "bps", "binbps", "Bps",
    "binBps", "pps", "hertz", "ns", "µs", "ms", "s", "m", "h", "d", "dtdurationms", "dtdurations", "dthms", "dtdhms",
    "dateTimeAsIso", "dateTimeFromNow", "cps", "ops", "reqps", "rps", "wps", "iops", "cpm", "opm", "rpm", "bool",
    "bool_yes_no", "bool_on_off",
}  # fmt: skip
"""Units from the linter's list that fit streams. The list has neither ``fps`` nor custom units."""
WITHOUT_INSTANCE = {
    "ALERTS": "rules aggregate over instances",
    "ALERTS_FOR_STATE": "rules aggregate over instances",
}


def template_datasource(dashboard: Json) -> Iterator[str]:
    sources = [v for v in variables(dashboard).values() if v["type"] == "datasource"]
    if [v["name"] for v in sources] != ["datasource"] or sources[0]["query"] != "prometheus":
        yield "one variable of type datasource, called datasource, for Prometheus"
    elif sources[0]["label"] != "Data source":
        yield "the label of the variable datasource is Data source"


def template_job(dashboard: Json) -> Iterator[str]:
    yield from _check_multi_value(dashboard, "job", "Job")


def template_instance(dashboard: Json) -> Iterator[str]:
    yield from _check_multi_value(dashboard, "instance", "Instance")


def _check_multi_value(dashboard: Json, name: str, label: str) -> Iterator[str]:
    variable: Json = variables(dashboard).get(name, {})
    wanted = {"type": "query", "label": label, "multi": True, "allValue": ".+", "includeAll": True}
    found = {key: variable.get(key) for key in wanted}
    if found != wanted or variable["datasource"]["uid"] not in DATASOURCES:
        yield f"variable {name}: {found}"


def template_label_promql(dashboard: Json) -> Iterator[str]:
    """Stricter: the whole argument must parse."""
    for name, variable in variables(dashboard).items():
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((?P<selector>.+), (?P<label>[a-z_]+)\)", variable["query"]["query"])
        if match is None:
            yield f"variable {name}: {variable['query']}"
        else:
            parse(match["selector"])


def template_on_time_change_reload(dashboard: Json) -> Iterator[str]:
    for name, variable in variables(dashboard).items():
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield f"variable {name} is not refreshed when the time range changes"


def panel_datasource(dashboard: Json) -> Iterator[str]:
    """Stricter: every panel type, and every target."""
    for panel in panels(dashboard):
        for part in (panel, *panel["targets"]):
            if part["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"{panel['title']}: {part['datasource']}"


def panel_title_description(dashboard: Json) -> Iterator[str]:
    """Stricter: every panel type, and the description is a sentence."""
    for panel in panels(dashboard):
        if not panel["title"].strip() or not panel["description"].endswith("."):
            yield f"{panel['title']!r}: {panel['description']!r}"


def panel_units(dashboard: Json) -> Iterator[str]:
    """Stricter: also with mappings, and for each table column with a unit."""
    for panel in panels(dashboard):
        overrides = panel["fieldConfig"]["overrides"]
        properties = [p for override in overrides for p in override["properties"] if p["id"] == "unit"]
        for unit in (panel["fieldConfig"]["defaults"]["unit"], *(p["value"] for p in properties)):
            if unit not in UNITS:
                yield f"{panel['title']}: {unit}"


def panel_no_targets(dashboard: Json) -> Iterator[str]:
    yield from (panel["title"] for panel in panels(dashboard) if not panel.get("targets"))


def target_logql(dashboard: Json) -> Iterator[str]:
    """Stricter, like the next rule: no queries to Loki."""
    yield from (str(t) for t in targets(dashboard) if t.json["datasource"]["type"] == "loki")


def target_logql_auto(dashboard: Json) -> Iterator[str]:
    yield from (str(t) for t in targets(dashboard) if "$__auto" in t.expression)


def target_promql(dashboard: Json) -> Iterator[str]:
    """Stricter: also heatmaps."""
    for target in targets(dashboard):
        try:
            parse(target.expression)
        except ValueError as error:
            yield f"{target}: {error}"


def target_rate_interval(dashboard: Json) -> Iterator[str]:
    for target in targets(dashboard):
        for node, above in walk(parse(target.expression)):
            if type(node).__name__ != "MatrixSelector":
                continue
            parent: Any = above[-1] if above else None
            if type(parent).__name__ != "Call":
                yield f"{target}: a range outside of a function"
            elif parent.func.name in ("rate", "irate") and not is_rate_interval(node):
                yield f"{target}: {parent.func.name} over {node.range}"


def target_job(dashboard: Json) -> Iterator[str]:
    yield from _check_matcher(dashboard, "job", {})


def target_instance(dashboard: Json) -> Iterator[str]:
    yield from _check_matcher(dashboard, "instance", WITHOUT_INSTANCE)


def _check_matcher(dashboard: Json, label: str, exceptions: dict[str, str]) -> Iterator[str]:
    for target in targets(dashboard):
        for selector, _ in selectors(target.expression):
            found = [(str(m.op), m.value) for m in selector.matchers.matchers if m.name == label]
            if metric_name(selector) not in exceptions and found != [("MatchOp.Re", f"${label}")]:
                yield f"{target}: {selector}"


def target_counter_agg(dashboard: Json) -> Iterator[str]:
    """Stricter: any selector of a metric with such a name."""
    for target in targets(dashboard):
        for selector, above in selectors(target.expression):
            if metric_name(selector).endswith("_total") and not _is_in_rate(above):
                yield f"{target}: {selector}"


def _is_in_rate(above: tuple[Any, ...]) -> bool:
    return node_types(above)[-2:] == ["Call", "MatrixSelector"] and above[-2].func.name in ("rate", "irate", "increase")


def uneditable_dashboard(dashboard: Json) -> Iterator[str]:
    if dashboard.get("editable") is not False:
        yield "editable"


RULES: tuple[Rule, ...] = (
    template_datasource, template_job, template_instance, template_label_promql, template_on_time_change_reload,
    panel_datasource, panel_title_description, panel_units, panel_no_targets, target_logql, target_logql_auto,
    target_promql, target_rate_interval, target_job, target_instance, target_counter_agg, uneditable_dashboard,
)  # fmt: skip

__all__ = ["RULES", "Target"]
