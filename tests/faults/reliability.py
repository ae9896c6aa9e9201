"""The fault matrix in ``docs/reliability.md``: the expected result of each fault on each platform.

``tests/faults/test_fault_matrix.py`` checks the same expectations against a real exporter.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults.matrix import FAULTS
from tests.platforms.recordings import main_recordings

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- fault matrix: written by make generate -->\n", "<!-- end of the fault matrix -->\n"


def table() -> str:
    """Return the table of faults and platforms."""
    recordings = main_recordings()
    lines = [f"| fault | {' | '.join(recordings)} |", "|---" * (1 + len(recordings)) + "|"]
    for fault in FAULTS:
        outcomes = [fault.outcome(recording) for recording in recordings.values()]
        cells = ["–" if outcome is None else str(outcome) for outcome in outcomes]
        lines.append(f"| {fault.name}: {fault.done} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return ``docs/reliability.md`` with an updated table; the rest is written by hand."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE}: the markers of the table are missing")
    return before + begin + table() + end + after
