"""The long run: ``make soak``. SOAK_SECONDS and SOAK_STREAMS change its length and its fleet."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.load.watching import watched_demo

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
STREAMS = int(os.environ.get("SOAK_STREAMS", "2000"))
WARM_UP_SECONDS = 60.0


@pytest.mark.soak
def test_memory_is_flat_and_no_poll_is_lost(tmp_path: Path) -> None:
    with watched_demo(STREAMS, tmp_path) as watch:
        began = time.monotonic()
        while time.monotonic() < began + WARM_UP_SECONDS:
            before = watch.scrape()
            time.sleep(5)
        watch.memory.clear()
        watch.scrapes.clear()
        started = time.monotonic()
        while time.monotonic() < began + SECONDS:
            after = watch.scrape()
            time.sleep(5)
        passed = time.monotonic() - started
    for upstream, polls in after["stream_upstream_polls_total"].items():
        made = polls - before["stream_upstream_polls_total"][upstream]
        print(f"{upstream}: {made:.0f} polls in {passed:.0f} s, {passed / 5:.0f} were due")
        assert made >= 0.98 * passed / 5
    print(watch.figures())
    first, last = watch.memory[0][1], watch.memory[-1][1]
    assert last <= 1.05 * first
    assert sum(after["stream_upstream_poll_failures_total"].values()) == 0
