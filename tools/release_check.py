"""What a release needs and a test run does not: ``make release-check``.

Builds sdist and wheel into ``dist/``, installs the wheel with the lock, checks the licences, writes the bill of
materials beside them, and asks the advisory services about every locked version. The latter needs the network; where no
service answers, that is said, and the check fails: a release is not made in the dark.
"""

from __future__ import annotations

import subprocess
import sys

from tools.distribution import CHECKOUT, LOCK, bill_of_materials, build, foreign_licenses, install, tool

DIST = CHECKOUT / "dist"
SERVICES = ("pypi", "osv")


def main() -> int:
    """1 when something is in the way of a release."""
    for old in DIST.glob("stream_exporter-*"):
        old.unlink()
    distribution = build(DIST)
    install(distribution)
    print(f"installs from hashes alone: {distribution.wheel.name}")
    materials = DIST / f"{distribution.wheel.stem.split('-py3')[0]}.cdx.json"
    materials.write_text(bill_of_materials(distribution))
    print(f"bill of materials: {materials.relative_to(CHECKOUT)}")
    foreign = foreign_licenses(distribution)
    print("licences: " + ("all allowed" if not foreign else f"not allowed: {'; '.join(foreign)}"))
    audited = audit()
    return 0 if audited and not foreign else 1


def audit() -> bool:
    """Whether a service answers, and knows of nothing against a locked version."""
    for service in SERVICES:
        # strict: a package that the service does not know is no package without vulnerabilities
        options = ("--strict", "--disable-pip", "--require-hashes", "--progress-spinner=off")
        command = [str(tool("pip-audit")), *options, f"--vulnerability-service={service}", f"--requirement={LOCK}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip()
        # It ends with 1 for what it found and for what it could not do; only the first makes a table
        if done.returncode == 0 or done.stdout.strip():
            print(f"advisories ({service}): {said}")
            return done.returncode == 0
        print(f"advisories ({service}): no answer: {(said.splitlines() or ['?'])[-1]}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
