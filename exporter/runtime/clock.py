"""Time as a dependency, so that tests move it instead of waiting for it."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix time in seconds: for what is shown."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never run backwards: for durations and deadlines."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero and negative times."""
        await asyncio.sleep(max(0.0, seconds))
