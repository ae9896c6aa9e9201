"""An event loop clock that tests control."""

from __future__ import annotations

import asyncio

import pytest

POLL_SECONDS = 20.0


class LoopTime:
    """Does not move until it is advanced; then everything due happens immediately."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time()
        monkeypatch.setattr(self._loop, "time", lambda: self._now)

    async def advance(self, seconds: float) -> None:
        """Advance the clock; run everything that is due before and after that."""
        await _settled()
        self._now += seconds
        await _settled()


async def _settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)
