"""A rule's condition as PromQL text.

Two replicas, or a new ``instance`` after a rollout, must make the same single alert: so every operand takes the maximum
without ``instance`` and ``pod`` before anything is joined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from exporter.alerting import DEFAULT_SELECTOR
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Comparison, Condition, Guard, Present, Rule, Scope, Series, Threshold
from exporter.config.alerting import HealthSlo
from exporter.config.types import format_duration, parse_duration
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES
from exporter.metrics.text_format import bound

REPLICA_LABELS = ("instance", "pod")

_UPSTREAM_FAMILY_NAMES = frozenset(family.name for family in UPSTREAM_FAMILIES)
_PLACEHOLDER = re.compile(r"\{(?:(?P<duration>\d+(?:ms|s|m|h|d|w))|count:(?P<count>\d+)|(?P<name>[a-z_]+))\}")
_SELECTOR = re.compile(r"\{SELECTOR(,?)([^{}]*)\}")


class PromQL:
    """Writes conditions with a user's own selector and time scale.

    ``selector`` is what stands inside the braces of every series, for example ``job="stream-exporter"``; durations, and
    the counts that are reached in them, are divided by ``time_scale``.
    """

    def __init__(self, selector: str = DEFAULT_SELECTOR, time_scale: float = 1.0) -> None:
        self._selector = selector
        self._scale = time_scale

    def duration(self, seconds: float) -> str:
        """A duration as PromQL writes it, scaled; never below a millisecond."""
        return format_duration(max(0.001, round(seconds / self._scale, 3)))

    def expression(self, active: ActiveRule) -> str:
        """The rule's whole expression."""
        if active.rule.condition is None:
            return self.fill_template(active.rule.promql, active.slo, active.limit)
        return self._condition(active.rule.condition, active.rule, active.limit)

    def fill_template(self, template: str, slo: HealthSlo, limit: float | None = None) -> str:
        """Fill in the placeholders of a rule's PromQL.

        ``{SELECTOR}`` or ``{SELECTOR,more="…"}`` is the selector of a series, ``{5m}`` a duration, ``{count:20}`` a
        number of events within such a duration. ``{threshold}``, ``{goal}``, ``{goal_bound}`` (as a bucket's ``le``),
        ``{budget_ratio}`` and ``{minimum}`` are settings.
        """
        values: dict[str, Callable[[], str]] = {
            "threshold": lambda: number(_require_limit(limit)),
            "goal": lambda: number(slo.goal),
            "goal_bound": lambda: bound(slo.goal),
            "budget_ratio": lambda: number(slo.budget_ratio),
            "minimum": lambda: self._count(slo.minimum_observations),
        }

        def fill_placeholder(match: re.Match[str]) -> str:
            if match["duration"]:
                return self.duration(parse_duration(match["duration"]))
            return self._count(int(match["count"])) if match["count"] else values[match["name"]]()

        def fill_selector(match: re.Match[str]) -> str:
            matchers = ",".join(part for part in (self._selector, match[2]) if part)
            return "{" + matchers + "}" if matchers else ""

        return _SELECTOR.sub(fill_selector, _PLACEHOLDER.sub(fill_placeholder, template))

    def _count(self, count: int) -> str:
        return str(max(1, math.ceil(count / self._scale)))

    def _condition(self, condition: Condition, rule: Rule, limit: float | None) -> str:
        own = {*_scope_labels(rule.scope), *rule.labels}
        parts = [self._comparison(condition.measure, limit)]
        parts += [f"and{_ignoring(own, guard)}\n{self._guard(guard, limit)}" for guard in condition.also]
        parts += [f"unless{_ignoring(own, guard)}\n{self._guard(guard, limit)}" for guard in condition.unless]
        return "\n".join(parts)

    def _guard(self, guard: Guard, limit: float | None) -> str:
        return self._series(guard.series) if isinstance(guard, Present) else self._comparison(guard, limit)

    def _comparison(self, comparison: Comparison, limit: float | None) -> str:
        left = self._series(comparison.left)
        if not isinstance(comparison.right, Threshold):
            return f"{left} {comparison.operator} {number(comparison.right)}"
        right = number(_require_limit(limit))
        if comparison.right.of is not None:
            right = f"{right} * {self._series(comparison.right.of)}"
        return f"{left} {comparison.operator} {right}"

    def _series(self, series: Series) -> str:
        matchers = [self._selector] if self._selector else []
        matchers += [_matcher(name, value) for name, value in series.labels.items()]
        text = series.family + ("{" + ",".join(matchers) + "}" if matchers else "")
        if series.rises_within is not None:
            samples = f"{text}[{self.duration(series.rises_within)}]"
            text = f"changes({samples}) - resets({samples})"
        text = f"max without ({', '.join((*REPLICA_LABELS, *series.labels))}) ({text})"
        return text if series.scale == 1 else f"{number(series.scale)} * {text}"


def number(value: float) -> str:
    """A number as people write it: 8, not 8.0."""
    return f"{value:g}" if value == float(f"{value:g}") else repr(value)


def _require_limit(limit: float | None) -> float:
    assert limit is not None, "a rule that compares with its threshold has one"
    return limit


def _matcher(name: str, value: str | tuple[str, ...]) -> str:
    return f'{name}="{value}"' if isinstance(value, str) else f'{name}=~"{"|".join(value)}"'


def _scope_labels(scope: Scope) -> tuple[str, ...]:
    return ("platform", "upstream", "stream") if scope is Scope.STREAM else ("platform", "upstream")


def _ignoring(own: set[str], guard: Guard) -> str:
    """Ignore the labels that only one of the sides has."""
    series = guard.series if isinstance(guard, Present) else guard.left
    scope = Scope.UPSTREAM if series.family in _UPSTREAM_FAMILY_NAMES else Scope.STREAM
    differing = sorted(own ^ set(_scope_labels(scope)))
    return f" ignoring ({', '.join(differing)})" if differing else ""
