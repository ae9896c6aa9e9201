"""Part ``memory``: what every further stream costs, in the whole exporter after polls and scrapes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import nginx
from bench.configured import listed, wait_for, write
from bench.measuring import Figures, table
from bench.serving import get, running

SIZES = (10_000, 50_000, 100_000)
POLLS = 2


def main(sizes: Sequence[int] = SIZES) -> None:
    """Print resident memory, its peak, and the growth for each stream."""
    print("## Memory: Storm's streams from lists, after three polls and two scrapes with gzip\n")
    program = nginx.find()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    found = {streams: _measured(program, streams) for streams in (1, *sizes)}
    least = found[1]["resident"]
    rows = []
    for streams, figures in found.items():
        grown = (figures["resident"] - least) / streams
        rows.append(
            (
                f"{streams:,}",
                f"{figures['samples'] / streams:.0f}",
                f"{figures['resident'] / 1e6:.0f}",
                f"{figures['peak'] / 1e6:.0f}",
                "" if streams == 1 else f"{grown / 1e3:.2f}",
            )
        )
    table(("streams", "samples each", "resident MB", "peak MB", "growth per stream kB"), rows)


def _measured(program: Path, streams: int) -> Figures:
    with tempfile.TemporaryDirectory() as directory, nginx.serving(program, Path(directory), streams) as (url, _):
        file = write(directory, listed(url, 1, interval="120s", timeout="110s"))
        with running("watched_exporter", file=file) as server:
            wait_for(server, streams)
            for _ in range(POLLS):
                server.ask("poll")
                get(server.port)
            return {
                "resident": server.ask("resident"),
                "peak": server.ask("peak"),
                "samples": server.ask("series"),
            }
