"""Build the sdist and wheel, and install the wheel in an environment with only the locked dependencies."""

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
"""Spelled as in package metadata: permissive licences, and MPL, whose terms apply only to changes of its own files."""
LGPL_PACKAGES = frozenset({"recurring-ical-events", "x-wr-timezone"})
"""Libraries of the extra for calendars under the LGPL, which a user can replace."""
_LGPL = re.compile(r"LGPL-3\.0-or-later|GNU Lesser General Public License v3 or later \(LGPLv3\+\)")
_PIP = ("-m", "pip", "--disable-pip-version-check", "-qq")


@dataclass(frozen=True)
class Distribution:
    """A folder with the built distributions and an environment in which the wheel is installed."""

    folder: Path

    @property
    def wheel(self) -> Path:
        """The wheel, built from the sdist."""
        return self._only("*.whl")

    @property
    def sdist(self) -> Path:
        """The sdist."""
        return self._only("*.tar.gz")

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.folder / "venv" / "bin" / "python"

    @property
    def command(self) -> Path:
        """The installed console script."""
        return self.python.with_name("stream-exporter")

    def _only(self, pattern: str) -> Path:
        (only,) = self.folder.glob(pattern)
        return only


def build(folder: Path) -> Distribution:
    """Build sdist and wheel into a folder. Raises ``CalledProcessError``."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT)
    return Distribution(folder)


def install(distribution: Distribution) -> None:
    """Install the locked dependencies, checking their hashes, then the wheel. Raises ``CalledProcessError``."""
    venv.create(distribution.folder / "venv", clear=True, with_pip=False)
    # pip is not part of the product, and takes seconds to install
    pip = (sys.executable, *_PIP, "--python", distribution.python)
    run(*pip, "install", "--require-hashes", "--only-binary=:all:", "--requirement", LOCK)
    run(*pip, "install", "--no-index", "--no-deps", distribution.wheel)
    run(*pip, "check")


def bill_of_materials(distribution: Distribution, *, validate: bool = True) -> str:
    """Return a CycloneDX bill of materials as JSON. Validating it against the schema takes five seconds."""
    about = ("--pyproject", CHECKOUT / "pyproject.toml", "--mc-type", "application")
    style = ("--output-reproducible", "--output-format", "JSON", "--validate" if validate else "--no-validate")
    return run(tool("cyclonedx-py"), "environment", *about, *style, distribution.python)


def licenses(distribution: Distribution) -> list[dict[str, str]]:
    """Return name, version and licence of all installed packages."""
    command = (tool("pip-licenses"), f"--python={distribution.python}", "--from=mixed", "--format=json")
    return [{key.lower(): value for key, value in package.items()} for package in json.loads(run(*command))]


def disallowed_licenses(distribution: Distribution) -> list[str]:
    """Return the packages whose licence is not allowed."""
    return [
        f"{package['name']} {package['version']}: {package['license']}"
        for package in licenses(distribution)
        if not all(part.strip(" ()") in ALLOWED_LICENSES for part in _parts(package["license"]))
        and not (package["name"].lower() in LGPL_PACKAGES and _LGPL.fullmatch(package["license"]))
    ]


def _parts(expression: str) -> list[str]:
    return re.split(" AND | OR |;", expression)


def tool(name: str) -> Path:
    """Return the path of a program in the current environment."""
    return Path(sys.executable).with_name(name)


def run(*command: str | Path) -> str:
    """Run a command outside the checkout, so that it finds only installed packages; return its output."""
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
