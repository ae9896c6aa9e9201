"""A pause that the platform asked for, seen from the polls of an upstream."""

import pytest

from exporter.model import Reason
from exporter.platforms.registry import platforms
from exporter.platforms.testing import RecordedResponse, Recording, polled_upstream

REFUSED = RecordedResponse(b"{}", 429, headers={"Retry-After": "20"})
EMPTY = RecordedResponse(b"[]")


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_poll_after_a_pause_is_on_time_although_the_wall_clock_was_set(step: float) -> None:
    recording = Recording({"GET /stream": [REFUSED, EMPTY]}, {"interval": "15s", "timeout": "10s"})
    async with polled_upstream(platforms()["livepeer"], recording) as upstream:
        state = await upstream.poll()
        assert (state.up, state.last_error_reason) == (False, Reason.RATE_LIMITED)
        upstream.clock.step(step)
        state = await upstream.poll(after=10.0)
        assert "not sent, the platform asked for a pause of 10 s more" in state.last_error
        state = await upstream.poll(after=10.0)
        assert state.up
        assert state.next_poll_at is not None
        assert state.next_poll_at - upstream.clock.now() <= 60.0
        assert state.poll_interval_seconds == 15.0
