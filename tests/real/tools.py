"""Paths of the real programs that ``make tools`` installs."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

MANIFEST = Path(__file__).parents[2] / ".cache" / "tools" / "tools.json"
is_allowed = True
"""Whether the running test may use downloaded programs."""


def tool(name: str) -> Path:
    """Return the path of a program or package; fail the test with instructions if it is missing."""
    if not is_allowed:
        pytest.fail(f"a test that uses {name} needs the marker real", pytrace=False)
    manifest = _manifest()
    found = manifest["tools"].get(name)
    if found is None:
        pytest.fail(f"{name} is missing: {manifest['missing'].get(name, 'run: make tools')}", pytrace=False)
    path = Path(found["path"])
    if not path.exists():
        pytest.fail(f"{name} is no longer at {path}: run: make tools", pytrace=False)
    return path


def tool_version(name: str) -> str:
    """Return a program's version; ``?`` if unknown."""
    tool(name)
    version: str = _manifest()["tools"][name]["version"]
    return version


@cache
def _manifest() -> dict[str, dict[str, Any]]:
    if not MANIFEST.exists():
        return {"tools": {}, "missing": {}}
    manifest: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text())
    return manifest
