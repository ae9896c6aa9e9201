"""Conditions of the rules, made ready to be worked out for many streams, many times."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from exporter.alerting.conditions import Compare, Present, Test, Threshold
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Rule
from exporter.alerting.series_lookup import Extra, Reader, Subject, reader

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Rises:
    """How many times a counter rose within a window, as ``changes() - resets()`` count it: in reports, not in time."""

    __slots__ = ("_at", "_rises", "_value")

    def __init__(self) -> None:
        self._at = -math.inf
        self._value: float | None = None
        self._rises: deque[float] = deque()
        """For each rise the time of the report before it: the rise counts while that is in the window."""

    def add(self, at: float, value: float) -> None:
        """Take in a report."""
        if self._value is not None and value > self._value:
            self._rises.append(self._at)
        self._at, self._value = at, value

    def count(self, since: float) -> int | None:
        """The rises in the reports from then on; None: there is no report."""
        while self._rises and self._rises[0] < since:
            self._rises.popleft()
        return len(self._rises) if self._at >= since else None


class Program:
    """A rule's condition, ready to be worked out many times."""

    def __init__(self, active: ActiveRule) -> None:
        """``active``: one with a condition."""
        condition = active.rule.condition
        assert condition is not None
        self.active = active
        measure = condition.measure
        self._measured: Reader = reader(measure.left)
        self._window = None if measure.left.rises_within is None else measure.left.rises_within / active.time_scale
        self._crossed = _OPERATORS[measure.operator]
        self._limit = _limit(measure, active.limit)
        self._also = [_test(test, active.limit) for test in condition.also]
        self._unless = [_test(test, active.limit) for test in condition.unless]
        self._rises: dict[tuple[str, str], Rises] = {}
        """By upstream and stream: a counter whose rises count has no further labels."""

    @property
    def rule(self) -> Rule:
        """The rule whose condition it is."""
        return self.active.rule

    def crossing(self, subject: Subject, now: float) -> Iterator[tuple[Extra, float]]:
        """The values for which the condition holds, with the values of the rule's own labels."""
        for extra, value in self._values(subject, now):
            if self._is_crossed(value, subject) and self._guards_hold(subject):
                yield extra, value

    def remembered(self, upstream: str, now: float) -> set[str]:
        """The streams of which the window still has reports; what has left it is forgotten."""
        if self._window is None:
            return set()
        since = now - self._window
        own = [key for key in self._rises if key[0] == upstream]
        for key in own:
            if self._rises[key].count(since) is None:
                del self._rises[key]
        return {key[1] for key in own if key in self._rises}

    def forget_upstreams(self, kept: frozenset[str]) -> None:
        """Forget the reports of all upstreams but these."""
        self._rises = {key: rises for key, rises in self._rises.items() if key[0] in kept}

    def _values(self, subject: Subject, now: float) -> Iterable[tuple[Extra, float]]:
        reports = self._measured(subject)
        if self._window is None:
            return reports
        key = (subject.view.upstream, subject.stream)
        for _, value in reports:
            self._rises.setdefault(key, Rises()).add(now, value)
        count = self._rises[key].count(now - self._window) if key in self._rises else None
        return () if count is None else (((), float(count)),)

    def _is_crossed(self, value: float, subject: Subject) -> bool:
        limit = self._limit(subject)
        return limit is not None and self._crossed(value, limit)

    def _guards_hold(self, subject: Subject) -> bool:
        return all(test(subject) for test in self._also) and not any(test(subject) for test in self._unless)


def _limit(compare: Compare, limit: float | None) -> Callable[[Subject], float | None]:
    if not isinstance(compare.right, Threshold):
        constant = float(compare.right)
        return lambda _: constant
    assert limit is not None, "a rule that compares with its threshold has one"
    if compare.right.of is None:
        return lambda _: limit
    read = reader(compare.right.of)

    def relative(subject: Subject) -> float | None:
        value = _first(read(subject))
        return None if value is None else limit * value

    return relative


def _test(test: Test, limit: float | None) -> Callable[[Subject], bool]:
    read = reader(test.series if isinstance(test, Present) else test.left)
    if isinstance(test, Present):
        return lambda subject: _first(read(subject)) is not None
    crossed = _OPERATORS[test.operator]
    right_of = _limit(test, limit)

    def holds(subject: Subject) -> bool:
        value, right = _first(read(subject)), right_of(subject)
        return value is not None and right is not None and crossed(value, right)

    return holds


def _first(reports: Iterable[tuple[Extra, float]]) -> float | None:
    return next((value for _, value in reports), None)
