"""The sidecar's evaluator: the state machine of every rule and stream, run after each poll at a given moment.

inactive → pending (``for``) → firing (→ keep firing) → resolved, as in Prometheus, so that both agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.alerting.compiled_conditions import CompiledCondition
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Scope
from exporter.alerting.series_lookup import ExtraLabels, Subject
from exporter.model import StreamState, UpstreamState
from exporter.runtime.clock import Instant

RESOLVED_KEPT_SECONDS = 15 * 60.0
"""How long a resolved alert is kept and its end repeated, for an Alertmanager that was unreachable."""
STREAMS_PER_STEP = 100


class Phase(StrEnum):
    """Phase of an alert."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, order=True)
class AlertKey:
    """Identity of an alert."""

    rule: str
    upstream: str
    stream: str = ""
    extra: ExtraLabels = ()
    """Values of the rule's own ``labels``."""


@dataclass
class Alert:
    """State of one alert.

    Times are in Unix seconds, as the wall clock showed them at that moment. Durations are measured from the fields
    ``…_steady``, which are set together with them and do not depend on the wall clock.
    """

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
    active_steady: float = 0.0
    resolved_steady: float | None = None
    keep_steady: float | None = None


class Evaluator:
    """Evaluates rules for one upstream state after the other and keeps the pending, firing and resolved alerts."""

    def __init__(self, rules: Iterable[ActiveRule]) -> None:
        conditions = [CompiledCondition(active) for active in rules if active.rule.condition is not None]
        self._stream_conditions = [condition for condition in conditions if condition.rule.scope is Scope.STREAM]
        self._upstream_conditions = [condition for condition in conditions if condition.rule.scope is Scope.UPSTREAM]
        self._rules = {condition.rule.name: condition.active for condition in conditions}
        self.alerts: dict[AlertKey, Alert] = {}
        self._stream_ids: dict[tuple[str, str], str] = {}
        """The platform's id of each stream with alerts, by upstream and label. It may be a secret: it stays here."""

    def evaluate(self, upstream_state: UpstreamState, now: Instant) -> Iterator[None]:
        """Evaluate the rules for an upstream; a generator, to be exhausted, that yields between steps.

        To be called for each new state, and again with the same one at ``due_at``. While an upstream does not answer
        and nothing is known of a stream any more, the firing alerts of that stream are frozen.
        """
        values: dict[AlertKey, float] = {}
        known_streams: dict[str, StreamState] = {}
        for index, stream_state in enumerate(upstream_state.streams):
            if upstream_state.up or not stream_state.is_withdrawn:
                label = stream_state.identity.stream
                known_streams[label] = stream_state
                _collect_values(
                    self._stream_conditions, Subject(upstream_state, stream_state, label), now.steady, values
                )
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        self._follow_renamed_streams(upstream_state, now)
        _collect_values(self._upstream_conditions, Subject(upstream_state), now.steady, values)
        if upstream_state.up:
            self._collect_departed_streams(upstream_state, known_streams, now.steady, values)
        for key, value in values.items():
            self._activate(key, upstream_state, known_streams.get(key.stream), value, now)
        for alert in [alert for key, alert in self.alerts.items() if key.upstream == upstream_state.upstream]:
            if alert.key not in values:
                is_unknown = bool(alert.key.stream) and not upstream_state.up and alert.key.stream not in known_streams
                self._deactivate(alert, now, frozen=is_unknown)

    def due_at(self, upstream: str) -> float:
        """When an alert of this upstream fires or resolves without a new poll, on the steady clock, or infinity.

        Polls of a failing upstream are up to a minute apart, and a ``for`` should not wait for them.
        """
        return min(
            (self._due_time(alert) for key, alert in self.alerts.items() if key.upstream == upstream), default=math.inf
        )

    def keep_only_upstreams(self, upstreams: Iterable[str], now: Instant) -> None:
        """Resolve the alerts of all other upstreams: they are no longer configured."""
        kept = frozenset(upstreams)
        for key, alert in list(self.alerts.items()):
            if key.upstream not in kept:
                self._resolve(alert, now)
        for condition in self._stream_conditions:
            condition.keep_only_upstreams(kept)

    def forget_resolved(self, steady_now: float) -> None:
        """Drop resolved alerts whose end was repeated long enough."""
        for key, alert in list(self.alerts.items()):
            if alert.resolved_steady is not None and steady_now >= alert.resolved_steady + RESOLVED_KEPT_SECONDS:
                del self.alerts[key]

    def _collect_departed_streams(
        self,
        upstream_state: UpstreamState,
        known_streams: dict[str, StreamState],
        steady_now: float,
        values: dict[AlertKey, float],
    ) -> None:
        """Evaluate streams that are no longer served: as in Prometheus, their samples count while in the window."""
        for condition in self._stream_conditions:
            for stream in condition.streams_in_window(upstream_state.upstream, steady_now) - known_streams.keys():
                _collect_values([condition], Subject(upstream_state, None, stream), steady_now, values)

    def _activate(
        self, key: AlertKey, upstream_state: UpstreamState, stream_state: StreamState | None, value: float, now: Instant
    ) -> None:
        alert = self.alerts.get(key)
        if alert is None or alert.phase is Phase.RESOLVED:
            alert = self.alerts[key] = Alert(
                key,
                upstream_state.platform,
                Phase.PENDING,
                active_at=now.wall,
                active_steady=now.steady,
                value=value,
            )
        alert.value = value
        alert.keep_since = alert.keep_steady = None
        if stream_state is not None:
            if stream_state.report.id:
                self._stream_ids[key.upstream, key.stream] = stream_state.report.id
            alert.reasons = tuple(reason.value for reason in stream_state.health_reasons)
            alert.issues = stream_state.report.issues or ()
        if alert.phase is Phase.PENDING and now.steady - alert.active_steady >= self._rules[key.rule].for_seconds:
            alert.phase, alert.fired_at = Phase.FIRING, now.wall

    def _follow_renamed_streams(self, upstream_state: UpstreamState, now: Instant) -> None:
        """Let the alerts of a stream whose label has changed go on under the new one, and resolve the old ones."""
        upstream = upstream_state.upstream
        known = {label: stream_id for (name, label), stream_id in self._stream_ids.items() if name == upstream}
        if not known:
            return
        labels = {state.identity.stream for state in upstream_state.streams}
        gone = {stream_id: label for label, stream_id in known.items() if label not in labels}
        for state in upstream_state.streams if gone else ():
            old_label = gone.get(state.report.id)
            for key, alert in list(self.alerts.items()) if old_label is not None else ():
                if (key.upstream, key.stream) == (upstream, old_label) and alert.phase is not Phase.RESOLVED:
                    new_key = replace(key, stream=state.identity.stream)
                    self.alerts[new_key] = replace(alert, key=new_key)
                    self._stream_ids[upstream, new_key.stream] = state.report.id
                    self._resolve(alert, now)
        with_alerts = {(key.upstream, key.stream) for key in self.alerts}
        self._stream_ids = {place: id_ for place, id_ in self._stream_ids.items() if place in with_alerts}

    def _deactivate(self, alert: Alert, now: Instant, *, frozen: bool) -> None:
        if alert.phase is Phase.FIRING:
            if frozen:
                return
            active = self._rules.get(alert.key.rule)
            if active is not None and active.keep_firing_seconds > 0:
                if alert.keep_steady is None:
                    alert.keep_since, alert.keep_steady = now
                if now.steady - alert.keep_steady < active.keep_firing_seconds:
                    return
        self._resolve(alert, now)

    def _resolve(self, alert: Alert, now: Instant) -> None:
        if alert.phase is Phase.PENDING:
            del self.alerts[alert.key]
        elif alert.phase is Phase.FIRING:
            alert.phase = Phase.RESOLVED
            alert.resolved_at, alert.resolved_steady = now
            alert.keep_since = alert.keep_steady = None

    def _due_time(self, alert: Alert) -> float:
        active = self._rules.get(alert.key.rule)
        if active is None or alert.phase is Phase.RESOLVED:
            return math.inf
        if alert.phase is Phase.PENDING:
            return alert.active_steady + active.for_seconds
        return math.inf if alert.keep_steady is None else alert.keep_steady + active.keep_firing_seconds


def _collect_values(
    conditions: Iterable[CompiledCondition], subject: Subject, steady_now: float, values: dict[AlertKey, float]
) -> None:
    """Add the values of the conditions that hold for a subject."""
    for condition in conditions:
        for extra, value in condition.matches(subject, steady_now):
            values[AlertKey(condition.rule.name, subject.upstream_state.upstream, subject.stream, extra)] = value
