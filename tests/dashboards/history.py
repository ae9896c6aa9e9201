"""Minutes or hours of the demo fleet in a real Prometheus, without waiting for them.

The exporter polls the simulator on a clock that runs ahead; what it exposes is kept with the clock's time, and promtool
makes Prometheus' own blocks of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.alerting.evaluator import Phase
from exporter.alerting.rules import RULES_BY_NAME
from exporter.alerting.sidecar import Sidecar
from exporter.config.loading import load
from exporter.demo import exporter_configuration
from exporter.service import Service
from exporter.simulator.app import make_simulator
from exporter.simulator.faults import FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.streams import Platform, Stream
from exporter.simulator.world import World
from tests.fakes import FakeClock
from tests.real.alertmanager import running_alertmanager
from tests.real.prometheus import Prometheus, promtool
from tests.real.running import Program, answers, serving
from tests.real.tools import tool

BEGIN = 1_790_000_000.0
"""Any time of day will do, as long as it is the same each time."""
STEP_SECONDS = 15.0
JOB, INSTANCE = "stream-exporter", "exporter:10071"
GENEROUS_ROUNDS, PATIENT_ROUNDS = 20_000, 100
_ADDED = f'job="{JOB}",instance="{INSTANCE}"'
_OF_SIDECAR = re.compile(r"^stream_exporter_(?:notifications|alerts).*$", re.MULTILINE)
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


@dataclass(frozen=True)
class Order:
    """A fault, by when it comes and goes, as shares of the whole time."""

    platform: Platform
    kind: FaultKind
    begin: float
    end: float
    which: int | None = 0
    """The place among the platform's streams; None: the whole platform."""


ORDERS: Sequence[Order] = (
    Order(Platform.LIVEPEER, FaultKind.UNHEALTHY, 0.20, 0.45, 0),
    Order(Platform.LIVEPEER, FaultKind.SLOW_TRANSCODE, 0.60, 1.00, 3),
    Order(Platform.LIVEPEER, FaultKind.TRUNCATED, 0.50, 0.53, None),
    Order(Platform.STORM, FaultKind.BITRATE_LOW, 0.55, 1.00, 1),
    Order(Platform.STORM, FaultKind.FLAP, 0.30, 0.50, 4),
    Order(Platform.STORM, FaultKind.DOWN, 0.70, 0.76, None),
    Order(Platform.WAVE, FaultKind.STALL, 0.65, 1.00, 2),
    Order(Platform.WAVE, FaultKind.UNHEALTHY, 0.10, 0.40, 5),
    Order(Platform.WAVE, FaultKind.RATE_LIMIT, 0.85, 0.88, None),
)


class HurriedClock(FakeClock):
    """Runs as the machine's clock does, and ahead of it by what it is advanced: so requests take their real time."""

    def __init__(self) -> None:
        super().__init__(now=BEGIN)
        self._began = time.monotonic()

    def now(self) -> float:
        return super().now() + time.monotonic() - self._began

    def monotonic(self) -> float:
        return super().monotonic() + time.monotonic() - self._began

    def advance_to(self, now: float) -> None:
        self.advance(max(0.0, now - self.now()))


@dataclass(frozen=True)
class History:
    """What is in a Prometheus, from when to when."""

    prometheus: Prometheus
    begin: float
    end: float

    @property
    def richest(self) -> dict[str, str]:
        """{platform: the label of the expected stream that most is known of}."""
        counted = (
            'count by (platform, stream) ({stream=~".+"}) and on (platform, stream) stream_live == 1 '
            "and on (platform, stream) stream_expected == 1"
        )
        found = self.prometheus.get("query", query=f"sort_desc({counted})", time=self.end)["result"]
        return {series["metric"]["platform"]: series["metric"]["stream"] for series in reversed(found)}


@contextmanager
def history(directory: Path, *, seconds: float, streams: int = 60, sidecar: bool = False) -> Iterator[History]:
    """A Prometheus that knows so many seconds of the demo fleet; the exporter is gone.

    The alerts stand there as if Prometheus had evaluated them; with ``sidecar``, as if the sidecar had, too.
    """
    file = directory / "history.txt"
    with file.open("w", encoding="utf-8") as out:
        asyncio.run(_record(out, directory, seconds, streams, sidecar=sidecar))
        out.write("# EOF\n")
    blocks = directory / "blocks"
    made = promtool("tsdb", "create-blocks-from", "openmetrics", "--quiet", file, blocks)
    assert made.returncode == 0, made.stderr
    with _reading(directory, blocks) as prometheus:
        yield History(prometheus, BEGIN, BEGIN + seconds)


@contextmanager
def _reading(directory: Path, blocks: Path) -> Iterator[Prometheus]:
    configuration = directory / "reading.yml"
    configuration.write_text("{}")

    def start(port: int) -> Program:
        options = {
            "config.file": configuration,
            "storage.tsdb.path": blocks,
            "storage.tsdb.retention.time": "100y",
            # a series that has left is not marked so in blocks: this stands in for it
            "query.lookback-delta": f"{1500 * STEP_SECONDS:g}ms",
            "web.listen-address": f"127.0.0.1:{port}",
            "log.level": "warn",
        }
        return Program([tool("prometheus"), *(f"--{name}={value}" for name, value in options.items())], directory)

    with serving(start, lambda port: answers(f"http://127.0.0.1:{port}/-/ready")) as (program, port):
        yield Prometheus(program, port, directory)


async def _record(out: TextIO, directory: Path, seconds: float, streams: int, *, sidecar: bool) -> None:
    """Write what a Prometheus would scrape, whose job says ``alertmanager:9093`` for where the alerts go."""

    def scrape(service: Service, clock: HurriedClock) -> None:
        began = time.perf_counter()
        text = service.exposition.render().decode()
        if not sidecar:
            text = _OF_SIDECAR.sub("", text)
        scraped_at = clock.now()
        text = text.replace(f'"{alertmanager.address}"', '"alertmanager:9093"')
        _write(out, text, scraped_at, scrape_seconds=time.perf_counter() - began)
        _write_alerts(out, service, scraped_at)

    with running_alertmanager(directory) as alertmanager:
        async with lived(directory, alertmanager.url, seconds, streams, scrape):
            pass


@asynccontextmanager
async def lived(
    directory: Path,
    alertmanager: str,
    seconds: float,
    streams: int = 60,
    each: Callable[[Service, HurriedClock], None] = lambda service, clock: None,
) -> AsyncIterator[tuple[Service, HurriedClock]]:
    """The exporter after so many seconds of the demo fleet; ``each`` is called after every round of polls.

    ``alertmanager`` is the URL that the sidecar sends its alerts to.
    """
    clock, fleet = HurriedClock(), Fleet(streams)
    async with (
        _simulating(World(fleet, clock)) as url,
        _exporting(directory, fleet, url, alertmanager, clock) as service,
    ):
        pending = sorted(ORDERS, key=lambda order: order.begin)
        at = BEGIN
        while at <= BEGIN + seconds:
            clock.advance_to(at)
            while pending and at >= BEGIN + pending[0].begin * seconds:
                _order(fleet, pending.pop(0), at, seconds)
            await _settled(service, clock)
            each(service, clock)
            at += STEP_SECONDS
        yield service, clock


@asynccontextmanager
async def _simulating(world: World) -> AsyncIterator[str]:
    app = web.Application()
    app.add_subapp("/simulator", make_simulator(world))
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@asynccontextmanager
async def _exporting(
    directory: Path, fleet: Fleet, url: str, alertmanager: str, clock: HurriedClock
) -> AsyncIterator[Service]:
    configuration = exporter_configuration(fleet, f"{url}/simulator")
    configuration["defaults"]["interval"] = f"{STEP_SECONDS:g}s"
    # its evaluator stands in for that of Prometheus, which has no rules over a past that it did not live through
    configuration["alerting"] = {"alertmanagers": [{"url": alertmanager}]}
    file = directory / "config.json"
    file.write_text(json.dumps(configuration))
    service = Service(load(file, {}), load=lambda: load(file, {}), clock=clock)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def _settled(service: Service, clock: HurriedClock) -> None:
    """Until every poll that is due has been made, and every alert sent.

    Some wait on the clock within a poll: it is moved a little then.
    """
    for round_ in range(GENEROUS_ROUNDS):
        coordinators = service._coordinators.values()
        polled = all(not c._busy and c._schedule.due > clock.monotonic() for c in coordinators)
        if polled and _all_sent(service.sidecar):
            return
        await asyncio.sleep(0.002)
        clock.advance(0.0 if round_ < PATIENT_ROUNDS else 0.05)
    raise AssertionError("the polls do not end")


def _all_sent(sidecar: Sidecar) -> bool:
    senders = [sender for target in sidecar._dispatcher._targets for sender in target.senders]
    return not sidecar._fresh and not any(sender.waiting for sender in senders)


def _order(fleet: Fleet, order: Order, at: float, seconds: float) -> None:
    index = None if order.which is None else _long_living(fleet, order.platform)[order.which].index
    fleet.faults.order(order.platform, index, order.kind, at, (order.end - order.begin) * seconds)


def _long_living(fleet: Fleet, platform: Platform) -> list[Stream]:
    return sorted(fleet.of(platform), key=lambda stream: (-stream.cycles, stream.index))


def _write(out: TextIO, exposition: str, at: float, *, scrape_seconds: float) -> None:
    """An answer, as Prometheus would keep it."""
    samples = 0
    for line in exposition.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match is None:
            continue
        samples += 1
        labels = ",".join(part for part in ((match["labels"] or "").rstrip(","), _ADDED) if part)
        value = str(BEGIN - 3600) if match["name"] == "process_start_time_seconds" else match["value"]
        out.write(f"{match['name']}{{{labels}}} {value} {at:.3f}\n")
    own = {"up": 1, "scrape_duration_seconds": scrape_seconds, "scrape_samples_scraped": samples}
    out.writelines(f"{name}{{{_ADDED}}} {number} {at:.3f}\n" for name, number in own.items())


def _write_alerts(out: TextIO, service: Service, at: float) -> None:
    """The alerts, as Prometheus keeps those that it evaluates."""
    for alert in service.sidecar.alerts((Phase.PENDING, Phase.FIRING)):
        rule = RULES_BY_NAME[alert.key.rule]
        labels: dict[str, Any] = {
            "alertname": rule.name,
            "job": JOB,
            "platform": alert.platform,
            "scope": rule.scope,
            "severity": rule.severity,
            "upstream": alert.key.upstream,
        }
        labels |= {"stream": alert.key.stream} if alert.key.stream else {}
        labels |= dict(zip(rule.labels, alert.key.extra, strict=False)) if rule.labels else {}
        written = ",".join(f"{name}={json.dumps(str(value))}" for name, value in labels.items())
        out.write(f'ALERTS{{alertstate="{alert.phase.value}",{written}}} 1 {at:.3f}\n')
        out.write(f"ALERTS_FOR_STATE{{{written}}} {alert.active_at} {at:.3f}\n")
