"""Sends alerts to every configured Alertmanager, and to every address of a host with ``resolve_dns``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
from yarl import URL

from exporter.alerting.alertmanager import Alertmanager, target_label
from exporter.alerting.evaluator import Alert
from exporter.alerting.notification_queue import NotificationQueue
from exporter.alerting.outbox import HORIZON_FACTOR, Outbox, Round
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import AlertmanagerSettings
from exporter.http.resolver import lookups
from exporter.runtime.clock import Clock
from exporter.runtime.tasks import cancel_tasks, run_within

log = structlog.get_logger()

HORIZON_DECAY = 0.8
"""Minimum ratio of a round's horizon to the previous one, because measurements vary."""

ResolveAddresses = Callable[[AlertmanagerSettings], Awaitable[Iterable[str]]]
"""Returns the IP addresses of an Alertmanager's host. Raises ``OSError``."""


async def resolve_addresses(settings: AlertmanagerSettings) -> set[str]:
    """Return the IP addresses of an Alertmanager's host, from the system's resolver. Raises ``OSError``."""
    return {address.host for address in await lookups().find(URL(settings.url).host or "")}


class Notifier:
    """Manages the queues of all Alertmanagers. A new queue starts with a round of all alerts."""

    def __init__(
        self,
        *,
        clock: Clock,
        metrics: SidecarMetrics,
        outbox: Outbox,
        resend_seconds: float,
        resolve: ResolveAddresses = resolve_addresses,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._outbox = outbox
        self._resend_seconds = resend_seconds
        self._resolve = resolve
        self._targets: list[_Target] = []
        self._round = Round(clock.monotonic())
        self._is_long = False
        self.latest_end = 0.0
        """Latest end so far of any firing alert because of a long horizon (steady clock)."""

    @property
    def queues(self) -> list[NotificationQueue]:
        """The current queues."""
        return [queue for target in self._targets for queue in target.queues]

    async def apply(self, alertmanagers: Sequence[AlertmanagerSettings]) -> None:
        """Send to these Alertmanagers; one whose settings are unchanged keeps its queue."""
        removed = [target for target in self._targets if target.settings not in alertmanagers]
        self._targets = [target for target in self._targets if target.settings in alertmanagers]
        known = [target.settings for target in self._targets]
        for settings in alertmanagers:
            if settings not in known:
                known.append(settings)
                target = _Target(settings, self._open_queue, self._resolve, self._clock, self._resend_seconds)
                self._targets.append(target)
                target.start()
        for target in removed:
            await target.close()

    def enqueue(self, alerts: Sequence[Alert]) -> None:
        """Queue the new states of these alerts for all Alertmanagers."""
        for queue in self.queues:
            queue.enqueue(alerts)

    def start_round(self) -> None:
        """Repeat all alerts to all Alertmanagers."""
        now = self._clock.monotonic()
        # from the slowest one, so that an alert ends at the same time in all of them
        horizon = HORIZON_FACTOR * max((queue.round_seconds() for queue in self.queues), default=0.0)
        horizon = max(horizon, HORIZON_DECAY * self._round.min_horizon)
        is_long = horizon > HORIZON_FACTOR * self._resend_seconds
        if is_long and not self._is_long:
            log.warning("repeating all alerts is slow; endsAt is extended", seconds=round(horizon))
        self._is_long = is_long
        self._round = Round(now, horizon)
        # the horizon of an alert that changes before the next round starts at the change
        self.latest_end = max(self.latest_end, now + horizon + self._resend_seconds)
        for queue in self.queues:
            queue.start_round(self._round)

    async def close(self, flush_seconds: float = 0.0) -> None:
        """Stop after trying for at most ``flush_seconds`` to send waiting changes."""
        targets, self._targets = self._targets, []
        for target in targets:
            await target.stop()
        await run_within(flush_seconds, [queue.flush for target in targets for queue in target.queues])
        for target in targets:
            await target.close()

    def _open_queue(self, settings: AlertmanagerSettings, address: str | None) -> NotificationQueue:
        label = target_label(settings, address)
        alertmanager = Alertmanager(
            settings,
            self._clock,
            address=address,
            observe=lambda seconds: self._metrics.observe_latency(label, seconds),
        )
        return NotificationQueue(
            alertmanager,
            self._outbox,
            clock=self._clock,
            metrics=self._metrics,
            resend_seconds=self._resend_seconds,
            first_round=self._round,
        )


class _Target:
    """One configured Alertmanager, with one queue or one per address of its host."""

    def __init__(
        self,
        settings: AlertmanagerSettings,
        open_queue: Callable[[AlertmanagerSettings, str | None], NotificationQueue],
        resolve: ResolveAddresses,
        clock: Clock,
        resolve_interval: float,
    ) -> None:
        self.settings = settings
        self._open_queue = open_queue
        self._resolve = resolve
        self._clock = clock
        self._resolve_interval = resolve_interval
        self._running: dict[str | None, tuple[NotificationQueue, asyncio.Task[None]]] = {}
        self._resolve_task: asyncio.Task[None] | None = None
        self._is_unresolvable = False

    @property
    def queues(self) -> list[NotificationQueue]:
        """The current queues."""
        return [queue for queue, _ in self._running.values()]

    def start(self) -> None:
        """Start sending."""
        if self.settings.resolve_dns:
            name = f"addresses of {self.settings.identity}"
            self._resolve_task = asyncio.create_task(self._resolve_forever(), name=name)
        else:
            self._add_queue(None)

    async def stop(self) -> None:
        """Stop sending; the queues keep waiting alerts."""
        resolve_task, self._resolve_task = self._resolve_task, None
        await cancel_tasks([task for _, task in self._running.values()] + ([resolve_task] if resolve_task else []))

    async def close(self) -> None:
        """Stop sending and drop waiting alerts."""
        await self.stop()
        for queue in self.queues:
            await queue.close()
        self._running.clear()

    async def _resolve_forever(self) -> None:
        while True:
            try:
                addresses = set(await self._resolve(self.settings))
            except OSError:
                # keep the addresses known so far
                if not self._is_unresolvable:
                    log.warning("alertmanager's host name cannot be resolved", alertmanager=self.settings.identity)
                self._is_unresolvable = True
            else:
                self._is_unresolvable = False
                await self._set_addresses(addresses)
            await self._clock.sleep(self._resolve_interval)

    async def _set_addresses(self, addresses: set[str]) -> None:
        for address in addresses - self._running.keys():
            self._add_queue(address)
        for gone in self._running.keys() - addresses:
            queue, task = self._running.pop(gone)
            await cancel_tasks([task])
            await queue.close()

    def _add_queue(self, address: str | None) -> None:
        queue = self._open_queue(self.settings, address)
        self._running[address] = queue, asyncio.create_task(queue.run(), name=f"alerts to {queue.label}")
