"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from exporter.runtime.clock import Clock


class FakeClock(Clock):
    """Stands still until ``advance`` moves it; what sleeps on it wakes when its time has come.

    With ``auto_advance`` a sleep moves the clock itself and returns at once: for code that is alone on the clock.
    """

    def __init__(self, now: float = 1_726_000_000.0, monotonic: float = 1000.0, *, auto_advance: bool = False) -> None:
        self._now = now
        self._monotonic = monotonic
        self._auto_advance = auto_advance
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.slept: list[float] = []
        """Every wait that was asked for, in seconds."""

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
        elif self._auto_advance:
            self.advance(seconds)
            await asyncio.sleep(0)
        else:
            woken = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
            await woken

    def advance(self, seconds: float) -> None:
        """Move both clocks on; the sleepers wake as soon as the event loop runs."""
        self._now += seconds
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def step(self, seconds: float) -> None:
        """Set the wall clock, as an operator or NTP does; durations do not notice."""
        self._now += seconds
