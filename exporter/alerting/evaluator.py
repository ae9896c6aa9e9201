"""The sidecar's evaluator: the state machine of every rule and stream, after each poll, on the injected time.

inactive → pending (``for``) → firing (→ keep firing) → resolved, as Prometheus has it, so that both agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from exporter.alerting.compiled_conditions import Program
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Scope
from exporter.alerting.series_lookup import Extra, Subject
from exporter.model import StreamState, UpstreamState

__all__ = ["ActiveRule", "Alert", "AlertKey", "Evaluator", "Phase"]

RESOLVED_KEPT_SECONDS = 15 * 60.0
"""How long a resolved alert is remembered, and its end repeated: an Alertmanager that was away must hear of it."""
STREAMS_PER_STEP = 100


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
    """The values of the rule's own ``labels``."""


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


class Evaluator:
    """Evaluates rules for one view after the other and remembers what is pending, firing and resolved."""

    def __init__(self, rules: Iterable[ActiveRule]) -> None:
        programs = [Program(active) for active in rules if active.rule.condition is not None]
        self._of_streams = [program for program in programs if program.rule.scope is Scope.STREAM]
        self._of_upstreams = [program for program in programs if program.rule.scope is Scope.UPSTREAM]
        self._rules = {program.rule.name: program.active for program in programs}
        self.alerts: dict[AlertKey, Alert] = {}

    def evaluate(self, view: UpstreamState, now: float) -> Iterator[None]:
        """Take in an upstream's view; a generator, to be exhausted, that yields between steps.

        To be called for each new view, and again with the same one at ``due_at``. While an upstream does not answer and
        nothing is known of a stream any more, the firing alerts of that stream are frozen: nobody knows better.
        """
        holding: dict[AlertKey, float] = {}
        known: dict[str, StreamState] = {}
        for index, state in enumerate(view.streams):
            if view.up or state.status is not None:
                known[state.identity.stream] = state
                for program in self._of_streams:
                    _hold(program, Subject(view, state, state.identity.stream), now, holding)
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        for program in self._of_upstreams:
            _hold(program, Subject(view), now, holding)
        if view.up:
            self._hold_departed(view, known, now, holding)
        for key, value in holding.items():
            self._holds(key, view, known.get(key.stream), value, now)
        for alert in [alert for key, alert in self.alerts.items() if key.upstream == view.upstream]:
            if alert.key not in holding:
                is_unknown = bool(alert.key.stream) and not view.up and alert.key.stream not in known
                self._ceased(alert, now, frozen=is_unknown)

    def due_at(self, upstream: str) -> float:
        """Unix seconds at which an alert of this upstream fires or resolves although no poll brings news; or infinity.

        Polls of an upstream that fails are up to a minute apart: no ``for`` should wait for them.
        """
        return min(
            (self._due(alert) for key, alert in self.alerts.items() if key.upstream == upstream), default=math.inf
        )

    def retire(self, upstreams: Iterable[str], now: float) -> None:
        """Resolve what is active for upstreams other than these: they are not configured any more."""
        kept = frozenset(upstreams)
        for key, alert in list(self.alerts.items()):
            if key.upstream not in kept:
                self._end(alert, now)
        for program in self._of_streams:
            program.forget_upstreams(kept)

    def forget_resolved(self, now: float) -> None:
        """Drop resolved alerts whose end was repeated long enough."""
        for key, alert in list(self.alerts.items()):
            if alert.resolved_at is not None and now >= alert.resolved_at + RESOLVED_KEPT_SECONDS:
                del self.alerts[key]

    # -- conditions ----------------------------------------------------------------------------------------------------

    def _hold_departed(
        self, view: UpstreamState, known: dict[str, StreamState], now: float, holding: dict[AlertKey, float]
    ) -> None:
        """A window outlives what is served: as in Prometheus, the reports in it count until they have left it."""
        for program in self._of_streams:
            for stream in program.remembered(view.upstream, now) - known.keys():
                _hold(program, Subject(view, None, stream), now, holding)

    # -- states --------------------------------------------------------------------------------------------------------

    def _holds(self, key: AlertKey, view: UpstreamState, state: StreamState | None, value: float, now: float) -> None:
        alert = self.alerts.get(key)
        if alert is None or alert.phase is Phase.RESOLVED:
            alert = self.alerts[key] = Alert(key, view.platform, Phase.PENDING, active_at=now, value=value)
        alert.value = value
        alert.keep_since = None
        if state is not None:
            alert.reasons = tuple(reason.value for reason in state.health_reasons)
            alert.issues = state.report.issues or ()
        if alert.phase is Phase.PENDING and now - alert.active_at >= self._rules[key.rule].for_seconds:
            alert.phase, alert.fired_at = Phase.FIRING, now

    def _ceased(self, alert: Alert, now: float, *, frozen: bool) -> None:
        if alert.phase is Phase.FIRING:
            if frozen:
                return
            active = self._rules.get(alert.key.rule)
            if active is not None and active.keep_firing_seconds > 0:
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

    def _due(self, alert: Alert) -> float:
        active = self._rules.get(alert.key.rule)
        if active is None or alert.phase is Phase.RESOLVED:
            return math.inf
        if alert.phase is Phase.PENDING:
            return alert.active_at + active.for_seconds
        return math.inf if alert.keep_since is None else alert.keep_since + active.keep_firing_seconds


def _hold(program: Program, subject: Subject, now: float, holding: dict[AlertKey, float]) -> None:
    for extra, value in program.crossing(subject, now):
        holding[AlertKey(program.rule.name, subject.view.upstream, subject.stream, extra)] = value
