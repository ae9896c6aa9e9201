"""The event loop's clock, and a silence that is over long before the poll."""

from __future__ import annotations

import pytest

from tests.http.loop_clock import POLL_SECONDS, LoopTime


@pytest.fixture
async def loop_time(monkeypatch: pytest.MonkeyPatch) -> LoopTime:
    return LoopTime(monkeypatch)


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that a platform may be silent in a poll of ``POLL_SECONDS``."""
    monkeypatch.setattr("exporter.http.retry.SILENCE_SHARE", 0.1)
    return 0.1 * POLL_SECONDS
