"""The alerting sidecar: evaluates every published state and sends changes to Alertmanager, webhooks and a platform.

It runs in its own tasks, so polls and scrapes never wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import structlog

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.evaluator import Alert, AlertKey, Evaluator, Phase
from exporter.alerting.event_queue import AlertEventQueue
from exporter.alerting.group_conditions import covered_streams
from exporter.alerting.notifier import Notifier, ResolveAddresses, resolve_addresses
from exporter.alerting.outbox import HORIZON_FACTOR, sending_order
from exporter.alerting.payload import AlertFormatter, AlertPayload
from exporter.alerting.playback_coverage import is_seen_playing
from exporter.alerting.rules import RULES_BY_NAME, Owner
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.alerting.rules.upstream_rules import MAINTENANCE
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.state_file import FILE_NAME, AlertState, AlertStateFile
from exporter.alerting.webhooks import Webhooks
from exporter.config.alerting import AlertingSettings
from exporter.model import GroupState, UpstreamState
from exporter.platforms.capabilities import AlertSink
from exporter.runtime.clock import Clock
from exporter.runtime.files import DEADLINE_SECONDS, FileError, call_within_async
from exporter.runtime.logging import describe_exception
from exporter.runtime.tasks import cancel_tasks
from exporter.store import Store

log = structlog.get_logger()

RESEND_SECONDS = 60.0
FLUSH_SECONDS = 1.0
"""Time limit for the last delivery attempt at shutdown, which may take five seconds in all."""
DUE_SLACK_SECONDS = 0.001
"""Added to due times to make sure that ``for`` has passed despite rounding errors."""
CLOCK_STEP_SECONDS = 60.0
"""Wall-clock step after which all alerts are sent again, because their ``endsAt`` may now be in the past."""

_GROUPS = ""
"""Upstream of the alerts of groups."""


class Evaluation(NamedTuple):
    """Start and duration of an evaluation of an upstream's rules."""

    at: float
    """Start in Unix seconds."""
    seconds: float
    """Duration."""


class Sidecar:
    """Active while an Alertmanager, a webhook or WAVE events are configured. Must stay in one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        metrics: SidecarMetrics,
        find_sink: Callable[[str], AlertSink | None],
        page_url: str = "",
        runbook_url: str = DEFAULT_RUNBOOK_URL,
        time_scale: float = 1.0,
        resolve: ResolveAddresses = resolve_addresses,
    ) -> None:
        """``find_sink`` returns an upstream's alert sink; ``page_url`` and ``runbook_url`` are linked in alerts.

        ``time_scale`` divides every duration, for tests.
        """
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._find_sink = find_sink
        self._time_scale = time_scale
        self._page_url = page_url
        self._runbook_url = runbook_url
        self._resend_seconds = RESEND_SECONDS / time_scale
        self._settings = AlertingSettings()
        self._formatter = AlertFormatter((), {})
        self._rules: tuple[ActiveRule, ...] = ()
        self._evaluator = Evaluator(())
        self._notifier = Notifier(
            clock=clock,
            metrics=metrics,
            outbox=self,
            resend_seconds=self._resend_seconds,
            resolve=resolve,
        )
        self._webhooks = Webhooks(self, clock=clock, metrics=metrics, external_url=page_url, time_scale=time_scale)
        self._events: AlertEventQueue | None = None
        self._state_file: AlertStateFile | None = None
        self._state_path: Path | None = None
        self._maintained: dict[str, frozenset[str]] = {}
        """Streams with a firing StreamMaintenance (empty: the upstream itself), by upstream."""
        self._tasks: list[asyncio.Task[None]] = []
        self._events_task: asyncio.Task[None] | None = None
        self._started_at = clock.now()
        """Unix seconds, for the watchdog."""
        self._last_evaluation: Evaluation | None = None
        self._new_states: dict[str, UpstreamState] = {}
        self._due_times: dict[str, float] = {}
        """When alerts fire or resolve without a new poll, by upstream; alerts of groups have an empty one (steady
        clock)."""
        self._evaluated_groups: tuple[GroupState, ...] = ()
        self._covered: Mapping[str, frozenset[str]] = {}
        """Labels of streams without which their group is up, by upstream."""
        self._wakeup = asyncio.Event()
        self._due_timer: asyncio.Task[None] | None = None
        self._clock_offset = 0.0
        """Wall clock minus steady clock at the start or after the last clock step."""
        self._sent_phases: dict[AlertKey, tuple[Phase, float | None]] = {}
        self._lapse_ends: dict[AlertKey, float] = {}
        """Latest end that Alertmanagers had been given when an alert last changed (steady clock)."""
        store.subscribe(self._on_publish)
        store.subscribe_groups(self._wakeup.set)

    @property
    def active(self) -> bool:
        """Whether the sidecar is active."""
        return bool(self._tasks)

    @property
    def formatter(self) -> AlertFormatter:
        """Formatter for the rules in force."""
        return self._formatter

    @property
    def rules(self) -> Sequence[ActiveRule]:
        """The rules that the sidecar evaluates; empty while it is inactive."""
        return self._rules

    @property
    def last_evaluation(self) -> Evaluation | None:
        """The last evaluation of an upstream; None before the first one."""
        return self._last_evaluation

    @property
    def interval_seconds(self) -> float:
        """The shortest poll interval, because the rules are evaluated after every poll."""
        return min((state.poll_interval_seconds for state in self._store.states()), default=0.0)

    def alerts(self, phases: Collection[Phase] = (Phase.PENDING, Phase.FIRING)) -> list[Alert]:
        """Return the alerts in these phases, sorted by key."""
        alerts = (a for a in self._evaluator.alerts.values() if a.phase in phases and self._formatter.knows(a))
        return sorted(alerts, key=lambda alert: alert.key)

    # -- lifecycle -----------------------------------------------------------------------------------------------------

    async def apply(
        self, settings: AlertingSettings, upstreams: Sequence[str], state_folder: Path | None = None
    ) -> None:
        """Apply new settings: start, reconfigure or stop. Alert state survives everything except a stop.

        ``state_folder`` is the folder of the state file, unless ``alerting.state_file`` is set.
        """
        if not settings.has_receivers:
            await self.stop()
            self._settings = settings
            return
        before, self._settings = self._settings, settings
        if not self.active or before != settings:
            self._apply_rules(settings)
        state_path = settings.state_file or (state_folder / FILE_NAME if state_folder is not None else None)
        if not self.active or state_path != self._state_path:
            self._state_path = state_path
            await self._change_state_file(state_path)
        if before.external_labels != settings.external_labels:
            # external labels identify alerts, so start again with empty queues
            await self._notifier.close()
        await self._change_events(before, settings)
        self._evaluator.keep_only_upstreams(upstreams, self._clock.instant())
        self._evaluator.keep_only_groups((state.group for state in self._store.groups()), self._clock.instant())
        if not self.active:
            self._start()
        await self._notifier.apply(settings.alertmanagers)
        await self._webhooks.apply(settings.webhooks)
        self._send_changes(None)

    async def stop(self, *, flush: bool = False) -> None:
        """Stop without sending resolves: conditions may still hold, and otherwise the alerts expire by themselves."""
        tasks = [*self._tasks, *(task for task in (self._due_timer, self._events_task) if task)]
        self._tasks, self._due_timer, self._events_task, self._events = [], None, None, None
        await cancel_tasks(tasks)
        flush_seconds = FLUSH_SECONDS if flush else 0.0
        await asyncio.gather(self._notifier.close(flush_seconds), self._webhooks.flush(flush_seconds))
        if self._state_file is not None:
            # after the flush, so that the file includes what was just sent
            await self._state_file.close()
            self._state_file = None
        await self._webhooks.close()
        self._rules, self._evaluator = (), Evaluator(())
        self._sent_phases.clear()
        self._lapse_ends.clear()
        self._new_states.clear()
        self._due_times.clear()
        self._maintained.clear()
        self._evaluated_groups, self._covered = (), {}
        self._last_evaluation = None
        self._metrics.set_alerts(())

    def _start(self) -> None:
        self._started_at = self._clock.now()
        self._clock_offset = self._get_clock_offset()
        for state in self._store.states():
            self._new_states[state.upstream] = state
        self._wakeup.set()
        self._tasks = [
            asyncio.create_task(self._evaluate_forever(), name="alert evaluation"),
            asyncio.create_task(self._resend_forever(), name="alert resend"),
        ]
        log.info(
            "alerting sidecar started",
            alertmanagers=len(self._settings.alertmanagers),
            webhooks=len(self._settings.webhooks),
        )

    def _apply_rules(self, settings: AlertingSettings) -> None:
        """Apply the settings of the rules, and keep alert state."""
        rules = rules_in_force(settings, owners=(Owner.BOTH, Owner.SIDECAR), time_scale=self._time_scale)
        self._formatter = AlertFormatter(
            rules, settings.external_labels, page=self._page_url, runbook=self._runbook_url
        )
        if rules != self._rules:
            self._rules = rules
            evaluator = Evaluator(rules)
            evaluator.alerts.update(self._evaluator.alerts)
            self._evaluator = evaluator
            self._evaluated_groups = ()

    async def _change_state_file(self, path: Path | None) -> None:
        if self._state_file is not None:
            await self._state_file.close()
            self._state_file = None
        self._metrics.set_saved(False)
        if path is None:
            log.warning(
                "alert state is not saved and will not survive a restart: "
                "set state_dir, or the environment variable STATE_DIRECTORY or HOME"
            )
            return
        state_file = AlertStateFile(path, self._snapshot, clock=self._clock, metrics=self._metrics)
        try:
            if not await call_within_async(path, state_file.lock, DEADLINE_SECONDS):
                return
            restored = None if self.active else await call_within_async(path, state_file.load, DEADLINE_SECONDS)
        except FileError as error:
            log.error(
                "alert state file cannot be read; alert state will not survive a restart",
                state_file=str(path),
                error=error.strerror,
            )
            return
        if restored is not None:
            for alert in restored.alerts:
                self._restore_alert(alert)
            self._webhooks.restore(restored.webhooks)
        self._state_file = state_file
        state_file.start()

    def _snapshot(self) -> AlertState:
        """Return what to write to the state file."""
        return AlertState(list(self._evaluator.alerts.values()), self._webhooks.notified_groups())

    def _restore_alert(self, alert: Alert) -> None:
        rule = RULES_BY_NAME.get(alert.key.rule)
        if rule is not None and not alert.key.severity:
            # from a version whose rules had one severity each
            alert.key = replace(alert.key, severity=rule.severity.value)
        if self._formatter.knows(alert):
            self._evaluator.alerts[alert.key] = alert
            if alert.phase is not Phase.PENDING:
                self._sent_phases[alert.key] = alert.phase, alert.fired_at

    async def _change_events(self, before: AlertingSettings, settings: AlertingSettings) -> None:
        events = settings.wave_events
        if self._events_task is not None and (before.wave_events != events):
            await cancel_tasks([self._events_task])
            self._events = self._events_task = None
        if events.enabled and events.upstream is not None and self._events is None:
            self._events = AlertEventQueue(events.upstream, self._find_sink, clock=self._clock, metrics=self._metrics)
            self._events_task = asyncio.create_task(self._events.run(), name="alert events")

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def _on_publish(self, state: UpstreamState) -> None:
        if self.active:
            self._new_states[state.upstream] = state
            for name in state.source_upstreams:
                # the severity of its alerts depends on the checks
                source = self._store.get(name)
                if source is not None and source.answering is False:
                    self._new_states.setdefault(name, source)
            self._wakeup.set()

    async def _evaluate_forever(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            await self._resend_after_clock_step()
            # first, because the severity of a stream's alerts depends on its groups
            self._evaluate_groups()
            for state in self._states_to_evaluate():
                try:
                    await self._evaluate_upstream(state)
                except Exception as error:
                    log.error("alerts could not be evaluated", upstream=state.upstream, error=describe_exception(error))
            self._start_due_timer()

    def _evaluate_groups(self) -> None:
        """Evaluate the groups if one has changed, or an alert is due to fire or resolve."""
        groups, now = self._store.groups(), self._clock.instant()
        is_due = self._due_times.get(_GROUPS, math.inf) + DUE_SLACK_SECONDS <= now.steady
        if groups is self._evaluated_groups and not is_due:
            return
        try:
            self._evaluated_groups = groups
            self._apply_coverage(groups)
            self._evaluator.evaluate_groups(groups, now)
            self._due_times[_GROUPS] = self._evaluator.due_at(_GROUPS, now.steady - DUE_SLACK_SECONDS)
            self._send_changes(None)
        except Exception as error:
            log.error("alerts of groups could not be evaluated", error=describe_exception(error))

    def _apply_coverage(self, groups: Iterable[GroupState]) -> None:
        """Evaluate the upstreams again whose streams are newly covered by their group, or no longer."""
        before, self._covered = self._covered, covered_streams(groups)
        for upstream in before.keys() | self._covered.keys():
            state = self._store.get(upstream)
            if state is not None and before.get(upstream) != self._covered.get(upstream):
                self._new_states.setdefault(upstream, state)

    def _states_to_evaluate(self) -> list[UpstreamState]:
        """Return new states, and the states of upstreams with an alert that is due to fire or resolve."""
        new_states, self._new_states = self._new_states, {}
        now = self._clock.monotonic()
        due_times = {name: at for name, at in self._due_times.items() if name != _GROUPS and name not in new_states}
        due = [name for name, at in due_times.items() if at + DUE_SLACK_SECONDS <= now]
        for name in due:
            del self._due_times[name]
        # skip upstreams removed meanwhile, whose states would bring their alerts back
        current = [state for state in new_states.values() if self._store.get(state.upstream) is not None]
        return current + [state for name in due if (state := self._store.get(name))]

    async def _evaluate_upstream(self, state: UpstreamState) -> None:
        evaluator, now = self._evaluator, self._clock.instant()
        if state.not_owned:
            # another shard polls the upstream now, and sends its alerts
            others = {key.upstream for key in evaluator.alerts} | {other.upstream for other in self._store.states()}
            evaluator.keep_only_upstreams(others - {state.upstream}, now)
        covered, is_playing = self._covered.get(state.upstream, frozenset()), self._is_seen_playing(state)
        for _ in evaluator.evaluate(state, now, covered, is_seen_playing=is_playing):
            await asyncio.sleep(0)
            if self._store.get(state.upstream) is None:
                # removed meanwhile: its alerts would never be resolved
                return
        self._last_evaluation = Evaluation(now.wall, self._clock.monotonic() - now.steady)
        self._due_times[state.upstream] = evaluator.due_at(state.upstream, now.steady - DUE_SLACK_SECONDS)
        self._send_changes(state)
        self._review_maintenance(state)

    def _is_seen_playing(self, state: UpstreamState) -> bool:
        """Return whether playback checks show that the streams of an upstream that does not answer play."""
        return state.answering is False and is_seen_playing(state, self._store.states())

    def _review_maintenance(self, state: UpstreamState) -> None:
        """Let the webhooks check their alerts again if StreamMaintenance has started or ended."""
        maintained = frozenset(
            key.extra[0]
            for key, alert in self._evaluator.alerts.items()
            if key.rule == MAINTENANCE and key.upstream == state.upstream and alert.phase is Phase.FIRING
        )
        if self._maintained.get(state.upstream, frozenset()) != maintained:
            self._maintained[state.upstream] = maintained
            self._webhooks.review(state.upstream)

    def _start_due_timer(self) -> None:
        """Wake up when the next alert is due."""
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        due = min(self._due_times.values(), default=math.inf)
        if due < math.inf:
            self._due_timer = asyncio.create_task(self._wake_up_at(due + DUE_SLACK_SECONDS), name="alert due timer")

    async def _wake_up_at(self, at: float) -> None:
        while (remaining := at - self._clock.monotonic()) > 0:
            await self._clock.sleep(remaining)
        self._wakeup.set()

    # -- sending -------------------------------------------------------------------------------------------------------

    def _send_changes(self, state: UpstreamState | None) -> None:
        """Send the alerts that have changed since they were last sent."""
        changed = [
            alert for alert in self._fired_alerts() if self._sent_phases.get(alert.key) != (alert.phase, alert.fired_at)
        ]
        for alert in changed:
            self._sent_phases[alert.key] = alert.phase, alert.fired_at
            self._lapse_ends[alert.key] = self._notifier.latest_end
            log.info(
                "alert changed",
                alertname=alert.key.rule,
                severity=alert.key.severity,
                upstream=alert.key.upstream,
                stream=alert.key.stream,
                **({"group": alert.key.group} if alert.key.group else {}),
                state=alert.phase.value,
            )
            if self._events is not None and alert.key.stream:
                self._events.add(alert, state)
        if changed:
            self._notifier.enqueue(changed)
            self._webhooks.enqueue(changed)
        self._metrics.set_alerts(
            (alert.key.rule, alert.phase.value)
            for alert in self._evaluator.alerts.values()
            if alert.phase is not Phase.RESOLVED
        )
        if self._state_file is not None:
            self._state_file.request_write()

    async def _resend_forever(self) -> None:
        """Repeat all alerts periodically, because Alertmanager loses them on a restart and ends those not repeated."""
        while True:
            self._resend_alerts()
            await self._clock.sleep(self._resend_seconds)

    async def _resend_after_clock_step(self) -> None:
        offset = self._get_clock_offset()
        if abs(offset - self._clock_offset) > CLOCK_STEP_SECONDS:
            log.warning("wall clock was set; sending all alerts again", seconds=round(offset - self._clock_offset))
            self._clock_offset = offset
            self._resend_alerts()

    def _get_clock_offset(self) -> float:
        return self._clock.now() - self._clock.monotonic()

    def _resend_alerts(self) -> None:
        try:
            self._evaluator.forget_resolved(self._clock.monotonic())
            alerts = self._evaluator.alerts
            self._sent_phases = {key: phase for key, phase in self._sent_phases.items() if key in alerts}
            self._lapse_ends = {key: end for key, end in self._lapse_ends.items() if key in alerts}
            self._notifier.start_round()
        except Exception as error:
            log.error("alerts could not be repeated", error=describe_exception(error))
        if self._state_file is not None:
            self._state_file.request_write()

    # -- outbox --------------------------------------------------------------------------------------------------------

    def sendable_alerts(self) -> list[Alert]:
        """Return the firing and resolved alerts in sending order, the most important first."""
        return sorted(self._fired_alerts(), key=lambda alert: (sending_order(alert), alert.fired_at or 0.0))

    def payload(self, alert: Alert) -> AlertPayload | None:
        """Return an alert's payload, or None if it is neither firing nor resolved, or has been replaced."""
        is_replaced = self._evaluator.alerts.get(alert.key) is not alert
        if alert.phase is Phase.PENDING or (is_replaced and alert.phase is not Phase.RESOLVED):
            return None
        payload = self._formatter.payload(alert, self._horizon_seconds(alert.key.upstream))
        lapse_end = self._lapse_end(alert)
        if lapse_end is not None:
            now = self._clock.instant()
            payload = replace(payload, lapses_at=now.wall + lapse_end - now.steady)
        return payload

    def has_lapsed(self, alert: Alert) -> bool:
        """Return whether the alert has expired in Alertmanager by itself."""
        lapse_end = self._lapse_end(alert)
        return lapse_end is not None and self._clock.monotonic() >= lapse_end

    def _lapse_end(self, alert: Alert) -> float | None:
        """Return when a resolved alert expires in Alertmanager by itself (steady clock); None if it does not.

        The end is fixed when the alert is resolved, so that it is the same for all Alertmanagers, and is not earlier
        than the ends that they were given while the alert was firing.
        """
        if self._settings.resolve != "lapse" or alert.resolved_steady is None:
            return None
        earliest = alert.resolved_steady + self._horizon_seconds(alert.key.upstream)
        return max(earliest, self._lapse_ends.get(alert.key, 0.0))

    def is_under_maintenance(self, alert: Alert) -> bool:
        """Return whether the alert's stream or upstream is under maintenance, as far as StreamMaintenance fires."""
        upstream, stream = alert.key.upstream, alert.key.stream
        maintained = self._maintained.get(upstream, frozenset())
        state = self._store.get(upstream)
        is_active = state is not None and state.maintenance_of(stream) is not None
        return is_active or "" in maintained or stream in maintained

    def watchdog(self) -> AlertPayload:
        """Return the watchdog alert, which is sent first in every round."""
        now = self._clock.now()
        # a start in the future, after the clock was set back, would prolong the watchdog beyond the sidecar's life
        since = min(self._started_at, now)
        return self._formatter.watchdog_payload(since, now, HORIZON_FACTOR * self._resend_seconds)

    def _fired_alerts(self) -> Iterable[Alert]:
        """Return the firing and resolved alerts."""
        return (alert for alert in self._evaluator.alerts.values() if alert.phase is not Phase.PENDING)

    def _horizon_seconds(self, upstream: str) -> float:
        state = self._store.get(upstream)
        interval = state.poll_interval_seconds if state is not None else 0.0
        return HORIZON_FACTOR * max(interval, self._resend_seconds)
