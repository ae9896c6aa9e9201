"""From a fault of a platform to a page: Prometheus' rules, the sidecar, and both together say the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.alerting.rules import RULES_BY_NAME, Owner
from exporter.simulator.simulated_streams import Platform
from tests.real.alert_environment import (
    JOB,
    Page,
    SimulatorClient,
    Webhook,
    livepeer_upstream,
    prometheus_evaluating,
    running_exporter,
    running_simulator,
    running_webhook,
    sample_configuration,
    send_foreign_alerts,
    storm_upstream,
    wait_until,
    wave_upstream,
)
from tests.real.alertmanager import Alertmanager, running_alertmanager
from tests.real.prometheus import running_prometheus

pytestmark = [pytest.mark.real, pytest.mark.no_cover]

ALL_HOLD_SECONDS = 12.0
"""StreamDegraded has the longest ``for`` of what a fault brings besides its own alert: ten minutes, scaled."""
DEFAULTS = {"interval": "500ms", "timeout": "450ms", "stale_after": "2s", "health_grace": "1s", "ended_ttl": "10s"}
FOREIGN = {"job": JOB, "platform": "storm", "upstream": "edge", "scope": "stream"}
"""Somebody else's alert that looks much like ours."""


@pytest.mark.parametrize("who", ["prometheus", "sidecar", "both"])
async def test_every_fault_brings_its_page_and_no_other(
    who: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        # of its own: what another test had told would not be told again
        alertmanager = stack.enter_context(running_alertmanager(tmp_path_factory.mktemp("alertmanager")))
        simulated = await stack.enter_async_context(running_simulator(seed=1))
        locked = await stack.enter_async_context(running_simulator(seed=2))
        webhook = await stack.enter_async_context(running_webhook())
        stack.enter_context(alertmanager.configured(sample_configuration(webhook)))
        play = Play(simulated, locked, webhook, alertmanager)
        configuration = {"defaults": DEFAULTS, "upstreams": play.upstreams(), "alerting": alerting(who, play, tmp_path)}
        service, address = await stack.enter_async_context(running_exporter(tmp_path, configuration))
        await wait_until(lambda: service.ready, "everything is polled", str)
        if who != "sidecar":
            evaluator = "all" if who == "prometheus" else "prometheus"
            prometheus = stack.enter_context(running_prometheus(tmp_path_factory.mktemp("prometheus")))
            await stack.enter_async_context(
                prometheus_evaluating(prometheus, alertmanager, tmp_path, address, evaluator)
            )

        await play.run()

        for labels in webhook.labels("firing", "pager", "tickets"):
            rule = RULES_BY_NAME.get(labels["alertname"])
            if rule is None or rule.owner is not Owner.BOTH:
                continue
            own = {"severity": rule.severity, "scope": rule.scope}
            assert own.items() <= labels.items()
            assert labels.get("source") == (None if who == "prometheus" else "sidecar")
            assert labels.keys() <= {
                "alertname",
                "severity",
                "scope",
                "platform",
                "upstream",
                "stream",
                "source",
                "job",
            }
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


def alerting(who: str, play: Play, directory: Path) -> dict[str, Any]:
    """A health SLO that the few streams here, most of them in trouble, still meet; and the sidecar where it is on."""
    settings: dict[str, Any] = {"health_slo": {"objective": 0.5}}
    if who != "prometheus":
        settings |= {"alertmanagers": [{"url": play.alertmanager.url}], "state_file": str(directory / "alerts.json")}
    if who == "both":
        settings["external_labels"] = {"job": JOB}
    return settings


class Play:
    """Every fault at once, each on another stream or platform, and then none."""

    def __init__(
        self, simulated: SimulatorClient, locked: SimulatorClient, webhook: Webhook, alertmanager: Alertmanager
    ) -> None:
        self.simulated, self.locked, self.webhook, self.alertmanager = simulated, locked, webhook, alertmanager
        self.storm = simulated.steady_streams(Platform.STORM, 6)
        self.livepeer = simulated.steady_streams(Platform.LIVEPEER, 2)
        self.wave = simulated.steady_streams(Platform.WAVE, 2)
        self.academy = locked.steady_streams(Platform.LIVEPEER, 2)
        unhealthy, stalled, starving, offline, flapping, _ = self.storm
        self.flapping = flapping
        self.faults = {"unhealthy": unhealthy, "stall": stalled, "bitrate_low": starving, "end": offline}
        self.expected: set[Page] = {
            ("StreamUnhealthy", "edge", unhealthy.id),
            ("StreamIngestStalled", "edge", stalled.id),
            ("StreamBitrateCritical", "edge", starving.id),
            ("StreamExpectedOffline", "edge", offline.id),
            ("StreamFlapping", "edge", flapping.id),
            ("StreamTranscodeBelowRealtime", "studio", self.livepeer[0].name),
            ("StreamUpstreamDown", "wave", ""),
            ("StreamUpstreamAuthFailing", "academy", ""),
        }

    def upstreams(self) -> list[dict[str, Any]]:
        url = self.simulated.url
        return [
            storm_upstream("edge", url, self.storm, unexpected=self.flapping),
            livepeer_upstream("studio", url, self.livepeer),
            wave_upstream("wave", url, self.wave),
            livepeer_upstream("academy", self.locked.url, self.academy),
        ]

    async def run(self) -> None:
        webhook = self.webhook
        foreign_names = {"DiskFull": "critical", "DiskSlow": "warning"}
        target = {**FOREIGN, "stream": self.faults["stall"].id}
        await asyncio.to_thread(
            send_foreign_alerts,
            self.alertmanager,
            *({**target, "alertname": name, "severity": severity} for name, severity in foreign_names.items()),
        )
        began = time.monotonic()
        async with self._flaps() as enough:
            await self._break_everything()
            await wait_until(lambda: self._flapping_told(), "flapping is told", self._state)
            enough.set()
            await wait_until(lambda: webhook.pages("firing") >= self.expected, "every fault is told", self._state)
            await asyncio.sleep(began + ALL_HOLD_SECONDS - time.monotonic())
        assert webhook.pages("firing") == self.expected, self._state()
        inhibited = await asyncio.to_thread(self._active)
        assert {("StreamUnhealthy", "edge", self.faults["stall"].id)} <= inhibited
        assert {("StreamUpstreamDown", "academy", "")} <= inhibited

        await self.simulated.clear()
        await self.locked.clear()
        await wait_until(lambda: webhook.pages("resolved") >= self.expected, "every end is told", self._state)
        await wait_until(lambda: not self._active(), "nothing is active", self._state)
        assert webhook.pages("firing") == self.expected, self._state()
        received = {labels["alertname"]: labels["severity"] for labels in webhook.labels("firing", "tickets")}
        assert foreign_names.items() <= received.items()
        assert not foreign_names.keys() & {labels["alertname"] for labels in webhook.labels("resolved")}

    async def _break_everything(self) -> None:
        for fault, stream in self.faults.items():
            await self.simulated.inject_fault("storm", fault, stream.name)
        await self.simulated.inject_fault("livepeer", "slow_transcode", self.livepeer[0].name)
        await self.simulated.inject_fault("wave", "down")
        await self.locked.inject_fault("livepeer", "auth")

    @asynccontextmanager
    async def _flaps(self) -> AsyncIterator[asyncio.Event]:
        """A new publish every 1.6 s until the event is set: the simulator's own flaps are a minute apart, unscaled."""
        enough = asyncio.Event()

        async def flap() -> None:
            while not enough.is_set():
                await self.simulated.inject_fault("storm", "end", self.flapping.name, **{"for": 0.8})
                await asyncio.sleep(1.6)

        task = asyncio.create_task(flap())
        try:
            yield enough
        finally:
            enough.set()
            await task

    def _flapping_told(self) -> bool:
        return any(name == "StreamFlapping" for name, *_ in self.webhook.pages("firing"))

    def _active(self) -> set[Page]:
        """The alerts that Alertmanager has of the rules that both can evaluate, inhibited ones too."""
        found = [
            alert["labels"] for alert in self.alertmanager.alerts('alertname=~"Stream.+"', 'scope=~"stream|upstream"')
        ]
        return {
            (labels["alertname"], labels["upstream"], labels.get("stream", ""))
            for labels in found
            if RULES_BY_NAME[labels["alertname"]].owner is Owner.BOTH
        }

    def _state(self) -> str:
        return f"missing {self.expected - self.webhook.pages('firing')}\n{self.webhook.history()}\n{self._active()}"
