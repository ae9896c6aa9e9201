"""The soak run: an exporter and a simulator as processes, random faults, and measurements."""

from __future__ import annotations

import random
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import yaml

from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fault_injection import STREAM_FAULTS, UPSTREAM_FAULTS
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import PLATFORMS
from tests.exporter_process import Exporter
from tests.load.exporter_watch import UPSTREAMS, Watch, sum_samples
from tests.real.child_process import Program, request_json, responds, running_server, wait_until

INTERVAL_SECONDS: Final = 15.0
SAMPLE_SECONDS: Final = 15.0
STREAMS_AT_ONCE: Final = 20
"""Number of streams that a fault affects at once."""

TASK_REPORTING_PROGRAM: Final = """
import asyncio, sys
from exporter import cli

run = asyncio.run

async def report_tasks():
    while True:
        print("tasks", len(asyncio.all_tasks()), flush=True)
        await asyncio.sleep(5)

async def run_with_report(main):
    reporting = asyncio.create_task(report_tasks())
    try:
        return await main
    finally:
        reporting.cancel()

asyncio.run = lambda main, **options: run(run_with_report(main), **options)
sys.exit(cli.main())
"""
"""Runs the exporter and prints the number of its asyncio tasks."""
UNWANTED: Final = re.compile(
    r"logger=(asyncio|py\.warnings|aiohttp)|Traceback|never (retrieved|awaited)|poller crashed"
)
"""Log lines that must not occur."""


@dataclass(frozen=True)
class Sample:
    """One measurement of the process."""

    at: float
    """Monotonic seconds."""
    memory_bytes: float
    descriptors: float
    tasks: int
    polls: dict[str, float]
    intervals: dict[str, float]
    """Effective intervals, in seconds."""
    up: dict[str, float]


@dataclass(frozen=True)
class Flatness:
    """One figure over the run: medians of its first and last samples, and the maximum."""

    first: float
    last: float
    most: float

    @classmethod
    def from_values(cls, values: list[float]) -> Flatness:
        window = max(1, min(12, len(values) // 3))
        return cls(median(values[:window]), median(values[-window:]), max(values))

    def describe(self, name: str, unit: float = 1.0) -> str:
        return f"{name} first {self.first / unit:.1f}, last {self.last / unit:.1f}, most {self.most / unit:.1f}"


class Soak:
    """A running exporter and its samples."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.samples: list[Sample] = []

    def take_sample(self) -> None:
        """Scrape everything as Prometheus does, and read the exporter's own families."""
        text = self.watch.fetch()
        assert text.endswith("\n")
        sums = sum_samples(self.watch.fetch("/metrics?collect[]=exporter&collect[]=upstreams"))
        self.watch.scrapes.pop()
        self.samples.append(
            Sample(
                at=time.monotonic(),
                memory_bytes=sums["process_resident_memory_bytes"][""],
                descriptors=sums["process_open_fds"][""],
                tasks=int(re.findall(r"^tasks (\d+)$", self.watch.process.said, re.MULTILINE)[-1]),
                polls=sums["stream_upstream_polls_total"],
                intervals=sums["stream_upstream_poll_interval_seconds"],
                up=sums["stream_upstream_up"],
            )
        )

    def is_up(self) -> bool:
        """Whether every upstream is up."""
        self.take_sample()
        return all(self.samples[-1].up.get(upstream) == 1.0 for upstream in UPSTREAMS)

    def discard_warm_up(self) -> None:
        """Discard everything except the last sample."""
        del self.samples[:-1]
        del self.watch.scrapes[:-1]

    @property
    def memory(self) -> Flatness:
        return Flatness.from_values([sample.memory_bytes for sample in self.samples])

    @property
    def descriptors(self) -> Flatness:
        return Flatness.from_values([sample.descriptors for sample in self.samples])

    @property
    def tasks(self) -> Flatness:
        return Flatness.from_values([sample.tasks for sample in self.samples])

    def polls_made_and_due(self, upstream: str) -> tuple[float, float]:
        """Return polls made, and polls due at the effective interval, while the upstream was up and not backed off."""
        made = due = 0.0
        for before, after in pairwise(self.samples):
            if before.up[upstream] and after.up[upstream]:
                made += after.polls[upstream] - before.polls[upstream]
                due += (after.at - before.at) / max(before.intervals[upstream], after.intervals[upstream])
        return made, due

    def assert_no_poll_was_lost(self, least_share: float) -> None:
        """Assert that this share of the polls of each upstream was made."""
        for upstream in UPSTREAMS:
            made, due = self.polls_made_and_due(upstream)
            assert made >= least_share * due - 1, f"{upstream}: {made} of {due}"

    def assert_flat(self) -> None:
        """Assert that nothing has grown since the warm-up."""
        assert self.memory.last <= 1.05 * self.memory.first
        # a connection pool opens and closes some connections at any time
        assert self.descriptors.last <= 1.05 * self.descriptors.first + 16
        assert self.tasks.last <= 1.05 * self.tasks.first + 16

    def figures(self) -> str:
        """Summarize the run in one line."""
        polls = "; ".join("{} {:.0f} of {:.0f}".format(name, *self.polls_made_and_due(name)) for name in UPSTREAMS)
        passed = self.samples[-1].at - self.samples[0].at
        return (
            f"{passed:.0f} s: {self.memory.describe('MB', 1e6)}; {self.descriptors.describe('descriptors')}; "
            f"{self.tasks.describe('tasks')}; polls made of due while up: {polls}; {len(self.watch.scrapes)} scrapes, "
            f"median {median(self.watch.scrapes):.3f} s, longest {max(self.watch.scrapes):.3f} s"
        )


class RandomFaults:
    """Injects random faults into the simulator, the same ones for the same seed."""

    def __init__(self, fleet: Fleet, simulator: str, seed: int) -> None:
        self._fleet = fleet
        self._url = f"{simulator}/faults"
        self._random = random.Random(seed)
        self.injected: dict[str, int] = {}

    def inject(self) -> None:
        """Inject one fault into a platform or some of its streams, for up to a minute."""
        platform = self._random.choice(PLATFORMS)
        length = f"{self._random.randint(5, 60)}s"
        if self._random.random() < 0.5:
            self._post(platform, self._random.choice(sorted(UPSTREAM_FAULTS)), length)
        else:
            kind = self._random.choice(sorted(STREAM_FAULTS))
            streams = self._fleet.streams(platform)
            for stream in self._random.sample(streams, min(STREAMS_AT_ONCE, len(streams))):
                self._post(platform, kind, length, stream=stream.id)

    def clear(self) -> None:
        request_json(self._url, method="DELETE")

    def _post(self, platform: str, kind: str, length: str, **more: str) -> None:
        request_json(self._url, body={"platform": platform, "fault": kind, "for": length, **more})
        self.injected[kind] = self.injected.get(kind, 0) + 1


class _AcceptingHandler(BaseHTTPRequestHandler):
    """An Alertmanager that accepts everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


@contextmanager
def accepting_alertmanager() -> Iterator[str]:
    """Run an Alertmanager that accepts everything and yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _AcceptingHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def unwanted_lines(said: str) -> list[str]:
    """Return the lines of the log that must not occur."""
    return [line for line in said.splitlines() if UNWANTED.search(line)]


@contextmanager
def running_soak(
    streams: int,
    directory: Path,
    seed: int,
    *,
    interval: float = INTERVAL_SECONDS,
    upstreams: Sequence[Mapping[str, Any]] = (),
    arguments: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> Iterator[tuple[Soak, RandomFaults]]:
    """Run an exporter with its sidecar and a simulator of ``streams`` streams; yield when all upstreams are up.

    ``upstreams``: additional ones. ``arguments``: additional options. ``headers``: for all requests to the exporter.
    """
    fleet = Fleet(streams)
    simulator_of = ["-m", "exporter.simulator", "--streams", str(streams), "--port"]

    def start(port: int) -> Program:
        return Program([sys.executable, *simulator_of, str(port)], directory, name="simulator")

    with (
        accepting_alertmanager() as alerts,
        running_server(start, lambda port: responds(_faults_url(port))) as (_, port),
    ):
        configuration = {
            "defaults": {"interval": f"{interval:g}s", "max_concurrent_requests": 50},
            "alerting": {"alertmanagers": [{"url": alerts}], "state_file": "alerts.json"},
            **upstreams_config(fleet, f"http://127.0.0.1:{port}"),
        }
        configuration["upstreams"] = [*configuration["upstreams"], *upstreams]
        (directory / "config.yaml").write_text(yaml.safe_dump(configuration))
        options = ["--web.listen-address=127.0.0.1:0", "--log.level=info", *arguments]
        with Exporter(options, directory, ("-W", "always", "-c", TASK_REPORTING_PROGRAM)) as process:
            soak = Soak(Watch(process, f"http://127.0.0.1:{process.port}", dict(headers or {})))

            wait_until(lambda: responds(f"{soak.watch.url}/-/ready"), "all are polled", 120)
            wait_until(soak.is_up, "all are up", 300, otherwise=lambda: process.said)
            yield soak, RandomFaults(fleet, _faults_url(port).removesuffix("/faults"), seed)


def _faults_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/faults"
