"""Runs promtool and amtool on the files in ``alerts/``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

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


def rule_group(alerts: set[str], text: str | None = None) -> dict[str, Any]:
    """Return a rule file (default: the committed one), reduced to these alerts and the recordings that they need.

    promtool evaluates every rule of a file at every step, so the whole file would take minutes.
    """
    (group,) = yaml_text.parse(text or (ALERTS / "stream-alerts.yaml").read_text())["groups"]
    chosen = [rule for rule in group["rules"] if rule.get("alert") in alerts]
    expressions = [rule["expr"] for rule in chosen]
    if alerts & BUDGET_ALERTS:
        expressions += [recording.promql for recording in SLO_RECORDINGS]
    needed = {recording.record for recording in recordings_for(expressions)}
    rules = [rule for rule in group["rules"] if rule.get("record") in needed]
    return {"groups": [{**group, "rules": [*rules, *chosen]}]}


def assert_alert_tests_pass(document: dict[str, Any], alerts: Collection[str], folder: Path) -> None:
    """Run a promtool test document with only the rules that these alerts need."""
    (folder / "alerts.yaml").write_text(yaml_text.render_quickly(rule_group(set(alerts))))
    files = ["alerts.yaml", *([str(ALERTS / "stream-recordings.yaml")] if BUDGET_ALERTS & set(alerts) else [])]
    (folder / "tests.yaml").write_text(yaml_text.render_quickly(document | {"rule_files": files}))
    assert_tests_pass(folder / "tests.yaml")
