"""Part ``control``: what labels, and overrides of alert rules, add to polls and scrapes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.case_runner import Figures, medians, print_table, run_case
from bench.generated_streams import save_patterns

SIZES = (10_000,)
ROUNDS = 5
LABELS = {"team": "sports", "site": "north", "tier": "gold"}
OVERRIDES = 1_000
NONE, WITH_LABELS, WITH_OVERRIDES = "none", "3 labels", f"3 labels and {OVERRIDES:,} overrides"


def main(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> None:
    """Print the cost of polls and scrapes with and without labels and overrides."""
    print("## Labels and overrides: CPU of one poll of every stream, and of one scrape\n")
    cases: dict[str, dict[str, object]] = {
        NONE: {},
        WITH_LABELS: {"labels": LABELS},
        WITH_OVERRIDES: {"labels": LABELS, "overrides": OVERRIDES},
    }
    with tempfile.TemporaryDirectory() as directory:
        patterns = Path(directory, "patterns")
        save_patterns(patterns)
        for streams in sizes:
            common = {"streams": streams, "patterns": str(patterns), "repetitions": 5}
            found = [
                {name: run_case("exporter_scrapes", **common, **more) for name, more in cases.items()}
                for _ in range(rounds)
            ]
            _report(streams, found)


def _report(streams: int, rounds: Sequence[dict[str, Figures]]) -> None:
    kinds = {"update": "poll ms", "read": "read ms", "plain": "scrape ms", "gzip": "scrape with gzip ms"}
    rows = []
    for name in rounds[0]:
        middle = medians([found[name] for found in rounds])
        ratios = medians(
            [{kind: found[name][kind] / found[NONE][kind] for kind in (*kinds, "bytes")} for found in rounds]
        )
        cells = [f"{middle[kind] * 1e3:.1f} ({ratios[kind]:.2f}×)" for kind in kinds]
        rows.append((name, *cells, f"{middle['bytes'] / 1e6:.1f} ({ratios['bytes']:.2f}×)"))
    print(f"{streams:,} streams; in parentheses the ratio to none, within one round\n")
    print_table(("", *kinds.values(), "MB"), rows)
