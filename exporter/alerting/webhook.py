"""Notifications for receivers without Alertmanager, in the format of its webhooks (version 4).

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config describes the format. As in Alertmanager, a
notification contains the alerts of a group that fire, and those that have resolved since the last notification.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from yarl import URL

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.outbox import Outbox
from exporter.alerting.payload import AlertPayload
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import WebhookSettings
from exporter.http.auth import auth_from_settings, header_value, read_secret
from exporter.http.client import UpstreamClient
from exporter.http.endpoint import endpoint_of
from exporter.http.errors import UpstreamError
from exporter.http.retry import PollContext, PreparedRequest
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

GROUP_WAIT_SECONDS = 10.0
"""Time from the first change to its notification, so that changes at the same time share one."""
REPEAT_SECONDS = 4 * 3600.0
"""Time after which a notification is repeated while its alerts fire."""
MAX_ALERTS = 500
"""Maximum number of alerts in a notification; it gives the number of those left out."""
MAX_WAITING = 10_000
"""Maximum number of resolved alerts that wait for a receiver."""
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 300.0
TICK_SECONDS = 1.0
TIMEOUT_SECONDS = 10.0
_MAX_RESPONSE_BYTES = 65_536
_ENDPOINT = "POST /"
_SEVERITIES = ("critical", "warning", "info")


class NotifiedGroup(msgspec.Struct):
    """What a receiver was last told of an upstream; kept in the state file."""

    upstream: str
    firing: list[AlertKey]
    notified_steady: float
    """When, on the steady clock."""


@dataclass
class _Group:
    """The alerts of one upstream, as a receiver knows them."""

    told: dict[AlertKey, None] = field(default_factory=dict)
    """Alerts that the receiver was told are firing."""
    ended: dict[AlertKey, Alert] = field(default_factory=dict)
    """Those of them that have resolved since."""
    notified: float = -math.inf
    due: float = math.inf
    """When the next notification is due. Both on the steady clock."""


class Webhook:
    """The notifications of one receiver: a bounded memory of what it knows, and the task that sends what changes."""

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
        self._groups: dict[str, _Group] = {}
        self._failures = 0
        self._paused_until = -math.inf
        self._failure_reason: Reason | None = None
        metrics.add_webhook(settings.name)

    def restore(self, groups: Iterable[NotifiedGroup]) -> None:
        """Go on from what an earlier process told the receiver."""
        for group in groups:
            told = dict.fromkeys(group.firing)
            self._groups[group.upstream] = _Group(told, notified=group.notified_steady, due=self._clock.monotonic())
        for alert in self._outbox.sendable_alerts():
            self._note_change(alert)

    def memory(self) -> list[NotifiedGroup]:
        """Return what the receiver knows, for the state file."""
        return [NotifiedGroup(name, list(group.told), group.notified) for name, group in self._groups.items()]

    def enqueue(self, alerts: Iterable[Alert]) -> None:
        """Note alerts that have started to fire or were resolved."""
        for alert in alerts:
            self._note_change(alert)

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        while True:
            try:
                await self._send_due()
            except Exception as error:
                log.error("notification not sent", webhook=self.settings.name, error=describe_exception(error))
                self._pause()
            await self._clock.sleep(TICK_SECONDS / self._time_scale)

    async def flush(self) -> None:
        """Send all changes at once, until the first failure."""
        for name, group in list(self._groups.items()):
            if not await self._notify(name, group):
                return

    async def close(self) -> None:
        """Close the connection; the webhook must not be used afterwards."""
        await self._client.close()
        self._metrics.remove_webhook(self.settings.name)

    def _note_change(self, alert: Alert) -> None:
        if alert.key.severity not in self._severities:
            return
        group = self._groups.setdefault(alert.key.upstream, _Group())
        if alert.phase is Phase.FIRING:
            group.ended.pop(alert.key, None)
        elif alert.key in group.told:
            group.ended[alert.key] = alert
            self._drop_surplus(group)
        group.due = min(group.due, self._clock.monotonic() + GROUP_WAIT_SECONDS / self._time_scale)

    def _drop_surplus(self, group: _Group) -> None:
        """Keep memory bounded while the receiver is down: forget the oldest resolved alert of the group."""
        if sum(len(other.ended) for other in self._groups.values()) > MAX_WAITING:
            oldest = next(iter(group.ended))
            del group.ended[oldest], group.told[oldest]
            self._metrics.count_webhook_dropped(self.settings.name, 1)

    async def _send_due(self) -> None:
        now = self._clock.monotonic()
        if now < self._paused_until:
            return
        for name, group in list(self._groups.items()):
            if group.due <= now and not await self._notify(name, group):
                return

    async def _notify(self, upstream: str, group: _Group) -> bool:
        """Send a group's notification if there is news, or if it is to be repeated; return False on failure."""
        firing = [
            alert
            for alert in self._outbox.sendable_alerts()
            if alert.key.upstream == upstream and alert.phase is Phase.FIRING and alert.key.severity in self._severities
        ]
        ended = dict(group.ended)
        now, repeat = self._clock.monotonic(), REPEAT_SECONDS / self._time_scale
        is_news = bool(ended) or any(alert.key not in group.told for alert in firing)
        group.due = math.inf
        if is_news or (firing and now >= group.notified + repeat):
            try:
                await self._post(upstream, [*firing, *ended.values()])
            except Exception as error:
                group.due = now
                if not isinstance(error, UpstreamError):
                    raise
                self._fail(error)
                return False
            self._succeed()
            group.notified = now
            group.ended = {key: alert for key, alert in group.ended.items() if ended.get(key) is not alert}
        group.told = dict.fromkeys([*(alert.key for alert in firing), *group.ended])
        if firing:
            group.due = min(group.due, group.notified + repeat)
        elif not group.ended and group.due == math.inf:
            del self._groups[upstream]
        return True

    async def _post(self, upstream: str, alerts: Sequence[Alert]) -> None:
        payloads = [p for alert in alerts[:MAX_ALERTS] if (p := self._outbox.payload(alert)) is not None]
        truncated = max(0, len(alerts) - MAX_ALERTS)
        name, url = self.settings.name, self._external_url
        await self._client.post(notification(name, upstream, payloads, external_url=url, truncated=truncated))

    def _fail(self, error: UpstreamError) -> None:
        self._metrics.count_webhook_error(self.settings.name)
        if error.reason is not self._failure_reason:
            log.warning("webhook fails", webhook=self.settings.name, reason=error.reason.value, error=str(error))
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


def notification(
    receiver: str, upstream: str, payloads: Sequence[AlertPayload], *, external_url: str, truncated: int = 0
) -> dict[str, Any]:
    """Return a notification about an upstream's alerts; ``truncated``: the number of those that are left out.

    Source: samples of Alertmanager 0.25.
    """
    is_firing = any(payload.ends_at is None for payload in payloads)
    return {
        "receiver": receiver,
        "status": "firing" if is_firing else "resolved",
        "alerts": [payload.to_webhook_json() for payload in payloads],
        "groupLabels": {"upstream": upstream},
        "commonLabels": _common([payload.labels for payload in payloads]),
        "commonAnnotations": _common([payload.annotations for payload in payloads]),
        "externalURL": external_url.rstrip("/"),
        "version": "4",
        "groupKey": f"{{}}:{{upstream={msgspec.json.encode(upstream).decode()}}}",
        "truncatedAlerts": truncated,
    }


def _common(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the items that all mappings have."""
    common = set(mappings[0].items()) if mappings else set()
    for mapping in mappings[1:]:
        common &= mapping.items()
    return dict(sorted(common))


class WebhookClient:
    """Posts notifications to one URL, which is read again whenever its file changes."""

    def __init__(self, settings: WebhookSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client: UpstreamClient | None = None
        self._origin = URL()

    async def post(self, body: Mapping[str, Any]) -> int:
        """Send a notification, and return the HTTP status. Raises ``UpstreamError``, also for a web page."""
        settings = self._settings
        url = URL(read_secret(settings.url))
        request = PreparedRequest(
            poll=PollContext(self._clock, TIMEOUT_SECONDS),
            endpoint=endpoint_of(_ENDPOINT),
            url=url,
            body=body,
            extra_headers={name: header_value(read_secret(secret)) for name, secret in settings.headers.items()},
            wants_json=False,
        )
        client = await self._client_for(url.origin())
        response = await client.send(request)
        if _is_web_page(response.body):
            text = f"{_ENDPOINT}: status {response.status} with a web page: check url, and whether a sign-in is needed"
            raise UpstreamError(Reason.BAD_RESPONSE, text, status=response.status)
        return response.status

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _client_for(self, origin: URL) -> UpstreamClient:
        if self._client is None or origin != self._origin:
            await self.close()
            self._origin = origin
            self._client = UpstreamClient(
                upstream=self._settings.name,
                platform="webhook",
                url=str(origin),
                auth=auth_from_settings(self._settings.auth),
                tls=self._settings.tls,
                max_concurrent_requests=1,
                max_body_bytes=_MAX_RESPONSE_BYTES,
                clock=self._clock,
                observe=lambda *_: None,
            )
        return self._client


def _is_web_page(body: bytes) -> bool:
    start = body[:1024].lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))
