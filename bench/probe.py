"""Part ``probe``: ``/probe`` of one stream, beside a handler that makes a fresh CollectorRegistry for each."""

from __future__ import annotations

import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench import nginx
from bench.configured import single, wait_for, write
from bench.measuring import Figures, medians, ratio, table
from bench.serving import Server, get, running

ROUNDS = 3
PROBES = 500
OURS, THEIRS, BARE = "stream-exporter", "aiohttp, fresh CollectorRegistry", "aiohttp, no metrics"


def main(rounds: int = ROUNDS) -> None:
    """Print the CPU of a probe."""
    print("## /probe of one stream: request, answer of the upstream, metrics\n")
    program = nginx.find()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    with tempfile.TemporaryDirectory() as directory, nginx.serving(program, Path(directory), 1) as (url, _):
        file = write(directory, single(url, 1, 1, interval="90s"))

        def ours() -> Figures:
            with running("watched_exporter", file=file) as server:
                wait_for(server, 1)
                return _probed(server, f"/probe?upstream=single-0&stream={nginx.APPLICATION}/stream-000000")

        def theirs() -> Figures:
            with running("probe_registry", url=url) as server:
                return _probed(server, "/probe")

        def bare() -> Figures:
            with running("probe_registry", url=url, metrics=False) as server:
                return _probed(server, "/probe")

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


def _probed(server: Server, path: str) -> Figures:
    get(server.port, path, PROBES // 5, compressed=False)
    began = server.ask("cpu")
    size = get(server.port, path, PROBES, compressed=False)
    cpu = (server.ask("cpu") - began) / PROBES
    return {"cpu": cpu, "bytes": size, "samples": _samples(server, path)}


def _samples(server: Server, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
        return sum(line.startswith(b"stream_") for line in answer)
