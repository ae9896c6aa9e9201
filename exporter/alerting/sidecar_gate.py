"""Creates the alerting sidecar when it is first needed; without one, its code takes no memory (docs/adr/0003)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import AlertingSettings
from exporter.platforms.capabilities import AlertSink
from exporter.runtime.clock import Clock
from exporter.store import Store

if TYPE_CHECKING:
    from exporter.alerting.evaluator import Alert, Phase
    from exporter.alerting.payload import AlertFormatter
    from exporter.alerting.sidecar import Evaluation, Sidecar


class SidecarGate:
    """The sidecar, or its absence. Must stay in one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        metrics: SidecarMetrics,
        find_sink: Callable[[str], AlertSink | None],
        page_url: str = "",
        runbook_url: str = DEFAULT_RUNBOOK_URL,
        time_scale: float = 1.0,
    ) -> None:
        """The arguments are those of ``Sidecar``."""

        def create() -> Sidecar:
            from exporter.alerting.sidecar import Sidecar

            return Sidecar(
                store=store,
                clock=clock,
                metrics=metrics,
                find_sink=find_sink,
                page_url=page_url,
                runbook_url=runbook_url,
                time_scale=time_scale,
            )

        self._create = create
        self.created: Sidecar | None = None
        """The sidecar, once it has been configured."""

    @property
    def active(self) -> bool:
        """Whether the sidecar is running."""
        return self.created is not None and self.created.active

    @property
    def formatter(self) -> AlertFormatter:
        """The formatter of the alerts' labels and annotations. There must be a sidecar."""
        assert self.created is not None, "without a sidecar, there are no alerts"
        return self.created.formatter

    @property
    def rules(self) -> Sequence[ActiveRule]:
        """The rules that the sidecar evaluates; a reload replaces the object."""
        return () if self.created is None else self.created.rules

    @property
    def last_evaluation(self) -> Evaluation | None:
        """Last evaluation of an upstream; None before the first one."""
        return None if self.created is None else self.created.last_evaluation

    @property
    def interval_seconds(self) -> float:
        """Minimum time between two evaluations of an upstream."""
        return 0.0 if self.created is None else self.created.interval_seconds

    def alerts(self, phases: Collection[Phase] | None = None) -> list[Alert]:
        """Return the alerts in these phases (default: pending and firing), sorted by key."""
        if self.created is None:
            return []
        return self.created.alerts() if phases is None else self.created.alerts(phases)

    async def apply(self, settings: AlertingSettings, upstreams: Sequence[str], state_folder: Path | None) -> None:
        """Apply new settings: start, reconfigure or stop the sidecar."""
        if self.created is None and settings.has_receivers:
            self.created = self._create()
        if self.created is not None:
            await self.created.apply(settings, upstreams, state_folder)

    async def stop(self, *, flush: bool = False) -> None:
        """Stop the sidecar. ``flush``: try to send all changes first."""
        if self.created is not None:
            await self.created.stop(flush=flush)
