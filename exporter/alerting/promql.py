"""A rule's condition as PromQL text.

Two replicas, or a new ``instance`` after a rollout, must make the same single alert: so every operand takes the maximum
without ``instance`` and ``pod`` before anything is joined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from exporter.alerting import DEFAULT_SELECTOR
from exporter.alerting.conditions import Compare, Condition, Present, Series, Test, Threshold
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Rule, Scope
from exporter.config.types import format_duration, parse_duration
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES

REPLICA_LABELS = ("instance", "pod")

_OF_UPSTREAMS = frozenset(family.name for family in UPSTREAM_FAMILIES)
_PLACES = re.compile(r"\{(?:(?P<duration>\d+(?:ms|s|m|h|d|w))|count:(?P<count>\d+)|(?P<name>[a-z_]+))\}")
_SELECTED = re.compile(r"\{SELECTOR(,?)([^{}]*)\}")


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
            return self.fill(active.rule.promql, active)
        return self._condition(active.rule.condition, active.rule, active.limit)

    def fill(self, text: str, active: ActiveRule) -> str:
        """Text for Prometheus with its places filled in.

        ``{SELECTOR}`` or ``{SELECTOR,more="…"}`` is what narrows a series, ``{5m}`` a duration, ``{count:20}`` a number
        of things that happen in such a time, ``{threshold}``, ``{goal}``, ``{budget_ratio}`` and ``{minimum}`` what is
        set.
        """
        named: dict[str, Callable[[], str]] = {
            "threshold": lambda: number(_given(active.limit)),
            "goal": lambda: number(active.slo.goal),
            "budget_ratio": lambda: number(active.slo.budget_ratio),
            "minimum": lambda: self._count(active.slo.minimum_observations),
        }

        def place(match: re.Match[str]) -> str:
            if match["duration"]:
                return self.duration(parse_duration(match["duration"]))
            return self._count(int(match["count"])) if match["count"] else named[match["name"]]()

        return _PLACES.sub(place, self.select(text))

    def select(self, text: str) -> str:
        """The text with the selector in its places."""

        def selected(match: re.Match[str]) -> str:
            inside = ",".join(part for part in (self._selector, match[2]) if part)
            return "{" + inside + "}" if inside else ""

        return _SELECTED.sub(selected, text)

    def _count(self, number_: int) -> str:
        return str(max(1, math.ceil(number_ / self._scale)))

    def _condition(self, condition: Condition, rule: Rule, limit: float | None) -> str:
        own = {*_scope_labels(rule.scope), *rule.labels}
        parts = [self._compare(condition.measure, limit)]
        parts += [f"and{_ignoring(own, test)}\n{self._test(test, limit)}" for test in condition.also]
        parts += [f"unless{_ignoring(own, test)}\n{self._test(test, limit)}" for test in condition.unless]
        return "\n".join(parts)

    def _test(self, test: Test, limit: float | None) -> str:
        return self._series(test.series) if isinstance(test, Present) else self._compare(test, limit)

    def _compare(self, compare: Compare, limit: float | None) -> str:
        left = self._series(compare.left)
        if not isinstance(compare.right, Threshold):
            return f"{left} {compare.operator} {number(compare.right)}"
        right = number(_given(limit))
        if compare.right.of is not None:
            right = f"{right} * {self._series(compare.right.of)}"
        return f"{left} {compare.operator} {right}"

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


def _given(limit: float | None) -> float:
    assert limit is not None, "a rule that compares with its threshold has one"
    return limit


def _matcher(name: str, value: str | tuple[str, ...]) -> str:
    return f'{name}="{value}"' if isinstance(value, str) else f'{name}=~"{"|".join(value)}"'


def _scope_labels(scope: Scope) -> tuple[str, ...]:
    return ("platform", "upstream", "stream") if scope is Scope.STREAM else ("platform", "upstream")


def _ignoring(own: set[str], test: Test) -> str:
    """The labels that only the measured series has must not keep the sides apart."""
    series = test.series if isinstance(test, Present) else test.left
    scope = Scope.UPSTREAM if series.family in _OF_UPSTREAMS else Scope.STREAM
    differing = sorted(own ^ set(_scope_labels(scope)))
    return f" ignoring ({', '.join(differing)})" if differing else ""
