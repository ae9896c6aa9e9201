"""A fake Alertmanager with configurable failures, and alerts to send to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.outbox import sending_order
from exporter.alerting.payload import WATCHDOG, AlertPayload
from exporter.config.alerting import AlertmanagerSettings
from exporter.runtime.clock import Clock

PATH = "/api/v2/alerts"
Behave = Callable[[list[dict[str, Any]], web.Request], Awaitable[web.Response]]


def respond_with(status: int, text: str = "") -> Behave:
    """Return a behaviour that responds to every POST with this status."""

    async def behave(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    return behave


accept_all = respond_with(200)


class FakeAlertmanager:
    """Records every request; ``behave`` returns the response to a POST.

    With a clock it also answers GET requests, as Alertmanager 0.25 does; without one it refuses them.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.url = ""
        self.clock = clock
        self.clock_offset = 0.0
        self.uptime: str | None = "2024-09-10T00:00:00.000Z"
        self.behave: Behave = accept_all
        self.all_batches: list[list[dict[str, Any]]] = []
        self.requests: list[web.Request] = []
        self._listed: dict[str, dict[str, Any]] = {}
        """Latest states of the watchdogs, by label set."""
        self._request_received = asyncio.Condition()

    @property
    def batches(self) -> list[list[dict[str, Any]]]:
        """The requests, except those that contain only the watchdog."""
        return [batch for batch in self.all_batches if not is_watchdog(batch)]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [alert for batch in self.all_batches for alert in batch]

    def received(self, name: str, **labels: str) -> list[dict[str, Any]]:
        """Return the received states of the alerts with this name and these labels."""
        wanted = {"alertname": name} | labels
        return [alert for alert in self.alerts if wanted.items() <= alert["labels"].items()]

    def restart(self) -> None:
        """Change ``uptime`` and drop all alerts."""
        assert self.uptime is not None
        self.uptime = f"{self.uptime[:-1]}1Z"
        self._listed.clear()

    async def handle(self, request: web.Request) -> web.Response:
        alerts: list[dict[str, Any]] = await request.json()
        now = self.now()
        received = [_with_times(alert, now) for alert in alerts] if isinstance(alerts, list) else alerts
        self.requests.append(request)
        self.all_batches.append(received)
        async with self._request_received:
            self._request_received.notify_all()
        response = await self.behave(alerts, request)
        if response.status == 200:
            for alert in received if isinstance(received, list) else ():
                if alert["labels"].get("alertname") == WATCHDOG:
                    self._listed[str(sorted(alert["labels"].items()))] = alert | {"updatedAt": _format_time(now)}
        return response

    async def list_alerts(self, request: web.Request) -> web.Response:
        if self.clock is None:
            return web.Response(status=405)
        assert set(request.query.getall("filter")) == {f'alertname="{WATCHDOG}"', 'source="sidecar"'}
        now = self.now()
        return web.json_response([alert for alert in self._listed.values() if is_firing(alert, now)])

    async def status(self, _request: web.Request) -> web.Response:
        if self.clock is None:
            return web.Response(status=404)
        return web.json_response({} if self.uptime is None else {"uptime": self.uptime})

    def now(self) -> float:
        """Return the Unix seconds on its clock."""
        return (self.clock or Clock()).now() + self.clock_offset

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until the received requests satisfy a condition."""
        async with asyncio.timeout(30), self._request_received:
            await self._request_received.wait_for(lambda: bool(holds()))


def is_watchdog(batch: Any) -> bool:
    """Return whether a request contains only the watchdog."""
    return isinstance(batch, list) and [alert["labels"].get("alertname") for alert in batch] == [WATCHDOG]


def _with_times(alert: dict[str, Any], now: float) -> dict[str, Any]:
    """Return the alert as Alertmanager stores it, with missing times set."""
    return {"startsAt": _format_time(now), "endsAt": _format_time(now + 300)} | alert


def _format_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@asynccontextmanager
async def fake_alertmanager(
    path: str = PATH, *, clock: Clock | None = None, **server: Any
) -> AsyncIterator[FakeAlertmanager]:
    alertmanager = FakeAlertmanager(clock)
    app = web.Application()
    app.router.add_post(path, alertmanager.handle)
    app.router.add_get(path, alertmanager.list_alerts)
    app.router.add_get(path.removesuffix("alerts") + "status", alertmanager.status)
    async with TestServer(app, **server) as running:
        alertmanager.url = str(running.make_url("")).rstrip("/")
        yield alertmanager


def settings_for(url: str, **more: Any) -> AlertmanagerSettings:
    return AlertmanagerSettings.model_validate({"url": url, **more})


def firing_alert(stream: str = "main", *, severity: str = "critical", upstream: str = "studio", **more: Any) -> Alert:
    """Return a firing alert."""
    facts: dict[str, Any] = {"active_at": 1_726_000_000.0, "fired_at": 1_726_000_000.0, "value": 0.4} | more
    key = AlertKey("StreamUnhealthy", upstream, stream, severity=severity)
    return Alert(key, "livepeer", Phase.FIRING, **facts)


def resolve(alert: Alert, clock: Clock) -> Alert:
    """Resolve an alert now."""
    alert.phase = Phase.RESOLVED
    alert.resolved_at, alert.resolved_steady = clock.instant()
    return alert


class FakeOutbox:
    """An outbox with the alerts that a test sets."""

    def __init__(self, clock: Clock, *alerts: Alert) -> None:
        self.clock = clock
        self.all_alerts = list(alerts)
        self.annotations = {"summary": "A stream is unhealthy."}
        self.lapse_seconds: float | None = None
        self.maintained: set[str] = set()

    def sendable_alerts(self) -> list[Alert]:
        return sorted(self.all_alerts, key=sending_order)

    def payload(self, alert: Alert) -> AlertPayload | None:
        labels = {"alertname": alert.key.rule, "upstream": alert.key.upstream, "severity": alert.key.severity}
        labels |= {"stream": alert.key.stream} if alert.key.stream else {}
        ends_at = alert.resolved_at if alert.phase is Phase.RESOLVED else None
        return AlertPayload(labels, self.annotations, alert.fired_at or 0.0, ends_at, 240.0)

    def has_lapsed(self, alert: Alert) -> bool:
        if self.lapse_seconds is None or alert.resolved_steady is None:
            return False
        return self.clock.monotonic() >= alert.resolved_steady + self.lapse_seconds

    def is_under_maintenance(self, alert: Alert) -> bool:
        return alert.key.stream in self.maintained

    def watchdog(self) -> AlertPayload:
        annotations = {"sent_at": _format_time(self.clock.now())}
        return AlertPayload({"alertname": WATCHDOG, "source": "sidecar"}, annotations, self.clock.now(), None, 240.0)


def parse_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def is_firing(alert: Mapping[str, Any], now: float) -> bool:
    return parse_time(alert["endsAt"]) > now


async def run_event_loop(turns: int = 50) -> None:
    """Run all tasks that are ready to run."""
    for _ in range(turns):
        await asyncio.sleep(0)
