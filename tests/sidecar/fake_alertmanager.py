"""A fake Alertmanager that can be made to fail, and the payloads that the tests send to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.alerting.payload import AlertPayload
from exporter.config.alerting import AlertmanagerSettings

PATH = "/api/v2/alerts"
Behave = Callable[[list[dict[str, Any]], web.Request], Awaitable[web.Response]]


async def accept_all(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
    return web.Response()


class FakeAlertmanager:
    """Records every request; ``behave`` makes the response."""

    def __init__(self) -> None:
        self.url = ""
        self.behave: Behave = accept_all
        self.batches: list[list[dict[str, Any]]] = []
        self.requests: list[web.Request] = []
        self._request_received = asyncio.Condition()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [alert for batch in self.batches for alert in batch]

    def received(self, name: str, **labels: str) -> list[dict[str, Any]]:
        """The received states of the alerts with this name and these labels."""
        wanted = {"alertname": name} | labels
        return [alert for alert in self.alerts if wanted.items() <= alert["labels"].items()]

    async def handle(self, request: web.Request) -> web.Response:
        alerts: list[dict[str, Any]] = await request.json()
        self.requests.append(request)
        self.batches.append(alerts)
        async with self._request_received:
            self._request_received.notify_all()
        return await self.behave(alerts, request)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until the received requests satisfy a condition."""
        async with asyncio.timeout(30), self._request_received:
            await self._request_received.wait_for(lambda: bool(holds()))


@asynccontextmanager
async def fake_alertmanager(path: str = PATH, **server: Any) -> AsyncIterator[FakeAlertmanager]:
    alertmanager = FakeAlertmanager()
    app = web.Application()
    app.router.add_post(path, alertmanager.handle)
    async with TestServer(app, **server) as running:
        alertmanager.url = str(running.make_url("")).rstrip("/")
        yield alertmanager


def settings_for(url: str, **more: Any) -> AlertmanagerSettings:
    return AlertmanagerSettings.model_validate({"url": url, **more})


def alert_payload(
    stream: str = "main",
    *,
    ends_at: float | None = None,
    starts_at: float = 1_726_000_000.0,
    resolved_steady: float | None = None,
    **labels: str,
) -> AlertPayload:
    own = {"alertname": "StreamUnhealthy", "upstream": "studio", "stream": stream, **labels}
    annotations = {"summary": "A stream is unhealthy."}
    return AlertPayload(own, annotations, starts_at, ends_at, horizon_seconds=240.0, resolved_steady=resolved_steady)


def parse_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def is_firing(alert: Mapping[str, Any], now: float) -> bool:
    return parse_time(alert["endsAt"]) > now


async def run_event_loop(turns: int = 50) -> None:
    """Run all tasks that are ready to run."""
    for _ in range(turns):
        await asyncio.sleep(0)
