"""Data that is requested at its own interval; and the clock that tests move."""

import asyncio
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
    # it is requested, and there is no response
    periodic.mark_requested()
    assert (periodic.is_due, periodic.value) == (False, "a")
    clock.advance(122.8)
    assert periodic.value == "a"
    clock.advance(0.1)
    assert periodic.value is None
    periodic.store("b")
    assert periodic.value == "b"


async def test_a_clock_that_stands_still() -> None:
    clock = FakeClock(now=5.0, monotonic=7.0)
    order: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        order.append(name)

    tasks = [asyncio.create_task(sleep(*each)) for each in (("b", 20.0), ("a", 10.0), ("now", 0.0), ("gone", 10.0))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["now"]
    tasks[3].cancel()
    await asyncio.sleep(0)
    clock.advance(10.0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (order, clock.now(), clock.monotonic()) == (["now", "a"], 15.0, 17.0)
    clock.advance(10.0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["now", "a", "b"]
    clock.step(-100.0)
    assert (clock.now(), clock.monotonic()) == (-75.0, 27.0)
    assert clock.slept == [20.0, 10.0, 0.0, 10.0]


async def test_a_clock_that_moves_by_itself() -> None:
    clock = FakeClock(now=5.0, auto_advance=True)
    await clock.sleep(3.0)
    assert clock.now() == 8.0


async def test_the_machines_clock() -> None:
    clock = Clock()
    before = clock.monotonic()
    await clock.sleep(-1.0)
    assert clock.monotonic() >= before
    assert clock.now() == pytest.approx(clock.now(), abs=100.0)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux only")
def test_steady_clock_goes_on_while_the_machine_is_suspended() -> None:
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
