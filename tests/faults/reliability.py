"""The table in ``docs/reliability.md``: what one run of the matrix saw.

``python -m tests.faults.reliability`` writes it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.faults.matrix import FAULTS, PLATFORMS
from tests.faults.matrix_run import Run, run_matrix

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- fault matrix: written by make reliability -->\n", "<!-- end of the fault matrix -->\n"


def table(run: Run) -> str:
    """Fault × platform → what was seen; nothing in it changes from run to run."""
    lines = [f"| the fault | {' | '.join(PLATFORMS)} |", "|---" * (1 + len(PLATFORMS)) + "|"]
    for fault in FAULTS:
        cells = [run.cells.get(f"{platform}-{fault.name}") for platform in PLATFORMS]
        seen = ["–" if cell is None else str(run.outcome(cell)) for cell in cells]
        lines.append(f"| {fault.name}: {fault.done} | {' | '.join(seen)} |")
    return "\n".join(lines) + "\n"


def committed() -> str:
    """The table as the page has it."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write(text: str) -> None:
    """Replace the page's table, and nothing else of it."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE}: the marks of the table are missing")
    PAGE.write_text(before + begin + text + end + after, encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        write(table(run_matrix(Path(directory))))
