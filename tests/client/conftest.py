"""The event loop's clock in a test's hands, and a silence that is over long before the poll."""

from __future__ import annotations

import asyncio

import pytest

LONG = 20.0


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


@pytest.fixture
async def loop_time(monkeypatch: pytest.MonkeyPatch) -> LoopTime:
    return LoopTime(monkeypatch)


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that a platform may be silent, in a poll of twenty seconds."""
    monkeypatch.setattr("exporter.upstreams.client.SILENCE_SHARE", 0.1)
    return 0.1 * LONG
