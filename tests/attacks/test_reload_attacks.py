"""Reloads and the configuration page under attack."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.attacks.attack_run import AttackRun
from tests.real.child_process import wait_until

pytestmark = pytest.mark.no_cover

SIGNALS = 1883


def test_thousands_of_signals_are_one_running_reload_and_one_pending(tmp_path: Path) -> None:
    with AttackRun("sighup", tmp_path) as run:
        with run.under_attack(10.0):
            began = time.monotonic()
            for number in range(SIGNALS):
                run.exporter.send(signal.SIGHUP)
                time.sleep(max(0.0, began + number * 10.0 / SIGNALS - time.monotonic()))
        run.write_config(retired=["last"])
        run.exporter.send(signal.SIGHUP)
        wait_until(lambda: "retired" in run.exporter.ask("/config")[1], "the last configuration is in force")
