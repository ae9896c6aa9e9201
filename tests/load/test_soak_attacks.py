"""Random attacks and faults: an hour in ``make soak PART=attacks``, and a minute in ``make test``."""

from __future__ import annotations

import base64
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest
import yaml

from tests.attacks.attack_run import MEMORY_MIB
from tests.attacks.random_attacks import HostilePlatform, RandomAttacks
from tests.load.soak_run import RandomFaults, Soak, running_soak, unwanted_lines
from tests.real.child_process import wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "3600"))
STREAMS = int(os.environ.get("SOAK_STREAMS", "5000"))
SEED = int(os.environ.get("SOAK_SEED", "0"))
ATTACK_SECONDS = 10.0
WARM_UP_SECONDS = min(1200.0, SECONDS / 3)
"""Longer than the 15 minutes of history on the page and of resolved alerts."""
QUIET_SECONDS = min(300.0, SECONDS / 6)
"""Time without attacks and faults after the warm-up and at the end, where memory is compared."""
LEAST_SHARE = 0.9
"""Minimum share of the polls while an upstream is up."""
USER, PASSWORD = "prometheus", "right-password"


@contextmanager
def attacked_exporter(
    streams: int, folder: Path, *, attack_seconds: float, interval: float
) -> Iterator[tuple[Soak, RandomFaults, RandomAttacks]]:
    """Run an exporter with the manifests' memory limit, users, and a hostile upstream."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(8)).decode()
    (folder / "web.yaml").write_text(yaml.safe_dump({"basic_auth_users": {USER: hashed}}))
    headers = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    arguments = ["--web.config.file=web.yaml", "--web.health-without-auth", "--web.enable-lifecycle"]
    with HostilePlatform().running() as hostile:
        upstream = {"name": "hostile", "platform": "node_media_server", "url": hostile.url, "interval": "5s"}
        with running_soak(
            streams, folder, SEED, interval=interval, upstreams=[upstream], arguments=arguments, headers=headers
        ) as (soak, faults):
            process = soak.watch.process
            resource.prlimit(process.process.pid, resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
            yield (
                soak,
                faults,
                RandomAttacks(
                    process,
                    folder / "config.yaml",
                    hostile,
                    headers=headers,
                    upstream="edge",
                    seconds=attack_seconds,
                    seed=SEED,
                ),
            )


def end(soak: Soak, faults: RandomFaults, attacks: RandomAttacks) -> None:
    """Stop the exporter and check the observations."""
    faults.clear()
    wait_until(soak.is_up, "all upstreams have recovered", 300)
    print("at the end:", soak.figures(), f"faults {faults.injected}, attacks {attacks.made}", flush=True)
    soak.watch.process.send(signal.SIGTERM)
    assert soak.watch.process.ended() == 0
    assert unwanted_lines(soak.watch.process.said) == []
    soak.assert_no_poll_was_lost(LEAST_SHARE)


@pytest.mark.soak
def test_hour_of_attacks_and_faults_loses_no_poll_and_leaks_no_memory(tmp_path: Path) -> None:
    with attacked_exporter(STREAMS, tmp_path, attack_seconds=ATTACK_SECONDS, interval=15.0) as (soak, faults, attacks):
        began = reported = time.monotonic()
        is_warm = False
        while (passed := time.monotonic() - began) < SECONDS:
            is_quiet = 0 <= passed - WARM_UP_SECONDS < QUIET_SECONDS or passed > SECONDS - QUIET_SECONDS
            if not is_quiet:
                faults.inject()
                attacks.attack()
            else:
                faults.clear()
                time.sleep(ATTACK_SECONDS)
            soak.take_sample()
            # memory used by attacks is released within a minute or two
            if not is_warm and passed >= WARM_UP_SECONDS + QUIET_SECONDS / 2:
                soak.discard_warm_up()
                is_warm = True
            if time.monotonic() >= reported + 60.0:
                reported = time.monotonic()
                print(soak.figures(), f"attacks {sum(attacks.made.values())}", flush=True)
        end(soak, faults, attacks)
    soak.assert_flat()


def test_minute_of_attacks_and_faults_loses_no_poll(tmp_path: Path) -> None:
    with attacked_exporter(300, tmp_path, attack_seconds=2.0, interval=2.0) as (soak, faults, attacks):
        while not all(attacks.made.values()):
            faults.inject()
            attacks.attack()
            soak.take_sample()
        end(soak, faults, attacks)
