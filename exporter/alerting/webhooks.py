"""Sends notifications about alerts to webhooks, without Alertmanager.

As in Alertmanager, a notification contains a group's firing alerts and those that have resolved since the last
notification. An alert under maintenance causes no notification while it fires. If it was reported before, it stays
reported until it resolves; otherwise it is left out until the maintenance ends.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import structlog

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.outbox import Outbox
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.webhook_client import WebhookClient, notification
from exporter.config.alerting import WebhookSettings
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception
from exporter.runtime.tasks import cancel_tasks, run_within

log = structlog.get_logger()

GROUP_WAIT_SECONDS = 10.0
"""Time from the first change to the notification, so that simultaneous changes share one."""
REPEAT_SECONDS = 4 * 3600.0
"""Time after which a notification is repeated while its alerts fire."""
MAX_ALERTS = 500
"""Maximum number of alerts in a notification; ``truncatedAlerts`` counts the others."""
MAX_WAITING = 10_000
"""Maximum number of resolved alerts waiting for a receiver."""
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 300.0
TICK_SECONDS = 1.0
"""Interval between checks for due notifications."""
_SEVERITIES = ("critical", "warning", "info")


class NotifiedGroup(msgspec.Struct):
    """The last notification about the alerts of an upstream or a group of streams, as saved in the state file."""

    upstream: str
    """Empty for a group of streams."""
    firing: list[AlertKey]
    """Alerts that were reported to the receiver as firing."""
    notified_steady: float
    """When it was sent (steady clock)."""
    group: str = ""


class _Place(NamedTuple):
    """The upstream or the group of streams that a notification is about; the other one is empty."""

    upstream: str
    group: str

    @classmethod
    def of_alert(cls, alert: Alert) -> _Place:
        return cls(alert.key.upstream, alert.key.group)


@dataclass
class _Group:
    """Alerts of one place, as last reported to the receiver."""

    reported: dict[AlertKey, None] = field(default_factory=dict)
    """Alerts that were reported to the receiver as firing."""
    resolved: dict[AlertKey, Alert] = field(default_factory=dict)
    """Alerts in ``reported`` that have resolved since the last notification."""
    notified: float = -math.inf
    due: float = math.inf
    """When the next notification is due. Both times are on the steady clock."""


class Webhook:
    """Sends notifications to one receiver, and keeps a bounded record of what the receiver knows."""

    def __init__(
        self,
        settings: WebhookSettings,
        outbox: Outbox,
        *,
        clock: Clock,
        metrics: SidecarMetrics,
        external_url: str = "",
        time_scale: float = 1.0,
    ) -> None:
        """``external_url`` is the exporter's page; ``time_scale`` divides the waiting times, for tests."""
        self.settings = settings
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._external_url = external_url
        self._time_scale = time_scale
        self._client = WebhookClient(settings, clock)
        self._severities = _SEVERITIES[: _SEVERITIES.index(settings.minimum_severity) + 1]
        self._groups: dict[_Place, _Group] = {}
        self._failures = 0
        self._paused_until = -math.inf
        self._failure_reason: Reason | None = None
        metrics.add_webhook(settings.name)

    def restore(self, groups: Iterable[NotifiedGroup]) -> None:
        """Continue from the last notifications of an earlier process."""
        for group in groups:
            reported = dict.fromkeys(group.firing)
            place = _Place(group.upstream, group.group)
            self._groups[place] = _Group(reported, notified=group.notified_steady, due=self._clock.monotonic())
        for alert in self._outbox.sendable_alerts():
            self._record_change(alert)

    def notified_groups(self) -> list[NotifiedGroup]:
        """Return the last notification of each group, for the state file."""
        return [
            NotifiedGroup(place.upstream, list(group.reported), group.notified, place.group)
            for place, group in self._groups.items()
            if group.reported
        ]

    def enqueue(self, alerts: Iterable[Alert]) -> None:
        """Record alerts that have started to fire or were resolved."""
        for alert in alerts:
            self._record_change(alert)

    def review(self, upstream: str) -> None:
        """Check the alerts of an upstream again, because what is under maintenance has changed."""
        self._schedule(self._groups.setdefault(_Place(upstream, ""), _Group()))

    async def run(self) -> None:
        """Send due notifications until cancelled."""
        while True:
            try:
                await self._send_due()
            except Exception as error:
                log.error("notification could not be sent", webhook=self.settings.name, error=describe_exception(error))
                self._pause()
            await self._clock.sleep(TICK_SECONDS / self._time_scale)

    async def flush(self) -> None:
        """Send all changes now, until the first failure."""
        for place, group in list(self._groups.items()):
            if not await self._notify(place, group):
                return

    async def close(self) -> None:
        """Close the connection; the webhook must not be used afterwards."""
        await self._client.close()
        self._metrics.remove_webhook(self.settings.name)

    def _record_change(self, alert: Alert) -> None:
        if alert.key.severity not in self._severities:
            return
        group = self._groups.setdefault(_Place.of_alert(alert), _Group())
        if alert.phase is Phase.FIRING:
            group.resolved.pop(alert.key, None)
        elif alert.key in group.reported:
            group.resolved[alert.key] = alert
            self._drop_surplus(group)
        self._schedule(group)

    def _schedule(self, group: _Group) -> None:
        """Make a notification due soon, together with other changes."""
        group.due = min(group.due, self._clock.monotonic() + GROUP_WAIT_SECONDS / self._time_scale)

    def _drop_surplus(self, group: _Group) -> None:
        """Drop the oldest resolved alert of the group if too many are waiting for the receiver."""
        if sum(len(other.resolved) for other in self._groups.values()) > MAX_WAITING:
            oldest = next(iter(group.resolved))
            del group.resolved[oldest], group.reported[oldest]
            self._metrics.count_webhook_dropped(self.settings.name, 1)

    async def _send_due(self) -> None:
        now = self._clock.monotonic()
        if now < self._paused_until:
            return
        for place, group in list(self._groups.items()):
            if group.due <= now and not await self._notify(place, group):
                return

    async def _notify(self, place: _Place, group: _Group) -> bool:
        """Send a group's notification if something changed or a repeat is due; return False on failure."""
        all_firing = [
            alert
            for alert in self._outbox.sendable_alerts()
            if alert.phase is Phase.FIRING
            and _Place.of_alert(alert) == place
            and alert.key.severity in self._severities
        ]
        notifying = {alert.key for alert in all_firing if not self._outbox.is_under_maintenance(alert)}
        # a reported warning stays reported if it becomes critical
        reported = {replace(key, severity="") for key in group.reported}
        firing = [a for a in all_firing if a.key in notifying or replace(a.key, severity="") in reported]
        resolved = dict(group.resolved)
        now, repeat = self._clock.monotonic(), REPEAT_SECONDS / self._time_scale
        has_changed = bool(resolved) or bool(notifying - group.reported.keys())
        group.due = math.inf
        if has_changed or (notifying and now >= group.notified + repeat):
            try:
                await self._post(place, [*firing, *resolved.values()])
            except Exception as error:
                group.due = now
                if not isinstance(error, UpstreamError):
                    raise
                self._fail(error)
                return False
            self._succeed()
            group.notified = now
            group.resolved = {key: alert for key, alert in group.resolved.items() if resolved.get(key) is not alert}
        group.reported = dict.fromkeys([*(alert.key for alert in firing), *group.resolved])
        if notifying:
            group.due = min(group.due, group.notified + repeat)
        elif not group.reported and group.due == math.inf:
            del self._groups[place]
        return True

    async def _post(self, place: _Place, alerts: Sequence[Alert]) -> None:
        payloads = [p for alert in alerts[:MAX_ALERTS] if (p := self._outbox.payload(alert)) is not None]
        truncated = max(0, len(alerts) - MAX_ALERTS)
        receiver, url = self.settings.name, self._external_url
        label, name = ("group", place.group) if place.group else ("upstream", place.upstream)
        await self._client.post(notification(receiver, label, name, payloads, external_url=url, truncated=truncated))

    def _fail(self, error: UpstreamError) -> None:
        self._metrics.count_webhook_error(self.settings.name)
        if error.reason is not self._failure_reason:
            log.warning(
                "cannot send to webhook", webhook=self.settings.name, reason=error.reason.value, error=str(error)
            )
            self._failure_reason = error.reason
        self._pause()

    def _pause(self) -> None:
        self._failures += 1
        longest = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
        pause = random.uniform(0.5, 1.0) * longest  # noqa: S311 - spreads load
        self._paused_until = self._clock.monotonic() + pause / self._time_scale

    def _succeed(self) -> None:
        self._metrics.count_webhook_sent(self.settings.name)
        self._failures = 0
        if self._failure_reason is not None:
            log.info("webhook is back", webhook=self.settings.name)
            self._failure_reason = None


class Webhooks:
    """All configured webhooks."""

    def __init__(
        self, outbox: Outbox, *, clock: Clock, metrics: SidecarMetrics, external_url: str, time_scale: float
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._external_url = external_url
        self._time_scale = time_scale
        self._saved_groups: dict[str, Sequence[NotifiedGroup]] = {}
        """Last notifications of webhooks that are not running, by name."""
        self._running: dict[str, tuple[Webhook, asyncio.Task[None]]] = {}

    def restore(self, groups: Mapping[str, Sequence[NotifiedGroup]]) -> None:
        """Continue from the last notifications of an earlier process, by webhook name."""
        self._saved_groups |= groups

    def notified_groups(self) -> dict[str, list[NotifiedGroup]]:
        """Return the last notifications of each webhook, for the state file."""
        return {name: webhook.notified_groups() for name, (webhook, _) in self._running.items()}

    async def apply(self, webhooks: Sequence[WebhookSettings]) -> None:
        """Send to these webhooks; one with changed settings continues from its last notifications."""
        for name, (webhook, _) in list(self._running.items()):
            if webhook.settings not in webhooks:
                self._saved_groups[name] = webhook.notified_groups()
                await self._close(name)
        for settings in webhooks:
            if settings.name not in self._running:
                webhook = Webhook(
                    settings,
                    self._outbox,
                    clock=self._clock,
                    metrics=self._metrics,
                    external_url=self._external_url,
                    time_scale=self._time_scale,
                )
                webhook.restore(self._saved_groups.get(settings.name, ()))
                task = asyncio.create_task(webhook.run(), name=f"webhook {settings.name}")
                self._running[settings.name] = webhook, task
        self._saved_groups.clear()

    def enqueue(self, alerts: Sequence[Alert]) -> None:
        """Record alerts that have started to fire or were resolved."""
        for webhook, _ in self._running.values():
            webhook.enqueue(alerts)

    def review(self, upstream: str) -> None:
        """Check the alerts of an upstream again, because what is under maintenance has changed."""
        for webhook, _ in self._running.values():
            webhook.review(upstream)

    async def flush(self, seconds: float) -> None:
        """Stop, and try for at most this time to send all changes."""
        await cancel_tasks(task for _, task in self._running.values())
        await run_within(seconds, [webhook.flush for webhook, _ in self._running.values()])

    async def close(self) -> None:
        """Stop, and forget the last notifications."""
        for name in list(self._running):
            await self._close(name)
        self._saved_groups.clear()

    async def _close(self, name: str) -> None:
        webhook, task = self._running.pop(name)
        await cancel_tasks([task])
        await webhook.close()
