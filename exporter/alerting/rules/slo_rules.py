"""Health SLO of an upstream: recording rules for the ratio of bad observations, and alerts on the burn rate.

Each poll observes the health of every live stream, and 0 for every expected stream that is not live, so a dead stream
uses as much budget as any other bad stream.

A ratio counts only once polls cover its window. Otherwise, after a start of Prometheus or for a new upstream, a few bad
minutes would look like a bad day. Burn rates open tickets and never page, and only while several streams are bad: a
single bad stream has alerts of its own.

The recordings have only the labels that identify an upstream, so that a changed label does not restart the windows.

Windows and factors (multi-window, multi-burn-rate): https://sre.google/workbook/alerting-on-slos/
"""

from __future__ import annotations

from exporter.alerting.rules.rule import (
    MINUTE,
    UPSTREAM_LABELS_OF,
    RecordingRule,
    Rule,
    Scope,
    Severity,
    Unit,
)
from exporter.config.types import format_duration, parse_duration
from exporter.metrics.families.stream_families import HEALTH_SCORE

_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Windows of the burn-rate rules. Recording names contain them unscaled, even with a time scale."""
_LONG_WINDOWS = {"1h": "1m", "6h": "1m", "1d": "5m", "3d": "5m"}
"""Long windows, with the step at which their coverage is counted."""
_ANSWERED_PART, _OBSERVED_PART = 2, 12
"""A window is covered if the upstream was answering for 1/2 of it and health was observed in 1/12 of it.

A stream that is live three hours a day is therefore enough.
"""
_BAD = f'{HEALTH_SCORE.name}_bucket{{SELECTOR,le="{{goal_bound}}"}}'
_COUNT = f"{HEALTH_SCORE.name}_count{{SELECTOR}}"

SLO_OPERANDS = (
    RecordingRule(
        "stream:below_goal",
        "stream:health_score_ratio <= {goal}\n"
        "or on ({by_stream}) (stream:live == 0 and on ({by_stream}) stream:expected == 1)",
    ),
    RecordingRule(
        "upstream:streams_below_goal",
        "count by ({by_upstream}) (stream:below_goal) >= 3\n"
        "or\n"
        "count by ({by_upstream}) (stream:below_goal) >= on ({by_upstream})\n"
        "  0.05 * count by ({by_upstream}) (stream:live == 1 or on ({by_stream}) stream:expected == 1)",
    ),
)
"""Streams that are bad now, and their number if it is enough for a ticket: three, or 5 % of the streams."""


def _share_of_bad(window: str) -> RecordingRule:
    return RecordingRule(
        f"upstream:stream_health_below_goal:ratio_rate{window}",
        f"sum by ({{by_upstream}}) (rate({_BAD}[{{{window}}}]))\n"
        f"/\n(sum by ({{by_upstream}}) (rate({_COUNT}[{{{window}}}])) > 0)",
    )


def _observations(window: str) -> RecordingRule:
    return RecordingRule(
        f"upstream:stream_health_observations:increase{window}",
        "max by ({by_upstream}) (\n"
        f"  sum by ({{by_target}}, platform, upstream) (increase({_COUNT}[{{{window}}}]))\n"
        ")",
    )


def _coverage(window: str, step: str) -> RecordingRule:
    steps = parse_duration(window) / parse_duration(step)
    return RecordingRule(
        f"upstream:stream_health_covered:{window}",
        "count_over_time((max by ({by_upstream}) (upstream:answering) == 1)"
        f"[{{{window}}}:{{{step}}}]) >= {steps / _ANSWERED_PART:g}\n"
        "and on ({by_upstream})\n"
        f"count_over_time(upstream:stream_health_observed[{{{window}}}:{{{step}}}]) >= {steps / _OBSERVED_PART:g}",
    )


SLO_RECORDINGS: tuple[RecordingRule, ...] = (
    RecordingRule("upstream:stream_health_observed", f"sum by ({{by_upstream}}) (increase({_COUNT}[{{5m}}])) > 0"),
    *map(_share_of_bad, _WINDOWS),
    *map(_observations, _LONG_WINDOWS),
    *(_coverage(window, step) for window, step in _LONG_WINDOWS.items()),
)


def _burn_rate_rule(name: str, factor: float, *, long: str, short: str, spent: str, runs_out: str) -> Rule:
    measured = f"upstream:stream_health_below_goal:ratio_rate{long}"
    burns = f"> on ({{by_upstream}}) group_left () {{budget_ratio}} * {{limits:{measured}}}"
    return Rule(
        name=name,
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The health budget of {subject} is burning at over {threshold}× the allowed rate.",
        description=f"{{value}} of the health observations of {{subject}} in the last {long} were at or below {{goal}} "
        "(allowed: {budget}).",
        expected="at most {budget} over 30 days; alert above {threshold}× that",
        promql=f"{UPSTREAM_LABELS_OF} {measured}\n{burns}\n"
        f"and on ({{by_upstream}}) upstream:stream_health_below_goal:ratio_rate{short}\n{burns}\n"
        f"and on ({{by_upstream}}) upstream:stream_health_observations:increase{long} >= {{minimum}}\n"
        f"and on ({{by_upstream}}) upstream:stream_health_covered:{long}\n"
        "and on ({by_upstream}) upstream:streams_below_goal",
        window_seconds=parse_duration(long) / _ANSWERED_PART,
        keep_firing_seconds=5 * MINUTE,
        threshold=factor,
        unit=Unit.RATIO,
        threshold_unit=Unit.NUMBER,
        rationale=f"The threshold is the burn rate. At {factor:g}× the allowed rate, {spent} of a 30-day budget is "
        f"spent in {format_duration(parse_duration(long))}, and all of it in {runs_out}.",
    )


SLO_RULES: tuple[Rule, ...] = (
    _burn_rate_rule(
        "StreamHealthBudgetBurnFast",
        14.4,
        long="1h",
        short="5m",
        spent="2 %",
        runs_out="two days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnSteady",
        6.0,
        long="6h",
        short="30m",
        spent="5 %",
        runs_out="five days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnSlow",
        3.0,
        long="1d",
        short="2h",
        spent="10 %",
        runs_out="ten days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnCreeping",
        1.0,
        long="3d",
        short="6h",
        spent="10 %",
        runs_out="thirty days",
    ),
)
