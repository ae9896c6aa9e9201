"""The sidecar's evaluator: the state machine of every rule and stream, after each poll, on the injected time.

inactive → pending (``for``) → firing (→ keep firing) → resolved, as Prometheus has it, so that both agree.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.alerting.conditions import Compare, Condition, Over, Present, Series, Test, Threshold, Window
from exporter.alerting.reading import Extra, Reader, Subject, reader
from exporter.alerting.rules import Rule, Scope
from exporter.model import StreamState, UpstreamView

RESOLVED_KEPT_SECONDS = 15 * 60.0
"""How long a resolved alert is remembered, and its end repeated: an Alertmanager that was away must hear of it."""
STREAMS_PER_STEP = 100

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class ActiveRule:
    """A rule with the thresholds and times that are in force."""

    rule: Rule
    threshold: float | None
    for_seconds: float
    keep_firing_seconds: float
    time_scale: float = 1.0


class Phase(StrEnum):
    """Where an alert stands."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, order=True)
class AlertKey:
    """What tells one alert from another."""

    rule: str
    upstream: str
    stream: str = ""
    extra: Extra = ()


@dataclass
class Alert:
    """One alert's state. Times are unix seconds."""

    key: AlertKey
    platform: str
    phase: Phase
    active_at: float
    value: float
    fired_at: float | None = None
    resolved_at: float | None = None
    keep_since: float | None = None
    """When the condition ceased to hold while the alert is kept firing."""
    reasons: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()


@dataclass
class _History:
    """The samples of one series within a window."""

    samples: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, at: float, value: float, seconds: float) -> None:
        self.samples.append((at, value))
        while self.samples and self.samples[0][0] < at - seconds:
            self.samples.popleft()

    def reduced(self, over: Over) -> float | None:
        values = [value for _, value in self.samples]
        if over is Over.MAX:
            return max(values)
        if over is Over.MIN:
            return min(values)
        return _increase(values) if len(values) > 1 else None


def _increase(values: Sequence[float]) -> float:
    """How much a counter grew; a fall is a reset, after which it has grown by what it shows."""
    grown = 0.0
    for before, after in zip(values, values[1:], strict=False):
        grown += after - before if after >= before else after
    return grown


class Evaluator:
    """Evaluates rules for one view after the other and remembers what is pending, firing and resolved."""

    def __init__(self, rules: Iterable[ActiveRule]) -> None:
        self._programs = [_Program(active) for active in rules if active.rule.condition is not None]
        self._histories: dict[AlertKey, _History] = {}
        self.alerts: dict[AlertKey, Alert] = {}

    def evaluate(self, view: UpstreamView, now: float) -> Iterator[None]:
        """Take in an upstream's new view; a generator, to be exhausted, that yields between steps.

        While the upstream does not answer, the alerts of its streams are frozen: nobody knows better.
        """
        of_streams = [program for program in self._programs if program.rule.scope is Scope.STREAM]
        of_upstreams = [program for program in self._programs if program.rule.scope is Scope.UPSTREAM]
        holding: dict[AlertKey, float] = {}
        frozen = not view.up
        if not frozen:
            for index, state in enumerate(view.streams):
                subject = Subject(view, state)
                for program in of_streams:
                    self._hold(program, subject, now, holding)
                if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                    yield
        for program in of_upstreams:
            self._hold(program, Subject(view), now, holding)
        states = {state.identity.stream: state for state in view.streams}
        programs = {program.rule.name: program.active for program in self._programs}
        for key, value in holding.items():
            self._holds(programs[key.rule], key, view, states.get(key.stream), value, now)
        for key in [key for key in self.alerts if key.upstream == view.upstream and key not in holding]:
            if not (frozen and key.stream):
                self._ceased(programs.get(key.rule), key, now)
        self._forget_histories(view, frozen)

    def retire(self, upstreams: Iterable[str], now: float) -> None:
        """Resolve what is active for upstreams that are not configured any more."""
        kept = frozenset(upstreams)
        for key, alert in list(self.alerts.items()):
            if key.upstream not in kept:
                self._end(alert, now)

    def forget_resolved(self, now: float) -> None:
        """Drop resolved alerts whose end was repeated long enough."""
        for key, alert in list(self.alerts.items()):
            if alert.resolved_at is not None and now >= alert.resolved_at + RESOLVED_KEPT_SECONDS:
                del self.alerts[key]

    # -- conditions ----------------------------------------------------------------------------------------------------

    def _hold(self, program: _Program, subject: Subject, now: float, holding: dict[AlertKey, float]) -> None:
        stream = subject.state.identity.stream if subject.state else ""
        for extra, value in program.measured(subject):
            key = AlertKey(program.rule.name, subject.view.upstream, stream, extra)
            reduced = self._reduced(program.window, key, value, now)
            if reduced is not None and program.is_crossed(reduced, subject) and program.guards_hold(subject):
                holding[key] = reduced

    def _reduced(self, window: Window | None, key: AlertKey, value: float, now: float) -> float | None:
        if window is None:
            return value
        history = self._histories.setdefault(key, _History())
        history.add(now, value, window.seconds)
        return history.reduced(window.over)

    def _forget_histories(self, view: UpstreamView, frozen: bool) -> None:
        if frozen or not self._histories:
            return
        served = {state.identity.stream for state in view.streams}
        gone = [key for key in self._histories if key.upstream == view.upstream and key.stream not in served]
        for key in gone:
            del self._histories[key]

    # -- states --------------------------------------------------------------------------------------------------------

    def _holds(
        self, active: ActiveRule, key: AlertKey, view: UpstreamView, state: StreamState | None, value: float, now: float
    ) -> None:
        alert = self.alerts.get(key)
        if alert is None or alert.phase is Phase.RESOLVED:
            alert = self.alerts[key] = Alert(key, view.platform, Phase.PENDING, active_at=now, value=value)
        alert.value = value
        alert.keep_since = None
        if state is not None:
            alert.reasons = tuple(reason.value for reason in state.health_reasons)
            alert.issues = state.sample.issues or ()
        if alert.phase is Phase.PENDING and now - alert.active_at >= active.for_seconds:
            alert.phase, alert.fired_at = Phase.FIRING, now

    def _ceased(self, active: ActiveRule | None, key: AlertKey, now: float) -> None:
        alert = self.alerts[key]
        if alert.phase is Phase.FIRING and active is not None and active.keep_firing_seconds > 0:
            if alert.keep_since is None:
                alert.keep_since = now
            if now - alert.keep_since < active.keep_firing_seconds:
                return
        self._end(alert, now)

    def _end(self, alert: Alert, now: float) -> None:
        if alert.phase is Phase.PENDING:
            del self.alerts[alert.key]
        elif alert.phase is Phase.FIRING:
            alert.phase, alert.resolved_at, alert.keep_since = Phase.RESOLVED, now, None


class _Program:
    """A rule's condition, ready to be worked out many times."""

    def __init__(self, active: ActiveRule) -> None:
        condition = active.rule.condition
        assert condition is not None
        self.active = active
        self.rule = active.rule
        self._condition: Condition = condition
        self.measured: Reader = reader(condition.measure.left)
        window = condition.measure.left.window
        self.window = Window(window.over, window.seconds / active.time_scale) if window else None
        self._crossed = _OPERATORS[condition.measure.operator]
        self._limit = _limit(condition.measure, active.threshold)
        self._also = [_test(test, active.threshold) for test in condition.also]
        self._unless = [_test(test, active.threshold) for test in condition.unless]

    def is_crossed(self, value: float, subject: Subject) -> bool:
        limit = self._limit(subject)
        return limit is not None and self._crossed(value, limit)

    def guards_hold(self, subject: Subject) -> bool:
        return all(test(subject) for test in self._also) and not any(test(subject) for test in self._unless)


def _limit(compare: Compare, threshold: float | None) -> Callable[[Subject], float | None]:
    if not isinstance(compare.right, Threshold):
        constant = float(compare.right)
        return lambda _: constant
    assert threshold is not None, "a rule that compares with its threshold has one"
    if compare.right.of is None:
        return lambda _: threshold
    read = reader(compare.right.of)

    def limit(subject: Subject) -> float | None:
        value = _first(read(subject))
        return None if value is None else threshold * value

    return limit


def _test(test: Test, threshold: float | None) -> Callable[[Subject], bool]:
    series: Series = test.series if isinstance(test, Present) else test.left
    read = reader(series)
    if isinstance(test, Present):
        return lambda subject: _first(read(subject)) is not None
    crossed = _OPERATORS[test.operator]
    limit = _limit(test, threshold)

    def holds(subject: Subject) -> bool:
        value, right = _first(read(subject)), limit(subject)
        return value is not None and right is not None and crossed(value, right)

    return holds


def _first(samples: Iterable[tuple[Extra, float]]) -> float | None:
    return next((value for _, value in samples), None)
