"""The long run: ``make soak``.

SOAK_SECONDS, SOAK_STREAMS and SOAK_SEED set its length, fleet and seed; SOAK_FAULTS=1 adds random faults.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.load.soak_run import SAMPLE_SECONDS, running_soak, unwanted_lines
from tests.real.child_process import wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
STREAMS = int(os.environ.get("SOAK_STREAMS", "2000"))
SEED = int(os.environ.get("SOAK_SEED", "0"))
WITH_FAULTS = os.environ.get("SOAK_FAULTS") == "1"

WARM_UP_SECONDS = min(600.0 if WITH_FAULTS else 60.0, SECONDS / 6)
"""With faults, until each has occurred, because memory for its first occurrence is not a leak."""
QUIET_SECONDS = min(120.0, SECONDS / 6)
"""Time without faults at the end."""
REPORT_INTERVAL_SECONDS = 60.0


@pytest.mark.soak
def test_memory_descriptors_and_tasks_do_not_grow_and_no_poll_is_lost(tmp_path: Path) -> None:
    with running_soak(STREAMS, tmp_path, SEED) as (soak, faults):
        print(f"{STREAMS} streams for {SECONDS:.0f} s, random faults: {WITH_FAULTS}", flush=True)
        began = reported = time.monotonic()
        is_warm = False
        while (passed := time.monotonic() - began) < SECONDS:
            if WITH_FAULTS and passed < SECONDS - QUIET_SECONDS:
                faults.inject()
            elif WITH_FAULTS:
                faults.clear()
            time.sleep(SAMPLE_SECONDS)
            soak.take_sample()
            if not is_warm and passed >= WARM_UP_SECONDS:
                print("warm-up done:", soak.figures(), flush=True)
                soak.discard_warm_up()
                is_warm = True
            if time.monotonic() >= reported + REPORT_INTERVAL_SECONDS:
                reported = time.monotonic()
                print(soak.figures(), f"faults {sum(faults.injected.values())}", flush=True)
        faults.clear()
        wait_until(soak.is_up, "all upstreams have recovered", 300)
        print("at the end:", soak.figures(), f"faults {faults.injected}", flush=True)
        soak.watch.process.send(signal.SIGTERM)
        assert soak.watch.process.ended() == 0
        said = soak.watch.process.said
    unwanted = unwanted_lines(said)
    print(f"{len(said.splitlines())} lines in the log, {len(unwanted)} unwanted", *unwanted[:20], sep="\n", flush=True)
    assert not unwanted
    soak.assert_no_poll_was_lost(0.9 if WITH_FAULTS else 0.98)
    soak.assert_flat()
