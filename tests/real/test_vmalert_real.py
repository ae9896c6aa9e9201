"""The rule files in a real vmalert, which evaluates them against a real VictoriaMetrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from exporter.cli import main
from exporter.simulator.simulated_streams import Platform
from tests.real.alert_environment import (
    JOB,
    SCALE,
    Page,
    page_of,
    running_exporter,
    running_simulator,
    storm_upstream,
    wait_until,
    wave_upstream,
)
from tests.real.alertmanager import Alertmanager, running_alertmanager
from tests.real.vmalert import (
    VictoriaMetrics,
    Vmalert,
    dry_run,
    running_victoria_metrics,
    running_vmalert,
    vmalert_version,
)

pytestmark = pytest.mark.real

KNOWS_KEEP_FIRING = (1, 92)
"""The first vmalert that supports ``keep_firing_for``; earlier ones refuse a file with unknown fields."""
POLLING = {"interval": "500ms", "timeout": "450ms", "stale_after": "2s", "health_grace": "1s", "ended_ttl": "10s"}
WATCHDOG: Page = ("StreamWatchdog", "", "")
UNRENDERED = ("{{", "<no value>", "<error", "%!")
"""Marks of a failed template: vmalert leaves the template unchanged, Go writes an error."""
T = TypeVar("T")


def test_vmalert_accepts_the_rule_files_without_keep_firing(tmp_path: Path) -> None:
    write_rules(tmp_path, "--without-keep-firing")

    done = dry_run(tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


def test_vmalert_supports_keep_firing_for_since_version_1_92(tmp_path: Path) -> None:
    """The reason for ``--without-keep-firing``: an older vmalert does not start with the shipped files."""
    write_rules(tmp_path)

    done = dry_run(tmp_path)

    if vmalert_version() >= KNOWS_KEEP_FIRING:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode != 0
        assert "unknown fields in rule: keep_firing_for" in done.stderr


async def test_vmalert_fires_for_faults_only(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(running_simulator(seed=1))
        off_air, healthy, tamed = simulated.steady_streams(Platform.STORM, 3)
        edge = storm_upstream("edge", simulated.url, [off_air, healthy, tamed])
        edge["streams"][-1]["alerts"] = {"StreamExpectedOffline": "off"}
        upstreams = [
            edge,
            wave_upstream("wave", simulated.url, simulated.steady_streams(Platform.WAVE, 1)),
        ]
        lab = await stack.enter_async_context(running_lab(tmp_path, tmp_path_factory, upstreams))
        await wait_until(lab.is_settled, "the rules cover every stream, and no alert fires", lab.state)

        await simulated.inject_fault("storm", "end", tamed.name)
        await simulated.inject_fault("storm", "end", off_air.name)
        await simulated.inject_fault("wave", "down")
        offline: Page = ("StreamExpectedOffline", "edge", off_air.id)
        down: Page = ("StreamUpstreamDown", "wave", "")
        await wait_until(lambda: lab.firing() >= {WATCHDOG, offline, down}, "both faults fire", lab.state)

        await wait_until(lambda: lab.delivered() >= {WATCHDOG, offline, down}, "Alertmanager has them", lab.state)
        await wait_until(
            lambda: lab.recorded() >= {WATCHDOG, offline, down}, "they are written to VictoriaMetrics", lab.state
        )
        alerts = lab.vmalert.alerts()
        assert not [alert for alert in alerts if alert["labels"].get("stream") in (healthy.id, tamed.id)]
        summaries = {page_of(alert["labels"]): alert["annotations"]["summary"] for alert in alerts}
        assert off_air.id in summaries[offline]
        assert "wave" in summaries[down]
        texts = [text for alert in alerts for text in alert["annotations"].values()]
        assert not [text for text in texts if any(part in text for part in UNRENDERED)]

        await simulated.clear()
        await wait_until(lambda: not lab.firing() & {offline, down}, "both have ended", lab.state)
        assert lab.vmalert.rule_errors() == {}


@dataclass
class Lab:
    """An exporter, VictoriaMetrics that scrapes it, and vmalert that sends to Alertmanager."""

    victoria_metrics: VictoriaMetrics
    vmalert: Vmalert
    alertmanager: Alertmanager
    streams: int

    def is_settled(self) -> bool:
        """Return whether the recording rules cover each stream, which takes some evaluations after vmalert's start."""
        streams = {labels["stream"] for labels, _ in self.victoria_metrics.query("stream:live")}
        return len(streams) == self.streams and {page_of(alert["labels"]) for alert in self.vmalert.alerts()} == {
            WATCHDOG
        }

    def firing(self) -> set[Page]:
        """Return the firing alerts according to vmalert."""
        return {page_of(alert["labels"]) for alert in self.vmalert.alerts() if alert["state"] == "firing"}

    def recorded(self) -> set[Page]:
        """Return the firing alerts according to the series that vmalert writes to VictoriaMetrics."""
        return {page_of(labels) for labels, _ in self.victoria_metrics.query('ALERTS{alertstate="firing"}')}

    def delivered(self) -> set[Page]:
        """Return the alerts in Alertmanager."""
        return {page_of(alert["labels"]) for alert in self.alertmanager.alerts()}

    def state(self) -> str:
        """Return the state for the message of a test that timed out."""
        alerts = [(*page_of(alert["labels"]), alert["state"]) for alert in self.vmalert.alerts()]
        said = self.vmalert.program.said.splitlines()[-20:]
        return "\n".join([f"{sorted(alerts)}", f"{self.vmalert.rule_errors()}", *said])


@asynccontextmanager
async def running_lab(
    directory: Path, folders: pytest.TempPathFactory, upstreams: list[dict[str, Any]]
) -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        configuration = {"defaults": POLLING, "upstreams": upstreams}
        service, address = await stack.enter_async_context(running_exporter(directory, configuration))
        await wait_until(lambda: service.ready, "everything is polled", str)
        rules = directory / "rules"
        write_rules(rules, "--without-keep-firing", "--config.file", directory / "config.yaml", "--time-scale", SCALE)

        # in threads, because the exporter and the simulator run in this process
        async def enter(program: AbstractContextManager[T]) -> T:
            return await asyncio.to_thread(stack.enter_context, program)

        metrics = await enter(running_victoria_metrics(folders.mktemp("victoria-metrics"), JOB, address))
        await wait_until(lambda: metrics.query(f'up{{job="{JOB}"}} == 1'), "the exporter is scraped", str)
        alertmanager = await enter(running_alertmanager(folders.mktemp("alertmanager")))
        vmalert = await enter(running_vmalert(folders.mktemp("vmalert"), rules, metrics, alertmanager.url))
        streams = sum(len(upstream.get("streams", upstream.get("sessions", ()))) for upstream in upstreams)
        yield Lab(metrics, vmalert, alertmanager, streams)


def write_rules(directory: Path, *arguments: object) -> None:
    assert main(["rules", "--output-dir", str(directory), *map(str, arguments)]) == 0
