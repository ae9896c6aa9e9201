"""The example in ``docs/development/adding-a-platform.md`` is complete and works as shown."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.platforms import api
from exporter.platforms.registry import shipped

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "development" / "adding-a-platform.md"
FILES = (
    "exporter/platforms/example_rtmp.py",
    "tests/platforms/responses/example_rtmp/recorded.yaml",
    "tests/platforms/responses/example_rtmp/stat.xml",
    "tests/platforms/test_example_rtmp.py",
    "docs/platforms/example_rtmp.md",
)
LEFT_OUT = (
    ".git",
    ".venv",
    ".cache",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "node_modules",
    "dist",
    "build",
    "pictures",
)
GENERATORS = ("tools.generate", "tests.interface.listed")
SUITES = (
    "tests/cli/test_readme.py::test_platform_table_has_every_shipped_platform_and_how_it_was_verified",
    "tests/config",
    "tests/interface",
    "tests/faults",
    "tests/metrics/test_metrics_reference.py",
    "tests/packaging/test_documents.py::test_index_links_to_every_page",
    "tests/platforms/test_example_rtmp.py",
    "tests/platforms/test_recordings.py",
    "tests/platforms/test_unreadable_lists.py",
)
LEFT_OUT_OF_SUITES = ("tests/config/test_calendar_settings.py", "tests/config/test_secrets.py")
"""Modules that do not use the registry and take long."""
FUZZ = """
from tests.faults.test_fuzzed_platforms import fuzz
from tests.platforms.recordings import recording_of
fuzz(recording_of("example_rtmp"), examples=10)
"""
MAX_LINES = 60
"""Maximum lines of the module, including its settings, without blank lines."""


def example() -> dict[str, str]:
    """Return the files of the example by path, in the order of the page."""
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


def test_api_exports_existing_names_without_duplicates() -> None:
    assert sorted(api.__all__) == sorted(set(api.__all__))
    assert all(hasattr(importlib.import_module("exporter.platforms.api"), name) for name in api.__all__)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository with the example, after running the generators."""
    copy = tmp_path_factory.mktemp("with-example") / "tree"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    place(copy)
    for generator in GENERATORS:
        run(copy, "-m", generator)
    return copy


def run(tree: Path, *arguments: str) -> None:
    """Run Python in a copy of the tree."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.no_cover
def test_suites_pass_with_the_example_and_no_other_edit(tree: Path) -> None:
    """The suites are those that use the registry and need no real server, without the cases of other platforms."""
    others = " and ".join(f"not {platform.name}" for platform in shipped())
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not real and not soak", "-k", others]
    run(tree, "-m", "pytest", *options, *(f"--ignore={name}" for name in LEFT_OUT_OF_SUITES), *SUITES)


@pytest.mark.no_cover
def test_example_survives_fuzzed_responses(tree: Path) -> None:
    run(tree, "-c", FUZZ)


def test_example_appears_in_the_generated_pages(tree: Path) -> None:
    pages = (
        "README",
        *(f"docs/{name}" for name in ("configuration", "metrics", "reliability", "compatibility", "index")),
    )
    for page in pages:
        assert "example_rtmp" in (tree / f"{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("tool", [("ruff", "check", "--no-cache"), ("ruff", "format", "--no-cache", "--check")])
def test_example_passes_the_linter(tree: Path, tool: tuple[str, ...]) -> None:
    run(tree, "-m", *tool, FILES[0], FILES[3])
