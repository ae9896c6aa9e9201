"""The event loop's clock in a test's hands."""

from __future__ import annotations

import asyncio

import pytest

POLL_SECONDS = 20.0


class LoopTime:
    """Stands still until it is moved: what is due then happens at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time()
        monkeypatch.setattr(self._loop, "time", lambda: self._now)

    async def advance(self, seconds: float) -> None:
        """Move it on, and let everything happen that is due before, and then."""
        await _settled()
        self._now += seconds
        await _settled()


async def _settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)
