"""An exporter under attack: a real process with the limits of the shipped manifests, monitored by an observer."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.attacks.attack_list import ATTACKS
from tests.exporter_process import GENEROUS_SECONDS, Exporter

MEMORY_MIB, DESCRIPTORS = 512, 1024
"""Limits of the manifests in ``deploy/``."""
INTERVAL_SECONDS = 1.0
"""Polling interval of the healthy upstream."""
LEAST_SHARE = 0.6
"""Minimum share of the healthy upstream's polls during an attack, as a multiple of an idle exporter's.

Before the exporter was hardened, each attack left at most a fifth of them; a busy machine leaves most.
"""
RESULTS_VARIABLE = "ATTACK_RESULTS"
"""Environment variable with the folder for the measurements."""


@dataclass(frozen=True)
class Observation:
    """Polls and scrapes during a period."""

    seconds: float
    polls: int
    scrapes: list[float | None]
    """Seconds of each scrape; None for a scrape without a 200."""

    @property
    def polls_due(self) -> int:
        return max(1, int(self.seconds / INTERVAL_SECONDS))

    @property
    def share(self) -> float:
        """Share of the healthy upstream's polls that were made."""
        return min(1.0, self.polls / self.polls_due)

    @property
    def answered(self) -> list[float]:
        return [seconds for seconds in self.scrapes if seconds is not None]


@dataclass
class Measurement:
    """One row of the table in ``docs/reliability.md``."""

    attack: str
    """Key in ``ATTACKS``."""
    limits: str
    polls_made: int
    polls_due: int
    scrapes_answered: int
    scrapes: int
    scrape_multiple: float
    """Median time of a scrape, as a multiple of an idle exporter's."""
    peak_mib: int

    def write(self) -> None:
        """Save the measurement for the table, if requested."""
        folder = os.environ.get(RESULTS_VARIABLE)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{self.attack}.json").write_text(json.dumps(asdict(self)))


class Observer:
    """The process that runs ``observer.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.observer"],
            cwd=Path(__file__).parents[2],
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{int(self._read())}"

    def start(self, url: str, headers: dict[str, str]) -> None:
        self._send({"do": "start", "url": url, "headers": headers})

    def stop(self) -> Observation:
        self._send({"do": "stop"})
        return Observation(**json.loads(self._read()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@dataclass
class AttackRun:
    """An exporter that polls a healthy upstream once a second, and the upstreams that a test adds."""

    attack: str
    """Key in ``ATTACKS``."""
    folder: Path
    upstreams: Sequence[dict[str, Any]] = ()
    """Additional upstreams, as in the configuration."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Additional sections of the configuration."""
    arguments: Sequence[str] = ()
    """Additional command line options."""
    scheme: str = "http"
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of the scrapes."""
    memory_mib: int = MEMORY_MIB
    descriptors: int = DESCRIPTORS
    program: Sequence[str] = ("-m", "exporter")
    healthy_host: str = "127.0.0.1"
    """Host in the URL of the healthy upstream."""
    observation: Observation = field(init=False)
    """Observation during the attack."""
    exporter: Exporter = field(init=False)
    idle_scrape_seconds: float = field(init=False)
    idle_share: float = field(init=False)

    def __enter__(self) -> AttackRun:
        assert self.attack in ATTACKS
        self._observer = Observer()
        try:
            self.write_config()
            # a test has no cgroup, so limit the address space, which is never smaller than the memory in use
            limits = [f"--as={self.memory_mib << 20}", f"--nofile={self.descriptors}:{self.descriptors}"]
            self.exporter = Exporter(
                ["--web.listen-address=127.0.0.1:0", *self.arguments],
                self.folder,
                [*limits, sys.executable, *self.program],
                "prlimit",
                measured=False,
            )
            self.exporter.wait_for(r'msg="upstream is up".* upstream=healthy')
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop both processes."""
        self._observer.close()
        if hasattr(self, "exporter"):
            self.exporter.__exit__(None, None, None)

    def write_config(self, **sections: Any) -> None:
        """Write the configuration with additional sections."""
        url = self._observer.url.replace("127.0.0.1", self.healthy_host)
        healthy = {"name": "healthy", "platform": "node_media_server", "url": url, "auth": {}}
        settings = {
            "defaults": {"interval": f"{INTERVAL_SECONDS:g}s", "timeout": "900ms"},
            "upstreams": [healthy, *self.upstreams],
            **self.settings,
            **sections,
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings))

    @property
    def url(self) -> str:
        """The exporter's base URL."""
        return f"{self.scheme}://127.0.0.1:{self.exporter.port}"

    def memory_mib_of(self, name: str) -> int:
        """Return the process's ``VmRSS`` (current) or ``VmHWM`` (peak) in MiB."""
        status = Path(f"/proc/{self.exporter.process.pid}/status").read_text()
        return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) // 1024

    def watch_idle(self, seconds: float = 4.0) -> None:
        """Measure the scrape time and the polls of the idle exporter."""
        self._observer.start(f"{self.url}/metrics", self.headers)
        threading.Event().wait(seconds)
        seen = self._observer.stop()
        self.idle_share = seen.share
        self.idle_scrape_seconds = statistics.median(seen.answered)

    @contextmanager
    def under_attack(self, seconds: float = 8.0) -> Iterator[None]:
        """Observe the exporter while the block attacks it, for at least ``seconds``.

        Afterwards, the process must still run, and must have polled the healthy upstream and served every scrape.
        """
        self.watch_idle()
        self._observer.start(f"{self.url}/metrics", self.headers)
        attack_over = threading.Timer(seconds, lambda: None)
        attack_over.start()
        try:
            yield
            attack_over.join()
        finally:
            attack_over.cancel()
            self.observation = seen = self._observer.stop()
        assert self.exporter.process.poll() is None, self.exporter.said
        self._write_measurement()
        assert seen.share >= LEAST_SHARE * self.idle_share, f"{seen}\n{self.exporter.said}"
        assert None not in seen.scrapes, f"{seen}\n{self.exporter.said}"

    def _write_measurement(self) -> None:
        seen = self.observation
        answered = statistics.median(seen.answered) if seen.answered else GENEROUS_SECONDS
        Measurement(
            attack=self.attack,
            limits=f"{self.memory_mib} MiB, {self.descriptors:,} descriptors",
            polls_made=min(seen.polls, seen.polls_due),
            polls_due=seen.polls_due,
            scrapes_answered=len(seen.answered),
            scrapes=len(seen.scrapes),
            scrape_multiple=answered / self.idle_scrape_seconds,
            peak_mib=self.memory_mib_of("VmHWM"),
        ).write()
