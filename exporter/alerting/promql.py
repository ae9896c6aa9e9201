"""A rule's condition as PromQL text.

Two replicas, or a new ``instance`` after a rollout, must make the same single alert: so every operand takes the maximum
without ``instance`` and ``pod`` before anything is joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from exporter.alerting.conditions import Compare, Condition, Over, Present, Series, Test, Threshold
from exporter.alerting.rules import Rule, Scope
from exporter.config.fields import format_duration, parse_duration

REPLICA_LABELS = ("instance", "pod")

_FUNCTIONS = {Over.MAX: "max_over_time", Over.MIN: "min_over_time", Over.INCREASE: "increase"}
_SCOPE_LABELS = {
    Scope.STREAM: ("platform", "upstream", "stream"),
    Scope.UPSTREAM: ("platform", "upstream"),
    Scope.EXPORTER: (),
}
_UPSTREAM_FAMILIES = re.compile(r"stream_upstream_")
_DURATION = re.compile(r"\{(\d+(?:ms|s|m|h|d|w))\}")


class PromQL:
    """Writes conditions with a user's own selector and time scale.

    ``selector`` is what stands inside the braces of every series, for example ``job="stream-exporter"``; durations are
    divided by ``time_scale``.
    """

    def __init__(self, selector: str = "", time_scale: float = 1.0) -> None:
        self._selector = selector
        self._scale = time_scale

    def duration(self, seconds: float) -> str:
        """A duration as PromQL writes it, scaled; never below a millisecond."""
        return format_duration(max(0.001, round(seconds / self._scale, 3))) if seconds else "0s"

    def expression(self, rule: Rule, threshold: float | None) -> str:
        """The rule's whole expression."""
        if rule.condition is None:
            return self._template(rule.promql, threshold)
        return self._condition(rule.condition, rule, threshold)

    def _template(self, text: str, threshold: float | None) -> str:
        text = _DURATION.sub(lambda match: self.duration(parse_duration(match.group(1))), text)
        text = text.replace("{threshold}", number(threshold) if threshold is not None else "")
        selector = self._selector
        text = text.replace("{SELECTOR,", "{" + selector + ("," if selector else ""))
        return text.replace("{SELECTOR}", "{" + selector + "}" if selector else "")

    def _condition(self, condition: Condition, rule: Rule, threshold: float | None) -> str:
        own = {*_SCOPE_LABELS[rule.scope], *rule.labels, *condition.measure.left.labels}
        parts = [self._compare(condition.measure, threshold)]
        parts += [f"and{_ignoring(own, test)} {self._test(test, threshold)}" for test in condition.also]
        parts += [f"unless{_ignoring(own, test)} {self._test(test, threshold)}" for test in condition.unless]
        return "\n".join(parts)

    def _test(self, test: Test, threshold: float | None) -> str:
        return self._series(test.series) if isinstance(test, Present) else self._compare(test, threshold)

    def _compare(self, compare: Compare, threshold: float | None) -> str:
        left = self._series(compare.left)
        if not isinstance(compare.right, Threshold):
            return f"({left} {compare.operator} {number(compare.right)})"
        assert threshold is not None, "a rule that compares with its threshold has one"
        right = number(threshold)
        if compare.right.of is not None:
            right = f"{right} * {self._series(compare.right.of)}"
        return f"({left} {compare.operator} {right})"

    def _series(self, series: Series) -> str:
        matchers = [self._selector] if self._selector else []
        matchers += [_matcher(name, value) for name, value in series.labels.items()]
        text = series.family + ("{" + ",".join(matchers) + "}" if matchers else "")
        if series.window is not None:
            text = f"{_FUNCTIONS[series.window.over]}({text}[{self.duration(series.window.seconds)}])"
        text = f"max without ({', '.join(REPLICA_LABELS)}) ({text})"
        return text if series.scale == 1 else f"{number(series.scale)} * {text}"


def number(value: float) -> str:
    """A number as people write it: 8, not 8.0."""
    return f"{value:g}" if value == float(f"{value:g}") else repr(value)


def _matcher(name: str, value: str | tuple[str, ...]) -> str:
    return f'{name}="{value}"' if isinstance(value, str) else f'{name}=~"{"|".join(value)}"'


def _labels(series: Series) -> Iterable[str]:
    scope = Scope.UPSTREAM if _UPSTREAM_FAMILIES.match(series.family) else Scope.STREAM
    return {*_SCOPE_LABELS[scope], *series.labels}


def _ignoring(own: set[str], test: Test) -> str:
    """The labels that only one side has must not keep the sides apart."""
    series = test.series if isinstance(test, Present) else test.left
    differing = sorted(own ^ set(_labels(series)))
    return f" ignoring ({', '.join(differing)})" if differing else ""
