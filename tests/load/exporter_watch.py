"""Scrapes and memory of an exporter process over time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.request import Request, urlopen

from tests.exporter_process import GENEROUS_SECONDS, Exporter

UPSTREAMS = ("studio", "edge", "wave")

Sums = dict[str, dict[str, float]]
"""Family → upstream → sum of its samples."""


_SAMPLE = re.compile(r'^(\w+)(?:\{(?:.*?,)?upstream="([^"]*)".*\}|\{.*\})? (\S+)$', re.MULTILINE)


def sum_samples(text: str) -> Sums:
    """Return the sums of an exposition's samples by upstream ("" for families without one).

    A full parser would take longer than the exporter takes to serve the text.
    """
    sums: Sums = {}
    for name, upstream, value in _SAMPLE.findall(text):
        of = sums.setdefault(name, {})
        of[upstream] = of.get(upstream, 0.0) + float(value)
    return sums


@dataclass
class Watch:
    """Observations of a running exporter, one per scrape."""

    process: Exporter
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of every request."""
    scrapes: list[float] = field(default_factory=list)
    """Seconds that each scrape took."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Monotonic time and resident bytes."""

    def fetch(self, path: str = "/metrics") -> str:
        """Send a request; return the response and record its duration."""
        began = time.monotonic()
        with urlopen(Request(f"{self.url}{path}", headers=self.headers), timeout=GENEROUS_SECONDS) as answer:
            text: str = answer.read().decode()
        self.scrapes.append(time.monotonic() - began)
        return text

    def scrape(self) -> Sums:
        """Scrape all metrics."""
        sums = sum_samples(self.fetch())
        self.memory.append((time.monotonic(), sums["process_resident_memory_bytes"][""]))
        return sums

    def figures(self) -> str:
        """Return a one-line summary."""
        first, last = self.memory[0][1], self.memory[-1][1]
        return (
            f"{len(self.scrapes)} scrapes: median {median(self.scrapes):.3f} s, longest {max(self.scrapes):.3f} s; "
            f"memory {first / 1e6:.1f} MB, at the end {last / 1e6:.1f} MB ({last / first - 1:+.1%})"
        )


@contextmanager
def watched_demo(streams: int, directory: Path, *flags: str) -> Iterator[Watch]:
    """Run a demo with this number of streams on a free port; yield when all upstreams are up."""
    arguments = ["demo", "--streams", str(streams), "--web.listen-address", "127.0.0.1:0", *flags]
    with Exporter(arguments, directory) as process:
        watch = Watch(process, process.wait_for(r"^  (http://\S+:[1-9][0-9]*)/$")[1])
        deadline = time.monotonic() + 120
        while not set(UPSTREAMS) <= {name for name, up in watch.scrape().get("stream_upstream_up", {}).items() if up}:
            assert time.monotonic() < deadline, process.said
            time.sleep(0.5)
        yield watch
