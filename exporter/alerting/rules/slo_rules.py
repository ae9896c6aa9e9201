"""Rules about the health SLO of an upstream: how fast the budget of bad health observations is spent.

Windows, factors and severities: https://sre.google/workbook/alerting-on-slos/, multi-window and multi-burn-rate.
"""

from __future__ import annotations

from exporter.alerting.rules.rule import MINUTE, Rule, Scope, Severity, Unit
from exporter.config.types import format_duration, parse_duration


def _burn(
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
    _burn(
        "StreamHealthBudgetBurnFast",
        Severity.CRITICAL,
        14.4,
        long="1h",
        short="5m",
        in_words="very fast",
        spent="2 %",
        runs_out="two days",
    ),
    _burn(
        "StreamHealthBudgetBurnSteady",
        Severity.CRITICAL,
        6.0,
        long="6h",
        short="30m",
        in_words="fast",
        spent="5 %",
        runs_out="five days",
    ),
    _burn(
        "StreamHealthBudgetBurnSlow",
        Severity.WARNING,
        3.0,
        long="1d",
        short="2h",
        in_words="too fast",
        spent="10 %",
        runs_out="ten days",
    ),
    _burn(
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
