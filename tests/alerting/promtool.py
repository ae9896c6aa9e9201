"""Runs promtool and amtool on the files in ``alerts/``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from exporter.alerting.recordings import ALERT_OFF, ALERT_THRESHOLD, families_of, recordings_for
from exporter.alerting.rules.rule import RecordingRule
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
    alerts: set[str], text: str | None = None, *, inputs: str | None = None, with_annotations: bool = False
) -> dict[str, Any]:
    """Return a rule file (default: the committed one), reduced to these alerts and the recordings that they need.

    promtool evaluates every rule of a file at every step, so the whole file would take minutes. ``inputs``: names of
    all input series; recordings without input, which would have no samples, are left out too. Annotations make each
    evaluation of an active alert run several queries.
    """
    (group,) = _parsed(text or _committed_rules())["groups"]
    chosen = [rule for rule in group["rules"] if rule.get("alert") in alerts]
    expressions = [rule["expr"] for rule in chosen]
    if alerts & BUDGET_ALERTS:
        expressions += [recording.promql for recording in SLO_RECORDINGS]
    needed = {r.record for r in recordings_for(expressions) if inputs is None or _may_have_samples(r, inputs)}
    rules = [rule for rule in group["rules"] if rule.get("record") in needed]
    if not with_annotations:
        chosen = [{key: value for key, value in rule.items() if key != "annotations"} for rule in chosen]
    return {"groups": [{**group, "rules": [*rules, *chosen]}]}


@cache
def _committed_rules() -> str:
    return (ALERTS / "stream-alerts.yaml").read_text()


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    return yaml_text.parse(text)


def _may_have_samples(recording: RecordingRule, inputs: str) -> bool:
    if recording.record in (ALERT_OFF, ALERT_THRESHOLD):
        return "stream_alert_" in inputs
    families = _families(recording.promql)
    return not families or "absent" in recording.promql or any(family in inputs for family in families)


@cache
def _families(promql: str) -> frozenset[str]:
    return families_of(promql)


def assert_alert_tests_pass(
    document: dict[str, Any], alerts: Collection[str], folder: Path, *, with_annotations: bool = True
) -> None:
    """Run a promtool test document with only the rules that these alerts need."""
    inputs = " ".join(each["series"] for test in document["tests"] for each in test["input_series"])
    group = rule_group(set(alerts), inputs=inputs, with_annotations=with_annotations)
    (folder / "alerts.yaml").write_text(yaml_text.render_quickly(group))
    files = ["alerts.yaml", *([str(ALERTS / "stream-recordings.yaml")] if BUDGET_ALERTS & set(alerts) else [])]
    (folder / "tests.yaml").write_text(yaml_text.render_quickly(document | {"rule_files": files}))
    assert_tests_pass(folder / "tests.yaml")
