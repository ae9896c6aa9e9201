"""The conditions of rules, compiled to be evaluated for many streams, many times."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Comparison, Guard, Present, Rule, Threshold
from exporter.alerting.series_lookup import ExtraLabels, Subject, series_reader

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class RiseCounter:
    """How often a counter rose within a window, as ``changes() - resets()`` counts it: by samples, not by time.

    Times are on the steady clock.
    """

    __slots__ = ("_last_at", "_last_value", "_rises")

    def __init__(self) -> None:
        self._last_at = -math.inf
        self._last_value: float | None = None
        self._rises: deque[float] = deque()
        """For each rise the time of the sample before it: the rise counts while that sample is in the window."""

    def add(self, at: float, value: float) -> None:
        """Add a sample."""
        if self._last_value is not None and value > self._last_value:
            self._rises.append(self._last_at)
        self._last_at, self._last_value = at, value

    def count(self, since: float) -> int | None:
        """Return the number of rises between samples since that time; None if there is no sample."""
        while self._rises and self._rises[0] < since:
            self._rises.popleft()
        return len(self._rises) if self._last_at >= since else None


class CompiledCondition:
    """A rule's condition, ready to be evaluated."""

    def __init__(self, active: ActiveRule) -> None:
        """Compile the condition of a rule that has one."""
        condition = active.rule.condition
        assert condition is not None
        self.active = active
        measure = condition.measure
        self._read_series = series_reader(measure.left)
        self._window = None if measure.left.rises_within is None else measure.left.rises_within / active.time_scale
        self._compare = _OPERATORS[measure.operator]
        self._get_limit = _limit_reader(measure, active.limit)
        self._also = [_compile_guard(guard, active.limit) for guard in condition.also]
        self._unless = [_compile_guard(guard, active.limit) for guard in condition.unless]
        self._rises: dict[tuple[str, str], RiseCounter] = {}
        """By upstream and stream: a counter whose rises count has no further labels."""

    @property
    def rule(self) -> Rule:
        """The rule with this condition."""
        return self.active.rule

    def matches(self, subject: Subject, steady_now: float) -> Iterator[tuple[ExtraLabels, float]]:
        """Yield the values for which the condition holds, with the values of the rule's own labels."""
        for extra, value in self._measure(subject, steady_now):
            limit = self._get_limit(subject)
            if limit is not None and self._compare(value, limit) and self._guards_hold(subject):
                yield extra, value

    def streams_in_window(self, upstream: str, steady_now: float) -> set[str]:
        """Return the streams with samples in the window, and forget the others."""
        if self._window is None:
            return set()
        since = steady_now - self._window
        streams = set()
        for key in [key for key in self._rises if key[0] == upstream]:
            if self._rises[key].count(since) is None:
                del self._rises[key]
            else:
                streams.add(key[1])
        return streams

    def keep_only_upstreams(self, upstreams: frozenset[str]) -> None:
        """Forget the samples of all other upstreams."""
        self._rises = {key: rises for key, rises in self._rises.items() if key[0] in upstreams}

    def _measure(self, subject: Subject, steady_now: float) -> Iterable[tuple[ExtraLabels, float]]:
        samples = self._read_series(subject)
        if self._window is None:
            return samples
        key = (subject.upstream_state.upstream, subject.stream)
        for _, value in samples:
            self._rises.setdefault(key, RiseCounter()).add(steady_now, value)
        count = self._rises[key].count(steady_now - self._window) if key in self._rises else None
        return () if count is None else (((), float(count)),)

    def _guards_hold(self, subject: Subject) -> bool:
        return all(holds(subject) for holds in self._also) and not any(holds(subject) for holds in self._unless)


def _limit_reader(comparison: Comparison, limit: float | None) -> Callable[[Subject], float | None]:
    if not isinstance(comparison.right, Threshold):
        constant = float(comparison.right)
        return lambda _: constant
    assert limit is not None, "a rule that compares with its threshold has one"
    if comparison.right.of is None:
        return lambda _: limit
    read_series = series_reader(comparison.right.of)

    def read_relative_limit(subject: Subject) -> float | None:
        value = _first_value(read_series(subject))
        return None if value is None else limit * value

    return read_relative_limit


def _compile_guard(guard: Guard, limit: float | None) -> Callable[[Subject], bool]:
    read_series = series_reader(guard.series if isinstance(guard, Present) else guard.left)
    if isinstance(guard, Present):
        return lambda subject: _first_value(read_series(subject)) is not None
    compare = _OPERATORS[guard.operator]
    get_right = _limit_reader(guard, limit)

    def holds(subject: Subject) -> bool:
        left, right = _first_value(read_series(subject)), get_right(subject)
        return left is not None and right is not None and compare(left, right)

    return holds


def _first_value(samples: Iterable[tuple[ExtraLabels, float]]) -> float | None:
    return next((value for _, value in samples), None)
