"""Part ``loop``: how long the event loop is blocked during polls of lists, scrapes and reloads."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.case_runner import Figures, medians, print_table
from bench.nginx_upstream import find_nginx, list_config, running_nginx, wait_for_streams, write_config
from bench.server_process import fetch, running_server

SIZES = (10_000, 50_000)
ROUNDS = 2
UPSTREAMS = 10
SCRAPES = 3


def main(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> None:
    """Print the longest callback of the event loop."""
    print("## Event loop: longest callback during polls, scrapes (gzip and identity) and a reload\n")
    program = find_nginx()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    rows = []
    for streams in sizes:
        found = medians([_measure(program, streams) for _ in range(rounds)])
        rows.append(
            (f"{streams:,}", f"{found['cpu'] * 1e3:.1f}", f"{found['clock'] * 1e3:.1f}", f"{found['long']:.0f}")
        )
    print_table(("streams", "longest, CPU ms", "longest, wall ms", "over 5 ms (wall)"), rows)


def _measure(program: Path, streams: int) -> Figures:
    each = streams // UPSTREAMS
    with tempfile.TemporaryDirectory() as directory, running_nginx(program, Path(directory), each) as (url, _):
        file = write_config(directory, list_config(url, UPSTREAMS, interval="15s"))
        with running_server("instrumented_exporter", file=file, watch=True) as server:
            wait_for_streams(server, streams)
            fetch(server.port)
            server.call("forget")
            for number in range(SCRAPES):
                server.call("poll")
                fetch(server.port)
                fetch(server.port, compressed=False)
                # a new interval, so that every upstream is rebuilt and polled immediately
                write_config(directory, list_config(url, UPSTREAMS, interval=f"{16 + number}s"))
                server.call("reload")
            return {str(name): float(value) for name, value in server.call("stalls").items()}
