"""The alerting sidecar: evaluates every published view and sends changes to Alertmanager and a platform's alert sink.

All of it runs in tasks of its own: no poll and no scrape waits for it.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from exporter.alerting.evaluator import Alert, AlertKey, Evaluator, Phase
from exporter.alerting.event_queue import AlertEventQueue
from exporter.alerting.notifier import Notifier, Resolve, resolve
from exporter.alerting.payload import AlertFormatter, AlertPayload
from exporter.alerting.rules import Owner
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.state_file import AlertStateFile, default_state_file
from exporter.config.alerting import AlertingSettings
from exporter.model import UpstreamState
from exporter.platforms.capabilities import AlertSink
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception
from exporter.store import Store

log = structlog.get_logger()

RESEND_SECONDS = 60.0
HORIZONS = 4
"""How many resends, or polls, a firing alert outlives in Alertmanager when nothing more is heard of it."""
FLUSH_SECONDS = 1.0
"""The last attempt to send, when the process ends: it has five seconds in all."""
DUE_SLACK_SECONDS = 0.001
"""A ``for`` is over for sure: sums of unix seconds are exact to less than this."""
NOTICES_PER_STEP = 200


class Sidecar:
    """On while there is somebody to tell. Made and used in one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        instruments: SidecarMetrics,
        sink_of: Callable[[str], AlertSink | None],
        generator_url: str = "",
        time_scale: float = 1.0,
        environ: Mapping[str, str] | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        """``sink_of`` returns the alert sink of an upstream; ``time_scale`` divides every duration, for tests."""
        self._store = store
        self._clock = clock
        self._instruments = instruments
        self._sink_of = sink_of
        self._time_scale = time_scale
        self._environ = os.environ if environ is None else environ
        self._resend_seconds = RESEND_SECONDS / time_scale
        self._settings = AlertingSettings()
        self._wording = AlertFormatter((), {})
        self._rules: tuple[ActiveRule, ...] = ()
        self._evaluator = Evaluator(())
        self._dispatcher = Notifier(
            clock=clock,
            instruments=instruments,
            everything=self._everything,
            resend_seconds=self._resend_seconds,
            generator_url=generator_url,
            resolve=resolve,
        )
        self._events: AlertEventQueue | None = None
        self._memory: AlertStateFile | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._events_task: asyncio.Task[None] | None = None
        self._began_at = clock.now()
        self._fresh: dict[str, UpstreamState] = {}
        self._due: dict[str, float] = {}
        self._news = asyncio.Event()
        self._alarm: asyncio.Task[None] | None = None
        self._told: dict[AlertKey, tuple[Phase, float | None]] = {}
        store.subscribe(self._published)

    @property
    def active(self) -> bool:
        """Whether it is on."""
        return bool(self._tasks)

    @property
    def wording(self) -> AlertFormatter:
        """How its alerts are said now."""
        return self._wording

    def alerts(self, phases: Collection[Phase] = (Phase.PENDING, Phase.FIRING)) -> list[Alert]:
        """The alerts in these phases, sorted by what they are about."""
        chosen = [a for a in self._evaluator.alerts.values() if a.phase in phases and self._wording.knows(a)]
        return sorted(chosen, key=lambda alert: alert.key)

    # -- its life ------------------------------------------------------------------------------------------------------

    async def apply(self, settings: AlertingSettings, upstreams: Sequence[str]) -> None:
        """Begin, change or end, as these settings say; the states of alerts outlast it all but the end."""
        if not (settings.alertmanagers or settings.wave_events.enabled):
            await self.stop()
            self._settings = settings
            return
        before, self._settings = self._settings, settings
        if not self.active or before != settings:
            self._adopt_rules(settings)
        if not self.active or before.state_file != settings.state_file:
            await self._change_memory(settings.state_file)
        if before.external_labels != settings.external_labels:
            # what waits has the old labels: as other alerts they would never be resolved
            await self._dispatcher.close()
        await self._change_events(before, settings)
        self._evaluator.retire(upstreams, self._clock.now())
        if not self.active:
            self._start()
        await self._dispatcher.apply(settings.alertmanagers)
        self._announce(None)

    async def stop(self, *, flush: bool = False) -> None:
        """End without resolving anything: what fires may still be true, and lapses by itself if it is not."""
        tasks = [*self._tasks, *(task for task in (self._alarm, self._events_task) if task)]
        self._tasks, self._alarm, self._events_task, self._events = [], None, None, None
        await _cancel(tasks)
        if self._memory is not None:
            await self._memory.close()
            self._memory = None
        await self._dispatcher.close(FLUSH_SECONDS if flush else 0.0)
        self._rules, self._evaluator = (), Evaluator(())
        self._told.clear()
        self._fresh.clear()
        self._due.clear()
        self._instruments.alerts(())

    def _start(self) -> None:
        self._began_at = self._clock.now()
        for view in self._store.views():
            self._fresh[view.upstream] = view
        self._news.set()
        self._tasks = [
            asyncio.create_task(self._evaluate_forever(), name="alert evaluation"),
            asyncio.create_task(self._resend_forever(), name="alert resend"),
        ]
        log.info("alerting sidecar is on", alertmanagers=len(self._settings.alertmanagers))

    def _adopt_rules(self, settings: AlertingSettings) -> None:
        """Go by these thresholds from now on, with the states that there are."""
        rules = rules_in_force(settings, owners=(Owner.BOTH, Owner.SIDECAR), time_scale=self._time_scale)
        self._wording = AlertFormatter(rules, settings.external_labels)
        if rules != self._rules:
            self._rules = rules
            evaluator = Evaluator(rules)
            evaluator.alerts.update(self._evaluator.alerts)
            self._evaluator = evaluator

    async def _change_memory(self, configured: Path | None) -> None:
        if self._memory is not None:
            await self._memory.close()
            self._memory = None
        path = configured or default_state_file(self._environ)
        if path is None:
            return
        memory = AlertStateFile(path, self._remembered, clock=self._clock, instruments=self._instruments)
        if not await asyncio.to_thread(memory.open):
            return
        if not self.active:
            for alert in await asyncio.to_thread(memory.load):
                self._restore(alert)
        self._memory = memory
        memory.start()

    def _restore(self, alert: Alert) -> None:
        if self._wording.knows(alert):
            self._evaluator.alerts[alert.key] = alert
            if alert.phase is not Phase.PENDING:
                self._told[alert.key] = alert.phase, alert.fired_at

    async def _change_events(self, before: AlertingSettings, settings: AlertingSettings) -> None:
        events = settings.wave_events
        if self._events_task is not None and (before.wave_events != events):
            await _cancel([self._events_task])
            self._events = self._events_task = None
        if events.enabled and events.upstream is not None and self._events is None:
            self._events = AlertEventQueue(
                events.upstream, self._sink_of, clock=self._clock, instruments=self._instruments
            )
            self._events_task = asyncio.create_task(self._events.run(), name="alert events")

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def _published(self, view: UpstreamState) -> None:
        if self.active:
            self._fresh[view.upstream] = view
            self._news.set()

    async def _evaluate_forever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            for view in self._views_to_evaluate():
                try:
                    await self._evaluate(view)
                except Exception as error:
                    log.error("alerts not evaluated", upstream=view.upstream, error=describe_exception(error))
            self._set_alarm()

    def _views_to_evaluate(self) -> list[UpstreamState]:
        """The new views, and those of upstreams where an alert fires or ends by the time alone."""
        fresh, self._fresh = self._fresh, {}
        now = self._clock.now()
        due = [name for name, at in self._due.items() if at + DUE_SLACK_SECONDS <= now and name not in fresh]
        again = (self._store.get(name) for name in due)
        for name in due:
            del self._due[name]
        # a view of an upstream that was removed meanwhile would bring its alerts back
        return [view for view in fresh.values() if self._store.get(view.upstream) is not None] + [v for v in again if v]

    async def _evaluate(self, view: UpstreamState) -> None:
        evaluator, now = self._evaluator, self._clock.now()
        if view.not_owned:
            # what is remembered from when its streams were polled here is another shard's now
            others = {key.upstream for key in evaluator.alerts} | {other.upstream for other in self._store.views()}
            evaluator.retire(others - {view.upstream}, now)
        for _ in evaluator.evaluate(view, now):
            await asyncio.sleep(0)
            if self._store.get(view.upstream) is None:
                # removed meanwhile: nothing would ever end what it brings
                return
        due = evaluator.due_at(view.upstream)
        # a frozen alert stays due: only a new view can change that
        self._due[view.upstream] = due if due + DUE_SLACK_SECONDS > now else math.inf
        self._announce(view)

    def _set_alarm(self) -> None:
        """Be woken when the next alert is due."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = min(self._due.values(), default=math.inf)
        if due < math.inf:
            self._alarm = asyncio.create_task(self._wake_at(due + DUE_SLACK_SECONDS), name="next due alert")

    async def _wake_at(self, at: float) -> None:
        while (left := at - self._clock.now()) > 0:
            await self._clock.sleep(left)
        self._news.set()

    # -- telling -------------------------------------------------------------------------------------------------------

    def _announce(self, view: UpstreamState | None) -> None:
        """Send what has changed since it was told, at once."""
        changed = [alert for alert in self._to_tell() if self._told.get(alert.key) != (alert.phase, alert.fired_at)]
        for alert in changed:
            self._told[alert.key] = alert.phase, alert.fired_at
            log.info(
                "alert",
                alertname=alert.key.rule,
                upstream=alert.key.upstream,
                stream=alert.key.stream,
                state=alert.phase.value,
            )
            if self._events is not None and alert.key.stream:
                self._events.add(alert, view)
        if changed:
            self._dispatcher.offer([self._notice(alert) for alert in changed])
        self._instruments.alerts((alert.key.rule, alert.phase.value) for alert in self.alerts())
        if self._memory is not None:
            self._memory.changed()

    async def _resend_forever(self) -> None:
        """Alertmanager keeps nothing over a restart, and forgets what it does not hear of."""
        while True:
            try:
                await self._resend()
            except Exception as error:
                log.error("alerts not sent again", error=describe_exception(error))
            await self._clock.sleep(self._resend_seconds)

    async def _resend(self) -> None:
        self._evaluator.forget_resolved(self._clock.now())
        self._told = {key: told for key, told in self._told.items() if key in self._evaluator.alerts}
        self._dispatcher.offer([self._watchdog()])
        batch: list[AlertPayload] = []
        for alert in list(self._to_tell()):
            batch.append(self._notice(alert))
            if len(batch) == NOTICES_PER_STEP:
                self._dispatcher.offer(batch)
                batch = []
                await asyncio.sleep(0)
        self._dispatcher.offer(batch)
        if self._memory is not None:
            self._memory.changed()

    def _everything(self) -> list[AlertPayload]:
        return [self._watchdog(), *(self._notice(alert) for alert in self._to_tell())]

    def _to_tell(self) -> Iterable[Alert]:
        return (alert for alert in self._evaluator.alerts.values() if alert.phase is not Phase.PENDING)

    def _remembered(self) -> Iterable[Alert]:
        return self._evaluator.alerts.values()

    def _notice(self, alert: Alert) -> AlertPayload:
        return self._wording.notice(alert, self._horizon(alert.key.upstream))

    def _watchdog(self) -> AlertPayload:
        return self._wording.watchdog(self._began_at, HORIZONS * self._resend_seconds)

    def _horizon(self, upstream: str) -> float:
        view = self._store.get(upstream)
        interval = view.poll_interval_seconds if view is not None else 0.0
        return HORIZONS * max(interval, self._resend_seconds)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
