"""promtool and amtool over the files in ``alerts/``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.real.tools import tool

ALERTS = Path(__file__).parents[2] / "alerts"
GENEROUS_SECONDS = 600.0


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of Prometheus' or Alertmanager's."""
    return subprocess.run(
        [tool(program), *arguments], capture_output=True, text=True, check=False, timeout=GENEROUS_SECONDS
    )


def assert_tests_pass(file: Path) -> None:
    """``promtool test rules`` has nothing to say but that all is well."""
    done = run("promtool", "test", "rules", file)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.split() == ["Unit", "Testing:", str(file), "SUCCESS"]
