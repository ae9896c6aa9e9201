"""Part ``alert_latency``: time from an unhealthy stream in a platform's API to the webhook, by sidecar and Prometheus.

The platform is simulated; Prometheus and Alertmanager are real. With ``for: 0s`` and without ``group_wait``, the
latency consists of the poll and the push, or of the poll, the scrape, the evaluation and the push. Prometheus uses its
usual interval of 15 s.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from bench.case_runner import Figures, print_table
from exporter.cli import main as command_line
from exporter.runtime.logging import configure
from exporter.simulator.simulated_streams import Platform, Stream
from tests.real.alert_environment import (
    JOB,
    SimulatorClient,
    Webhook,
    running_exporter,
    running_simulator,
    running_webhook,
    storm_upstream,
    wait_until,
)
from tests.real.alertmanager import Alertmanager, running_alertmanager
from tests.real.prometheus import Prometheus, running_prometheus

ROUNDS = 20
POLL_SECONDS = 2.0
PROMETHEUS_SECONDS = 15.0
GENEROUS_SECONDS = 120.0


def main(rounds: int = ROUNDS) -> None:
    """Print median and maximum of each case. ``rounds``: number of faults."""
    configure("error", "logfmt")
    print(f"## From unhealthy to the webhook: {rounds} faults, polls every {POLL_SECONDS:g} s\n")
    ways = {
        "sidecar": measured(rounds),
        "Prometheus, scrapes and rules every 15 s": measured(rounds, PROMETHEUS_SECONDS),
    }
    rows = (
        (
            way,
            f"{seconds['median']:.2f}",
            f"{seconds['longest']:.2f}",
            f"{POLL_SECONDS + 1:g}" if way == "sidecar" else "",
        )
        for way, seconds in ways.items()
    )
    print_table(("", "median, s", "maximum, s", "target for the median, s"), rows)


def measured(rounds: int, prometheus_seconds: float | None = None) -> Figures:
    """Return seconds. ``prometheus_seconds``: interval of scrapes and rules; None measures the sidecar."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        alertmanager = stack.enter_context(running_alertmanager(directory))
        prometheus = None
        if prometheus_seconds:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            prometheus = stack.enter_context(running_prometheus(place))
        seconds = asyncio.run(_all(alertmanager, prometheus, prometheus_seconds or POLL_SECONDS, directory, rounds))
    return {"median": statistics.median(seconds), "longest": max(seconds)}


async def _all(
    alertmanager: Alertmanager, prometheus: Prometheus | None, spread: float, directory: Path, rounds: int
) -> list[float]:
    """Inject each fault at another moment between two polls, scrapes and evaluations, each on another stream."""
    async with running_simulator(seed=3, streams=4 * rounds) as simulated, running_webhook() as webhook:
        streams = simulated.steady_streams(Platform.STORM, rounds)
        alerting: dict[str, Any] = {"thresholds": {"StreamUnhealthy": {"for": "0s"}}}
        if prometheus is None:
            alerting |= {"alertmanagers": [{"url": alertmanager.url}], "state_file": str(directory / "alerts.json")}
        configuration = {
            "defaults": {"interval": f"{POLL_SECONDS:g}s"},
            "upstreams": [storm_upstream("edge", simulated.url, streams)],
            "alerting": alerting,
        }
        with alertmanager.configured(_direct(webhook)):
            async with running_exporter(directory, configuration, time_scale=1.0) as (service, address):
                await wait_until(lambda: service.ready, "everything is polled", str)
                async with _evaluating(prometheus, alertmanager, directory, address):
                    faults = (
                        _one(simulated, webhook, stream, spread * number / rounds + random.uniform(0.0, POLL_SECONDS))
                        for number, stream in enumerate(streams)
                    )
                    return await asyncio.gather(*faults)


@asynccontextmanager
async def _evaluating(
    prometheus: Prometheus | None, alertmanager: Alertmanager, directory: Path, exporter: str
) -> AsyncIterator[None]:
    if prometheus is None:
        yield
        return
    rules = directory / "rules"
    assert command_line(["rules", "--config.file", str(directory / "config.yaml"), "--output-dir", str(rules)]) == 0
    files = sorted(rules.iterdir())
    for file in files:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in document["groups"]:
            group["interval"] = f"{PROMETHEUS_SECONDS:g}s"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
    with ExitStack() as stack:
        scraping = prometheus.scraping(JOB, exporter, interval=f"{PROMETHEUS_SECONDS:g}s")
        await asyncio.to_thread(stack.enter_context, scraping)
        await asyncio.to_thread(prometheus.wait_for, f'stream_live{{job="{JOB}"}}')
        evaluating = prometheus.evaluating(*files, alertmanagers=[alertmanager.address])
        await asyncio.to_thread(stack.enter_context, evaluating)
        await wait_until(lambda: alertmanager.alerts('alertname="StreamWatchdog"'), "Prometheus has sent an alert", str)
        yield


async def _one(simulated: SimulatorClient, webhook: Webhook, stream: Stream, after: float) -> float:
    await asyncio.sleep(after)
    began = time.monotonic()
    await simulated.inject_fault("storm", "unhealthy", stream.name)
    async with asyncio.timeout(GENEROUS_SECONDS):
        while True:
            for at, _, alert in webhook.received:
                if alert["labels"].get("stream") == stream.id and alert["labels"]["alertname"] == "StreamUnhealthy":
                    return at - began
            await asyncio.sleep(0.01)


def _direct(webhook: Webhook) -> str:
    return f"""
route: {{receiver: all, group_by: ["..."], group_wait: 0s, group_interval: 1s}}
receivers: [{{name: all, webhook_configs: [{{url: "{webhook.url}/all"}}]}}]
"""
