"""A sidecar over a store that the tests publish to, with a stand-in for Alertmanager and a clock that they move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.sidecar import Sidecar
from exporter.config.alerting import AlertingSettings
from exporter.model import StreamState
from exporter.platforms.capabilities import AlertSink
from exporter.store import Store
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import stream, view
from tests.sidecar.alertmanagers import StandIn, is_firing, stand_in, turns

INTERVAL = 15.0


class Watching:
    """One process's life; several may follow each other on one clock."""

    def __init__(
        self, clock: FakeClock, alertmanager: StandIn, sink_of: Callable[[str], AlertSink | None] | None = None
    ) -> None:
        self.clock = clock
        self.alertmanager = alertmanager
        self.registry = CollectorRegistry()
        self.store = Store()
        self.store.arrange(["studio"])
        self.sidecar = Sidecar(
            store=self.store,
            clock=clock,
            instruments=SidecarMetrics(self.registry),
            sink_of=sink_of or (lambda _: None),
            generator_url="http://exporter:10071/",
            environ={},
        )

    async def apply(self, *upstreams: str, **alerting: Any) -> None:
        """New settings; by default those of one Alertmanager and one upstream."""
        alerting = {"alertmanagers": [{"url": self.alertmanager.url}]} | alerting
        settings = AlertingSettings.model_validate(alerting)
        self.store.arrange(upstreams or ["studio"])
        await self.sidecar.apply(settings, upstreams or ["studio"])

    async def publish(self, *streams: StreamState, **facts: Any) -> None:
        """A poll's view, evaluated."""
        self.store.publish(view(*streams, **{"up": True, "poll_interval_seconds": INTERVAL} | facts))
        await turns()

    async def pass_time(self, seconds: float, *streams: StreamState, **facts: Any) -> None:
        """Polls with the same result, for so long."""
        for _ in range(int(seconds / INTERVAL)):
            self.clock.advance(INTERVAL)
            await turns()
            await self.publish(*streams, **facts)

    async def settled(self) -> None:
        """Until all that is to be sent has been sent."""
        async with asyncio.timeout(30):
            while any(s.waiting for t in self.sidecar._dispatcher._targets for s in t.senders):  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    def states(self) -> dict[str, str]:
        """Alert name (and stream) → state."""
        return {f"{a.key.rule} {a.key.stream}".strip(): a.phase.value for a in self.sidecar.alerts()}

    def last(self, name: str) -> dict[str, Any]:
        return self.alertmanager.told(name)[-1]

    def is_firing(self, name: str) -> bool:
        """As Alertmanager sees it now."""
        told = self.alertmanager.told(name)
        return bool(told) and is_firing(told[-1], self.clock.now())

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@asynccontextmanager
async def watching(clock: FakeClock | None = None, **alerting: Any) -> AsyncIterator[Watching]:
    async with stand_in() as alertmanager:
        running = Watching(clock or FakeClock(), alertmanager)
        await running.apply(**alerting)
        try:
            yield running
        finally:
            await running.sidecar.stop()


@asynccontextmanager
async def process(
    clock: FakeClock, alertmanager: StandIn, state_file: Path, **alerting: Any
) -> AsyncIterator[Watching]:
    """From start to SIGTERM, with a memory."""
    running = Watching(clock, alertmanager)
    await running.apply(state_file=str(state_file), **alerting)
    try:
        yield running
    finally:
        await running.sidecar.stop(flush=True)


HEALTHY = stream("main", health_score_ratio=0.9)
UNHEALTHY = stream("main", health_score_ratio=0.35, issues=("The picture freezes",))
