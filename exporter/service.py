"""The running exporter: builds a coordinator per upstream, keeps them alive, and changes them on reload."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from exporter.alerting.affected_rules import excluded_family_warnings
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.sidecar import Sidecar
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics, FamilyRegistry
from exporter.platforms.capabilities import AlertSink
from exporter.platforms.registry import platforms
from exporter.polling.building import build_coordinator
from exporter.polling.coordinator import Coordinator
from exporter.polling.on_demand import OnDemandPolls
from exporter.polling.self_metrics import PollingMetrics
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception
from exporter.sharding import SINGLE, Shard
from exporter.store import Store

log = structlog.get_logger()

READY_AFTER_SECONDS = 30.0
RESTART_DELAY_SECONDS = 1.0
TICK_SECONDS = 1.0


class Service:
    """Everything between the configuration and what is served. Made and used in one event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[], Settings],
        clock: Clock | None = None,
        random_: random.Random | None = None,
        page_url: str = "",
        alerting_time_scale: float = 1.0,
        shard: Shard = SINGLE,
    ) -> None:
        """``load`` reads the configuration again, for ``reload``; it raises ``ConfigError``.

        ``page_url``: where people find this exporter, for its alerts. ``alerting_time_scale``: what every duration of
        the alerting sidecar is divided by, for tests. ``shard``: which of the streams are polled here.
        """
        self.settings = settings
        self.clock = clock or Clock()
        self.store = Store()
        self.metrics = ExporterMetrics()
        self.polling_metrics = PollingMetrics(self.metrics.upstreams)
        self.shard = shard
        self.metrics.set_shard(shard)
        self.exposition = Exposition(self.store.views, self.metrics)
        self._load = load
        self._random = random_ or random.Random()  # noqa: S311 - spreads polls over time, guards nothing
        self._started_at = self.clock.now()
        self._ready_at = self.clock.monotonic() + READY_AFTER_SECONDS
        self._coordinators: dict[str, Coordinator] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._stopped = False
        self._reloading = asyncio.Lock()
        self._uncounted = PollingMetrics(FamilyRegistry())
        self.sidecar = Sidecar(
            store=self.store,
            clock=self.clock,
            metrics=SidecarMetrics(self.metrics.exporter),
            sink_of=self._sink_of,
            generator_url=page_url,
            time_scale=alerting_time_scale,
        )
        self.probes = OnDemandPolls(self.coordinator, self._coordinate_probes)

    @property
    def ready(self) -> bool:
        """Whether each upstream has completed a poll, or half a minute has passed since the start."""
        polled = all(coordinator.polled.is_set() for coordinator in self._coordinators.values())
        return bool(self._coordinators.keys() >= {u.name for u in self.settings.upstreams} and polled) or (
            self.clock.monotonic() >= self._ready_at
        )

    @property
    def healthy(self) -> bool:
        """Whether the tasks that poll are there; it never depends on what upstreams do."""
        return self._ticker is not None and not self._ticker.done()

    def coordinator(self, upstream: str) -> Coordinator | None:
        """The coordinator of an upstream, by its configured name."""
        return self._coordinators.get(upstream)

    async def start(self) -> None:
        """Begin to poll."""
        self._started_at = self.clock.now()
        self._ready_at = self.clock.monotonic() + READY_AFTER_SECONDS
        self._swap(self._build(self.settings.upstreams), self.settings)
        for name in self._coordinators:
            self._begin(name)
        _tell(self.settings)
        self.metrics.set_reload_result(success=True, at=self.clock.now())
        self._ticker = asyncio.create_task(self._tick(), name="ticker")
        await self._apply_alerting()

    async def stop(self) -> None:
        """Stop polling and close every connection."""
        self._stopped = True
        tasks = [*self._tasks.values(), *([self._ticker] if self._ticker else [])]
        await _cancel(tasks)
        self._tasks.clear()
        await self.sidecar.stop(flush=True)
        await self.probes.close()
        for coordinator in self._coordinators.values():
            await coordinator.close()

    async def reload(self) -> None:
        """Read the configuration again: all is built and checked first, then swapped.

        Raises ``ConfigError`` (or ``SecretError``, for a key that can't be read) and changes nothing when it is bad.
        """
        async with self._reloading:
            try:
                settings = await asyncio.to_thread(self._load)
                changed = [new for new in settings.upstreams if not self._is_unchanged(new, settings)]
                built = await self._build_in_steps(changed, settings)
            except Exception as error:
                self.metrics.set_reload_result(success=False, at=self.clock.now())
                told = error.errors if isinstance(error, ConfigError) else [describe_exception(error)]
                log.error("configuration not reloaded", errors=told)
                raise
            leaving = self._swap(built, settings)
            await self._begin_in_steps(built, [coordinator.settings for coordinator, _ in leaving])
            await self._apply_alerting()
            self.metrics.set_reload_result(success=True, at=self.clock.now())
            _tell(settings)
            log.info("configuration reloaded", upstreams=len(settings.upstreams), changed=[u.name for u in changed])
            await self._end(leaving)

    # -- building and swapping ---------------------------------------------------------------------------------------

    def _is_unchanged(self, new: UpstreamSettings, settings: Settings) -> bool:
        running = self._coordinators.get(new.name)
        return (
            running is not None
            and running.settings == new
            and settings.histograms.per_stream == self.settings.histograms.per_stream
        )

    def _build(self, upstreams: Sequence[UpstreamSettings], settings: Settings | None = None) -> dict[str, Coordinator]:
        per_stream = (settings or self.settings).histograms.per_stream
        return {upstream.name: self._coordinate(upstream, per_stream) for upstream in upstreams}

    async def _build_in_steps(
        self, upstreams: Sequence[UpstreamSettings], settings: Settings
    ) -> dict[str, Coordinator]:
        """Build one after the other, and let others have the event loop in between."""
        built: dict[str, Coordinator] = {}
        for upstream in upstreams:
            built |= self._build([upstream], settings)
            await asyncio.sleep(0)
        return built

    def _coordinate(self, settings: UpstreamSettings, per_stream: bool) -> Coordinator:
        return self._make(settings, store=self.store, metrics=self.polling_metrics, per_stream=per_stream)

    def _coordinate_probes(self, running: Coordinator, store: Store) -> Coordinator:
        """One that polls the same upstream when it is told to, and is counted nowhere."""
        return self._make(running.settings, store=store, metrics=self._uncounted, beside=running)

    def _make(
        self,
        settings: UpstreamSettings,
        *,
        store: Store,
        metrics: PollingMetrics,
        per_stream: bool = False,
        beside: Coordinator | None = None,
    ) -> Coordinator:
        return build_coordinator(
            settings,
            platforms()[settings.platform],
            store=store,
            metrics=metrics,
            clock=self.clock,
            started_at=self._started_at,
            shard=self.shard,
            per_stream=per_stream,
            random_=self._random,
            beside=beside,
        )

    def _swap(
        self, built: Mapping[str, Coordinator], settings: Settings
    ) -> list[tuple[Coordinator, asyncio.Task[None]]]:
        """Let the new coordinators take over; those that leave are returned, cancelled but not yet ended."""
        names = [upstream.name for upstream in settings.upstreams]
        leaving = [name for name in self._coordinators if name in built or name not in names]
        ended = [(self._coordinators.pop(name), self._tasks.pop(name)) for name in leaving]
        for coordinator, task in ended:
            task.cancel()
            self.store.withdraw(coordinator.settings.name)
        self.settings = settings
        self.store.arrange(names)
        self._coordinators |= built
        return ended

    async def _begin_in_steps(self, built: Iterable[str], left: Iterable[UpstreamSettings]) -> None:
        """What is counted of an upstream takes a millisecond to remove and to make: never of all of them at once."""
        for former in left:
            self.polling_metrics.remove_upstream(former.platform, former.name)
            await asyncio.sleep(0)
        for name in built:
            if self._stopped:
                return
            self._begin(name)
            await asyncio.sleep(0)

    def _begin(self, name: str) -> None:
        """Let a coordinator poll."""
        coordinator = self._coordinators[name]
        self.polling_metrics.add_upstream(coordinator.settings.platform, name)
        self._tasks[name] = asyncio.create_task(self._keep_polling(coordinator), name=f"poll {name}")

    async def _end(self, leaving: list[tuple[Coordinator, asyncio.Task[None]]]) -> None:
        await _cancel([task for _, task in leaving])
        while leaving:
            # Thousands of states are freed with each: never those of all upstreams at once.
            coordinator = leaving.pop()[0]
            await coordinator.close()
            del coordinator
            await asyncio.sleep(0)

    async def _apply_alerting(self) -> None:
        await self.sidecar.apply(self.settings.alerting, [upstream.name for upstream in self.settings.upstreams])

    def _sink_of(self, upstream: str) -> AlertSink | None:
        coordinator = self._coordinators.get(upstream)
        return coordinator.platform.alert_sink() if coordinator else None

    # -- what runs -----------------------------------------------------------------------------------------------------

    async def _keep_polling(self, coordinator: Coordinator) -> None:
        """Run a coordinator; should it die, count that and start it again."""
        settings = coordinator.settings
        while True:
            try:
                await coordinator.run()
            except Exception as error:
                self.polling_metrics.count_restart(settings.platform, settings.name)
                log.error("poller died and is restarted", upstream=settings.name, error=describe_exception(error))
                await self.clock.sleep(RESTART_DELAY_SECONDS)

    async def _tick(self) -> None:
        while True:
            await self.clock.sleep(TICK_SECONDS)
            await self._refresh()

    async def _refresh(self) -> None:
        # a function of its own: a name in the loop would keep a coordinator that has left until the next turn
        for coordinator in list(self._coordinators.values()):
            try:
                await coordinator.tick()
            except Exception as error:
                log.error("states not refreshed", upstream=coordinator.settings.name, error=describe_exception(error))


def _tell(settings: Settings) -> None:
    for warning in (*settings.warnings, *excluded_family_warnings(settings)):
        log.warning("configuration", warning=warning)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
