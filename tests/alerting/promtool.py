"""Runs promtool and amtool on the files in ``alerts/``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import promql_parser

from exporter.alerting.recordings import recordings_for
from exporter.alerting.rules.slo_rules import SLO_RECORDINGS, SLO_RULES
from tests import yaml_text
from tests.real.tools import tool

ALERTS = Path(__file__).parents[2] / "alerts"
GENEROUS_SECONDS = 600.0
BUDGET_ALERTS = {rule.name for rule in SLO_RULES}
"""The only readers of ``stream-recordings.yaml``, which takes promtool longer than the rules of any other alert."""


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of Prometheus or Alertmanager."""
    # a fifth less CPU time with fewer garbage collections
    environment = {**os.environ, "GOGC": "400"}
    command = [tool(program), *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=GENEROUS_SECONDS
    )


def assert_tests_pass(file: Path) -> None:
    """Assert that ``promtool test rules`` succeeds without warnings."""
    done = run("promtool", "test", "rules", file)
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.stdout.split() == ["Unit", "Testing:", str(file), "SUCCESS"]


def rule_group(
    alerts: set[str],
    text: str | None = None,
    *,
    inputs: Collection[str] | None = None,
    with_annotations: bool = False,
) -> dict[str, Any]:
    """Return a rule file (default: the committed one), reduced to these alerts and the recordings that they need.

    promtool evaluates every rule of a file at every step, so the whole file would take minutes. ``inputs``: all input
    series; rules that these cannot give a sample are left out too. Annotations make each evaluation of an active alert
    run several queries.
    """
    (group,) = _parsed(text or _committed_rules())["groups"]
    chosen = [rule for rule in group["rules"] if rule.get("alert") in alerts]
    if not with_annotations:
        chosen = [{key: value for key, value in rule.items() if key != "annotations"} for rule in chosen]
    expressions = [rule["expr"] for rule in chosen]
    if alerts & BUDGET_ALERTS:
        expressions += [recording.promql for recording in SLO_RECORDINGS]
    needed = {recording.record for recording in recordings_for(expressions)}
    rules = [*(rule for rule in group["rules"] if rule.get("record") in needed), *chosen]
    if inputs is not None:
        rules = rules_with_samples(rules, inputs)
    return {"groups": [{**group, "rules": rules}]}


def budget_recordings(alerts: set[str], text: str | None = None) -> dict[str, Any]:
    """Return a file of recordings (default: the committed one), reduced to those that these alerts need."""
    (group,) = _parsed(text or _committed_recordings())["groups"]
    (rules,) = _parsed(_committed_rules())["groups"]
    expressions = [rule["expr"] for rule in rules["rules"] if rule.get("alert") in alerts]
    found: list[dict[str, Any]] = []
    for rule in reversed(group["rules"]):
        if any(rule["record"] in expression for expression in expressions):
            found.insert(0, rule)
            expressions.append(rule["expr"])
    return {"groups": [{**group, "rules": found}]}


@cache
def _committed_rules() -> str:
    return (ALERTS / "stream-alerts.yaml").read_text()


@cache
def _committed_recordings() -> str:
    return (ALERTS / "stream-recordings.yaml").read_text()


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    return yaml_text.parse(text)


def rules_with_samples(rules: Sequence[dict[str, Any]], inputs: Collection[str]) -> list[dict[str, Any]]:
    """Return the rules that may have samples if the only series are these, and those that the rules record."""
    labels: dict[str, list[str]] = {}
    for series in inputs:
        labels.setdefault(series.partition("{")[0], []).append(series)
    # promtool evaluates these recordings from a file of their own
    recorded = {recording.record for recording in SLO_RECORDINGS}
    kept: dict[int, dict[str, Any]] = {}
    while found := {
        index: rule
        for index, rule in enumerate(rules)
        if index not in kept and _may_have_samples(_expression(rule["expr"]), labels, recorded)
    }:
        kept |= found
        recorded |= {rule["record"] for rule in found.values() if "record" in rule}
    return [rule for index, rule in enumerate(rules) if index in kept]


@cache
def _expression(promql: str) -> Any:
    return promql_parser.parse(promql)


def _may_have_samples(node: Any, inputs: Mapping[str, Sequence[str]], recorded: Collection[str]) -> bool:
    """Return whether a PromQL expression may have samples. Series without a name, and ``ALERTS``, always may."""
    match node:
        case promql_parser.VectorSelector(name=None | "ALERTS" | "ALERTS_FOR_STATE"):
            return True
        case promql_parser.VectorSelector(name=str(name)):
            wanted = [
                f'{m.name}="{m.value}"' for m in node.matchers.matchers if m.op == _EQUAL and _PLAIN.match(m.value)
            ]
            return name in recorded or any(all(label in series for label in wanted) for series in inputs.get(name, ()))
        case promql_parser.MatrixSelector():
            return _may_have_samples(node.vector_selector, inputs, recorded)
        case promql_parser.BinaryExpr():
            left = _may_have_samples(node.lhs, inputs, recorded)
            if str(node.op) == "unless":
                return left
            right = _may_have_samples(node.rhs, inputs, recorded)
            return left or right if str(node.op) == "or" else left and right
        case promql_parser.Call():
            return node.func.name in _ALWAYS or all(_may_have_samples(each, inputs, recorded) for each in node.args)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return True
    return _may_have_samples(node.expr, inputs, recorded)


_EQUAL = promql_parser.MatchOp.Equal
_PLAIN = re.compile(r"[\w./-]+$")
"""Label values that need no escaping. An empty one also matches series without the label."""
_ALWAYS = ("absent", "absent_over_time", "vector", "scalar", "time")
"""Functions whose result has samples even if their arguments have none."""


def assert_alert_tests_pass(
    document: dict[str, Any], alerts: Collection[str], folder: Path, *, with_annotations: bool = True
) -> None:
    """Run a promtool test document with only the rules that these alerts need."""
    inputs = {each["series"] for test in document["tests"] for each in test["input_series"]}
    group = rule_group(set(alerts), inputs=inputs, with_annotations=with_annotations)
    (folder / "alerts.yaml").write_text(yaml_text.render_quickly(group))
    files = ["alerts.yaml"]
    if BUDGET_ALERTS & set(alerts):
        (folder / "recordings.yaml").write_text(yaml_text.render_quickly(budget_recordings(set(alerts))))
        files.append("recordings.yaml")
    (folder / "tests.yaml").write_text(yaml_text.render_quickly(document | {"rule_files": files}))
    assert_tests_pass(folder / "tests.yaml")
