"""The locks are complete, of this project, and say nothing of the machine that made them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.lock import runtime_requirements

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "requirements.lock": runtime_requirements(PROJECT),
    "requirements-build.lock": PROJECT["build-system"]["requires"],
}


@pytest.mark.parametrize("file", LOCKS)
def test_it_fulfils_what_the_project_asks_for(file: str) -> None:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / file).read_text(), re.MULTILINE)
    locked = {canonicalize_name(name): Version(version) for name, version in pins}
    for text in LOCKS[file]:
        requirement = Requirement(text)
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name}: run: make lock"
        assert version in requirement.specifier, f"{requirement.name}: run: make lock"


@pytest.mark.parametrize("file", LOCKS)
def test_everything_is_pinned_with_hashes_and_nothing_says_from_where(file: str) -> None:
    text = (ROOT / file).read_text()
    entries = re.sub(r"#.*", "", text).replace("\\\n", " ").split("\n")
    for entry in filter(str.strip, entries):
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^;]+?)?( +--hash=sha256:[0-9a-f]{64})+\s*", entry), entry
    assert "://" not in text
    assert "index-url" not in text
