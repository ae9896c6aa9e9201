"""The example in ``docs/development/adding-a-platform.md`` is complete: it runs from the page as it is."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.platforms import api

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "development" / "adding-a-platform.md"
FILES = (
    "exporter/platforms/example_rtmp.py",
    "tests/platforms/responses/example_rtmp/recorded.yaml",
    "tests/platforms/responses/example_rtmp/stat.xml",
    "tests/platforms/test_example_rtmp.py",
    "docs/platforms/example_rtmp.md",
)
MAX_LINES = 60
"""Of the module, without blank lines: with its settings."""


def example() -> dict[str, str]:
    """The files of the example by path, in the order of the page."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return dict(zip(FILES, blocks, strict=True))


def place(tree: Path) -> None:
    """Write the example into a copy of the tree."""
    for name, text in example().items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def test_example_is_short_and_imports_from_one_place() -> None:
    module = example()[FILES[0]]
    assert sum(1 for line in module.splitlines() if line.strip()) <= MAX_LINES
    imported = {node.module for node in ast.walk(ast.parse(module)) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "collections.abc", "typing", "exporter.platforms"}


def test_every_name_of_the_api_exists() -> None:
    assert sorted(api.__all__) == sorted(set(api.__all__))
    assert all(hasattr(importlib.import_module("exporter.platforms.api"), name) for name in api.__all__)


@pytest.mark.parametrize("check", ["test", "ruff"])
def test_example_runs_from_its_page(check: str, tmp_path: Path) -> None:
    """The tree is a copy by links, so that the module stands among the shipped platforms."""
    for entry in ("exporter", "tests", "pyproject.toml"):
        source = ROOT / entry
        if source.is_file():
            (tmp_path / entry).symlink_to(source)
            continue
        for file in source.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                target = tmp_path / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(file)
    place(tmp_path)
    commands = {
        "test": [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", FILES[3]],
        "ruff": [sys.executable, "-m", "ruff", "check", "--no-cache", FILES[0], FILES[3]],
    }
    done = subprocess.run(
        commands[check],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
