"""The health SLO of an upstream: recording rules for the share of bad observations, and alerts on its burn rate.

Health is observed once per poll and live stream, and as 0 for a stream that is expected and not live: a dead stream
uses as much budget as any other bad one.

Windows, factors and severities: https://sre.google/workbook/alerting-on-slos/, multi-window and multi-burn-rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.alerting.rules.rule import MINUTE, Rule, Scope, Severity, Unit
from exporter.config.types import format_duration, parse_duration
from exporter.metrics.families.stream_families import HEALTH_SCORE


@dataclass(frozen=True)
class RecordingRule:
    """A recording rule."""

    record: str
    promql: str
    """Template, as ``Rule.promql``."""


_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Windows of the burn-rate rules. Recordings are named after them, whatever the time scale makes of them."""
_LONG_WINDOWS = ("1h", "6h", "1d", "3d")
_BAD = f'{HEALTH_SCORE.name}_bucket{{SELECTOR,le="{{goal_bound}}"}}'
_COUNT = f"{HEALTH_SCORE.name}_count{{SELECTOR}}"
_FURTHER_LABELS = "instance, pod, protocol, stream"
"""Labels of the histograms that the SLO of an upstream does not distinguish."""


def _share_of_bad(window: str) -> RecordingRule:
    return RecordingRule(
        f"upstream:stream_health_below_goal:ratio_rate{window}",
        f"sum without ({_FURTHER_LABELS}, le) (rate({_BAD}[{{{window}}}]))\n"
        f"/\n(sum without ({_FURTHER_LABELS}) (rate({_COUNT}[{{{window}}}])) > 0)",
    )


def _observations(window: str) -> RecordingRule:
    return RecordingRule(
        f"upstream:stream_health_observations:increase{window}",
        f"max without (instance, pod) (\n  sum without (protocol, stream) (increase({_COUNT}[{{{window}}}]))\n)",
    )


SLO_RECORDINGS: tuple[RecordingRule, ...] = tuple(
    recording
    for window in _WINDOWS
    for recording in (_share_of_bad(window), *([_observations(window)] if window in _LONG_WINDOWS else []))
)


def _burn_rate_rule(
    name: str, severity: Severity, factor: float, *, long: str, short: str, in_words: str, spent: str, runs_out: str
) -> Rule:
    return Rule(
        name=name,
        scope=Scope.UPSTREAM,
        severity=severity,
        summary=f"The health budget of a platform's streams is spent {in_words}.",
        description=f"{{value}} of the health observations on {{upstream}} ({{platform}}) in the last {long} were not "
        "above {goal}, where {budget} are allowed.",
        promql=f"upstream:stream_health_below_goal:ratio_rate{long} > {{threshold}} * {{budget_ratio}}\n"
        "and\n"
        f"upstream:stream_health_below_goal:ratio_rate{short} > {{threshold}} * {{budget_ratio}}\n"
        "and\n"
        f"upstream:stream_health_observations:increase{long} >= {{minimum}}",
        window_seconds=parse_duration(long),
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
        Severity.CRITICAL,
        14.4,
        long="1h",
        short="5m",
        in_words="very fast",
        spent="2 %",
        runs_out="two days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnSteady",
        Severity.CRITICAL,
        6.0,
        long="6h",
        short="30m",
        in_words="fast",
        spent="5 %",
        runs_out="five days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnSlow",
        Severity.WARNING,
        3.0,
        long="1d",
        short="2h",
        in_words="too fast",
        spent="10 %",
        runs_out="ten days",
    ),
    _burn_rate_rule(
        "StreamHealthBudgetBurnCreeping",
        Severity.WARNING,
        1.0,
        long="3d",
        short="6h",
        in_words="completely",
        spent="10 %",
        runs_out="thirty days",
    ),
)
