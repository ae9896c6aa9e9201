"""The table of attacks in ``docs/reliability.md``, from the tests' measurements; see ``make attacks``.

``python -m tests.attacks.attack_table FOLDER`` updates it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.attacks.attack_list import ATTACKS
from tests.attacks.attack_run import Measurement

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- attacks: written by make attacks -->\n", "<!-- end of the attacks -->\n"
HEADER = (
    "| attack | limits | polls of the healthy upstream | scrapes answered | time of a scrape | peak memory |\n"
    "|---|---|---|---|---|---|\n"
)


def row(measured: Measurement) -> str:
    """Return the table row of an attack."""
    return (
        f"| {ATTACKS[measured.attack]} | {measured.limits} | {measured.polls_made} of {measured.polls_due} "
        f"| {measured.scrapes_answered} of {measured.scrapes} | {measured.scrape_multiple:.1f} × idle "
        f"| {measured.peak_mib} MiB |\n"
    )


def read(folder: Path) -> list[Measurement]:
    """Return the measurements of all attacks, in the order of the list."""
    return [Measurement(**json.loads((folder / f"{attack}.json").read_text())) for attack in ATTACKS]


def split_page(page: str) -> tuple[str, str, str]:
    """Return the text before the table, the table, and the text after it."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    return before, table, after


def main(folder: Path, page: Path = PAGE) -> None:
    """Write the table into the page."""
    before, _, after = split_page(page.read_text(encoding="utf-8"))
    table = HEADER + "".join(map(row, read(folder)))
    page.write_text(before + BEGIN + table + END + after, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
