"""The running exporter: build a coordinator per upstream, restart it after a crash, replace it on reload."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator, Mapping

import structlog

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.sidecar_gate import SidecarGate
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.config.section import Section
from exporter.config.upstream import UpstreamSettings
from exporter.http.vantage import Vantage
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics, FamilyRegistry
from exporter.platforms.capabilities import AlertSink
from exporter.platforms.registry import platforms
from exporter.polling.calendars import Calendars
from exporter.polling.coordinator import Coordinator, build_coordinator
from exporter.polling.groups import GroupTracker, group_shards
from exporter.polling.maintenance_control import MaintenanceControl
from exporter.polling.manual_maintenance import ManualMaintenance
from exporter.polling.on_demand import OnDemandPolls
from exporter.polling.pairing import PairWatch
from exporter.polling.self_metrics import MaintenanceMetrics, PollingMetrics
from exporter.reports.service import Reports
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception
from exporter.runtime.state_files import default_state_folder
from exporter.runtime.tasks import cancel_tasks
from exporter.sharding import SINGLE, GroupShards, HashKey, Shard
from exporter.store import Store

log = structlog.get_logger()

READY_AFTER_SECONDS = 30.0
RESTART_DELAY_SECONDS = 1.0
REFRESH_SECONDS = 1.0
"""Interval for updating states by age, such as marking them stale."""


class Service:
    """Owns all components between the configuration and the served states. Must stay in one event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[], Settings],
        clock: Clock | None = None,
        random_: random.Random | None = None,
        page_url: str = "",
        runbook_url: str = DEFAULT_RUNBOOK_URL,
        alerting_time_scale: float = 1.0,
        shard: Shard = SINGLE,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """``load`` reads the configuration for ``reload``, and raises ``ConfigError``.

        ``page_url`` and ``runbook_url`` are the URLs of the exporter's page and of the runbook, for links in alerts.
        ``alerting_time_scale`` divides every duration of the alerting sidecar, for tests. ``shard`` decides which
        streams to poll. ``environ`` gives the default state folder.
        """
        self.settings = settings
        self.clock = clock or Clock()
        self.store = Store()
        self.metrics = ExporterMetrics()
        self.polling_metrics = PollingMetrics(self.metrics.upstreams)
        self.shard = shard
        self.metrics.set_shard(shard)
        self.exposition = Exposition(self.store.states, self.metrics, self.store.groups)
        self._load = load
        self._environ = os.environ if environ is None else environ
        self._random = random_ or random.Random()  # noqa: S311 - spreads polls over time
        self._started_at = self.clock.instant()
        self._ready_at = self.clock.monotonic() + READY_AFTER_SECONDS
        self._coordinators: dict[str, Coordinator] = {}
        self._manual_maintenance = ManualMaintenance(self.clock, MaintenanceMetrics(self.metrics.exporter))
        self.maintenance = MaintenanceControl(self._manual_maintenance, self._coordinators)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._refresher: asyncio.Task[None] | None = None
        self._stopped = False
        self._reloading = asyncio.Lock()
        self._next_reload: asyncio.Task[None] | None = None
        """The queued reload, which starts when the current one has finished."""
        self._reloads: set[asyncio.Task[None]] = set()
        """The current and the queued reload."""
        self.calendars = Calendars(self.clock)
        self._vantage = Vantage(self.clock)
        # before the sidecar, which reads the states of groups when it evaluates a published state
        self._groups = GroupTracker(self.store, self.clock, self._started_at, self.calendars, shard)
        self._pairs = PairWatch(self.store, self.clock)
        self._group_shards = settings, group_shards(settings.groups, settings.upstreams)
        self._probe_metrics = PollingMetrics(FamilyRegistry())
        self.sidecar = SidecarGate(
            store=self.store,
            clock=self.clock,
            metrics=SidecarMetrics(self.metrics.exporter),
            find_sink=self._alert_sink,
            page_url=page_url,
            runbook_url=runbook_url,
            time_scale=alerting_time_scale,
        )
        self.reports = Reports(self.store, self.clock, settings)
        self.probes = OnDemandPolls(self.coordinator, self._build_probe_coordinator, self.clock, self.store.join)

    @property
    def ready(self) -> bool:
        """Whether every upstream has completed a poll, or 30 s have passed since the start."""
        polled = all(coordinator.polled.is_set() for coordinator in self._coordinators.values())
        return bool(
            self._coordinators.keys() >= {upstream.name for upstream in self.settings.upstreams} and polled
        ) or (self.clock.monotonic() >= self._ready_at)

    @property
    def healthy(self) -> bool:
        """Whether the refresh loop is running. This does not depend on upstreams."""
        return self._refresher is not None and not self._refresher.done()

    def coordinator(self, upstream: str) -> Coordinator | None:
        """Return the coordinator that polls the upstream on schedule, by its configured name."""
        return self._coordinators.get(upstream)

    async def start(self) -> None:
        """Start polling."""
        self._started_at = self.clock.instant()
        self._ready_at = self.clock.monotonic() + READY_AFTER_SECONDS
        built = {
            upstream.name: self._build_coordinator(upstream, self.settings) for upstream in self.settings.upstreams
        }
        self.metrics.set_retired_upstreams(self.settings.retired)
        self._replace_coordinators(built, self.settings)
        for name in built:
            self._start_polling(name)
        _log_warnings(self.settings)
        self._refresher = asyncio.create_task(self._refresh_periodically(), name="refresher")
        self.metrics.set_config_hash(await asyncio.to_thread(self.settings.fingerprint))
        self.metrics.set_reload_result(success=True, at=self.clock.now())
        await self._apply_maintenance_and_alerting()

    async def stop(self) -> None:
        """Stop polling and close every connection."""
        self._stopped = True
        await cancel_tasks([*self._reloads, *self._tasks.values(), *([self._refresher] if self._refresher else [])])
        self._tasks.clear()
        await self.sidecar.stop(flush=True)
        await self.maintenance.close()
        await self.probes.close()
        self.reports.close()
        await self.calendars.close()
        for coordinator in self._coordinators.values():
            await coordinator.close()

    async def reload(self) -> None:
        """Reload the configuration: check and build everything first, then swap.

        Calls made during a reload share one further reload, which starts when the current one has finished and so
        reads the latest configuration.

        Raises ``ConfigError``, or ``SecretError`` if a key cannot be read, without changing anything.
        """
        if self._next_reload is None:
            self._next_reload = asyncio.create_task(self._reload_in_turn(), name="reload")
            self._reloads.add(self._next_reload)
            self._next_reload.add_done_callback(self._end_reload)
        await asyncio.shield(self._next_reload)

    def _end_reload(self, task: asyncio.Task[None]) -> None:
        self._reloads.discard(task)
        if not task.cancelled():
            # asyncio would log the exception as never retrieved if all callers were cancelled
            task.exception()

    async def _reload_in_turn(self) -> None:
        async with self._reloading:
            self._next_reload = None
            try:
                settings = await asyncio.to_thread(self._load)
                fingerprint = await asyncio.to_thread(settings.fingerprint)
                changed = [upstream for upstream in settings.upstreams if not self._is_unchanged(upstream, settings)]
                built = {}
                for upstream in changed:
                    built[upstream.name] = self._build_coordinator(upstream, settings)
                    await asyncio.sleep(0)
            except Exception as error:
                self.metrics.set_reload_result(success=False, at=self.clock.now())
                errors = error.errors if isinstance(error, ConfigError) else [describe_exception(error)]
                log.error("configuration not reloaded", errors=errors)
                raise
            sections = list(_changed_sections(self.settings, settings))
            # before upstreams are removed, so that no scrape lacks an upstream that is not yet marked as retired
            self.metrics.set_retired_upstreams(settings.retired)
            leaving = self._replace_coordinators(built, settings)
            # Adding or removing an upstream's metrics takes about 1 ms, so yield to the event loop between upstreams.
            # No variable here may hold a coordinator: _close_coordinators frees them one by one.
            for upstream in [coordinator.settings for coordinator, _ in leaving]:
                self.polling_metrics.remove_upstream(upstream.platform, upstream.name)
                await asyncio.sleep(0)
            for name in built:
                if self._stopped:
                    break
                self._start_polling(name)
                await asyncio.sleep(0)
            await self._apply_maintenance_and_alerting()
            self.metrics.set_config_hash(fingerprint)
            self.metrics.set_reload_result(success=True, at=self.clock.now())
            _log_warnings(settings)
            log.info("configuration reloaded", upstreams=len(settings.upstreams), changed=sections)
            await self._close_coordinators(leaving)

    # -- building and replacing ------------------------------------------------------------------------------------

    def _is_unchanged(self, upstream: UpstreamSettings, settings: Settings) -> bool:
        coordinator = self._coordinators.get(upstream.name)
        return (
            coordinator is not None
            and coordinator.settings == upstream
            and settings.histograms.per_stream == self.settings.histograms.per_stream
            and coordinator.group_keys == self._group_keys(upstream, settings)
        )

    def _group_keys(self, upstream: UpstreamSettings, settings: Settings) -> Mapping[str, HashKey]:
        """Return the hash keys of the upstream's streams in groups and pairs; none if there is only one shard."""
        return {} if self.shard.count == 1 else self._shards_of_groups(settings).of_upstream(upstream.name)

    def _shards_of_groups(self, settings: Settings) -> GroupShards:
        """Return the assignment of these groups and pairs to shards; computed once per configuration."""
        if self._group_shards[0] is not settings:
            self._group_shards = settings, group_shards(settings.groups, settings.upstreams)
        return self._group_shards[1]

    def _build_coordinator(self, upstream: UpstreamSettings, settings: Settings) -> Coordinator:
        """Build the coordinator that polls the upstream on schedule."""
        return build_coordinator(
            upstream,
            platforms()[upstream.platform],
            store=self.store,
            metrics=self.polling_metrics,
            clock=self.clock,
            started_at=self._started_at,
            shard=self.shard,
            group_keys=self._group_keys(upstream, settings),
            per_stream=settings.histograms.per_stream,
            random_=self._random,
            calendars=self.calendars,
            maintenance=self._manual_maintenance,
            vantage=self._vantage,
        )

    def _build_probe_coordinator(self, scheduled: Coordinator, store: Store) -> Coordinator:
        """Build the coordinator that polls the same upstream on demand."""
        return build_coordinator(
            scheduled.settings,
            type(scheduled.platform),
            store=store,
            metrics=self._probe_metrics,
            clock=self.clock,
            started_at=self._started_at,
            shard=self.shard,
            group_keys=scheduled.group_keys,
            scheduled=scheduled,
            calendars=self.calendars,
            maintenance=self._manual_maintenance,
            vantage=self._vantage,
        )

    def _replace_coordinators(
        self, built: Mapping[str, Coordinator], settings: Settings
    ) -> list[tuple[Coordinator, asyncio.Task[None]]]:
        """Install new coordinators; return the outdated ones with their tasks, cancelled but still running."""
        names = [upstream.name for upstream in settings.upstreams]
        replaced = [name for name in self._coordinators if name in built or name not in names]
        leaving = [(self._coordinators.pop(name), self._tasks.pop(name)) for name in replaced]
        for coordinator, task in leaving:
            task.cancel()
            self.store.withdraw(coordinator.settings.name)
        self.settings = settings
        self.store.arrange(names)
        self.reports.apply(settings)
        self.calendars.retain(names)
        self.calendars.use_for_groups(settings.groups)
        self._groups.configure(settings, self._shards_of_groups(settings))
        self._coordinators |= built
        for coordinator in built.values():
            # before the first poll, so that no alert is sent meanwhile
            coordinator.refresh_maintenance()
        return leaving

    def _start_polling(self, name: str) -> None:
        coordinator = self._coordinators[name]
        settings = coordinator.settings
        self.polling_metrics.add_upstream(settings.platform, name, settings.label_pairs)
        self._tasks[name] = asyncio.create_task(self._keep_polling(coordinator), name=f"poll {name}")

    async def _close_coordinators(self, leaving: list[tuple[Coordinator, asyncio.Task[None]]]) -> None:
        await cancel_tasks([task for _, task in leaving])
        while leaving:
            # Closing a coordinator frees thousands of states, so yield to the event loop between upstreams.
            coordinator = leaving.pop()[0]
            await coordinator.close()
            del coordinator
            await asyncio.sleep(0)

    async def _apply_maintenance_and_alerting(self) -> None:
        """Apply the settings. Maintenance first, because it decides which alerts the webhooks send."""
        folder = self.settings.state_dir or default_state_folder(self._environ)
        await self.maintenance.apply(folder)
        upstreams = [upstream.name for upstream in self.settings.upstreams]
        await self.sidecar.apply(self.settings.alerting, upstreams, folder)

    def _alert_sink(self, upstream: str) -> AlertSink | None:
        coordinator = self._coordinators.get(upstream)
        return coordinator.platform.alert_sink() if coordinator else None

    # -- background tasks ------------------------------------------------------------------------------------------

    async def _keep_polling(self, coordinator: Coordinator) -> None:
        """Run a coordinator; count a crash and restart it."""
        settings = coordinator.settings
        while True:
            try:
                await coordinator.run()
            except Exception as error:
                self.polling_metrics.count_restart(settings.platform, settings.name)
                log.error("poller crashed; restarting it", upstream=settings.name, error=describe_exception(error))
                await self.clock.sleep(RESTART_DELAY_SECONDS)

    async def _refresh_periodically(self) -> None:
        while True:
            self.reports.beat()
            await self.clock.sleep(REFRESH_SECONDS)
            try:
                self.maintenance.refresh()
            except Exception as error:
                log.error("maintenance could not be refreshed", error=describe_exception(error))
            await self._refresh_states()
            self._refresh_groups()

    def _refresh_groups(self) -> None:
        try:
            self._groups.refresh()
        except Exception as error:
            log.error("states of groups could not be refreshed", error=describe_exception(error))

    async def _refresh_states(self) -> None:
        # A separate function, because its loop variable would keep a replaced coordinator alive until the next round.
        for coordinator in list(self._coordinators.values()):
            try:
                await coordinator.refresh()
            except Exception as error:
                log.error(
                    "states could not be refreshed", upstream=coordinator.settings.name, error=describe_exception(error)
                )


def _changed_sections(before: Settings, after: Settings) -> Iterator[str]:
    """Yield the keys that differ, such as ``alerting.webhooks`` or ``upstreams.NAME``."""
    old, new = ({upstream.name: upstream for upstream in settings.upstreams} for settings in (before, after))
    yield from (f"upstreams.{name}" for name in {**old, **new} if old.get(name) != new.get(name))
    for key in type(after).model_fields:
        value_before, value = getattr(before, key), getattr(after, key)
        if key == "upstreams" or value_before == value:
            continue
        if isinstance(value, Section):
            inner = type(value).model_fields
            yield from (f"{key}.{name}" for name in inner if getattr(value_before, name) != getattr(value, name))
        else:
            yield key


def _log_warnings(settings: Settings) -> None:
    warnings = list(settings.warnings)
    if any(upstream.exclude_families for upstream in settings.upstreams):
        from exporter.alerting.affected_rules import excluded_family_warnings

        warnings += excluded_family_warnings(settings)
    for warning in warnings:
        log.warning("configuration warning", warning=warning)
