"""Part ``http``: a scrape over HTTP with gzip, compared with prometheus_client's server and promhttp."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import golang_scrapes
from bench.case_runner import Figures, medians, print_table, process_cpu_seconds, process_peak_bytes, ratio
from bench.generated_streams import save_patterns
from bench.server_process import fetch, running_server

SIZES = (10_000,)
ROUNDS = {10_000: 2}
"""50,000 streams take another two minutes, so they are only run on request."""
REPLICAS = 20
"""Number of scrapes of unchanged values."""
OURS, THEIRS, GOLANG = "stream-exporter", "prometheus_client", "promhttp"


def main(sizes: Sequence[int] = SIZES, rounds: int | None = None) -> None:
    """Print a server's CPU per scrape, and the ratio to the others."""
    print("## Whole scrapes over HTTP, with gzip: CPU of the server\n")
    with tempfile.TemporaryDirectory() as directory:
        patterns = Path(directory, "patterns")
        save_patterns(patterns)
        golang = golang_scrapes.build(Path(directory))
        for streams in sizes:
            cases: dict[str, Callable[[], Figures]] = _cases(streams, str(patterns))
            if golang is not None:
                samples = Path(directory, f"samples-{streams}")
                golang_scrapes.save_samples(samples, streams, str(patterns))
                cases[GOLANG] = _golang(golang, samples)
            found = [{name: run() for name, run in cases.items()} for _ in range(rounds or ROUNDS.get(streams, 1))]
            _report(streams, found)


def _cases(streams: int, patterns: str) -> dict[str, Callable[[], Figures]]:
    def ours() -> Figures:
        with running_server("exporter_scrapes", streams=streams, patterns=patterns) as server:
            fetch(server.port)
            server.call("update")
            began = server.call("cpu")
            size = fetch(server.port)
            first = server.call("cpu") - began
            fetch(server.port, times=REPLICAS)
            again = (server.call("cpu") - began - first) / REPLICAS
            return {"first": first, "again": again, "bytes": size, "peak": server.call("peak")}

    def theirs() -> Figures:
        with running_server("prometheus_client_scrapes", streams=streams, patterns=patterns) as server:
            began = server.call("cpu")
            size = fetch(server.port)
            first = server.call("cpu") - began
            return {"first": first, "again": first, "bytes": size, "peak": server.call("peak")}

    return {OURS: ours, THEIRS: theirs}


def _golang(program: Path, samples: Path) -> Callable[[], Figures]:
    def run() -> Figures:
        with golang_scrapes.running_promhttp(program, samples) as (port, pid):
            fetch(port)
            began = process_cpu_seconds(pid)
            size = fetch(port)
            first = process_cpu_seconds(pid) - began
            return {"first": first, "again": first, "bytes": size, "peak": process_peak_bytes(pid)}

    return run


def _report(streams: int, rounds: Sequence[dict[str, Figures]]) -> None:
    middle = {name: medians([found[name] for found in rounds]) for name in rounds[0]}
    print(f"{streams:,} streams\n")
    print_table(
        ("", "new values ms", "unchanged, ms", "MB", "peak MB"),
        (
            (name, f"{f['first'] * 1e3:.1f}", f"{f['again'] * 1e3:.2f}", f"{f['bytes'] / 1e6:.1f}",
             f"{f['peak'] / 1e6:.0f}")
            for name, f in middle.items()
        ),
    )  # fmt: skip
    others = [name for name in rounds[0] if name != OURS]
    titles = (("new values", "first"), ("second replica, unchanged", "again"))
    print_table(
        ("CPU ratio to", *others),
        ((title, *(ratio(rounds, kind, OURS, other) for other in others)) for title, kind in titles),
    )
