"""Part ``loop``: how long the event loop is held while lists are polled, scrapes are answered and settings reloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import nginx
from bench.configured import listed, wait_for, write
from bench.measuring import Figures, medians, table
from bench.serving import get, running

SIZES = (10_000, 50_000)
ROUNDS = 2
UPSTREAMS = 10
SCRAPES = 3


def main(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> None:
    """Print the longest callback of the event loop."""
    print("## Event loop: its longest callback, over polls, scrapes (gzip and identity) and a reload\n")
    program = nginx.find()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    rows = []
    for streams in sizes:
        found = medians([_measured(program, streams) for _ in range(rounds)])
        rows.append(
            (f"{streams:,}", f"{found['cpu'] * 1e3:.1f}", f"{found['clock'] * 1e3:.1f}", f"{found['long']:.0f}")
        )
    table(("streams", "longest by its CPU time, ms", "longest by the clock, ms", "over 5 ms by the clock"), rows)


def _measured(program: Path, streams: int) -> Figures:
    each = streams // UPSTREAMS
    with tempfile.TemporaryDirectory() as directory, nginx.serving(program, Path(directory), each) as (url, _):
        file = write(directory, listed(url, UPSTREAMS, interval="15s"))
        with running("watched_exporter", file=file, watch=True) as server:
            wait_for(server, streams)
            get(server.port)
            server.ask("forget")
            for number in range(SCRAPES):
                server.ask("poll")
                get(server.port)
                get(server.port, compressed=False)
                # another interval: every upstream is made anew, and polled at once
                write(directory, listed(url, UPSTREAMS, interval=f"{16 + number}s"))
                server.ask("reload")
            return {str(name): float(value) for name, value in server.ask("stalls").items()}
