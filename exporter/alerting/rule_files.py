"""The rule files for Prometheus: alerts, and the recording rules that they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from exporter.alerting.annotations import AnnotationTemplates
from exporter.alerting.promql import Dialect, PromQL
from exporter.alerting.recordings import recordings_for
from exporter.alerting.rules import RULES_BY_NAME
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import MINUTE, Owner, RecordingRule
from exporter.alerting.rules.slo_rules import SLO_RECORDINGS, SLO_RULES
from exporter.config.types import format_duration

ALERTS_FILE = "stream-alerts.yaml"
RECORDINGS_FILE = "stream-recordings.yaml"

RECORDING_INTERVAL_SECONDS = MINUTE
"""Windows of days need not be evaluated every few seconds."""
_HEADER = "# Made from the exporter's table of rules by `stream-exporter rules`; make it again rather than edit it.\n"
_WIDTH = 100_000
"""Lines break only where the expressions themselves do."""


def alerts_file(rules: Iterable[ActiveRule], dialect: Dialect) -> str:
    """Render the alerts and the operands that they read, without the rules that only the sidecar evaluates.

    All of them are one group: its rules are evaluated in order, so an alert reads operands of the same moment.
    """
    promql = PromQL(dialect)
    active_rules = [active for active in rules if active.rule.owner is not Owner.SIDECAR]
    alerts = [_alert(active, grade, dialect) for active in active_rules for grade in active.grades]
    expressions = [alert["expr"] for alert in alerts]
    if needs_recordings(active_rules):
        expressions += [recording.promql for recording in SLO_RECORDINGS]
    records = [_recording(recording, promql, dialect) for recording in recordings_for(expressions)]
    return _dump_groups([{"name": "stream-exporter", "rules": [*records, *alerts]}] if alerts else [])


def recordings_file(dialect: Dialect) -> str:
    """Render the recording rules of the health SLO."""
    promql = PromQL(dialect)
    rules = [_recording(recording, promql, dialect) for recording in SLO_RECORDINGS]
    interval = format_duration(max(1.0, RECORDING_INTERVAL_SECONDS / dialect.time_scale))
    return _dump_groups([{"name": "stream-health-slo-recordings", "interval": interval, "rules": rules}])


def needs_recordings(rules: Iterable[ActiveRule]) -> bool:
    """Whether one of these rules reads a recording rule."""
    return any(active.rule in SLO_RULES for active in rules)


def listing(rules: Sequence[ActiveRule]) -> str:
    """Render the rules as a text table, one line for each severity."""
    rows: list[tuple[str, ...]] = [("NAME", "SCOPE", "SEVERITY", "FOR", "KEEP FIRING", "THRESHOLD", "EVALUATED BY")]
    rows += [_row(active, grade) for active in rules for grade in active.grades]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _recording(recording: RecordingRule, promql: PromQL, dialect: Dialect) -> dict[str, Any]:
    return {"record": recording.record, "expr": promql.fill_template(recording.promql, dialect.slo)}


def _alert(active: ActiveRule, grade: Grade, dialect: Dialect) -> dict[str, Any]:
    promql = PromQL(dialect)
    expression = promql.expression(active, grade)
    if active.rule is RULES_BY_NAME["StreamUpstreamUnwatched"] and dialect.upstreams:
        expression += f"\nor\n{promql.unwatched_upstreams()}"
    alert: dict[str, Any] = {"alert": active.rule.name, "expr": expression}
    if grade.for_seconds:
        alert["for"] = _duration(grade.for_seconds)
    if active.keep_firing_seconds and dialect.keep_firing:
        alert["keep_firing_for"] = _duration(active.keep_firing_seconds)
    labels = active.rule.static_labels | {"severity": grade.severity.value}
    return alert | {"labels": labels, "annotations": AnnotationTemplates(active, grade, dialect).render()}


def _row(active: ActiveRule, grade: Grade) -> tuple[str, ...]:
    rule = active.rule
    threshold = "" if grade.threshold is None else f"{grade.threshold:g}"
    for_, keep = _duration(grade.for_seconds), _duration(active.keep_firing_seconds)
    return rule.name, rule.scope.value, grade.severity.value, for_, keep, threshold, rule.owner.value


def _duration(seconds: float) -> str:
    return format_duration(max(seconds, 0.001) if seconds else 0.0)


class _Dumper(yaml.SafeDumper):
    """Writes multi-line texts as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - the interface's
        """Indent lists below their key."""
        super().increase_indent(flow, indentless=False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _dump_groups(groups: list[dict[str, Any]]) -> str:
    return _HEADER + yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)
