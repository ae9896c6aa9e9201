"""The table of attacks in ``docs/reliability.md``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from tests.attacks.attack_list import ATTACKS
from tests.attacks.attack_run import Measurement
from tests.attacks.attack_table import BEGIN, END, PAGE, main, split_page


def test_table_names_every_attack() -> None:
    table = split_page(PAGE.read_text(encoding="utf-8"))[1]
    assert re.findall(r"^\| (.+?) \| \d", table, re.MULTILINE) == list(ATTACKS.values())


def test_every_attack_has_a_test() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*_attacks.py"))
    assert [attack for attack in ATTACKS if f'"{attack}"' not in tests] == []


def test_measurements_are_written_into_the_page(tmp_path: Path) -> None:
    for attack in ATTACKS:
        measured = Measurement(attack, "512 MiB", 8, 9, 15, 16, 1.25, 70)
        (tmp_path / f"{attack}.json").write_text(json.dumps(asdict(measured)))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    main(tmp_path, page)
    before, table, after = split_page(page.read_text())
    assert (before, after) == ("before\n", "after\n")
    assert len(table.splitlines()) == 2 + len(ATTACKS)
    assert f"| {ATTACKS['echo']} | 512 MiB | 8 of 9 | 15 of 16 | 1.2 × idle | 70 MiB |" in table.splitlines()
