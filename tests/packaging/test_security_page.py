"""SECURITY.md names a test for each guarantee, docs/reliability.md one for each fault; these exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[^`*]+\.py[^`]*)`", PAGE + RELIABILITY)))
TARGETS = sorted(set(re.findall(r"`make ([\w-]+)`", PAGE)))


@pytest.mark.parametrize("named", TESTS)
def test_the_test_exists(named: str) -> None:
    file, _, function = named.partition("::")
    assert re.search(rf"^(async )?def {function or 'test_'}", (ROOT / file).read_text(), re.MULTILINE)


def test_the_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert TARGETS
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in TARGETS)


def test_every_guarantee_is_enforced() -> None:
    guarantees = re.findall(r"^\| (?!guarantee).+", PAGE, re.MULTILINE)
    assert len(guarantees) >= 15
    assert all("`tests/" in line or "`make " in line for line in guarantees)
