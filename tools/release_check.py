"""What a release needs and a test run does not: ``make release-check``.

Builds sdist and wheel into ``dist/``, installs the wheel with the lock, checks the licences, writes the bill of
materials beside them, lints the Dockerfile, and asks the advisory services about every locked version. The latter needs
the network; where no service answers, that is said, and the check fails: a release is not made in the dark. Every check
is made whatever came of the others, and the last lines say what is in the way.
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
    in_the_way = [*(f"licence: {package}" for package in foreign), *lint(), *audit()]
    print("release-check:", "nothing is in the way" if not in_the_way else "NOT passed")
    for reason in in_the_way:
        print(f"- {reason}")
    return 1 if in_the_way else 0


def lint() -> list[str]:
    """What hadolint finds in the Dockerfile."""
    done = subprocess.run([tool("hadolint"), CHECKOUT / "Dockerfile"], capture_output=True, text=True, check=False)
    print("Dockerfile: " + ("nothing found" if not done.returncode else "see below"))
    return [f"Dockerfile: {line}" for line in (done.stdout + done.stderr).splitlines()]


def audit() -> list[str]:
    """What a service knows against a locked version, or that none answers."""
    for service in SERVICES:
        # strict: a package that the service does not know is no package without vulnerabilities
        options = ("--strict", "--disable-pip", "--require-hashes", "--progress-spinner=off")
        command = [str(tool("pip-audit")), *options, f"--vulnerability-service={service}", f"--requirement={LOCK}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip()
        # It ends with 1 for what it found and for what it could not do; only the first makes a table
        if done.returncode == 0 or done.stdout.strip():
            print(f"advisories ({service}): {said}")
            return [f"advisories ({service}): see above"] if done.returncode else []
        print(f"advisories ({service}): no answer: {(said.splitlines() or ['?'])[-1][:200]}")
    services = ", ".join(SERVICES)
    unknown = f"no advisory service answers here ({services}): known vulnerabilities of the locked versions"
    return [f"{unknown} were not looked for. Run it again where one is reached; all other checks are made."]


if __name__ == "__main__":
    sys.exit(main())
