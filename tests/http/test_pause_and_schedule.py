"""Pauses that a platform asks for, and short faults, in the polls of an upstream."""

import pytest

from exporter.model import Reason
from exporter.platforms.registry import platforms
from exporter.platforms.testing import RecordedResponse, Recording, polled_upstream

REFUSED = RecordedResponse(b"{}", 429, headers={"Retry-After": "20"})
EMPTY = RecordedResponse(b"[]")
UP = 'stream_upstream_up{platform="livepeer",upstream="test"}'
FAILURES = 'stream_upstream_poll_failures_total{platform="livepeer",reason="server_error",upstream="test"}'


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_poll_after_a_pause_is_on_time_although_the_wall_clock_was_set(step: float) -> None:
    recording = Recording({"GET /stream": [REFUSED, EMPTY]}, {"interval": "15s", "timeout": "10s"})
    async with polled_upstream(platforms()["livepeer"], recording) as upstream:
        state = await upstream.poll()
        assert (state.up, state.last_error_reason) == (False, Reason.RATE_LIMITED)
        upstream.clock.step(step)
        state = await upstream.poll(after=10.0)
        assert "not sent, the platform asked for a pause (10 s left)" in state.last_error
        state = await upstream.poll(after=10.0)
        assert state.up
        assert state.next_poll_at is not None
        assert state.next_poll_at - upstream.clock.now() <= 60.0
        assert state.poll_interval_seconds == 15.0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_single_server_error_does_not_fail_the_poll(status: int) -> None:
    recording = Recording({"GET /stream": [EMPTY, RecordedResponse(b"", status), EMPTY]}, {"interval": "15s"})
    async with polled_upstream(platforms()["livepeer"], recording) as upstream:
        for _ in range(2):
            await upstream.poll(after=15.0)
            assert f"{UP} 1\n" in upstream.text()
        assert f"{FAILURES} 0.0\n" in upstream.text()


async def test_500_for_every_attempt_fails_the_poll() -> None:
    recording = Recording({"GET /stream": RecordedResponse(b"", 500)}, {"interval": "15s"})
    async with polled_upstream(platforms()["livepeer"], recording) as upstream:
        await upstream.poll()
        assert f"{UP} 0\n" in upstream.text()
        assert f"{FAILURES} 1.0\n" in upstream.text()
