"""The rule files for Prometheus: alerts, and the recording rules that they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from exporter.alerting import DEFAULT_RUNBOOK_URL, DEFAULT_SELECTOR
from exporter.alerting.annotations import description_template, runbook_url
from exporter.alerting.promql import PromQL
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import MINUTE, Owner, Scope
from exporter.alerting.rules.slo_rules import SLO_RECORDINGS, SLO_RULES
from exporter.config.alerting import HealthSlo
from exporter.config.types import format_duration

ALERTS_FILE = "stream-alerts.yaml"
RECORDINGS_FILE = "stream-recordings.yaml"

RECORDING_INTERVAL_SECONDS = MINUTE
"""Windows of days need not be evaluated every few seconds."""
_HEADER = "# Made from the exporter's table of rules by `stream-exporter rules`; make it again rather than edit it.\n"
_WIDTH = 100_000
"""Lines break only where the expressions themselves do."""


@dataclass(frozen=True)
class Dialect:
    """Settings that a set of rule files shares."""

    selector: str = DEFAULT_SELECTOR
    time_scale: float = 1.0
    runbook: str = DEFAULT_RUNBOOK_URL
    slo: HealthSlo = field(default_factory=HealthSlo)

    @property
    def promql(self) -> PromQL:
        """Writer of the expressions."""
        return PromQL(self.selector, self.time_scale)


def alerts_file(rules: Iterable[ActiveRule], dialect: Dialect) -> str:
    """Render the alerts, one group per scope, without the rules that only the sidecar evaluates."""
    groups = [
        {"name": name, "rules": [_alert(active, dialect) for active in members]}
        for name, members in _groups([active for active in rules if active.rule.owner is not Owner.SIDECAR])
        if members
    ]
    return _dump_groups(groups)


def recordings_file(dialect: Dialect) -> str:
    """Render the recording rules of the health SLO."""
    promql = dialect.promql
    rules = [
        {"record": recording.record, "expr": promql.fill_template(recording.promql, dialect.slo)}
        for recording in SLO_RECORDINGS
    ]
    interval = format_duration(max(1.0, RECORDING_INTERVAL_SECONDS / dialect.time_scale))
    return _dump_groups([{"name": "stream-health-slo-recordings", "interval": interval, "rules": rules}])


def needs_recordings(rules: Iterable[ActiveRule]) -> bool:
    """Whether one of these rules reads a recording rule."""
    return any(active.rule in SLO_RULES for active in rules)


def listing(rules: Sequence[ActiveRule]) -> str:
    """Render the rules as a text table, one line each."""
    rows = [("NAME", "SCOPE", "SEVERITY", "FOR", "KEEP FIRING", "THRESHOLD", "EVALUATED BY"), *map(_row, rules)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _groups(rules: Sequence[ActiveRule]) -> Iterator[tuple[str, list[ActiveRule]]]:
    for scope in Scope:
        name = f"{scope.value}s" if scope is not Scope.EXPORTER else "exporter"
        yield f"stream-{name}", [a for a in rules if a.rule.scope is scope and a.rule not in SLO_RULES]
    yield "stream-health-slo", [active for active in rules if active.rule in SLO_RULES]


def _alert(active: ActiveRule, dialect: Dialect) -> dict[str, Any]:
    rule = active.rule
    alert: dict[str, Any] = {"alert": rule.name, "expr": dialect.promql.expression(active)}
    if active.for_seconds:
        alert["for"] = _duration(active.for_seconds)
    if active.keep_firing_seconds:
        alert["keep_firing_for"] = _duration(active.keep_firing_seconds)
    return alert | {"labels": rule.static_labels, "annotations": _annotations(active, dialect)}


def _annotations(active: ActiveRule, dialect: Dialect) -> dict[str, str]:
    return {
        "summary": active.rule.summary,
        "description": description_template(active, dialect.selector),
        "runbook_url": runbook_url(active.rule, dialect.runbook),
    }


def _row(active: ActiveRule) -> tuple[str, ...]:
    rule = active.rule
    threshold = "" if active.threshold is None else f"{active.threshold:g}"
    for_, keep = _duration(active.for_seconds), _duration(active.keep_firing_seconds)
    return rule.name, rule.scope.value, rule.severity.value, for_, keep, threshold, rule.owner.value


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
