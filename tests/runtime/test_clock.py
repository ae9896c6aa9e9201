"""The exporter's clock."""

import time
from pathlib import Path

import pytest

from exporter.runtime.clock import Clock


async def test_clock_is_monotonic_and_accepts_negative_sleeps() -> None:
    clock = Clock()
    before = clock.monotonic()
    await clock.sleep(-1.0)
    assert clock.monotonic() >= before
    assert clock.now() == pytest.approx(clock.now(), abs=100.0)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux only")
def test_steady_clock_continues_while_the_machine_is_suspended() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= Clock().monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_sleeping_clock_notices_a_suspend_within_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    class SuspendedClock(Clock):
        now_ = 100.0

        def monotonic(self) -> float:
            return self.now_

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now_ += 3600.0 if len(slept) == suspended_in else seconds

    clock, slept, suspended_in = SuspendedClock(), list[float](), 0
    monkeypatch.setattr("exporter.runtime.clock.asyncio.sleep", sleep)
    await clock.sleep(12.0)
    assert slept == [5.0, 5.0, 2.0]
    slept, suspended_in = [], 2
    await clock.sleep(600.0)
    assert slept == [5.0, 5.0, 0.0]


def test_boot_id_is_empty_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("exporter.runtime.clock._BOOT_ID", tmp_path / "boot_id")
    assert Clock().boot_id() == ""
    (tmp_path / "boot_id").write_bytes(b"\xff")
    assert Clock().boot_id() == ""
    (tmp_path / "boot_id").write_text("c0ffee\n")
    assert Clock().boot_id() == "c0ffee"
