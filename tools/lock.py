"""Write ``requirements.lock`` and ``requirements-build.lock``, with versions and hashes for all systems."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
COMPILE = ("pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes")
SILENT = ("--no-emit-index-url", "--no-emit-find-links")
"""Do not record the package index of this machine."""


def main() -> None:
    """Write both files. Versions change only if required, or if UPGRADE is set. Raises ``CalledProcessError``."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    compile_lock("requirements.lock", runtime_requirements(project))
    compile_lock("requirements-build.lock", project["build-system"]["requires"])


def runtime_requirements(project: dict[str, Any]) -> list[str]:
    """Return what the image installs: the dependencies, and the extra for calendars."""
    requirements: list[str] = project["project"]["dependencies"]
    return [*requirements, *project["project"]["optional-dependencies"]["calendar"]]


def compile_lock(file: str, requirements: list[str]) -> None:
    """Write one lock file."""
    options = (*SILENT, *(["--upgrade"] if os.environ.get("UPGRADE") else []))
    subprocess.run(
        [Path(sys.executable).with_name("uv"), *COMPILE, *options, "--output-file", file, "-"],
        cwd=CHECKOUT,
        env={**os.environ, "UV_CUSTOM_COMPILE_COMMAND": "make lock"},
        input="\n".join(requirements),
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
    )


if __name__ == "__main__":
    main()
