"""A sidecar with a store for tests to publish to, a fake Alertmanager, and a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.sidecar import Sidecar
from exporter.config.alerting import AlertingSettings
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import StreamState
from exporter.platforms.capabilities import AlertSink
from exporter.store import Store
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import stream, view
from tests.sidecar.fake_alertmanager import FakeAlertmanager, fake_alertmanager, is_firing, run_event_loop

INTERVAL = 15.0


class SidecarHarness:
    """One process; several can follow each other on one clock."""

    def __init__(
        self,
        clock: FakeClock,
        alertmanager: FakeAlertmanager,
        find_sink: Callable[[str], AlertSink | None] | None = None,
    ) -> None:
        self.clock = clock
        self.alertmanager = alertmanager
        alertmanager.clock = clock
        self.registry = FamilyRegistry()
        self.store = Store()
        self.store.arrange(["studio"])
        self.sidecar = Sidecar(
            store=self.store,
            clock=clock,
            metrics=SidecarMetrics(self.registry),
            find_sink=find_sink or (lambda _: None),
            page_url="http://exporter:10071/",
        )

    async def apply(self, *upstreams: str, **alerting: Any) -> None:
        """Apply new settings; by default one Alertmanager and one upstream."""
        alerting = {"alertmanagers": [{"url": self.alertmanager.url}]} | alerting
        settings = AlertingSettings.model_validate(alerting)
        self.store.arrange(upstreams or ["studio"])
        await self.sidecar.apply(settings, upstreams or ["studio"])

    async def publish(self, *streams: StreamState, **facts: Any) -> None:
        """Publish the state after a poll and evaluate it. By default, an upstream is answering if it is up."""
        known = {"up": True, "answering": facts.get("up", True), "poll_interval_seconds": INTERVAL}
        self.store.publish(view(*streams, **known | facts))
        await run_event_loop()

    async def pass_time(self, seconds: float, *streams: StreamState, **facts: Any) -> None:
        """Poll with the same result until the time has passed."""
        for _ in range(int(seconds / INTERVAL)):
            self.clock.advance(INTERVAL)
            await run_event_loop()
            await self.publish(*streams, **facts)

    async def wait_until_sent(self) -> None:
        """Wait until all queues are empty."""
        async with asyncio.timeout(30):
            while any(queue.waiting for queue in self.sidecar._notifier.queues):  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    def states(self) -> dict[str, str]:
        """Return the states of alerts by name and stream."""
        return {f"{a.key.rule} {a.key.stream}".strip(): a.phase.value for a in self.sidecar.alerts()}

    def last_received(self, name: str) -> dict[str, Any]:
        return self.alertmanager.received(name)[-1]

    def is_firing(self, name: str) -> bool:
        """Return whether the alert is firing in Alertmanager now."""
        received = self.alertmanager.received(name)
        return bool(received) and is_firing(received[-1], self.clock.now())

    def metric_value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@asynccontextmanager
async def sidecar_harness(clock: FakeClock | None = None, **alerting: Any) -> AsyncIterator[SidecarHarness]:
    async with fake_alertmanager() as alertmanager:
        running = SidecarHarness(clock or FakeClock(), alertmanager)
        await running.apply(**alerting)
        try:
            yield running
        finally:
            await running.sidecar.stop()


@asynccontextmanager
async def sidecar_process(
    clock: FakeClock, alertmanager: FakeAlertmanager, state_file: Path, **alerting: Any
) -> AsyncIterator[SidecarHarness]:
    """Run one process with a state file, from start to SIGTERM."""
    running = SidecarHarness(clock, alertmanager)
    await running.apply(state_file=str(state_file), **alerting)
    try:
        yield running
    finally:
        await running.sidecar.stop(flush=True)


HEALTHY = stream("main", health_score_ratio=0.9)
UNHEALTHY = stream("main", health_score_ratio=0.35, issues=("The picture freezes",))
