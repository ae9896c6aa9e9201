"""Runs a fleet, its exporter with the sidecar, and Prometheus' scrapes, with random failures and a fake clock."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestServer

from exporter.alerting.recordings import families_of
from exporter.alerting.rules.slo_rules import SLO_RECORDINGS
from exporter.cli.settings import load_settings
from exporter.service import Service
from exporter.simulator.context import Context
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_simulator
from tests import yaml_text
from tests.alerting.promtool import ALERTS, assert_tests_pass, rule_group
from tests.fake_clock import FakeClock
from tests.request_failures import RequestFailures
from tests.sidecar.fake_alertmanager import FakeAlertmanager, fake_alertmanager, run_event_loop
from tests.sidecar.test_healthy_fleet import configuration, is_idle

STEP_SECONDS = 15.0
SCRAPE_SECONDS = 30.0
FAILED_REQUESTS = 0.05
FAILED_SCRAPES = 0.05
RETRY_STEP_SECONDS = 0.25
TARGET = 'job="stream-exporter",instance="exporter:10071"'


@dataclass
class RecordedScrapes:
    """Series of one target, by scrape."""

    families: Collection[str]
    """Families to record."""
    count: int = 0
    """Number of scrapes so far, including failed ones."""
    series: dict[str, dict[int, str]] = field(default_factory=dict)
    """Value by series and number of the scrape."""
    skipped: set[int] = field(default_factory=set)
    """Scrapes that did not happen because Prometheus was not running."""

    def add(self, exposition: bytes) -> None:
        """Record a successful scrape."""
        for line in exposition.decode().splitlines():
            if line.startswith("#"):
                continue
            series, value = line.rsplit(" ", 1)
            name, _, labels = series.partition("{")
            if name.removesuffix("_bucket").removesuffix("_count") in self.families:
                self._add_sample(f"{name}{{{TARGET}{',' if labels else '}'}{labels}", value)
        self._end_scrape(up="1")

    def add_failed(self) -> None:
        """Record a failed scrape."""
        self._end_scrape(up="0")

    def skip(self) -> None:
        """Record that Prometheus was not running: no samples and no stale markers."""
        self.skipped.add(self.count)
        self.count += 1

    @property
    def failed(self) -> int:
        """Number of failed scrapes."""
        return list(self.series[f"up{{{TARGET}}}"].values()).count("0")

    def input_series(self, *, one_of: int = 1) -> list[dict[str, str]]:
        """Return the series in promtool's notation, with stale markers where a scrape lacks them.

        ``one_of``: return the series of only one of this many streams.
        """
        streams = sorted({name for series in self.series if (name := _stream_of(series))})
        chosen = {"", *streams[::one_of]}
        return [
            {"series": name, "values": self._values(samples)}
            for name, samples in self.series.items()
            if _stream_of(name) in chosen
        ]

    def _add_sample(self, series: str, value: str) -> None:
        self.series.setdefault(series, {})[self.count] = value

    def _end_scrape(self, up: str) -> None:
        self._add_sample(f"up{{{TARGET}}}", up)
        self.count += 1

    def _values(self, samples: Mapping[int, str]) -> str:
        words: list[str] = []
        is_there = False
        for number in range(self.count):
            if number in samples:
                is_there = True
                words.append(samples[number])
            elif is_there and number not in self.skipped:
                is_there = False
                words.append("stale")
            else:
                words.append("_")
        # promtool reads repeated values much faster in its short notation
        return " ".join(_repeat(word, len(list(same))) for word, same in groupby(words))


def _stream_of(series: str) -> str:
    """Return the upstream and stream labels of a series; empty if it is not about a stream."""
    found = re.search(r'upstream="[^"]*",stream="[^"]*"', series)
    return found[0] if found else ""


def _repeat(word: str, times: int) -> str:
    if times == 1:
        return word
    return f"_x{times}" if word == "_" else f"{word}+0x{times - 1}"


class RecordedRun:
    """A running fleet and exporter. Only ``pass_time`` and ``restart`` advance the clock."""

    def __init__(
        self,
        file: Path,
        clock: FakeClock,
        fleet: Fleet,
        failures: RequestFailures,
        scrapes: RecordedScrapes,
        alertmanager: FakeAlertmanager,
        seed: int,
    ) -> None:
        self.clock = clock
        self.fleet = fleet
        self.failures = failures
        self.scrapes = scrapes
        self.alertmanager = alertmanager
        self._file = file
        self._random = random.Random(seed)
        self._began = clock.now()
        self._service = self._build_service()

    async def start(self) -> None:
        await self._service.start()

    async def stop(self) -> None:
        await self._service.stop()

    async def restart(self) -> None:
        """Restart the exporter and Prometheus. Two scrapes are skipped; the exporter is down for the first one."""
        await self.stop()
        self.scrapes.skip()
        self.clock.advance(SCRAPE_SECONDS)
        self._service = self._build_service()
        await self.start()
        await self.pass_time(SCRAPE_SECONDS, is_scraped=False)

    async def pass_time(self, seconds: float, *, is_scraped: bool = True) -> None:
        """Let polls, scrapes and the sidecar's evaluations happen on schedule."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            self.clock.advance(STEP_SECONDS - (self.clock.now() - self._began) % STEP_SECONDS)
            async with asyncio.timeout(120):
                await self._finish_polls()
            await run_event_loop(100)
            if (self.clock.now() - self._began) // STEP_SECONDS % (SCRAPE_SECONDS / STEP_SECONDS) == 0:
                await self._scrape(is_scraped=is_scraped)

    @property
    def live_streams(self) -> int:
        return sum(bool(stream.live) for state in self._service.store.states() for stream in state.streams)

    def sent_alerts(self) -> set[tuple[str, str, str]]:
        """Return name, severity and stream of all alerts that the sidecar sent."""
        labels = [alert["labels"] for alert in self.alertmanager.alerts]
        return {(found["alertname"], found["severity"], found.get("stream", "")) for found in labels}

    def _build_service(self) -> Service:
        def load() -> Any:
            return load_settings(self._file, {})

        return Service(load(), load=load, clock=self.clock, random_=random.Random(self._random.random()))

    async def _finish_polls(self) -> None:
        """Wait until no poll is due or running; advance the clock for retries that wait."""
        requests, quiet_rounds = self.failures.requests, 0
        while not is_idle(self._service, self.clock.now()):
            await asyncio.sleep(0.003)
            is_quiet = self.failures.requests == requests and not self.failures.in_progress
            requests, quiet_rounds = self.failures.requests, quiet_rounds + 1 if is_quiet else 0
            if quiet_rounds == 3:
                self.clock.advance(RETRY_STEP_SECONDS)
                quiet_rounds = 0

    async def _scrape(self, *, is_scraped: bool) -> None:
        if not is_scraped:
            self.scrapes.skip()
        elif self._random.random() < FAILED_SCRAPES:
            self.scrapes.add_failed()
        else:
            self.scrapes.add(await asyncio.to_thread(self._service.exposition.render))


@asynccontextmanager
async def recorded_run(folder: Path, streams: int, alerts: Collection[str], seed: int) -> AsyncIterator[RecordedRun]:
    """Start a fleet and its exporter, and record the series that the rules of these alerts read."""
    clock = FakeClock()
    fleet = Fleet(streams, seed=7, incidents=False)
    failures = RequestFailures(FAILED_REQUESTS, seed, clock, hold_timeouts=False)
    app = make_simulator(Context(fleet, clock))
    failures.install(app)
    async with TestServer(app) as server, fake_alertmanager() as alertmanager:
        settings = configuration(fleet, clock.now(), str(server.make_url("")).rstrip("/"), alertmanager.url)
        for upstream in settings["upstreams"]:
            # the timeout is in real time, and must not expire on a busy machine
            upstream["timeout"] = upstream["interval"]
        settings["alerting"]["state_file"] = str(folder / "alerts.json")
        file = folder / "config.yaml"
        file.write_text(yaml_text.render(settings))
        scrapes = RecordedScrapes(_families(alerts))
        run = RecordedRun(file, clock, fleet, failures, scrapes, alertmanager, seed)
        await run.start()
        try:
            yield run
        finally:
            await run.stop()


def _families(alerts: Collection[str]) -> frozenset[str]:
    """Return the families that the rules of these alerts and the SLO recordings read."""
    rules = rule_group(set(alerts))["groups"][0]["rules"]
    return families_of(*(rule["expr"] for rule in rules), *(recording.promql for recording in SLO_RECORDINGS))


def assert_firing(
    scrapes: RecordedScrapes,
    alerts: Collection[str],
    expected: Mapping[str, list[str]],
    folder: Path,
    *,
    one_of: int = 1,
) -> None:
    """Evaluate the committed rules of these alerts on the scrapes, and check which alerts fired at any time.

    ``one_of``: evaluate the series of only one of this many streams, because all of them would take promtool a minute.

    ``expected``: for each matcher of ``ALERTS``, such as ``severity="critical"``, the labels of the alerts that fired,
    such as ``{alertname="StreamError"}``.
    """
    at = f"{(scrapes.count - 1) * SCRAPE_SECONDS:g}s"
    tests = [
        {
            "expr": "count by (alertname, platform, upstream, stream) "
            f'(last_over_time(ALERTS{{alertstate="firing",{matcher}}}[2h]))',
            "eval_time": at,
            "exp_samples": [{"labels": labels, "value": 1} for labels in found],
        }
        for matcher, found in expected.items()
    ]
    step = f"{SCRAPE_SECONDS:g}s"
    series = scrapes.input_series(one_of=one_of)
    document = {
        "rule_files": ["alerts.yaml", str(ALERTS / "stream-recordings.yaml")],
        "evaluation_interval": step,
        "tests": [{"interval": step, "input_series": series, "promql_expr_test": tests}],
    }
    # JSON is valid YAML, and much faster to write
    inputs = [each["series"] for each in series]
    (folder / "alerts.yaml").write_text(json.dumps(rule_group(set(alerts), inputs=inputs)))
    (folder / "tests.yaml").write_text(json.dumps(document))
    assert_tests_pass(folder / "tests.yaml")
