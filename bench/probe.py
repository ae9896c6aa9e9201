"""Part ``probe``: ``/probe`` of one stream, beside a handler that makes a fresh CollectorRegistry for each.

16 connections ask side by side, each for an upstream of its own: probes of one upstream at the same time would share a
poll, so each of ours is a request to nginx, as each of theirs is.
"""

from __future__ import annotations

import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench import nginx
from bench.configured import single, wait_for, write
from bench.measuring import Figures, medians, ratio, run_case, table
from bench.serving import Server, running

ROUNDS = 3
CONNECTIONS = 16
PROBES = 100
"""Of each connection."""
OURS, THEIRS, BARE = "stream-exporter", "aiohttp, fresh CollectorRegistry", "aiohttp, no metrics"


def main(rounds: int = ROUNDS) -> None:
    """Print the CPU of a probe."""
    print("## /probe of one stream: request, answer of the upstream, metrics\n")
    program = nginx.find()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    with tempfile.TemporaryDirectory() as directory, nginx.serving(program, Path(directory), 1) as (url, _):
        file = write(directory, single(url, CONNECTIONS, 1, interval="90s"))

        def ours() -> Figures:
            with running("watched_exporter", file=file) as server:
                wait_for(server, CONNECTIONS)
                stream = f"{nginx.APPLICATION}/stream-000000"
                return _probed(server, [f"/probe?upstream=single-{n}&stream={stream}" for n in range(CONNECTIONS)])

        def theirs() -> Figures:
            with running("probe_registry", url=url) as server:
                return _probed(server, ["/probe"] * CONNECTIONS)

        def bare() -> Figures:
            with running("probe_registry", url=url, metrics=False) as server:
                return _probed(server, ["/probe"] * CONNECTIONS)

        cases: dict[str, Callable[[], Figures]] = {OURS: ours, THEIRS: theirs, BARE: bare}
        found = [{name: run() for name, run in cases.items()} for _ in range(rounds)]
    middle = {name: medians([figures[name] for figures in found]) for name in cases}
    table(
        ("", "µs per probe", "bytes", "samples"),
        ((name, f"{f['cpu'] * 1e6:.0f}", f"{f['bytes']:.0f}", f"{f['samples']:.0f}") for name, f in middle.items()),
    )
    table(
        ("times less CPU than", THEIRS),
        [(name, ratio(found, "cpu", name, THEIRS)) for name in (OURS, BARE)],
    )


def _probed(server: Server, paths: list[str]) -> Figures:
    run_case("probe_load", port=server.port, paths=paths, times=PROBES // 5)
    began = server.ask("cpu")
    asked = run_case("probe_load", port=server.port, paths=paths, times=PROBES)
    cpu = (server.ask("cpu") - began) / (PROBES * len(paths))
    return {"cpu": cpu, **asked, "samples": _samples(server, paths[0])}


def _samples(server: Server, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
        return sum(line.startswith(b"stream_") for line in answer)
