"""Everything between a fault and a page, real except for the platforms: exporter, Prometheus, Alertmanager, a webhook.

Times are scaled by 1/60: those of rules, resends, and the sample configuration's groups. The platforms' time is not.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.alerting.rules import RULES_BY_NAME, Owner
from exporter.cli import main
from exporter.cli.settings import load_settings
from exporter.config.types import format_duration, parse_duration
from exporter.platforms import rates
from exporter.polling import schedule
from exporter.service import Service
from exporter.simulator import platform_app
from exporter.simulator.context import PASSWORD, TOKEN, USERNAME
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.simulator_app import make_app as make_simulator
from exporter.simulator.stream_conditions import Condition
from exporter.web.app import make_app
from exporter.web.options import WebOptions
from tests.real.alertmanager import Alertmanager
from tests.real.child_process import request_json
from tests.real.prometheus import Prometheus

SCALE = 60
JOB = "stream-exporter"
SAMPLE = Path(__file__).parents[2] / "alerts" / "alertmanager.example.yaml"
GENEROUS_SECONDS = 60.0
STEADY_SPEED = 0.001
"""The simulated fleets hardly change on their own during the test."""

Page = tuple[str, str, str]
"""Alert name, upstream and stream."""
Told = tuple[str, str, str, str]
"""Alert name, upstream, stream and severity."""
_DURATION = re.compile(r"\d+[smhd]")


@dataclass
class Webhook:
    """Receives notifications; ``told`` is in the order of their arrival."""

    url: str = ""
    received: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    """Monotonic seconds, the receiver's name, and the alert with its status."""

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.json()
        now = time.monotonic()
        self.received += [(now, request.match_info["receiver"], alert) for alert in body["alerts"]]
        return web.Response()

    def labels(self, status: str, *receivers: str) -> list[dict[str, str]]:
        """Return the labels of the notifications with this status, without duplicates."""
        found = {
            tuple(sorted(alert["labels"].items())): alert["labels"]
            for _, receiver, alert in self.received
            if alert["status"] == status and (not receivers or receiver in receivers)
        }
        return list(found.values())

    def told(self, status: str) -> set[Told]:
        """Return the notifications about rules that both Prometheus and the sidecar can evaluate."""
        return {told_of(labels) for labels in self.labels(status, "pager", "tickets") if is_of_both(labels)}

    def history(self) -> str:
        began = self.received[0][0] if self.received else 0.0
        lines = [
            f"{at - began:6.2f} {receiver} {alert['status']} {alert['labels']}" for at, receiver, alert in self.received
        ]
        return "\n".join(lines)


def page_of(labels: Mapping[str, str]) -> Page:
    return labels["alertname"], labels.get("upstream", ""), labels.get("stream", "")


def told_of(labels: Mapping[str, str]) -> Told:
    return *page_of(labels), labels["severity"]


def is_of_both(labels: Mapping[str, str]) -> bool:
    """Return whether both Prometheus and the sidecar can evaluate the alert's rule."""
    rule = RULES_BY_NAME.get(labels["alertname"])
    return rule is not None and rule.owner is Owner.BOTH


@dataclass
class SimulatorClient:
    """A simulator, and its streams that do not change on their own."""

    fleet: Fleet
    url: str
    session: aiohttp.ClientSession

    def steady_streams(self, platform: Platform, number: int | None = None) -> list[Stream]:
        """Return the first of these streams, or all of them."""
        now = time.time()
        found = [
            stream
            for stream in self.fleet.streams(platform)
            if self.fleet.is_live(stream, now)
            and self.fleet.latest_ingest(stream, now).condition(now) is Condition.STEADY
        ]
        assert len(found) >= (number or 0)
        return found[:number]

    async def inject_fault(self, platform: str, fault: str, stream: str | None = None, **more: Any) -> None:
        body = {"platform": platform, "fault": fault, **({} if stream is None else {"stream": stream}), **more}
        async with self.session.post(f"{self.url}/faults", json=body) as answer:
            assert answer.status == 201, await answer.text()

    async def clear(self, stream: Stream | None = None) -> None:
        """End the faults of a stream, or all faults."""
        params = {} if stream is None else {"platform": stream.platform.value, "stream": stream.id}
        async with self.session.delete(f"{self.url}/faults", params=params) as answer:
            assert answer.status == 200

    async def set_wave_status(self, stream: Stream, status: str) -> None:
        """Change a WAVE session's status like a user who pauses and resumes it."""
        url = f"{self.url}/wave/api/v1/streaming/sessions/{stream.id}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.session.patch(url, json={"status": status}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()


@asynccontextmanager
async def running_simulator(seed: int, streams: int = 60) -> AsyncIterator[SimulatorClient]:
    fleet = Fleet(streams, seed=seed, speed=STEADY_SPEED)
    async with TestServer(make_simulator(fleet)) as server, aiohttp.ClientSession() as session:
        yield SimulatorClient(fleet, str(server.make_url("")).rstrip("/"), session)


@asynccontextmanager
async def running_webhook() -> AsyncIterator[Webhook]:
    webhook = Webhook()
    app = web.Application()
    app.router.add_post("/{receiver}", webhook.receive)
    async with TestServer(app) as server:
        webhook.url = str(server.make_url("")).rstrip("/")
        yield webhook


def scale_waits(patch: pytest.MonkeyPatch) -> None:
    """Scale waits that no setting changes, in the exporter and the simulator."""
    for module, name in (
        (schedule, "BACK_OFF_CAP_SECONDS"),
        (rates, "SHORTEST_STALL_SECONDS"),
        (rates, "LONGEST_STALL_SECONDS"),
    ):
        patch.setattr(module, name, getattr(module, name) / SCALE)
    # the header is an integer
    patch.setattr(platform_app, "RETRY_AFTER_SECONDS", 1)


@asynccontextmanager
async def running_exporter(
    directory: Path, configuration: Mapping[str, Any], *, time_scale: float = SCALE, enable_lifecycle: bool = False
) -> AsyncIterator[tuple[Service, str]]:
    """Run the exporter with this configuration; yield its ``host:port``."""
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(dict(configuration)), encoding="utf-8")
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), alerting_time_scale=time_scale)
    async with TestServer(make_app(service, options=WebOptions(enable_lifecycle=enable_lifecycle))) as server:
        await service.start()
        try:
            yield service, f"127.0.0.1:{server.port}"
        finally:
            await service.stop()


def sample_configuration(webhook: Webhook, *, group_wait: str = "2s") -> str:
    """Return the sample Alertmanager configuration with scaled times and a webhook instead of each receiver.

    ``group_wait`` is not scaled, because delays of inhibiting alerts depend on the machine.
    """
    configuration = _scaled(yaml.safe_load(SAMPLE.read_text(encoding="utf-8")))
    # templates and mail servers are only for the replaced receivers
    del configuration["templates"], configuration["global"]
    configuration["route"]["group_wait"] = group_wait
    configuration["receivers"] = [_webhook_receiver(receiver, webhook) for receiver in configuration["receivers"]]
    return yaml.safe_dump(configuration)


def _webhook_receiver(receiver: Mapping[str, Any], webhook: Webhook) -> dict[str, Any]:
    """Return the receiver with a single webhook and its original ``send_resolved``; an empty receiver stays empty."""
    name = receiver["name"]
    notifiers = [notifier for key, found in receiver.items() if key.endswith("_configs") for notifier in found]
    if not notifiers:
        return {"name": name}
    send_resolved = any(notifier["send_resolved"] for notifier in notifiers)
    return {"name": name, "webhook_configs": [{"url": f"{webhook.url}/{name}", "send_resolved": send_resolved}]}


def _scaled(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _scaled(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_scaled(item) for item in node]
    if isinstance(node, str) and _DURATION.fullmatch(node):
        return format_duration(max(parse_duration(node) / SCALE, 0.0))
    return node


@asynccontextmanager
async def prometheus_evaluating(
    prometheus: Prometheus, alertmanager: Alertmanager, directory: Path, exporter: str, evaluator: str
) -> AsyncIterator[None]:
    """Let Prometheus scrape the exporter and evaluate the rules of ``evaluator`` every second: a minute, scaled."""
    rules = directory / "rules"
    arguments = ["--config.file", directory / "config.yaml", "--evaluator", evaluator, "--output-dir", rules]
    assert main(["rules", *map(str, arguments), "--time-scale", str(SCALE)]) == 0
    files = sorted(rules.iterdir())
    for file in files:
        groups = yaml.safe_load(file.read_text(encoding="utf-8"))
        for group in groups["groups"]:
            group["interval"] = "1s"
        file.write_text(yaml.safe_dump(groups), encoding="utf-8")
    with ExitStack() as stack:
        # in a thread, because waiting for Prometheus must not block the exporter in this process
        await asyncio.to_thread(stack.enter_context, prometheus.scraping(JOB, exporter, interval="1s"))
        await asyncio.to_thread(prometheus.wait_for, f'up{{job="{JOB}"}} == 1')
        rules_and_alerts = prometheus.evaluating(*files, alertmanagers=[alertmanager.address])
        await asyncio.to_thread(stack.enter_context, rules_and_alerts)
        # Prometheus takes some seconds to discover its Alertmanagers; earlier alerts are sent late
        await wait_until(lambda: alertmanager.alerts('alertname="StreamWatchdog"'), "Prometheus has sent an alert", str)
        yield


def send_foreign_alerts(alertmanager: Alertmanager, *alerts: Mapping[str, str]) -> None:
    """Send alerts of another origin, as Prometheus would."""
    now = datetime.now(UTC)
    body = [{"labels": dict(labels), "endsAt": (now + timedelta(minutes=10)).isoformat()} for labels in alerts]
    request_json(f"{alertmanager.url}/api/v2/alerts", body=body)


async def wait_until(holds: Callable[[], Any], what: str, otherwise: Callable[[], str]) -> None:
    """Wait for real programs, which no fake clock controls. ``holds`` may block: it runs in a thread."""
    deadline = time.monotonic() + GENEROUS_SECONDS
    while not await asyncio.to_thread(holds):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {GENEROUS_SECONDS:g} s until {what}\n{otherwise()}", pytrace=False)
        await asyncio.sleep(0.1)


def livepeer_upstream(name: str, url: str, streams: Iterable[Stream]) -> dict[str, Any]:
    """``url``: of the simulator."""
    return {
        "name": name,
        "platform": "livepeer",
        "url": f"{url}/livepeer/api",
        "auth": {"bearer_token": TOKEN},
        "discover": False,
        "viewership": False,
        "streams": [{"id": stream.id, "name": stream.name, "expected": True} for stream in streams],
    }


def storm_upstream(name: str, url: str, streams: Iterable[Stream]) -> dict[str, Any]:
    return {
        "name": name,
        "platform": "storm",
        "url": f"{url}/storm",
        "auth": {"username": USERNAME, "password": PASSWORD},
        "discover": False,
        "streams": [
            {
                "application": stream.application,
                "key": stream.name,
                "expected": True,
                "expected_bitrate": f"{stream.megabits:g}Mbps",
            }
            for stream in streams
        ],
    }


def wave_upstream(name: str, url: str, streams: Iterable[Stream]) -> dict[str, Any]:
    return {
        "name": name,
        "platform": "wave",
        "url": f"{url}/wave/api/v1",
        "auth": {"bearer_token": TOKEN},
        "ice_candidates": False,
        "sessions": [
            {"id": stream.id, "name": stream.name, "expected": True, "expected_bitrate": f"{stream.megabits:g}Mbps"}
            for stream in streams
        ],
    }
