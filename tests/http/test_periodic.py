"""Data that is requested at its own interval, and the clock."""

import time
from pathlib import Path

import pytest

from exporter.platforms.cached_fetch import CachedFetch
from exporter.runtime.clock import Clock
from tests.fake_clock import FakeClock


def test_cached_fetch_is_due_after_its_interval_and_stale_after_three() -> None:
    clock = FakeClock()
    periodic: CachedFetch[str] = CachedFetch(60.0, clock)
    assert (periodic.is_due, periodic.value, periodic.requested_at) == (True, None, None)
    periodic.mark_requested()
    assert (periodic.is_due, periodic.requested_at) == (False, clock.monotonic())
    periodic.store("a")
    clock.advance(56.9)
    assert (periodic.is_due, periodic.value) == (False, "a")
    clock.advance(0.2)
    assert periodic.is_due
    # requested, but without a response
    periodic.mark_requested()
    assert (periodic.is_due, periodic.value) == (False, "a")
    clock.advance(122.8)
    assert periodic.value == "a"
    clock.advance(0.1)
    assert periodic.value is None
    periodic.store("b")
    assert periodic.value == "b"


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
