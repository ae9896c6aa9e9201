"""Part ``lists``: the cost of polling a response with 1,000 streams, compared with parsing it alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.case_runner import Figures, medians, print_table, ratio, run_case

ROUNDS = 3
CASES = ("nginx_rtmp XML", "nginx_rtmp JSON", "icecast XML", "icecast JSON")


def main(rounds: int = ROUNDS) -> None:
    """Print the CPU of polls and of parsing the same response."""
    print("## Lists of 1,000 streams: polling compared with parsing alone\n")
    with tempfile.TemporaryDirectory() as directory:
        found = [
            {case: run_case("platform_list_polls", case=case, directory=str(Path(directory))) for case in CASES}
            for _ in range(rounds)
        ]
    middle = {case: medians([figures[case] for figures in found]) for case in CASES}
    print_table(
        ("", "ms to parse", "ms to poll"),
        ((case, f"{figures['parse'] * 1e3:.1f}", f"{figures['poll'] * 1e3:.1f}") for case, figures in middle.items()),
    )
    merged: list[dict[str, Figures]] = [
        {f"{case}, {what}": {"cpu": figures[case][what]} for case in CASES for what in ("parse", "poll")}
        for figures in found
    ]
    print_table(
        ("", "times the CPU"),
        ((f"{case}: poll ÷ parse", ratio(merged, "cpu", f"{case}, parse", f"{case}, poll")) for case in CASES),
    )
