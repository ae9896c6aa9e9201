"""The sidecar's evaluator: one state machine per rule and stream, run after each poll.

inactive → pending (``for``) → firing (→ keep firing) → resolved, as in Prometheus, so that both agree.

While an upstream is not answering, conditions that need evidence are not evaluated: pending alerts pause, and firing
ones keep firing. When it answers again, pending alerts resume (Prometheus restarts them). While it is unknown whether
an upstream is answering, as after a start, none of its alerts change.

Groups are evaluated on their own states, whenever one of them has changed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.alerting.compiled_conditions import CompiledCondition, Match
from exporter.alerting.group_conditions import CompiledGroupCondition, member_names
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Scope
from exporter.alerting.rules.upstream_rules import MAINTENANCE
from exporter.alerting.series_lookup import ExtraLabels, Subject
from exporter.model import GroupState, Labels, Maintenance, StreamState, UpstreamState
from exporter.runtime.clock import Instant

RESOLVED_KEPT_SECONDS = 15 * 60.0
"""Time to keep a resolved alert, in case an Alertmanager is unreachable or restarts."""
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
    severity: str = ""
    """Set by the evaluator; empty in state files of earlier versions."""
    labels: Labels = ()
    """Labels configured for the upstream when the alert started. Alertmanager identifies an alert by its labels."""
    group: str = ""
    """Group of an alert about a group, which has neither upstream nor stream."""


@dataclass
class Alert:
    """State of one alert.

    Times are in Unix seconds, read from the wall clock at the time. Durations are measured with the ``…_steady``
    fields, which are set at the same time and do not depend on the wall clock.
    """

    key: AlertKey
    platform: str
    phase: Phase
    active_at: float
    value: float
    fired_at: float | None = None
    resolved_at: float | None = None
    keep_since: float | None = None
    """When the condition became false, while the alert keeps firing; None if unknown."""
    reasons: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()
    state: str = ""
    """The stream's status, or the reason for the upstream's failure."""
    unplayable: str = ""
    """Why the stream cannot be played, in words."""
    reference: float | None = None
    """Value of the series that ``value`` is compared with."""
    threshold: float | None = None
    """Threshold of the rule for this stream or upstream, if it has been overridden."""
    last_bitrate: float | None = None
    """Last known ingest bitrate of the stream, in bytes per second."""
    last_viewers: int | None = None
    needed: int | None = None
    """Number of streams that the group needs."""
    off_air: tuple[str, ...] = ()
    """Names of the group's streams that are off air."""
    unknown: tuple[str, ...] = ()
    """Names of the group's streams in an unknown state."""
    active_steady: float = 0.0
    resolved_steady: float | None = None
    keep_steady: float | None = None
    maintenance: Maintenance | None = None
    """The maintenance window that the alert is about."""
    stopped_steady: float | None = None
    """When a pending alert was paused because its upstream stopped answering."""


class Evaluator:
    """Evaluates the rules against upstream states, and keeps the pending, firing and resolved alerts."""

    def __init__(self, rules: Iterable[ActiveRule]) -> None:
        rules = list(rules)
        conditions = [
            CompiledCondition(active, grade)
            for active in rules
            if active.rule.condition is not None
            for grade in active.grades
        ]
        self._group_conditions = [
            CompiledGroupCondition(active, grade)
            for active in rules
            if active.rule.group_guards
            for grade in active.grades
        ]
        self._stream_conditions = [condition for condition in conditions if condition.rule.scope is Scope.STREAM]
        self._fed_conditions: dict[frozenset[str] | None, list[CompiledCondition]] = {}
        """The stream conditions that can hold, by ``UpstreamState.feeds``: most platforms feed only some of them."""
        self._upstream_conditions = [condition for condition in conditions if condition.rule.scope is Scope.UPSTREAM]
        self._shares = [condition.share for condition in self._upstream_conditions if condition.share is not None]
        compiled: list[CompiledCondition | CompiledGroupCondition] = [*conditions, *self._group_conditions]
        self._conditions = {(condition.rule.name, condition.grade.severity.value): condition for condition in compiled}
        self.alerts: dict[AlertKey, Alert] = {}
        self._stream_ids: dict[tuple[str, str], str] = {}
        """Platform ids of streams with alerts, by upstream and label. They may be secret, so never expose them."""

    def evaluate(
        self,
        upstream_state: UpstreamState,
        now: Instant,
        covered: Collection[str] = frozenset(),
        *,
        is_seen_playing: bool = False,
    ) -> Iterator[None]:
        """Evaluate the rules for an upstream, yielding between steps; the caller must exhaust the generator.

        ``covered``: labels of its streams without which their group is up. ``is_seen_playing``: whether playback checks
        show that its expected streams play. Call it for each new state, and again with the same state at ``due_at`` and
        when one of these changes.
        """
        self._follow_changed_labels(upstream_state, now)
        is_answering = upstream_state.answering is True
        values: dict[AlertKey, Match] = {}
        known_streams: dict[str, StreamState] = {}
        stream_conditions = self._conditions_fed_by(upstream_state.feeds)
        for share in self._shares:
            share.start()
        for index, stream_state in enumerate(upstream_state.streams if is_answering else ()):
            label = stream_state.identity.stream
            known_streams[label] = stream_state
            subject = Subject(upstream_state, stream_state, label, label in covered)
            _collect_matches(stream_conditions, subject, now.steady, values)
            for share in self._shares:
                share.add(subject)
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        self._follow_renamed_streams(upstream_state, now)
        conditions = [c for c in self._upstream_conditions if is_answering or not c.needs_evidence]
        _collect_matches(conditions, Subject(upstream_state, is_covered=is_seen_playing), now.steady, values)
        if is_answering:
            self._collect_departed_streams(upstream_state, known_streams, now.steady, values)
        else:
            for condition in self._stream_conditions:
                condition.note_outage(upstream_state.upstream)
        if upstream_state.answering is not None:
            self._resume(upstream_state, now.steady)
        self._update_alerts(upstream_state, known_streams, values, now)

    def evaluate_groups(self, groups: Iterable[GroupState], now: Instant) -> None:
        """Evaluate the rules for groups. Call it for new states, and again at ``due_at``."""
        for group in groups:
            alerts = [alert for key, alert in self.alerts.items() if key.group == group.group]
            if group.is_awaited:
                for alert in alerts:
                    self._pause(alert, now.steady)
                continue
            for alert in alerts:
                _resume_alert(alert, now.steady)
            match = Match((), float(group.live), None)
            values = {
                AlertKey(condition.rule.name, "", severity=condition.grade.severity.value, group=group.group): match
                for condition in self._group_conditions
                if condition.holds(group)
            }
            for key in [key for key in values if not self._is_replaced_by_critical(key, values)]:
                alert = self._activate(key, "", match, now)
                alert.needed = group.needed
                alert.off_air, alert.unknown = member_names(group, live=False), member_names(group, live=None)
            self._deactivate_others(alerts, values, now)

    def due_at(self, upstream: str, after: float = -math.inf) -> float:
        """Return when an alert of this upstream fires or resolves without a new poll (steady clock, or infinity).

        Alerts of groups have an empty upstream.

        Polls of a failing upstream can be a minute apart, and ``for`` should not wait for them. Alerts due at ``after``
        or earlier are skipped: their upstream is not answering, so they wait for a new state.
        """
        times = (self._due_time(alert) for key, alert in self.alerts.items() if key.upstream == upstream)
        return min((time for time in times if time > after), default=math.inf)

    def keep_only_upstreams(self, upstreams: Iterable[str], now: Instant) -> None:
        """Resolve the alerts of all other upstreams, which are no longer configured."""
        kept = frozenset(upstreams)
        for key, alert in list(self.alerts.items()):
            if key.upstream not in kept and not key.group:
                self._resolve(alert, now)
        for condition in self._stream_conditions:
            condition.keep_only_upstreams(kept)

    def keep_only_groups(self, groups: Iterable[str], now: Instant) -> None:
        """Resolve the alerts of all other groups, which are no longer configured or belong to another shard."""
        kept = frozenset(groups)
        for key, alert in list(self.alerts.items()):
            if key.group and key.group not in kept:
                self._resolve(alert, now)

    def forget_resolved(self, steady_now: float) -> None:
        """Drop alerts that were resolved more than ``RESOLVED_KEPT_SECONDS`` ago."""
        for key, alert in list(self.alerts.items()):
            if alert.resolved_steady is not None and steady_now >= alert.resolved_steady + RESOLVED_KEPT_SECONDS:
                del self.alerts[key]

    def _conditions_fed_by(self, feeds: frozenset[str] | None) -> list[CompiledCondition]:
        conditions = self._fed_conditions.get(feeds)
        if conditions is None:
            conditions = [condition for condition in self._stream_conditions if condition.can_hold(feeds)]
            self._fed_conditions[feeds] = conditions
        return conditions

    def _collect_departed_streams(
        self,
        upstream_state: UpstreamState,
        known_streams: dict[str, StreamState],
        steady_now: float,
        values: dict[AlertKey, Match],
    ) -> None:
        """Evaluate streams that are no longer served: as in Prometheus, their samples within the window count."""
        for condition in self._stream_conditions:
            for stream in condition.streams_in_window(upstream_state.upstream, steady_now) - known_streams.keys():
                _collect_matches([condition], Subject(upstream_state, None, stream), steady_now, values)

    def _update_alerts(
        self,
        upstream_state: UpstreamState,
        known_streams: Mapping[str, StreamState],
        values: Mapping[AlertKey, Match],
        now: Instant,
    ) -> None:
        """Update the alerts of an upstream from the conditions that hold now."""
        for key, match in values.items():
            if not self._is_replaced_by_critical(key, values):
                alert = self._activate(key, upstream_state.platform, match, now)
                self._describe(alert, upstream_state, known_streams.get(key.stream))
        evaluated = []
        for alert in [alert for key, alert in self.alerts.items() if key.upstream == upstream_state.upstream]:
            if self._can_evaluate(alert, upstream_state):
                evaluated.append(alert)
            else:
                self._pause(alert, now.steady)
        self._deactivate_others(evaluated, values, now)

    def _deactivate_others(self, alerts: Iterable[Alert], values: Mapping[AlertKey, Match], now: Instant) -> None:
        """Deactivate alerts whose condition does not hold, or is replaced by that of the critical grade."""
        for alert in alerts:
            critical_key = self._critical_key(alert.key)
            if alert.key in values:
                if self._is_replaced_by_critical(alert.key, values):
                    self._replace_by_critical(alert, now.steady)
            elif alert.phase is Phase.FIRING and critical_key in values and self._is_firing(critical_key):
                # its stream is no longer covered by a group, and the critical alert has taken over
                del self.alerts[alert.key]
            else:
                self._deactivate(alert, now)

    def _can_evaluate(self, alert: Alert, upstream_state: UpstreamState) -> bool:
        """Return whether enough is known about the upstream to evaluate the alert's condition."""
        condition = self._conditions.get((alert.key.rule, alert.key.severity))
        if condition is not None and condition.is_setting:
            return True
        needs_evidence = condition is not None and condition.needs_evidence
        return upstream_state.answering is not None and (upstream_state.answering or not needs_evidence)

    def _is_replaced_by_critical(self, key: AlertKey, values: Mapping[AlertKey, Match]) -> bool:
        """Return whether the critical grade of the same rule also holds, and replaces this one.

        The critical alert takes over when it fires, or at once if its ``for`` is not longer.
        """
        critical_key = self._critical_key(key)
        if critical_key is None or critical_key not in values:
            return False
        condition = self._conditions[key.rule, key.severity]
        worst = condition.active.grades[0]
        return self._is_firing(critical_key) or worst.for_seconds <= condition.grade.for_seconds

    def _replace_by_critical(self, alert: Alert, steady_now: float) -> None:
        """End an alert that its critical grade replaces, without sending a resolve.

        A firing alert stays until the critical one fires. As in Prometheus, its keep-firing time runs meanwhile.
        """
        if alert.phase is Phase.PENDING or (
            alert.phase is Phase.FIRING and self._is_firing(self._critical_key(alert.key))
        ):
            del self.alerts[alert.key]
        elif alert.phase is Phase.FIRING and alert.keep_steady is None:
            alert.keep_steady = steady_now

    def _critical_key(self, key: AlertKey) -> AlertKey | None:
        """Return the key of the critical alert of the same rule; None if there is none, or this is it."""
        condition = self._conditions.get((key.rule, key.severity))
        worst = key.severity if condition is None else condition.active.grades[0].severity.value
        return None if worst == key.severity else replace(key, severity=worst)

    def _is_firing(self, key: AlertKey | None) -> bool:
        alert = self.alerts.get(key) if key is not None else None
        return alert is not None and alert.phase is Phase.FIRING

    def _pause(self, alert: Alert, steady_now: float) -> None:
        """Pause a pending alert until its upstream answers again; a firing one keeps firing."""
        if alert.phase is Phase.PENDING and alert.stopped_steady is None:
            alert.stopped_steady = steady_now
        elif alert.phase is Phase.FIRING:
            alert.keep_since = None

    def _resume(self, upstream_state: UpstreamState, steady_now: float) -> None:
        """Resume the paused alerts of an upstream that can be evaluated again."""
        for key, alert in self.alerts.items():
            if key.upstream != upstream_state.upstream or alert.stopped_steady is None:
                continue
            if self._can_evaluate(alert, upstream_state):
                _resume_alert(alert, steady_now)

    def _activate(self, key: AlertKey, platform: str, match: Match, now: Instant) -> Alert:
        alert = self.alerts.get(key)
        if alert is None or alert.phase is Phase.RESOLVED:
            alert = self.alerts[key] = Alert(
                key, platform, Phase.PENDING, active_at=now.wall, active_steady=now.steady, value=match.value
            )
        alert.value, alert.reference, alert.threshold = match.value, match.reference, match.threshold
        alert.keep_since = alert.keep_steady = None
        for_seconds = self._conditions[key.rule, key.severity].grade.for_seconds
        if alert.phase is Phase.PENDING and now.steady - alert.active_steady >= for_seconds:
            alert.phase, alert.fired_at = Phase.FIRING, now.wall
        return alert

    def _describe(self, alert: Alert, upstream_state: UpstreamState, stream_state: StreamState | None) -> None:
        """Set the facts that the alert's annotations mention."""
        key = alert.key
        if stream_state is not None:
            if stream_state.report.id:
                self._stream_ids[key.upstream, key.stream] = stream_state.report.id
            alert.reasons = tuple(reason.value for reason in stream_state.health_reasons)
            alert.issues = stream_state.report.issues or ()
            alert.state = stream_state.status.value
            alert.unplayable = stream_state.report.playback_detail
            alert.last_bitrate = stream_state.last_ingest_bitrate_bytes_per_second
            alert.last_viewers = stream_state.last_viewers
        elif not key.stream:
            reason = upstream_state.last_error_reason
            alert.state = reason.value if reason is not None else ""
        if key.rule == MAINTENANCE:
            alert.maintenance = upstream_state.maintenance_of(*key.extra)

    def _follow_changed_labels(self, upstream_state: UpstreamState, now: Instant) -> None:
        """Continue the alerts of an upstream under its changed labels, and resolve them under the old ones."""
        upstream, labels = upstream_state.upstream, upstream_state.labels
        changed = [a for key, a in self.alerts.items() if key.upstream == upstream and key.labels != labels]
        for alert in changed:
            if alert.phase is not Phase.RESOLVED:
                self._continue_as(replace(alert.key, labels=labels), alert, now)

    def _continue_as(self, key: AlertKey, alert: Alert, now: Instant) -> None:
        """Continue an alert under another key, and resolve it under the old one."""
        self.alerts[key] = replace(alert, key=key)
        self._resolve(alert, now)

    def _follow_renamed_streams(self, upstream_state: UpstreamState, now: Instant) -> None:
        """Continue the alerts of renamed streams under the new labels, and resolve them under the old ones."""
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
                    self._continue_as(new_key, alert, now)
                    self._stream_ids[upstream, new_key.stream] = state.report.id
        with_alerts = {(key.upstream, key.stream) for key in self.alerts}
        self._stream_ids = {place: id_ for place, id_ in self._stream_ids.items() if place in with_alerts}

    def _deactivate(self, alert: Alert, now: Instant) -> None:
        if alert.phase is Phase.FIRING:
            condition = self._conditions.get((alert.key.rule, alert.key.severity))
            keep_firing_seconds = 0.0 if condition is None else condition.active.keep_firing_seconds
            if keep_firing_seconds > 0:
                if alert.keep_steady is None:
                    alert.keep_steady = now.steady
                if alert.keep_since is None:
                    alert.keep_since = now.wall - (now.steady - alert.keep_steady)
                if now.steady - alert.keep_steady < keep_firing_seconds:
                    return
        self._resolve(alert, now)

    def _resolve(self, alert: Alert, now: Instant) -> None:
        if alert.phase is Phase.PENDING or (alert.phase is Phase.FIRING and self._has_other_grade_firing(alert.key)):
            # the alert of the other severity takes over, so no resolve is sent
            del self.alerts[alert.key]
        elif alert.phase is Phase.FIRING:
            alert.phase = Phase.RESOLVED
            alert.resolved_at, alert.resolved_steady = now
            alert.keep_since = alert.keep_steady = None

    def _has_other_grade_firing(self, key: AlertKey) -> bool:
        condition = self._conditions.get((key.rule, key.severity))
        others = [] if condition is None else [grade for grade in condition.active.grades if grade != condition.grade]
        alerts = (self.alerts.get(replace(key, severity=grade.severity.value)) for grade in others)
        return any(alert is not None and alert.phase is Phase.FIRING and alert.keep_steady is None for alert in alerts)

    def _due_time(self, alert: Alert) -> float:
        condition = self._conditions.get((alert.key.rule, alert.key.severity))
        if condition is None or alert.phase is Phase.RESOLVED or alert.stopped_steady is not None:
            return math.inf
        if alert.phase is Phase.PENDING:
            return alert.active_steady + condition.grade.for_seconds
        keep_firing_seconds = condition.active.keep_firing_seconds
        return math.inf if alert.keep_steady is None else alert.keep_steady + keep_firing_seconds


def _resume_alert(alert: Alert, steady_now: float) -> None:
    """Resume an alert if it was paused."""
    if alert.stopped_steady is not None:
        alert.active_steady += steady_now - alert.stopped_steady
        alert.stopped_steady = None


def _collect_matches(
    conditions: Iterable[CompiledCondition], subject: Subject, steady_now: float, values: dict[AlertKey, Match]
) -> None:
    """Add a match for each condition that holds for a subject, critical grades before lower ones."""
    for condition in conditions:
        for match in condition.matches(subject, steady_now):
            severity = condition.grade.severity.value
            state = subject.upstream_state
            key = AlertKey(
                condition.rule.name, state.upstream, subject.stream, match.extra, severity, labels=state.labels
            )
            values[key] = match
