"""The health SLO of an upstream: recording rules for the share of bad observations, and alerts on its burn rate.

Health is observed once per poll and live stream, and as 0 for a stream that is expected and not live: a dead stream
uses as much budget as any other bad one.

A ratio counts only once its window is covered by polls, because after a start of Prometheus, or for a new upstream, a
few bad minutes would look like a bad day. A burn rate is a ticket, never a page, and only while several streams are bad
now: the alerts of a single bad stream are its own.

Windows and factors: https://sre.google/workbook/alerting-on-slos/, multi-window and multi-burn-rate.
"""

from __future__ import annotations

from exporter.alerting.rules.rule import MINUTE, RecordingRule, Rule, Scope, Severity, Unit
from exporter.config.types import format_duration, parse_duration
from exporter.metrics.families.stream_families import HEALTH_SCORE

_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Windows of the burn-rate rules. Recordings are named after them, whatever the time scale makes of them."""
_LONG_WINDOWS = {"1h": "1m", "6h": "1m", "1d": "5m", "3d": "5m"}
"""The long windows, and the steps in which their coverage is counted."""
_ANSWERED_PART, _OBSERVED_PART = 2, 12
"""A window is covered if the upstream answered for half of it, and health was observed for a twelfth of it: a stream
that is live three hours a day is enough."""
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
"""Streams that are bad now, and how many there are if they are enough for a ticket: three, or 5 %."""


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
        f"count_over_time((upstream:answering == 1)[{{{window}}}:{{{step}}}]) >= {steps / _ANSWERED_PART:g}\n"
        "and on ({by_upstream})\n"
        f"count_over_time(upstream:stream_health_observed[{{{window}}}:{{{step}}}]) >= {steps / _OBSERVED_PART:g}",
    )


SLO_RECORDINGS: tuple[RecordingRule, ...] = (
    RecordingRule("upstream:stream_health_observed", f"sum by ({{by_upstream}}) (increase({_COUNT}[{{5m}}])) > 0"),
    *map(_share_of_bad, _WINDOWS),
    *map(_observations, _LONG_WINDOWS),
    *(_coverage(window, step) for window, step in _LONG_WINDOWS.items()),
)


def _burn_rate_rule(
    name: str, factor: float, *, long: str, short: str, in_words: str, spent: str, runs_out: str
) -> Rule:
    burns = "{threshold} * {budget_ratio}"
    return Rule(
        name=name,
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary=f"The health budget of the streams of {{subject}} is spent {in_words}.",
        description=f"{{value}} of the health observations of {{subject}} in the last {long} were not above {{goal}}, "
        "where {budget} are allowed.",
        expected=f"at most {{budget}} over 30 days; alert above {factor:g} times that",
        promql=f"upstream:stream_health_below_goal:ratio_rate{long} > {burns}\n"
        f"and on ({{by_upstream}}) upstream:stream_health_below_goal:ratio_rate{short} > {burns}\n"
        f"and on ({{by_upstream}}) upstream:stream_health_observations:increase{long} >= {{minimum}}\n"
        f"and on ({{by_upstream}}) upstream:stream_health_covered:{long}\n"
        "and on ({by_upstream}) upstream:streams_below_goal",
        window_seconds=parse_duration(long) / _ANSWERED_PART,
        keep_firing_seconds=5 * MINUTE,
        threshold=factor,
        unit=Unit.RATIO,
        threshold_unit=Unit.NUMBER,
        why=f"The threshold is the burn rate: at {factor:g} times the allowed pace, {spent} of a 30-day budget is "
        f"spent in {format_duration(parse_duration(long))} and all of it in {runs_out}.",
    )


SLO_RULES: tuple[Rule, ...] = (
    _burn_rate_rule(
        "StreamHealthBudgetBurnFast",
        14.4,
        long="1h",
        short="5m",
        in_words="very fast",
        spent="2 %",
        runs_out="two days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnSteady",
        6.0,
        long="6h",
        short="30m",
        in_words="fast",
        spent="5 %",
        runs_out="five days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnSlow",
        3.0,
        long="1d",
        short="2h",
        in_words="too fast",
        spent="10 %",
        runs_out="ten days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnCreeping",
        1.0,
        long="3d",
        short="6h",
        in_words="completely",
        spent="10 %",
        runs_out="thirty days",
    ),
)
