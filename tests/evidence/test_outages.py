"""An outage changes only the upstream's own series until facts are withdrawn; a stepped clock changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pytest
import structlog.testing

from exporter.platforms.testing import START, PolledUpstream, RecordedResponse, Recording, polled_upstream
from tests.evidence.evidence_harness import (
    LIVEPEER,
    LIVEPEER_KEY,
    PLATFORMS,
    STORM,
    EvidenceHarness,
    Served,
    evidence_harness,
    json_of,
    livepeer,
    livepeer_stream,
    storm,
    storm_stream,
)
from tests.platforms.recordings import MAIN, PlatformRecording, all_recordings

T = TypeVar("T")
FAILURES: dict[str, RecordedResponse] = {
    "key expired": RecordedResponse(b'{"error": "unauthorized"}', 401),
    "forbidden": RecordedResponse(b'{"error": "forbidden"}', 403),
    "server error": RecordedResponse(b"", 503),
    "another server": RecordedResponse(b"<html>It works!</html>", 200, "text/html"),
    "not found": RecordedResponse(b"<html>404</html>", 404, "text/html"),
}


def failing(responses: Mapping[str, Any], failure: RecordedResponse) -> dict[str, Any]:
    """Return the responses of a server that fails every request."""
    return dict.fromkeys(responses, failure)


def harness_of(recording: PlatformRecording, **settings: Any) -> Any:
    given = {**recording.recording.settings, "interval": "15s", **settings}
    return evidence_harness(
        recording.platform.name,
        dict(recording.recording.responses),
        at=recording.recording.recorded_at,
        **given,
    )


WITHDRAWN_FAMILIES = {
    "stream_info",
    "stream_status",
    "stream_status_last_change_timestamp_seconds",
    "stream_expected",
}
"""Families of a stream whose facts were withdrawn."""
NO_FACTS = dict.fromkeys(("name", "application", "protocol", "session", "kind", "resolution", "playback_id"), "")

# -- what was served stays, and is withdrawn ---------------------------------------------------------------------------


def with_recordings(values: Iterable[T]) -> list[tuple[PlatformRecording, T]]:
    """Return every value with each platform's main recording, and one of them in turn with each further one."""
    values = list(values)
    return [
        (recording, value)
        for number, recording in enumerate(all_recordings())
        for value in (values if recording.name == MAIN else [values[number % len(values)]])
    ]


@pytest.mark.parametrize(("recording", "failure"), with_recordings(FAILURES), ids=str)
async def test_failed_polls_change_no_stream_series_until_withdrawn(recording: PlatformRecording, failure: str) -> None:
    async with harness_of(recording, stale_after="2m") as harness:
        before = await harness.poll()
        stale_at = harness.clock.monotonic() + 120
        assert before.live_streams()
        pages = harness.pages()
        good = dict(harness.responses)
        harness.responses.update(failing(good, FAILURES[failure]))
        # a poll with retries takes up to 12 s
        while harness.clock.monotonic() < stale_at - 15 - 12:
            served = await harness.poll()
            assert served.upstream("up") == 0
            assert served.of_streams() == before.of_streams()
        served = await harness.poll(after=30.0)
        assert served.streams() == before.streams()
        for stream in served.streams():
            assert served.status(stream) == "unknown"
            assert {family for family, _ in served.of_stream(stream)} <= WITHDRAWN_FAMILIES
            if served.value("stream_info", stream) is not None:
                assert served.value("stream_info", stream, **NO_FACTS) == 1
        assert served.upstream("answering") == 0
        assert harness.pages() == pages
        harness.responses.update(good)
        # long enough for the wait after a refused login
        served = await harness.poll(after=600.0)
        assert served.upstream("up") == 1
        assert served.streams() == before.streams()


SCORES: dict[str, Any] = {"interval": "15s", "stale_after": "10m"}


async def test_outage_does_not_lower_scores() -> None:
    ids = [f"s{index}" for index in range(20)]
    async with evidence_harness(LIVEPEER, {}, **SCORES, **LIVEPEER_KEY) as harness:

        async def poll_live(times: int) -> Served:
            def serve() -> None:
                total = int(1_000_000 + 300_000 * (harness.clock.now() - START))
                rows = [livepeer_stream(id_, seen=harness.clock.now() - 20, sourceBytes=total) for id_ in ids]
                harness.responses.update(livepeer(*rows))

            return await harness.poll(times, change=serve)

        before = await poll_live(12)
        assert {before.score(id_) for id_ in ids} == {1.0}
        harness.responses.update(failing(harness.responses, FAILURES["server error"]))
        until = harness.clock.monotonic() + 560.0
        while harness.clock.monotonic() < until:
            served = await harness.poll()
            assert served.of_streams() == before.of_streams()
        assert harness.pages() == set()
        served = await harness.poll(4)
        assert {served.status(id_) for id_ in ids} == {"unknown"}
        assert harness.pages() == set()
        served = await poll_live(8)
        assert served.live_streams() == set(ids)
        assert harness.pages() == set()


async def test_time_of_last_change_is_absent_until_a_change_is_seen() -> None:
    changed_at = "stream_status_last_change_timestamp_seconds"
    async with evidence_harness(STORM, storm(storm_stream()), interval="15s", stale_after="60s") as harness:
        assert (await harness.poll(3)).value(changed_at, "a/k") is None
        harness.responses.update(storm(storm_stream(state="UNPUBLISHED")))
        served = await harness.poll()
        ended_at = harness.clock.now()
        assert served.value(changed_at, "a/k") == ended_at
        assert (await harness.poll(2)).value(changed_at, "a/k") == ended_at


@pytest.mark.parametrize("recording", all_recordings(), ids=str)
async def test_answering_and_list_complete_are_exported(recording: PlatformRecording) -> None:
    async with harness_of(recording) as harness:
        served = await harness.poll(2)
        assert served.upstream("answering") == 1
        has_list = recording.platform.name != "wave"
        assert served.upstream("list_complete") in ((0, 1) if has_list else (None,))


@pytest.mark.parametrize("polls", [1, 2, 3])
async def test_upstream_is_answering_for_two_failed_polls(polls: int) -> None:
    async with evidence_harness(STORM, storm(storm_stream()), interval="15s") as harness:
        await harness.poll()
        harness.responses.update(failing(harness.responses, FAILURES["server error"]))
        served = await harness.poll(polls)
        assert served.upstream("answering") == (1 if polls < 3 else 0), "2.5 intervals"


# -- the clock is set --------------------------------------------------------------------------------------------------

STEPS = [-3600.0, -86_400.0, 3600.0, 86_400.0]


@pytest.mark.parametrize(("recording", "step"), with_recordings(STEPS), ids=str)
async def test_clock_step_does_not_change_when_facts_are_withdrawn(recording: PlatformRecording, step: float) -> None:
    async with harness_of(recording, stale_after="60s") as harness:
        before, pages = await harness.poll(), harness.pages()
        harness.responses.update(failing(harness.responses, FAILURES["server error"]))
        harness.clock.step(step)
        served = await harness.poll(2)
        assert served.of_streams() == before.of_streams(), "nothing disappears at once"
        served = await harness.poll(4)
        assert served.streams() == before.streams()
        assert {served.status(stream) for stream in served.streams()} == {"unknown"}, "dead data is withdrawn"
        assert harness.pages() == pages


@pytest.mark.parametrize("step", STEPS)
async def test_clock_step_changes_nothing_on_a_healthy_upstream(step: float) -> None:
    async with evidence_harness(LIVEPEER, {}, interval="15s", **LIVEPEER_KEY) as harness:
        platform_time = START

        def serve() -> None:
            nonlocal platform_time
            platform_time += 15
            total = int(1_000_000 + 300_000 * (platform_time - START))
            rows = [livepeer_stream(id_, seen=platform_time, sourceBytes=total) for id_ in ("s1", "s2")]
            date = {"Date": "Tue, 10 Sep 2024 20:26:40 GMT"}
            harness.responses |= {
                "GET /stream": RecordedResponse(json_of(rows).body, headers=date),
                "GET /data/views/now": json_of([]),
            }

        await harness.poll(8, change=serve)
        harness.clock.step(step)
        for _ in range(8):
            served = await harness.poll(change=serve)
            assert served.live_streams() == {"s1", "s2"}
            assert [served.score("s1"), served.value("stream_restarts_total", "s1")] == [1.0, 0.0]
        assert harness.alerts == set()


class TimedResponses(dict[str, Any]):
    """Responses that record the time of requests and call ``then`` at the first one."""

    def __init__(self, responses: Mapping[str, Any], then: Any) -> None:
        super().__init__(responses)
        self.then = then
        self.at: list[float] = []
        self.clock: Any = None

    def get(self, request: str, default: Any = None) -> Any:
        self.at.append(self.clock.monotonic())
        if len(self.at) == 1:
            self.then(self)
        return super().get(request, default)


async def run_until(upstream: PolledUpstream, responses: TimedResponses, requests: int) -> None:
    """Poll on schedule until this many requests were received; the clock advances by itself."""
    task = asyncio.create_task(upstream._coordinator.run())
    async with asyncio.timeout(30):
        while len(responses.at) < requests:  # noqa: ASYNC110 - the server records the requests
            await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_limited", [True, False])
async def test_clock_step_does_not_stop_polls(step: float, *, is_limited: bool) -> None:
    good = storm(storm_stream())
    limited = RecordedResponse(b'{"message": "slow down"}', 429, headers={"Retry-After": "20"})

    def set_clock(responses: TimedResponses) -> None:
        responses.clock.step(step)

    first = limited if is_limited else good["GET /api/streams"]
    responses = TimedResponses({"GET /api/streams": [first, good["GET /api/streams"]]}, set_clock)
    recording = Recording(responses, {"interval": "15s"})
    async with polled_upstream(PLATFORMS[STORM], recording) as upstream:
        responses.clock = upstream.clock
        await run_until(upstream, responses, 5)
    pauses = [later - earlier for earlier, later in zip(responses.at, responses.at[1:], strict=False)]
    assert (20 if is_limited else 0) <= pauses[0] <= 30
    assert max(pauses[1:]) <= 20


# -- what is logged ----------------------------------------------------------------------------------------------------


def events(logs: list[Any]) -> list[str]:
    return [entry["event"] for entry in logs if entry["log_level"] != "debug"]


async def flap(harness: EvidenceHarness, seconds: float) -> None:
    """Fail every other poll for some time."""
    good = dict(harness.responses)
    until = harness.clock.monotonic() + seconds
    while harness.clock.monotonic() < until:
        harness.responses.update(failing(good, FAILURES["server error"]))
        await harness.poll()
        harness.responses.update(good)
        await harness.poll()


async def test_flapping_upstream_is_logged_once_in_ten_minutes() -> None:
    async with evidence_harness(STORM, storm(storm_stream()), interval="15s") as harness:
        await harness.poll()
        with structlog.testing.capture_logs() as logs:
            await flap(harness, 590.0)
        assert events(logs).count("upstream is failing") == 1
        assert len(events(logs)) <= 2
        with structlog.testing.capture_logs() as logs:
            await flap(harness, 1800.0)
        assert 2 <= events(logs).count("upstream is failing") <= 4
        assert len(events(logs)) <= 8


async def test_first_success_of_an_upstream_is_logged_once() -> None:
    rows = [storm_stream(f"k{index}", state="PUBLISHED" if index else "UNPUBLISHED") for index in range(20)]
    with structlog.testing.capture_logs() as logs:
        async with evidence_harness(STORM, storm(*rows), interval="15s") as harness:
            await harness.poll(4)
            good = dict(harness.responses)
            harness.responses.update(failing(good, FAILURES["server error"]))
            await harness.poll(2)
            harness.responses.update(good)
            await harness.poll(2)
    (first,) = [entry for entry in logs if entry["event"] == "upstream is up"]
    assert (first["streams"], first["live"], first["upstream"]) == (20, 19, "test")
    assert events(logs) == ["upstream is up", "upstream is failing", "upstream is back"]


async def test_first_success_after_failures_is_logged_as_up() -> None:
    async with evidence_harness(STORM, failing(storm(), FAILURES["server error"]), interval="15s") as harness:
        with structlog.testing.capture_logs() as logs:
            await harness.poll(3)
            harness.responses.update(storm(storm_stream()))
            await harness.poll(2)
    assert events(logs) == ["upstream is failing", "upstream is up"]
