from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog.testing

from exporter.config.calendars import CalendarSettings
from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import (
    Analytics,
    Listing,
    PassthroughMetrics,
    PollResult,
    Reason,
    Status,
    StreamReport,
    UpstreamState,
)
from exporter.platforms.base import FetchResult, Platform
from exporter.platforms.parsing import DropCounter
from exporter.polling.coordinator import build_coordinator
from exporter.polling.self_metrics import PollingMetrics
from exporter.polling.stream_labels import hashed_label
from exporter.runtime.redaction import redactor
from exporter.store import Store
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import rendered


class ScriptedStream(StreamSettings):
    key: str

    @property
    def id(self) -> str:
        return self.key


class ScriptedSettings(UpstreamSettings):
    platform: Literal["scripted"] = "scripted"
    streams: tuple[ScriptedStream, ...] = ()

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        return self.streams


class ScriptedPlatform(Platform[ScriptedSettings]):
    """A platform whose polls return what the test provides: a result, an error to raise, or an event to wait for."""

    name = "scripted"
    settings_class = ScriptedSettings
    outcomes: list[Any]
    polls = 0

    async def poll(self, requests: Requests) -> PollResult:
        self.polls += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            return PollResult()
        assert isinstance(outcome, PollResult)
        return outcome

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        raise AssertionError("poll is scripted")

    @classmethod
    def requests_per_minute(cls, settings: ScriptedSettings) -> float:
        return 0.0


class PolledUpstream:
    """A coordinator over a scripted platform, and its store, metrics and clock."""

    def __init__(self, **keys: Any) -> None:
        settings = ScriptedSettings.model_validate({"name": "u", "url": "http://127.0.0.1:9", "interval": "10s"} | keys)
        self.clock = FakeClock()
        self.store = Store()
        self.store.arrange(["u"])
        self.metrics = FamilyRegistry()
        polling_metrics = PollingMetrics(self.metrics)
        polling_metrics.add_upstream("scripted", "u")
        self.coordinator = build_coordinator(
            settings,
            ScriptedPlatform,
            store=self.store,
            metrics=polling_metrics,
            clock=self.clock,
            started_at=self.clock.instant(),
            random_=random.Random(1),
        )
        assert isinstance(self.coordinator.platform, ScriptedPlatform)
        self.platform = self.coordinator.platform

    async def poll(self, *outcomes: Any, after: float = 10.0) -> UpstreamState:
        """Poll once for each outcome, and return the last published state."""
        self.platform.outcomes = list(outcomes)
        for _ in outcomes:
            self.clock.advance(after)
            await self.coordinator.poll()
        state = self.store.get("u")
        assert state is not None
        return state

    def has_metric(self, line: str) -> bool:
        return line in self.metrics.render().decode()

    def answering_line(self) -> str | None:
        """The sample of ``stream_upstream_answering`` in the exposition text; None if it is absent."""
        lines = rendered(*self.store.states()).text.decode().splitlines()
        return next((line for line in lines if line.startswith("stream_upstream_answering{")), None)

    async def answering_after(self, seconds: float) -> bool | None:
        """Let time pass without a poll; return whether the upstream is answering then."""
        self.clock.advance(seconds)
        await self.coordinator.refresh()
        return self.store.states()[0].answering


def live_streams(*ids: str, **keys: Any) -> PollResult:
    reports = tuple(StreamReport(id=id_, live=True, status=Status.LIVE) for id_ in ids)
    fields: dict[str, Any] = {"listing": Listing.COMPLETE, **keys}
    return PollResult(streams=reports, **fields)


DOWN = UpstreamError(Reason.CONNECT, "GET /streams: nobody listens")


async def test_secrets_that_a_platform_echoes_are_not_published_or_logged() -> None:
    secret = "canary-of-a-platform"
    redactor.add(secret)
    upstream = PolledUpstream()
    word = f"{'-' * 30}{secret}"
    result = PollResult(
        streams=tuple(StreamReport(id=id_, name=secret, live=True) for id_ in ("a", "b")),
        listing=Listing.COMPLETE,
        version=secret,
        unknown_words={"state": word},
        dropped_fields={secret: 1},
    )
    with structlog.testing.capture_logs() as logs:
        state = await upstream.poll(result)
    # streams with the same name stay separate
    hashes = [hashlib.sha256(id_.encode()).hexdigest()[:8] for id_ in ("a", "b")]
    assert [stream.identity.stream for stream in state.streams] == [f"<secret>#{digest}" for digest in hashes]
    failed = await upstream.poll(UpstreamError(Reason.CONNECT, f"GET /streams: {secret}"))
    assert failed.last_error == "GET /streams: <secret>"
    # the word is truncated after its secret is replaced
    assert secret[:10] not in f"{state!r}{failed!r}{logs!r}{upstream.metrics.render()!r}"


async def test_no_state_is_published_before_the_first_poll_completes() -> None:
    upstream = PolledUpstream()
    assert upstream.store.states() == ()
    state = await upstream.poll(live_streams("a"))
    assert (state.up, len(state.streams), state.last_success_timestamp_seconds) == (True, 1, upstream.clock.now())


async def test_failed_poll_keeps_the_streams_and_reports_its_reason() -> None:
    upstream = PolledUpstream()
    before = await upstream.poll(live_streams("a"))
    state = await upstream.poll(DOWN)
    assert (state.up, state.last_error_reason, state.last_error) == (False, Reason.CONNECT, str(DOWN))
    assert [stream.live for stream in state.streams] == [True]
    assert state.last_success_timestamp_seconds == before.last_success_timestamp_seconds
    assert upstream.has_metric(
        'stream_upstream_poll_failures_total{platform="scripted",reason="connect",upstream="u"} 1.0'
    )
    recovered = await upstream.poll(live_streams("a"))
    assert (recovered.up, recovered.last_error, recovered.last_error_reason) == (True, "", None)


async def test_outage_is_logged_once_at_its_start_and_once_at_its_end() -> None:
    upstream = PolledUpstream()
    with structlog.testing.capture_logs() as logs:
        await upstream.poll(
            live_streams("a"), DOWN, DOWN, UpstreamError(Reason.TIMEOUT, "late"), live_streams("a"), live_streams("a")
        )
    logged = [(entry["log_level"], entry["event"]) for entry in logs if entry["log_level"] != "debug"]
    assert logged == [("info", "upstream is up"), ("warning", "upstream is failing"), ("info", "upstream is back")]
    assert (logs[0]["streams"], logs[0]["live"]) == (1, 1)
    assert logs[-1]["down_seconds"] == 30.0
    assert logs[-1]["failed_polls"] == 3


async def test_dropped_fields_and_failing_streams_are_counted_every_time_and_logged_once() -> None:
    upstream = PolledUpstream()
    bad = live_streams("a", dropped_fields={"bitrate": 2}, failures={"b": Reason.TIMEOUT})
    with structlog.testing.capture_logs() as logs:
        await upstream.poll(bad, bad, live_streams("a", "b"), bad)
    assert [entry["event"] for entry in logs] == [
        "invalid values dropped",
        "poll succeeded, but some streams failed",
        "upstream is up",
        "poll succeeded, but some streams failed",
    ]
    assert upstream.has_metric(
        'stream_upstream_fields_dropped_total{field="bitrate",platform="scripted",upstream="u"} 6.0'
    )
    assert upstream.has_metric(
        'stream_upstream_stream_failures_total{platform="scripted",reason="timeout",upstream="u"} 3.0'
    )


async def test_unexpected_error_fails_one_poll_without_showing_its_text() -> None:
    upstream = PolledUpstream()
    with structlog.testing.capture_logs() as logs:
        state = await upstream.poll(KeyError("canary"))
    assert (state.up, state.last_error_reason) == (False, Reason.INTERNAL)
    assert "canary" not in repr(logs) + state.last_error


async def test_hanging_poll_is_cancelled_after_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.polling.coordinator.DEADLINE_SLACK_SECONDS", 0.0)
    upstream = PolledUpstream(interval="500ms", timeout="100ms")
    state = await upstream.poll(asyncio.Event())
    assert (state.up, state.last_error_reason) == (False, Reason.TIMEOUT)


async def test_missing_expected_stream_is_observed_with_health_0() -> None:
    upstream = PolledUpstream(streams=[{"key": "a", "expected": True}])
    state = await upstream.poll(live_streams())
    (histogram,) = state.sampled
    assert (histogram.family, histogram.sum, sum(histogram.counts)) == ("stream_sampled_health_score_ratio", 0.0, 1)


async def test_states_become_stale_between_polls() -> None:
    upstream = PolledUpstream(stale_after="30s", interval="10s")
    await upstream.poll(live_streams("a"))
    await upstream.poll(DOWN)
    await upstream.coordinator.refresh()
    assert len(upstream.store.states()[0].streams) == 1
    upstream.clock.advance(20)
    await upstream.coordinator.refresh()
    (state,) = upstream.store.states()[0].streams
    assert (state.is_withdrawn, state.live, state.was_live) == (True, None, True)
    assert state.status_changed_at == upstream.clock.now()


async def test_answering_becomes_false_two_and_a_half_intervals_after_the_last_success() -> None:
    upstream = PolledUpstream(interval="10s")
    assert (await upstream.poll(live_streams("a"))).answering is True
    assert [await upstream.answering_after(seconds) for seconds in (24.9, 0.1)] == [True, False]
    assert (await upstream.poll(DOWN)).answering is False
    assert (await upstream.poll(live_streams("a"))).answering is True


async def test_answering_is_absent_until_two_and_a_half_intervals_after_the_first_failed_poll() -> None:
    upstream = PolledUpstream(interval="10s")
    state = await upstream.poll(DOWN, DOWN, DOWN)
    assert (state.up, state.answering, upstream.answering_line()) == (False, None, None)
    assert [await upstream.answering_after(seconds) for seconds in (4.9, 0.1)] == [None, False]
    assert upstream.answering_line() == 'stream_upstream_answering{platform="scripted",upstream="u"} 0'
    assert (await upstream.poll(DOWN)).answering is False
    assert (await upstream.poll(live_streams("a"))).answering is True
    assert upstream.answering_line() == 'stream_upstream_answering{platform="scripted",upstream="u"} 1'


async def test_answering_is_absent_until_a_poll_succeeds_after_the_first_one_failed() -> None:
    upstream = PolledUpstream(interval="10s")
    assert (await upstream.poll(DOWN)).answering is None
    assert (await upstream.poll(live_streams("a"))).answering is True


@pytest.mark.parametrize(
    ("succeeded", "before"), [(True, True), (False, None)], ids=["after a success", "at the start"]
)
async def test_retry_after_of_a_failed_poll_does_not_delay_the_end_of_answering(
    succeeded: bool, before: bool | None
) -> None:
    upstream = PolledUpstream(interval="10s")
    if succeeded:
        await upstream.poll(live_streams("a"))
    else:
        await upstream.poll(DOWN)
    state = await upstream.poll(UpstreamError(Reason.RATE_LIMITED, "slow down", retry_after=600.0))
    assert state.next_poll_at == upstream.clock.now() + 600
    assert [await upstream.answering_after(seconds) for seconds in (14.9, 0.1, 500)] == [before, False, False]


async def test_single_failed_poll_after_a_rate_limit_pause_does_not_end_answering() -> None:
    upstream = PolledUpstream(interval="10s")
    upstream.coordinator.client.rate_limit.paused_until = upstream.clock.monotonic() + 10 + 300
    state = await upstream.poll(live_streams("a"))
    assert (state.poll_interval_seconds, state.next_poll_at) == (300, upstream.clock.now() + 300)
    assert await upstream.answering_after(299) is True
    assert (await upstream.poll(DOWN, after=1)).answering is True
    assert (await upstream.poll(DOWN)).answering is True
    assert [await upstream.answering_after(seconds) for seconds in (4.9, 0.1)] == [True, False], "1.5 intervals"


async def test_upstream_that_fails_every_other_poll_is_logged_once_in_ten_minutes() -> None:
    upstream = PolledUpstream(interval="10s")
    with structlog.testing.capture_logs() as logs:
        await upstream.poll(*[live_streams("a"), DOWN] * 90)
    events = [entry["event"] for entry in logs if entry["log_level"] != "debug"]
    assert events == ["upstream is up", "upstream is failing", "upstream is failing", "upstream is failing"]
    assert [entry.get("failed_before") for entry in logs if entry["event"] == "upstream is failing"] == [None, 29, 29]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80)])
async def test_upstream_recovers_with_the_next_poll_after_two_failures(failures: int, seconds: int) -> None:
    upstream = PolledUpstream()
    upstream.platform.outcomes = [*[live_streams("a")] * 2, *[DOWN] * failures, live_streams("a")]
    task = asyncio.create_task(upstream.coordinator.run())
    seconds_down = 0
    for _ in range(120):
        upstream.clock.advance(1.0)
        for _ in range(20):
            await asyncio.sleep(0)
        state = upstream.store.get("u")
        seconds_down += state is not None and state.up is False
    task.cancel()
    assert upstream.platform.polls > 2 + failures
    assert seconds_down == seconds


async def test_polls_run_on_schedule_and_never_overlap() -> None:
    upstream = PolledUpstream()
    upstream.platform.outcomes = [live_streams("a")]
    task = asyncio.create_task(upstream.coordinator.run())
    for _ in range(100):
        upstream.clock.advance(1.0)
        for _ in range(20):
            await asyncio.sleep(0)
    assert 10 <= upstream.platform.polls <= 11
    hanging = asyncio.Event()
    upstream.platform.outcomes = [hanging]
    before = upstream.platform.polls
    for _ in range(60):
        upstream.clock.advance(1.0)
        for _ in range(20):
            await asyncio.sleep(0)
    assert upstream.platform.polls == before + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_rate_limit_lengthens_the_published_interval() -> None:
    """A pause after a failed poll only postpones the next one."""
    upstream = PolledUpstream()
    state = await upstream.poll(UpstreamError(Reason.RATE_LIMITED, "slow down", retry_after=120.0))
    assert state.poll_interval_seconds == 10.0
    assert state.next_poll_at == upstream.clock.now() + 120.0
    assert (await upstream.poll(live_streams(round_seconds=90.0), after=120.0)).poll_interval_seconds == 90.0


# -- analytics and pass-through metrics --------------------------------------------------------------------------------


def analytics_of(stream: str, stale_at: float, name: str = "") -> Analytics:
    return Analytics(stream=stream, name=name, period="24h", viewers=1, stale_at=stale_at)


async def test_analytics_take_their_label_from_the_configuration_or_their_stream() -> None:
    upstream = PolledUpstream(streams=[{"key": "a", "name": "main"}])
    end = upstream.clock.now() + 1000
    given = (analytics_of("a", end), analytics_of("x", end), analytics_of("y", end, "named"), analytics_of("", end))
    state = await upstream.poll(live_streams("a", analytics=given))
    assert [item.stream for item in state.analytics] == ["main", "x", "named", ""]
    assert {item.name for item in state.analytics} == {""}


async def test_analytics_ids_are_hashed_like_stream_ids() -> None:
    upstream = PolledUpstream(stream_label="hash", stream_hash_key="some-hash-key")
    state = await upstream.poll(live_streams("a", analytics=(analytics_of("a", upstream.clock.now() + 1000),)))
    assert [item.stream for item in state.analytics] == [hashed_label("some-hash-key", "u", "a")]


async def test_stale_analytics_and_passthrough_are_dropped_while_polls_fail() -> None:
    upstream = PolledUpstream()
    end = upstream.clock.monotonic() + 35
    passthrough = PassthroughMetrics(prefix="p_", families=(), dropped=0, stale_at=end)
    state = await upstream.poll(live_streams("a", analytics=(analytics_of("x", end),), passthrough=passthrough))
    assert (len(state.analytics), state.passthrough) == (1, passthrough)
    state = await upstream.poll(DOWN, DOWN)
    assert (len(state.analytics), state.passthrough) == (1, passthrough)
    state = await upstream.poll(DOWN)
    assert (state.analytics, state.passthrough) == ((), None)


async def test_wrong_clock_of_the_platform_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = PolledUpstream()
    skews = iter([29.0, 31.0, 45.0, 0.0, -31.0])
    monkeypatch.setattr(Requests, "clock_skew_seconds", property(lambda _: next(skews)))
    with structlog.testing.capture_logs() as logs:
        await upstream.poll(*[live_streams("a")] * 5)
    assert [e["ahead_seconds"] for e in logs if e["event"] == "platform clock differs from the exporter's"] == [31, -31]


async def test_state_is_published_when_a_calendar_changes_without_a_poll(tmp_path: Path) -> None:
    path = tmp_path / "always.ics"
    path.write_text("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20000101\nDTEND:20990101\nEND:VEVENT\nEND:VCALENDAR\n")
    calendar = CalendarSettings(calendar_file=path, refresh="10s")
    upstream = PolledUpstream(streams=[ScriptedStream(key="a", expected=calendar)])
    calendars = upstream.coordinator.calendars
    try:
        state = await upstream.poll(live_streams())
        assert (state.calendars, state.streams[0].expected) == ((), None)

        async def published(*, readable: bool) -> UpstreamState:
            async with asyncio.timeout(60):
                while [found.readable for found in calendars.states("u")] != [readable]:  # noqa: ASYNC110 - a reader has no other sign
                    await asyncio.sleep(0.01)
            await upstream.coordinator.refresh()
            return upstream.store.states()[0]

        state = await published(readable=True)
        assert [(found.name, found.readable) for found in state.calendars] == [("always.ics", True)]
        assert state.streams[0].expected is True
        path.unlink()
        upstream.clock.advance(10)
        state = await published(readable=False)
        assert [found.readable for found in state.calendars] == [False]
        assert state.streams[0].expected is True
        text = rendered(state).text.decode()
        assert 'stream_upstream_calendar_readable{platform="scripted",upstream="u",calendar="always.ics"} 0\n' in text
    finally:
        await calendars.close()
