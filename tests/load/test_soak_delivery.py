"""Every alert reaches every Alertmanager, and no notification is sent without a change: ``make soak PART=delivery``."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.load.delivery_run import CHAOS_SECONDS, QUIET_SECONDS, delivery_run

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
STREAMS = int(os.environ.get("SOAK_STREAMS", "5000"))
SEED = int(os.environ.get("SOAK_SEED", "0"))
SHORT_SCALE, SHORT_STREAMS = 20.0, 200


async def run_with_one_sidecar(directory: Path, *, seconds: float, streams: int, time_scale: float) -> None:
    """After each quiet minute, every Alertmanager must have the same alerts as the sidecar."""
    async with delivery_run(
        directory, streams=streams, time_scale=time_scale, seed=SEED, resolve="send", replicas=1
    ) as run:
        began = time.monotonic()
        while time.monotonic() < began + (seconds - CHAOS_SECONDS - QUIET_SECONDS) / time_scale:
            await run.cycle()
            await run.assert_views_are_equal()
            print(
                f"{time.monotonic() - began:.0f} s: {len(run.replicas[0].firing())} firing, "
                f"{sum(run.episodes.values())} episodes of {len(run.episodes)} alerts, faults {dict(run.faults)}",
                flush=True,
            )
        assert sum(run.episodes.values()) >= streams / 2
        dropped = [run.replicas[0].count("dropped", proxy.url) for _, proxy in run.cluster]
        assert dropped == [0, 0, 0]


async def run_with_two_sidecars(directory: Path, *, seconds: float, streams: int, time_scale: float) -> None:
    """The sidecars see changes at different times or miss them; no notification may be sent without a change."""
    async with delivery_run(
        directory, streams=streams, time_scale=time_scale, seed=SEED, resolve="lapse", replicas=2
    ) as run:
        began = time.monotonic()
        while time.monotonic() < began + seconds / time_scale:
            await run.cycle()
            told = sum(map(len, run.receiver.told.values()))
            print(
                f"{time.monotonic() - began:.0f} s: {told} notifications, {sum(run.episodes.values())} episodes of "
                f"{len(run.episodes)} alerts, faults {dict(run.faults)}",
                flush=True,
            )
        await run.end()
        await run.assert_views_are_equal()
        run.assert_notifications_are_of_real_changes()


@pytest.mark.soak
async def test_delivery_with_one_sidecar_for_half_an_hour(tmp_path: Path) -> None:
    await run_with_one_sidecar(tmp_path, seconds=SECONDS, streams=STREAMS, time_scale=1.0)


@pytest.mark.soak
async def test_delivery_with_two_sidecars_for_half_an_hour(tmp_path: Path) -> None:
    await run_with_two_sidecars(tmp_path, seconds=SECONDS, streams=STREAMS, time_scale=1.0)


@pytest.mark.real
async def test_every_alertmanager_has_the_sidecars_alerts_after_faults(tmp_path: Path) -> None:
    await run_with_one_sidecar(tmp_path, seconds=700.0, streams=SHORT_STREAMS, time_scale=SHORT_SCALE)


@pytest.mark.real
async def test_sidecars_that_disagree_cause_one_notification_per_change(tmp_path: Path) -> None:
    await run_with_two_sidecars(tmp_path, seconds=450.0, streams=SHORT_STREAMS, time_scale=SHORT_SCALE)
