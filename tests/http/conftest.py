"""A fake event loop clock, and a short limit for the time without data."""

from __future__ import annotations

import pytest

from tests.http.loop_clock import POLL_SECONDS, LoopTime


@pytest.fixture
async def loop_time(monkeypatch: pytest.MonkeyPatch) -> LoopTime:
    return LoopTime(monkeypatch)


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> float:
    """Maximum seconds without data in a poll of ``POLL_SECONDS``."""
    monkeypatch.setattr("exporter.http.retry.SILENCE_SHARE", 0.1)
    return 0.1 * POLL_SECONDS
