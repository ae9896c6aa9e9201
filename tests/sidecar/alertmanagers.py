"""A stand-in for Alertmanager where the real one can't be made to fail, and what the tests send to it."""

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


async def take_all(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
    return web.Response()


class StandIn:
    """Remembers every request; ``behave`` decides what is answered."""

    def __init__(self) -> None:
        self.url = ""
        self.behave: Behave = take_all
        self.batches: list[list[dict[str, Any]]] = []
        self.requests: list[web.Request] = []
        self._came = asyncio.Condition()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [alert for batch in self.batches for alert in batch]

    def told(self, name: str) -> list[dict[str, Any]]:
        """What was said of the alerts of this name."""
        return [alert for alert in self.alerts if alert["labels"]["alertname"] == name]

    async def handle(self, request: web.Request) -> web.Response:
        alerts: list[dict[str, Any]] = await request.json()
        self.requests.append(request)
        self.batches.append(alerts)
        async with self._came:
            self._came.notify_all()
        return await self.behave(alerts, request)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until what has come is enough."""
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: bool(holds()))


@asynccontextmanager
async def stand_in(path: str = PATH, **server: Any) -> AsyncIterator[StandIn]:
    alertmanager = StandIn()
    app = web.Application()
    app.router.add_post(path, alertmanager.handle)
    async with TestServer(app, **server) as running:
        alertmanager.url = str(running.make_url("")).rstrip("/")
        yield alertmanager


def settings(url: str, **more: Any) -> AlertmanagerSettings:
    return AlertmanagerSettings.model_validate({"url": url, **more})


def notice(
    stream: str = "main", *, ends_at: float | None = None, starts_at: float = 1_726_000_000.0, **labels: str
) -> AlertPayload:
    own = {"alertname": "StreamUnhealthy", "upstream": "studio", "stream": stream, **labels}
    return AlertPayload(own, {"summary": "A stream is unhealthy."}, starts_at, ends_at, horizon_seconds=240.0)


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def is_firing(alert: Mapping[str, Any], now: float) -> bool:
    return unix(alert["endsAt"]) > now


async def turns(number: int = 50) -> None:
    """Let everything go on that waits for nothing but its turn."""
    for _ in range(number):
        await asyncio.sleep(0)
