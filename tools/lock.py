"""Writes ``requirements.lock`` and ``requirements-build.lock``: every version, with its hashes, for every system."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
COMPILE = ("pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes")
SILENT = ("--no-emit-index-url", "--no-emit-find-links")
"""Where this machine gets packages from is nobody's business."""


def main() -> None:
    """Raises ``CalledProcessError``. What is locked stays while it fits the ranges, or UPGRADE is set."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    compile_lock("requirements.lock", project["project"]["dependencies"])
    compile_lock("requirements-build.lock", project["build-system"]["requires"])


def compile_lock(file: str, requirements: list[str]) -> None:
    """One of them."""
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
