"""A sidecar, with its own clock, over streams that tests make healthy or unhealthy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from exporter.alerting.evaluator import Phase
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.sidecar import Sidecar
from exporter.config.alerting import AlertingSettings
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import Identity
from exporter.runtime.clock import Clock
from exporter.store import Store
from tests.metrics.generated_views import stream, view
from tests.real.child_process import GENEROUS_SECONDS

NAME = "StreamUnhealthy"
POLL_SECONDS = 15.0
UPSTREAMS = 10


class ShiftedClock(Clock):
    """A wrong wall clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        return super().now() + self._seconds


class Replica:
    """One sidecar, and the streams as it sees them. ``time_scale`` divides all times."""

    def __init__(self, time_scale: float, streams: int, clock: Clock | None = None) -> None:
        self.time_scale = time_scale
        self.registry = FamilyRegistry()
        self.unhealthy: set[int] = set()
        self.upstreams = [f"edge-{n}" for n in range(min(streams, UPSTREAMS))]
        self._streams = streams
        self._store = Store()
        self._store.arrange(self.upstreams)
        self.sidecar = Sidecar(
            store=self._store,
            clock=clock or Clock(),
            metrics=SidecarMetrics(self.registry),
            find_sink=lambda _: None,
            page_url="http://exporter:10071/",
            time_scale=time_scale,
        )

    async def apply(self, urls: Sequence[str], resolve: str = "send", **alerting: Any) -> None:
        settings = {
            "alertmanagers": [{"url": url} for url in urls],
            "thresholds": {NAME: {"for": "0s"}, "StreamDegraded": 0.01},
            "resolve": resolve,
            **alerting,
        }
        await self.sidecar.apply(AlertingSettings.model_validate(settings), self.upstreams)

    async def publish(self) -> None:
        """Publish the states after a poll of every upstream."""
        count = len(self.upstreams)
        for number, name in enumerate(self.upstreams):
            states = [
                msgspec.structs.replace(
                    stream(health_score_ratio=0.2 if n in self.unhealthy else 0.9),
                    identity=Identity("livepeer", name, f"s{n}"),
                )
                for n in range(number, self._streams, count)
            ]
            interval = POLL_SECONDS / self.time_scale
            self._store.publish(view(*states, upstream=name, up=True, answering=True, poll_interval_seconds=interval))
            await asyncio.sleep(0)

    async def poll(self, seconds: float) -> None:
        """Continue polling for a time, which is not scaled."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await self.publish()
            await asyncio.sleep(min(POLL_SECONDS / self.time_scale, seconds))

    async def poll_until(self, holds: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
        """Continue polling until a condition holds."""
        async with asyncio.timeout(GENEROUS_SECONDS):
            while True:
                found = holds()
                if await found if isinstance(found, Awaitable) else found:
                    return
                await self.poll(POLL_SECONDS / self.time_scale)

    def firing(self) -> set[str]:
        return {alert.key.stream for alert in self.sidecar.alerts((Phase.FIRING,)) if alert.key.rule == NAME}

    def count(self, name: str, url: str) -> float:
        return self.value(f"stream_exporter_notifications_{name}_total", alertmanager=url) or 0.0

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@asynccontextmanager
async def running_replica(
    urls: Sequence[str], *, streams: int = 1, time_scale: float = 60.0, clock: Clock | None = None, **alerting: Any
) -> AsyncIterator[Replica]:
    replica = Replica(time_scale, streams, clock)
    await replica.apply(urls, **alerting)
    try:
        yield replica
    finally:
        await replica.sidecar.stop()
