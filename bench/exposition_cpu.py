"""Part ``exposition``: a scrape of the demo's mix of families, compared with prometheus_client and client_golang."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import golang_scrapes
from bench.case_runner import Figures, medians, print_table, ratio, run_case
from bench.generated_streams import save_patterns

SIZES = (1_000, 10_000, 50_000)
ROUNDS = {10_000: 2}
OURS, COLLECTOR, CHILDREN, GOLANG = "stream-exporter", "prometheus_client", "… child metrics", "client_golang"


def main(sizes: Sequence[int] = SIZES, rounds: int | None = None) -> None:
    """Print the cost of a scrape, and the ratio to the others."""
    print("## Exposition: CPU of one scrape in memory, new values in every stream\n")
    with tempfile.TemporaryDirectory() as directory:
        patterns = Path(directory, "patterns")
        save_patterns(patterns)
        golang = golang_scrapes.build(Path(directory))
        if golang is None:
            print("Go or its library is not installed: client_golang is left out.\n")
        for streams in sizes:
            cases: dict[str, Callable[[], Figures]] = _cases(streams, str(patterns))
            if golang is not None:
                samples = Path(directory, f"samples-{streams}")
                golang_scrapes.save_samples(samples, streams, str(patterns))
                cases[GOLANG] = _golang(golang, samples, _few(streams))
            found = [{name: run() for name, run in cases.items()} for _ in range(rounds or ROUNDS.get(streams, 1))]
            _report(streams, found)


def _cases(streams: int, patterns: str) -> dict[str, Callable[[], Figures]]:
    def theirs(way: str) -> Figures:
        return run_case(
            "prometheus_client_scrapes", streams=streams, patterns=patterns, repetitions=_few(streams), way=way
        )

    cases = {
        OURS: lambda: run_case(
            "exporter_scrapes", streams=streams, patterns=patterns, repetitions=5 if streams <= 10_000 else 3
        ),
        COLLECTOR: lambda: theirs("collector"),
    }
    # slower than the collector in all cases, and slow to start with more streams
    return cases | ({CHILDREN: lambda: theirs("children")} if streams <= 1_000 else {})


def _golang(program: Path, samples: Path, repetitions: int) -> Callable[[], Figures]:
    return lambda: golang_scrapes.run(program, samples, repetitions)


def _few(streams: int) -> int:
    return 3 if streams <= 1_000 else 2 if streams <= 10_000 else 1


def _report(streams: int, rounds: Sequence[dict[str, Figures]]) -> None:
    for figures in (figures for found in rounds for figures in found.values()):
        figures["read and plain"] = figures["read"] + figures["plain"]
        figures["cycle"] = figures["update"] + figures["read and plain"]
    middle = {name: medians([found[name] for found in rounds]) for name in rounds[0]}
    samples = middle[OURS]["samples"]
    print(f"{streams:,} streams, {samples / streams:.1f} samples each\n")
    print_table(
        (
            "",
            "states and health ms",
            "read or set ms",
            "scrape ms",
            "with gzip ms",
            "unchanged, ms",
            "MB",
            "gzip MB",
            "peak MB",
        ),
        (
            (
                name,
                *(f"{figures[kind] * 1e3:.1f}" for kind in ("update", "read", "plain", "gzip")),
                f"{figures['again'] * 1e3:.2f}" if "again" in figures else "the same",
                *(f"{figures[kind] / 1e6:.1f}" for kind in ("bytes", "gzip bytes", "peak")),
            )
            for name, figures in middle.items()
        ),
    )
    others = [name for name in rounds[0] if name != OURS]
    rows = []
    for title, kind in (
        ("scrape", "plain"),
        ("read or set, and scrape", "read and plain"),
        ("the same with states and health", "cycle"),
        ("scrape with gzip", "gzip"),
    ):
        rows.append((title, *(ratio(rounds, kind, OURS, other) for other in others)))
    print_table(("CPU ratio to", *others), rows)
