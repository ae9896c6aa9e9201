"""Checks before a release: ``make release-check``.

Build sdist and wheel into ``dist/``, install the wheel with the locked dependencies, check the licences, write the bill
of materials, lint the Dockerfile, and look up known vulnerabilities of all locked versions. The lookup needs network
access; the check fails if no advisory service can be reached. All checks run even if one fails, and the last lines of
the output list the problems.
"""

from __future__ import annotations

import subprocess
import sys

from tools.distribution import CHECKOUT, LOCK, bill_of_materials, build, disallowed_licenses, install, tool

DIST = CHECKOUT / "dist"
SERVICES = ("pypi", "osv")


def main() -> int:
    """Run all checks; return 1 if there is a problem."""
    for old in DIST.glob("stream_exporter-*"):
        old.unlink()
    distribution = build(DIST)
    install(distribution)
    print(f"installed with hashes only: {distribution.wheel.name}")
    materials = DIST / f"{distribution.wheel.stem.split('-py3')[0]}.cdx.json"
    materials.write_text(bill_of_materials(distribution))
    print(f"bill of materials: {materials.relative_to(CHECKOUT)}")
    disallowed = disallowed_licenses(distribution)
    print("licences: " + ("all allowed" if not disallowed else f"not allowed: {'; '.join(disallowed)}"))
    problems = [*(f"licence: {package}" for package in disallowed), *lint(), *audit()]
    print("release-check:", "passed" if not problems else "FAILED")
    for problem in problems:
        print(f"- {problem}")
    return 1 if problems else 0


def lint() -> list[str]:
    """Return hadolint's findings in the Dockerfile."""
    done = subprocess.run([tool("hadolint"), CHECKOUT / "Dockerfile"], capture_output=True, text=True, check=False)
    print("Dockerfile: " + ("ok" if not done.returncode else "problems, see below"))
    return [f"Dockerfile: {line}" for line in (done.stdout + done.stderr).splitlines()]


def audit() -> list[str]:
    """Return known vulnerabilities of locked versions, or that no advisory service could be reached."""
    for service in SERVICES:
        # --strict: fail for a package that the service does not know.
        options = ("--strict", "--disable-pip", "--require-hashes", "--progress-spinner=off")
        command = [str(tool("pip-audit")), *options, f"--vulnerability-service={service}", f"--requirement={LOCK}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        report = (done.stdout + done.stderr).strip()
        # The exit code is 1 for vulnerabilities and for errors; only vulnerabilities print a table.
        if done.returncode == 0 or done.stdout.strip():
            print(f"advisories ({service}): {report}")
            return [f"advisories ({service}): see above"] if done.returncode else []
        print(f"advisories ({service}): no response: {(report.splitlines() or ['?'])[-1][:200]}")
    services = ", ".join(SERVICES)
    return [f"advisories: known vulnerabilities were not checked, because no service can be reached ({services})"]


if __name__ == "__main__":
    sys.exit(main())
