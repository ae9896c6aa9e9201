"""The sdist and the wheel; and the wheel in an environment that holds nothing but it and what the lock names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LOCK = CHECKOUT / "requirements.lock"
ALLOWED_LICENSES = frozenset(
    {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "PSF-2.0"}
    | {"Apache Software License", "BSD License", "MIT License", "Python Software Foundation License"}
    | {"MPL-2.0"}
)
"""As packages spell them: those that ask to be named, and MPL, which asks more of who changes its files alone."""
_INSTALL = ("-m", "pip", "--disable-pip-version-check", "-qq", "install")


@dataclass(frozen=True)
class Distribution:
    """What was built, and where it is installed."""

    folder: Path

    @property
    def wheel(self) -> Path:
        """The one wheel, made from the sdist."""
        return self._only("*.whl")

    @property
    def sdist(self) -> Path:
        """The one sdist."""
        return self._only("*.tar.gz")

    @property
    def python(self) -> Path:
        """Of the environment."""
        return self.folder / "venv" / "bin" / "python"

    @property
    def command(self) -> Path:
        """The console script."""
        return self.python.with_name("stream-exporter")

    def _only(self, pattern: str) -> Path:
        (only,) = self.folder.glob(pattern)
        return only


def build(folder: Path) -> Distribution:
    """Both into one folder. Raises ``CalledProcessError``."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT)
    return Distribution(folder)


def install(distribution: Distribution) -> None:
    """What the lock names with the hashes that it names, then the wheel alone. Raises ``CalledProcessError``."""
    venv.create(distribution.folder / "venv", clear=True, with_pip=True)
    run(distribution.python, *_INSTALL, "--require-hashes", "--only-binary=:all:", "--requirement", LOCK)
    run(distribution.python, *_INSTALL, "--no-index", "--no-deps", distribution.wheel)
    # It came with the environment, and is no part of what is delivered
    run(distribution.python, "-m", "pip", "check")
    run(distribution.python, "-m", "pip", "uninstall", "--yes", "-qq", "setuptools", "pip")


def bill_of_materials(distribution: Distribution) -> str:
    """CycloneDX, as JSON."""
    about = ("--pyproject", CHECKOUT / "pyproject.toml", "--mc-type", "application")
    style = ("--output-reproducible", "--output-format", "JSON")
    return run(tool("cyclonedx-py"), "environment", *about, *style, distribution.python)


def licenses(distribution: Distribution) -> list[dict[str, str]]:
    """Name, version and licence of everything installed."""
    command = (tool("pip-licenses"), f"--python={distribution.python}", "--from=mixed", "--format=json")
    return [{key.lower(): value for key, value in package.items()} for package in json.loads(run(*command))]


def foreign_licenses(distribution: Distribution) -> list[str]:
    """Packages whose licence is not among the allowed ones."""
    return [
        f"{package['name']} {package['version']}: {package['license']}"
        for package in licenses(distribution)
        if not all(part.strip(" ()") in ALLOWED_LICENSES for part in _parts(package["license"]))
    ]


def _parts(expression: str) -> list[str]:
    return re.split(" AND | OR |;", expression)


def tool(name: str) -> Path:
    """A program of the environment that this runs in."""
    return Path(sys.executable).with_name(name)


def run(*command: str | Path) -> str:
    """What it prints. It runs outside the checkout, so that only what is installed is found."""
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            list(map(str, command)),
            cwd=elsewhere,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return done.stdout
