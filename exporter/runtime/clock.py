"""A clock that is passed as a dependency, so that tests can advance time instead of waiting."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

LONGEST_SLEEP_SECONDS = 5.0
"""Maximum length of one sleep: the event loop's timers do not advance while the machine is suspended."""
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Instant(NamedTuple):
    """A moment on both clocks."""

    wall: float
    """Unix seconds."""
    steady: float
    """Seconds on the steady clock."""


class Clock:
    """The system's clocks."""

    def now(self) -> float:
        """Return Unix time in seconds. It may be set at any time, so use it only for timestamps."""
        return time.time()

    def monotonic(self) -> float:
        """Return the steady clock's seconds, for ages, durations and deadlines. It also counts suspended time."""
        return time.clock_gettime(_STEADY)

    def instant(self) -> Instant:
        """Return this moment on both clocks."""
        return Instant(self.now(), self.monotonic())

    def boot_id(self) -> str:
        """Return the id of the current boot, within which ``monotonic`` is comparable; empty if unknown."""
        try:
            return _BOOT_ID.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    async def sleep(self, seconds: float) -> None:
        """Sleep for a time; zero or less only yields to the event loop."""
        end = self.monotonic() + seconds
        while True:
            left = end - self.monotonic()
            await asyncio.sleep(min(max(0.0, left), LONGEST_SLEEP_SECONDS))
            if left <= LONGEST_SLEEP_SECONDS:
                return
