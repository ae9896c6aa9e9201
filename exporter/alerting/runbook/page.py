"""``docs/runbook.md``, rendered from the rules and the guidance for each of them."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.alerting.annotations import format_threshold
from exporter.alerting.promql import PromQL
from exporter.alerting.rules import Owner, Scope, Severity, Unit
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.alerting.runbook.guidance import GUIDANCE
from exporter.config.types import format_duration

POLL_SECONDS, TIMEOUT_SECONDS = 30.0, 10.0
"""Default interval and timeout of the slowest platforms."""
SCRAPE_SECONDS = EVALUATION_SECONDS = 15.0

_INTRODUCTION = """\
# Runbook

<!-- Made from the table of rules by `make generate`; edit exporter/alerting/ instead. -->

What each alert means, what to look at first, what to do, and how to make it fit. The rules stand in
`alerts/stream-alerts.yaml`; `stream-exporter rules` lists them, and writes them with your own thresholds.

- **Severity**: `critical` pages now, `warning` opens a ticket, `info` is context for the others, `none` is the dead
  man's switch.
- **Evaluated by** *both* means Prometheus, or the sidecar when it is on: one of them at a time. With the sidecar on,
  load the rules of `stream-exporter rules --evaluator prometheus`.
- **Worst time to page** is from the fault to the alert firing, with the slowest defaults: {poll} between polls,
  {timeout} until a poll fails, {scrape} between scrapes, {evaluation} between evaluations. It contains what the
  rule itself waits for. A scrape that fails while an alert is pending starts its `for` anew. Alertmanager's
  `group_wait` comes on top; the sidecar saves scrape and evaluation.
- **Thresholds** are changed in the configuration under `alerting.thresholds`, by the name of the rule: a number in
  the base unit of the metric, or a mapping of `value` and `for`. The sidecar follows at once; for Prometheus write
  the rules again: `stream-exporter rules --config.file config.yaml --output-dir DIR`.
- Until an alert may resolve, its condition must have been gone for *keep firing*: no flapping, and one lost scrape
  is no all-clear.

One thing that monitors of streams often watch has no rule here: the interval between key frames, which no platform
that is shipped reports.
"""
_SCOPES = {
    Scope.EXPORTER: "## The exporter",
    Scope.UPSTREAM: "## Upstreams",
    Scope.STREAM: "## Streams",
}
_OWNERS = {Owner.BOTH: "both", Owner.PROMETHEUS: "Prometheus", Owner.SIDECAR: "the sidecar, which just sends it"}


def render_runbook() -> str:
    """Render the page as Markdown."""
    rules = rules_in_force()
    parts = [
        _INTRODUCTION.format(
            poll=format_duration(POLL_SECONDS),
            timeout=format_duration(TIMEOUT_SECONDS),
            scrape=format_duration(SCRAPE_SECONDS),
            evaluation=format_duration(EVALUATION_SECONDS),
        )
    ]
    for scope, heading in _SCOPES.items():
        parts.append(f"{heading}\n")
        parts += (_section(active) for active in rules if active.rule.scope is scope)
    return "\n".join(parts)


def worst_case_seconds(active: ActiveRule) -> float:
    """Return the time from the fault to the alert firing, with the slowest defaults."""
    waiting = active.for_seconds + active.rule.settling_seconds / active.time_scale
    return POLL_SECONDS + TIMEOUT_SECONDS + SCRAPE_SECONDS + EVALUATION_SECONDS + waiting


def _section(active: ActiveRule) -> str:
    rule = active.rule
    guidance = GUIDANCE[rule.name]
    lines = [
        f"### {rule.name}",
        "",
        rule.summary,
        "",
        *_table(active),
        "",
        f"**To viewers.** {guidance.impact}",
        "",
        f"**Look first.** {guidance.diagnosis}",
        "",
        f"**Do.** {guidance.mitigation}",
        "",
        f"**Tune.** {guidance.tuning}",
        "",
        f"**Why so.** {rule.why}",
        "",
        *_promql_block(active),
    ]
    return "\n".join(lines)


def _table(active: ActiveRule) -> Iterator[str]:
    rule = active.rule
    yield "| severity | threshold | for | looks back | keep firing | worst time to page | evaluated by |"
    yield "|---|---|---|---|---|---|---|"
    cells = (
        rule.severity.value,
        _format_threshold_cell(active),
        _format_duration_cell(active.for_seconds),
        _format_duration_cell(rule.settling_seconds),
        _format_duration_cell(active.keep_firing_seconds),
        "–" if rule.severity is Severity.NONE else format_duration(worst_case_seconds(active)),
        _OWNERS[rule.owner],
    )
    yield f"| {' | '.join(cells)} |"


def _format_threshold_cell(active: ActiveRule) -> str:
    if active.threshold is None:
        return "–"
    text, base = format_threshold(active), f"{active.threshold:g}"
    unit = active.rule.threshold_unit or active.rule.unit
    return f"`{base}`" if unit in (Unit.NUMBER, Unit.COUNT) else f"`{base}` ({text})"


def _format_duration_cell(seconds: float) -> str:
    return format_duration(seconds) if seconds else "–"


def _promql_block(active: ActiveRule) -> Iterator[str]:
    expression = PromQL(selector="").expression(active)
    if expression:
        yield "```promql"
        yield expression
        yield "```"
        yield ""
