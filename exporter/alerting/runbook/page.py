"""Renders ``docs/runbook.md`` from the rules and their guidance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc

from exporter.alerting.annotations import format_threshold, unnamed_summary
from exporter.alerting.promql import Dialect, PromQL
from exporter.alerting.rules import RULES_BY_NAME, Owner, Rule, Scope, Severity, Unit
from exporter.alerting.rules.active_rules import ActiveRule, Grade, rules_in_force
from exporter.alerting.rules.common_guards import NOT_ANSWERING
from exporter.alerting.runbook.exporter_guidance import EXPORTER_GUIDANCE
from exporter.alerting.runbook.group_guidance import GROUP_GUIDANCE
from exporter.alerting.runbook.playback_guidance import PLAYBACK_GUIDANCE
from exporter.alerting.runbook.stream_guidance import STREAM_GUIDANCE
from exporter.alerting.runbook.stream_quality_guidance import STREAM_QUALITY_GUIDANCE
from exporter.alerting.runbook.upstream_guidance import UPSTREAM_GUIDANCE
from exporter.config.types import format_duration
from exporter.polling.coordinator import ANSWERING_INTERVALS

GUIDANCE = {
    **EXPORTER_GUIDANCE,
    **UPSTREAM_GUIDANCE,
    **GROUP_GUIDANCE,
    **STREAM_GUIDANCE,
    **PLAYBACK_GUIDANCE,
    **STREAM_QUALITY_GUIDANCE,
}
POLL_SECONDS, TIMEOUT_SECONDS = 30.0, 10.0
"""Longest default interval and timeout of all platforms."""
SCRAPE_SECONDS = EVALUATION_SECONDS = 15.0

_TITLE = """\
# Runbook

<!-- Generated from the rules by `make generate`; edit exporter/alerting/ instead. -->

What each alert means and what to do about it.

## Index
"""
_EXPLANATIONS = """\
## How to read this page

The rules are in `alerts/stream-alerts.yaml`. `stream-exporter rules` lists them, or writes them with the thresholds of
your configuration.

- **Severity**: `critical` pages immediately, `warning` opens a ticket, `info` is context for other alerts, and `none`
  is a dead man's switch. A rule with two severities is `critical` once the conditions of that severity hold.
- **Groups**: a critical alert about a stream is a `warning` instead while a group of the stream is up without it. In
  Prometheus, that is a second rule of the same name, with `and … stream:covered` instead of `unless … stream:covered`.
- **Playback checks**: StreamUpstreamDown is a `warning` instead while playback checks show that every expected stream
  of the upstream plays (`upstream:seen_playing`).
- **Evaluated by Prometheus or the sidecar** means that exactly one of them should evaluate the rule. If the sidecar is
  enabled, load only the rules of `stream-exporter rules --evaluator prometheus` into Prometheus.
- **Time to page (worst case)** is the time from the fault to the firing alert with the slowest defaults: a poll
  interval of {poll}, a poll timeout of {timeout}, a scrape interval of {scrape} and an evaluation interval of
  {evaluation}, plus the rule's window and `for`. Add Alertmanager's `group_wait`. With the sidecar, the scrape and
  evaluation intervals do not apply.
- **Outages**: alerts of streams neither start nor advance while their upstream is not answering
  (`stream_upstream_answering 0`). When it answers again, Prometheus restarts the `for` of a pending alert, and the
  sidecar resumes it.
- **Resolving**: an alert resolves once its condition has been false for its keep-firing time. This prevents flapping.
  A single missed scrape does not resolve an alert.
- **Thresholds** are set in the configuration under `alerting.thresholds`, by the name of the rule: a number in the base
  unit of the metric, or a mapping of `value` and `for`. The sidecar applies them on reload. For Prometheus, generate
  the rules again: `stream-exporter rules --config.file config.yaml --output-dir DIR`. The key `alerts` of an upstream
  or stream sets thresholds for it alone, or switches rules off; it needs no new rule files.

No rule covers the keyframe interval, because none of the supported platforms reports it.
"""
_SCOPES = {
    Scope.EXPORTER: "## The exporter",
    Scope.UPSTREAM: "## Upstreams",
    Scope.GROUP: "## Groups of streams",
    Scope.STREAM: "## Streams",
}
_EVALUATED_BY = {
    Owner.BOTH: "Evaluated by Prometheus or the sidecar:",
    Owner.PROMETHEUS: "Evaluated by Prometheus:",
    Owner.SIDECAR: "Sent by the sidecar.",
}
_ALERT_NAME = re.compile(r"`[^`]*`|\bStream[A-Z]\w+")


def render_runbook() -> str:
    """Render the runbook as Markdown. Raises ``KeyError`` if a rule has no guidance."""
    rules = rules_in_force()
    parts = [
        _TITLE,
        "\n".join(_index(rules)),
        _EXPLANATIONS.format(
            poll=format_duration(POLL_SECONDS),
            timeout=format_duration(TIMEOUT_SECONDS),
            scrape=format_duration(SCRAPE_SECONDS),
            evaluation=format_duration(EVALUATION_SECONDS),
        ),
    ]
    for scope, heading in _SCOPES.items():
        parts.append(f"{heading}\n")
        parts += (_section(active) for active in rules if active.rule.scope is scope)
    return "\n".join(parts)


def worst_case_seconds(active: ActiveRule, grade: Grade | None = None) -> float:
    """Return the time from the fault to the alert of a grade (default: the lowest), with the slowest defaults."""
    waiting = (grade or active.own_grades[-1]).for_seconds + active.rule.settling_seconds / active.time_scale
    condition = active.rule.condition
    waits_for_polls = condition is not None and NOT_ANSWERING in (condition.measure, *condition.also)
    noticed = ANSWERING_INTERVALS * POLL_SECONDS if waits_for_polls else POLL_SECONDS + TIMEOUT_SECONDS
    return noticed + SCRAPE_SECONDS + EVALUATION_SECONDS + waiting


def _index(rules: tuple[ActiveRule, ...]) -> Iterator[str]:
    yield "| alert | severity | summary |"
    yield "|---|---|---|"
    for scope in _SCOPES:
        for active in rules:
            if active.rule.scope is scope:
                severities = ", ".join(grade.severity for grade in reversed(active.own_grades))
                yield f"| {_link(active.rule.name)} | {severities} | {unnamed_summary(active)} |"
    yield ""


def _section(active: ActiveRule) -> str:
    rule = active.rule
    guidance = GUIDANCE[rule.name]
    texts = {
        "Impact": guidance.impact,
        "Diagnosis": guidance.diagnosis,
        "Mitigation": guidance.mitigation,
        "Tuning": guidance.tuning,
        "Rationale": rule.rationale,
        "Time to page (worst case)": _time_to_page(active),
    }
    lines = [f"### {rule.name}", "", unnamed_summary(active), "", *_table(active), ""]
    for heading, text in texts.items():
        lines += [f"#### {heading}", "", _link_alerts(cleandoc(text), rule), ""]
    return "\n".join([*lines, *_evaluation(active)])


def _table(active: ActiveRule) -> Iterator[str]:
    yield "| severity | threshold | for | window | keep firing |"
    yield "|---|---|---|---|---|"
    for grade in reversed(active.own_grades):
        cells = (
            grade.severity,
            _format_threshold_cell(active, grade),
            _format_duration_cell(grade.for_seconds),
            _format_duration_cell(active.rule.settling_seconds),
            _format_duration_cell(active.keep_firing_seconds),
        )
        yield f"| {' | '.join(cells)} |"


def _time_to_page(active: ActiveRule) -> str:
    if active.rule.severity is Severity.NONE:
        return "Does not apply: the alert always fires."
    own, *worse = (format_duration(worst_case_seconds(active, grade)) for grade in reversed(active.own_grades))
    return f"{active.rule.severity.capitalize()} after {own}, critical after {worse[0]}." if worse else f"{own}."


def _link_alerts(text: str, own: Rule) -> str:
    """Link the names of other alerts to their sections."""

    def link(match: re.Match[str]) -> str:
        name = match[0]
        return _link(name) if name in RULES_BY_NAME and name != own.name else name

    return _ALERT_NAME.sub(link, text)


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _format_threshold_cell(active: ActiveRule, grade: Grade) -> str:
    if grade.threshold is None:
        return "–"
    text, base = format_threshold(active, grade), f"{grade.threshold:g}"
    unit = active.rule.threshold_unit or active.rule.unit
    return f"`{base}`" if unit in (Unit.NUMBER, Unit.COUNT) else f"`{base}` ({text})"


def _format_duration_cell(seconds: float) -> str:
    return format_duration(seconds) if seconds else "–"


def _evaluation(active: ActiveRule) -> Iterator[str]:
    yield _EVALUATED_BY[active.rule.owner]
    yield ""
    if active.rule.owner is Owner.SIDECAR:
        return
    promql = PromQL(Dialect(selector=""))
    own = [next(g for g in active.grades if g.severity is grade.severity) for grade in reversed(active.own_grades)]
    expressions = {grade.severity: promql.expression(active, grade) for grade in own}
    for severity, expression in expressions.items():
        if len(expressions) > 1:
            yield f"{severity.capitalize()}:"
            yield ""
        yield "```promql"
        yield expression
        yield "```"
        yield ""
