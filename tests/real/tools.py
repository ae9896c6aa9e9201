"""Where the real programs are that ``make tools`` provides."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

MANIFEST = Path(__file__).parents[2] / ".cache" / "tools" / "tools.json"


def tool(name: str) -> Path:
    """The path of a program or package; the test fails, with what to do about it, when it is not there."""
    manifest = _manifest()
    found = manifest["tools"].get(name)
    if found is None:
        pytest.fail(f"{name} is missing: {manifest['missing'].get(name, 'run: make tools')}", pytrace=False)
    path = Path(found["path"])
    if not path.exists():
        pytest.fail(f"{name} is no longer at {path}: run: make tools", pytrace=False)
    return path


def tool_version(name: str) -> str:
    """The version of a program; ``?`` where it is unknown."""
    tool(name)
    version: str = _manifest()["tools"][name]["version"]
    return version


@cache
def _manifest() -> dict[str, dict[str, Any]]:
    if not MANIFEST.exists():
        return {"tools": {}, "missing": {}}
    manifest: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text())
    return manifest
