"""Part ``memory``: memory per additional stream, in the whole exporter after polls and scrapes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.case_runner import Figures, print_table
from bench.nginx_upstream import find_nginx, list_config, running_nginx, wait_for_streams, write_config
from bench.server_process import fetch, running_server

SIZES = (10_000, 50_000, 100_000)
POLLS = 2


def main(sizes: Sequence[int] = SIZES) -> None:
    """Print resident memory, its peak, and the growth per stream."""
    print("## Memory: Storm's streams from lists, after three polls and two scrapes with gzip\n")
    program = find_nginx()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    found = {streams: _measure(program, streams) for streams in (1, *sizes)}
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
    print_table(("streams", "samples each", "resident MB", "peak MB", "growth per stream kB"), rows)


def _measure(program: Path, streams: int) -> Figures:
    with tempfile.TemporaryDirectory() as directory, running_nginx(program, Path(directory), streams) as (url, _):
        file = write_config(directory, list_config(url, 1, interval="120s", timeout="110s"))
        with running_server("instrumented_exporter", file=file) as server:
            wait_for_streams(server, streams)
            for _ in range(POLLS):
                server.call("poll")
                fetch(server.port)
            return {
                "resident": server.call("resident"),
                "peak": server.call("peak"),
                "samples": server.call("series"),
            }
