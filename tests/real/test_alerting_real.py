"""From a platform's fault to a page: Prometheus' rules, the sidecar, and both together have the same result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.alerting.rules import RULES_BY_NAME
from exporter.alerting.rules.rule import Severity
from exporter.service import Service
from exporter.simulator.fault_injection import STREAM_FAULTS, UPSTREAM_FAULTS, FaultKind
from tests.real.alert_environment import (
    JOB,
    Page,
    Told,
    Webhook,
    is_of_both,
    prometheus_evaluating,
    running_exporter,
    running_simulator,
    running_webhook,
    sample_configuration,
    scale_waits,
    send_foreign_alerts,
    told_of,
    wait_until,
)
from tests.real.alertmanager import Alertmanager, running_alertmanager
from tests.real.fault_matrix import PAUSE, ROWS, SIMULATORS, STORM, FaultMatrix
from tests.real.prometheus import running_prometheus

pytestmark = pytest.mark.real

THRESHOLDS = {
    "StreamLiveUnexpectedly": {"for": "20m"},
    "StreamFlapping": 2,
    "StreamVerdictUnstable": 4,
    "StreamUnhealthy": {"for": "5m"},
}
"""Shorter than the defaults, so that the run ends sooner. A pulsing fault changes every two polls, which are two
minutes apart at this scale."""
ALL_HOLD_SECONDS = 25.0
"""The longest ``for``, scaled, plus a ``group_wait`` and a round of evaluations."""
DEFAULTS = {"interval": "2s", "timeout": "1900ms", "stale_after": "4s", "health_grace": "1s", "ended_ttl": "10s"}
"""Two minutes, scaled. Shorter intervals fail when a busy machine delays this process by a second."""
FOREIGN = {"job": JOB, "platform": "storm", "upstream": "edge", "scope": "stream"}
"""Labels of an alert from another source that resembles ours."""
BOTH_SEVERITIES = {"StreamExpectedUnknown"}
"""Rules whose alert starts as a warning and becomes critical."""


def test_matrix_has_every_fault() -> None:
    rows = [row for upstream in ROWS for row in upstream.streams]
    # the natural rhythm of this one is too slow; a stream that ends repeatedly replaces it
    assert {row.fault for row in rows if row.fault} == (STREAM_FAULTS - {FaultKind.FLAP}) | {PAUSE}
    assert {upstream.fault for upstream in ROWS if upstream.fault} == UPSTREAM_FAULTS


@pytest.mark.parametrize("who", ["prometheus", "sidecar", "both"])
async def test_every_fault_causes_its_page_and_no_other(
    who: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_waits(monkeypatch)
    async with AsyncExitStack() as stack:
        # its own Alertmanager, because alerts that another test has sent would not be sent again
        alertmanager = stack.enter_context(running_alertmanager(tmp_path_factory.mktemp("alertmanager")))
        simulators = [await stack.enter_async_context(running_simulator(seed=seed)) for seed in range(SIMULATORS)]
        webhook = await stack.enter_async_context(running_webhook())
        stack.enter_context(alertmanager.configured(sample_configuration(webhook)))
        matrix = FaultMatrix(simulators)
        configuration = {
            "defaults": DEFAULTS,
            "upstreams": matrix.upstreams(),
            "alerting": alerting(who, alertmanager, tmp_path),
        }
        service, address = await stack.enter_async_context(running_exporter(tmp_path, configuration))
        await wait_until(lambda: service.ready, "everything is polled", str)
        if who != "sidecar":
            evaluator = "all" if who == "prometheus" else "prometheus"
            prometheus = stack.enter_context(running_prometheus(tmp_path_factory.mktemp("prometheus")))
            await stack.enter_async_context(
                prometheus_evaluating(prometheus, alertmanager, tmp_path, address, evaluator)
            )

        await Play(matrix, service, webhook, alertmanager).run()

        for labels in filter(is_of_both, webhook.labels("firing", "pager", "tickets")):
            rule = RULES_BY_NAME[labels["alertname"]]
            assert labels["severity"] in {severity.value for severity in rule.severities}
            assert labels["scope"] == rule.scope
            assert labels.get("source") == (None if who == "prometheus" else "sidecar")
            own = {"alertname", "severity", "scope", "platform", "upstream", "stream", "source", "job", *rule.labels}
            assert labels.keys() <= own
        told = {told_of(labels) for labels in webhook.labels("firing", "pager", "tickets")}
        by_prometheus_only = matrix.expected_by_prometheus()
        assert told & by_prometheus_only == (set() if who == "sidecar" else by_prometheus_only)
        watchdogs = {labels["alertname"] for labels in webhook.labels("firing") if "atchdog" in labels["alertname"]}
        by_prometheus, by_sidecar = {"StreamWatchdog"}, {"StreamSidecarWatchdog"}
        assert (
            watchdogs
            == {
                "prometheus": by_prometheus,
                "sidecar": by_sidecar,
                "both": by_prometheus | by_sidecar,
            }[who]
        )


def alerting(who: str, alertmanager: Alertmanager, directory: Path) -> dict[str, Any]:
    """Return alerting settings: a health SLO that the few, mostly unhealthy streams meet, and the sidecar if used."""
    settings: dict[str, Any] = {"health_slo": {"objective": 0.5}, "thresholds": THRESHOLDS}
    if who != "prometheus":
        settings |= {"alertmanagers": [{"url": alertmanager.url}], "state_file": str(directory / "alerts.json")}
    if who == "both":
        settings["external_labels"] = {"job": JOB}
    return settings


class Play:
    """Inject every fault at once, each on another stream or upstream, then end them all."""

    def __init__(self, matrix: FaultMatrix, service: Service, webhook: Webhook, alertmanager: Alertmanager) -> None:
        self.matrix, self.service, self.webhook, self.alertmanager = matrix, service, webhook, alertmanager
        self.expected = matrix.expected()

    async def run(self) -> None:
        foreign_names = {"DiskFull": "critical", "DiskSlow": "warning"}
        stalled = self.matrix.label(STORM, "stall")
        await asyncio.to_thread(
            send_foreign_alerts,
            self.alertmanager,
            *(
                {**FOREIGN, "stream": stalled, "alertname": name, "severity": severity}
                for name, severity in foreign_names.items()
            ),
        )
        began = time.monotonic()
        pulsing = self.matrix.expected(is_pulsing=True)
        async with self._pulses() as enough:
            await self.matrix.inject()
            await wait_until(lambda: self._told() >= pulsing, "alerts of pulsing faults are sent", self._state)
            enough.set()
            await wait_until(lambda: self._told() >= self.expected, "alerts of all faults are sent", self._state)
            await asyncio.sleep(began + ALL_HOLD_SECONDS - time.monotonic())
        assert worst(self._told()) == self.expected, self._state()
        warned = {(*page, "warning") for page in pages(self.expected) if page[0] in BOTH_SEVERITIES}
        assert warned <= self._told(), self._state()
        lasting = self.matrix.expected(is_pulsing=False)
        active = await asyncio.to_thread(self._active, inhibited=False)
        assert {told for told in active if told not in pulsing} == lasting, self._state()
        inhibited = await asyncio.to_thread(self._active, inhibited=True)
        assert ("StreamBitrateCritical", "edge", stalled, "critical") in inhibited
        assert ("StreamUpstreamDown", "refused", "", "critical") in inhibited

        await self.matrix.clear()
        await wait_until(lambda: self._resolved() >= pages(self.expected), "all resolved alerts are sent", self._state)
        await wait_until(lambda: not self._active(), "nothing is active", self._state)
        assert worst(self._told()) == self.expected, self._state()
        received = {labels["alertname"]: labels["severity"] for labels in self.webhook.labels("firing", "tickets")}
        assert foreign_names.items() <= received.items()
        assert not foreign_names.keys() & {labels["alertname"] for labels in self.webhook.labels("resolved")}

    @asynccontextmanager
    async def _pulses(self) -> AsyncIterator[asyncio.Event]:
        """Pulse faults until the event is set, because the simulator's own flaps are a minute apart, unscaled."""
        enough = asyncio.Event()
        task = asyncio.create_task(self.matrix.pulse(self.service, enough))
        try:
            yield enough
        finally:
            enough.set()
            await task

    def _told(self) -> set[Told]:
        return self.webhook.told("firing")

    def _resolved(self) -> set[Page]:
        return pages(self.webhook.told("resolved"))

    def _active(self, *, inhibited: bool | None = None) -> set[Told]:
        """Return Alertmanager's alerts of the rules that both can evaluate; ``inhibited`` filters them."""
        return {
            told_of(alert["labels"])
            for alert in self.alertmanager.alerts('alertname=~"Stream.+"', 'scope=~"stream|upstream"')
            if is_of_both(alert["labels"]) and inhibited in (None, bool(alert["status"]["inhibitedBy"]))
        }

    def _state(self) -> str:
        told = self._told()
        lines = [
            f"missing {sorted(self.expected - told)}",
            f"unexpected {sorted(worst(told) - self.expected)}",
            f"not resolved {sorted(pages(self.expected) - self._resolved())}",
            self.webhook.history(),
            f"active {sorted(self._active(inhibited=False))}",
            f"inhibited {sorted(self._active(inhibited=True))}",
        ]
        return "\n".join(lines)


def pages(told: set[Told]) -> set[Page]:
    return {(alert, upstream, stream) for alert, upstream, stream, _ in told}


def worst(told: set[Told]) -> set[Told]:
    """Return each alert with its highest severity."""
    order = [severity.value for severity in Severity]
    found: dict[Page, str] = {}
    for *page, severity in told:
        key = (page[0], page[1], page[2])
        found[key] = min(found.get(key, severity), severity, key=order.index)
    return {(*page, severity) for page, severity in found.items()}
