"""Time as a dependency, so that tests move it instead of waiting for it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

LONGEST_SLEEP_SECONDS = 5.0
"""Sleeps are split, because the event loop's own timers stand still while the machine is suspended."""
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Instant(NamedTuple):
    """One moment on both clocks."""

    wall: float
    """Unix seconds."""
    steady: float
    """Seconds on the steady clock."""


class Clock:
    """The machine's clocks."""

    def now(self) -> float:
        """Unix time in seconds, which an operator or NTP may set: for timestamps only."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never step and go on while the machine is suspended: for ages, durations and deadlines."""
        return time.clock_gettime(_STEADY)

    def instant(self) -> Instant:
        """Return this moment on both clocks."""
        return Instant(self.now(), self.monotonic())

    def boot_id(self) -> str:
        """Return what identifies the time since the last boot, in which ``monotonic`` counts; empty if unknown."""
        try:
            return _BOOT_ID.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero and negative times."""
        end = self.monotonic() + seconds
        while True:
            left = end - self.monotonic()
            await asyncio.sleep(min(max(0.0, left), LONGEST_SLEEP_SECONDS))
            if left <= LONGEST_SLEEP_SECONDS:
                return
