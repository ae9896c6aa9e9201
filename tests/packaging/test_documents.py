"""The documents: the site builds, nothing is missing from the indexes, and lists agree with what they describe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from exporter import __version__

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ARCHITECTURE = (DOCS / "architecture.md").read_text()


def linked_pages(page: Path) -> set[Path]:
    links = re.findall(r"\]\(([^):#]+\.md)[^)]*\)", page.read_text())
    return {(page.parent / link).resolve() for link in links}


def test_site_builds_without_broken_links_or_resources_of_other_hosts(tmp_path: Path) -> None:
    command: list[str | Path] = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", tmp_path]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    resources = r'(?:src|srcset)="https?:[^"]+"|<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="https?:[^"]+"'
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    assert {found for page in pages for found in re.findall(resources, page.read_text())} == set()
    # with it, the theme's script asks GitHub's API about the repository
    assert not any('data-md-component="source"' in page.read_text() for page in pages)


def test_index_links_to_every_page() -> None:
    pages = {page for page in DOCS.rglob("*.md") if page.parent != DOCS / "adr"} | {DOCS / "adr" / "index.md"}
    assert linked_pages(DOCS / "index.md") & pages == pages - {DOCS / "index.md"}


RECORD_HEADINGS = {"## Context", "## Decision", "## Alternatives considered", "## Consequences"}


def test_decision_records_are_numbered_and_listed() -> None:
    records = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    assert linked_pages(DOCS / "adr" / "index.md") == set(records)
    for record in records:
        text = record.read_text()
        assert text.startswith(f"# {int(record.name[:4])}. "), record.name
        assert "\nStatus: " in text, record.name
        assert set(text.splitlines()) >= RECORD_HEADINGS, record.name


def test_architecture_has_the_layers_of_the_import_contract() -> None:
    (contract,) = (one for one in PROJECT["tool"]["importlinter"]["contracts"] if one["id"] == "layers")
    layers = [re.split(r"\s*\|\s*", layer) for layer in contract["layers"]]
    rows = re.findall(r"^\| (`exporter/.+?`) \|", ARCHITECTURE, re.MULTILINE)
    documented = [re.findall(r"`(.+?)(?:/|\.py)`", row) for row in rows]
    assert [[module.replace("/", ".") for module in row] for row in documented] == layers


def test_architecture_names_files_that_exist() -> None:
    paths = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", ARCHITECTURE))
    own = {path for path in paths if path.split("/")[0] not in {"alerts", "docs"}}
    assert len(own) > 30
    missing = {path for path in own if not any((base / path).exists() for base in (ROOT, ROOT / "exporter"))}
    nested = {path for path in missing if any((ROOT / "exporter").glob(f"*/{path}"))}
    assert missing - nested == set()


@pytest.mark.parametrize("extra", ["", *PROJECT["project"]["optional-dependencies"]])
def test_every_dependency_is_justified(extra: str) -> None:
    project = PROJECT["project"]
    requirements = project["optional-dependencies"][extra] if extra else project["dependencies"]
    names = {Requirement(text).name for text in requirements} - {project["name"]}
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    cells = " ".join(re.findall(r"^\| (.+) \| .+ \|$", contributing, re.MULTILINE))
    assert {name for name in names if f"`{name}`" not in cells} == set()


def test_changelog_has_unreleased_changes_and_the_current_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert __version__ in headings
