"""Regression tests for faults that the random lifecycles and fuzzed health facts have found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporter.model import Status, StreamState, UpstreamState
from exporter.platforms.heartbeats import HeartbeatTracker
from exporter.platforms.testing import RecordedResponse, polled_upstream
from tests.platforms.recordings import PlatformRecording, recording_of

LIMIT, START = 90.0, 1_726_000_000.0


def alive(tracker: HeartbeatTracker, *values: float, now: float, platform_now: float = START) -> list[bool | None]:
    """Return what each heartbeat reported in one poll proves."""
    found = [tracker.observe("s", value, now=now, platform_now=platform_now).is_alive for value in values]
    tracker.end_poll()
    return found


def test_heartbeat_old_only_by_the_platforms_clock_is_unproven_until_watched() -> None:
    tracker = HeartbeatTracker(LIMIT)
    assert alive(tracker, START - 80, now=0) == [True]
    assert alive(tracker, START - 80, now=15, platform_now=START + 15) == [None]
    assert alive(tracker, START - 80, now=90, platform_now=START + 90) == [None]
    assert alive(tracker, START - 80, now=91, platform_now=START + 91) == [False]


def test_heartbeat_advances_after_the_platforms_clock_was_set_back() -> None:
    tracker = HeartbeatTracker(LIMIT)
    assert alive(tracker, START, now=0) == [True]
    seen = [alive(tracker, START - 3600 + after, now=after) for after in (30.0, 60.0, 90.0, 120.0, 150.0)]
    assert seen == [[True]] * 5


def test_several_heartbeats_in_one_poll_are_not_an_advance() -> None:
    tracker = HeartbeatTracker(LIMIT)
    assert alive(tracker, START - 3600, START - 3000, now=0) == [None, None]
    assert alive(tracker, START - 3000, START - 3600, now=60) == [None, None]
    assert alive(tracker, START - 3600, START - 3000, now=91) == [False, False]


async def polled(recording: PlatformRecording, *responses: dict[str, Any], seconds: float = 45.0) -> UpstreamState:
    """Poll each of these responses in turn and return the last state."""
    served: dict[str, Any] = dict(recording.recording.responses)
    given = replace(recording.recording, responses=served, settings={**recording.recording.settings, "health_grace": 0})
    async with polled_upstream(recording.platform, given) as upstream:
        for changed in responses:
            served.update(changed)
            state = await upstream.poll(after=seconds)
    return state


def by_label(state: UpstreamState) -> dict[str, StreamState]:
    return {stream.identity.stream: stream for stream in state.streams}


@pytest.mark.parametrize("is_live_first", [True, False])
async def test_active_row_wins_in_livepeers_list(is_live_first: bool) -> None:
    recording = recording_of("livepeer")
    row = recording.document("GET /stream").rows(".")[0]
    rows = [{**row, "isActive": is_live_first}, {**row, "isActive": not is_live_first}]
    state = await polled(recording, {"GET /stream": RecordedResponse.of(rows)}, seconds=0.0)
    (stream,) = state.streams
    assert (stream.live, stream.status) == (True, Status.DEGRADED)


async def test_frozen_statistics_give_no_score() -> None:
    recording = recording_of("wave")
    path = "metrics/network/bytesReceived"
    sessions = [f"GET /streaming/sessions/{id_}" for id_ in ("sess_1234_abc123", "sess_5678", "sess_9999")]
    totals = [1e6, 2e6, 3e6, *[3e6] * 6]
    polls = [{name: recording.response(name).with_values({path: total}) for name in sessions} for total in totals]
    streams = (await polled(recording, *polls)).streams
    assert [(stream.live, stream.health_score_ratio) for stream in streams] == [(True, None)] * 3


@pytest.mark.parametrize("loss", [{"percent": 40}, [0.4]])
async def test_packet_loss_of_a_wrong_type_gives_no_score_on_wave(loss: Any) -> None:
    recording = recording_of("wave")
    name = "GET /streaming/sessions/sess_5678"
    changed = recording.response(name).with_values({"metrics/network/packetLoss": loss})
    streams = by_label(await polled(recording, {name: changed}))
    assert (streams["sess_5678"].live, streams["sess_5678"].health_score_ratio) == (True, None)
    assert streams["sess_9999"].health_score_ratio == 1.0
