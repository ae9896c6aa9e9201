from __future__ import annotations

import asyncio
import random
from typing import Any, Literal

import pytest
import structlog.testing

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.http.client import Requests, UpstreamClient
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
from exporter.polling.coordinator import Coordinator
from exporter.polling.histograms import PollHistograms
from exporter.polling.schedule import Schedule
from exporter.polling.self_metrics import PollingMetrics
from exporter.polling.stream_labels import hashed
from exporter.polling.tracker import Tracker
from exporter.store import Store
from tests.fake_clock import FakeClock


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


class Scripted(Platform[ScriptedSettings]):
    """A platform whose every answer a test puts in: a snapshot, an error to raise, or something to wait for."""

    name = "scripted"
    settings_class = ScriptedSettings

    def __init__(self, settings: ScriptedSettings, client: UpstreamClient, clock: FakeClock) -> None:
        super().__init__(settings, client, clock)
        self.answers: list[Any] = []
        self.polls = 0

    async def poll(self, requests: Requests) -> PollResult:
        self.polls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return PollResult()
        assert isinstance(answer, PollResult)
        return answer

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        raise AssertionError("poll is scripted")

    @classmethod
    def requests_per_minute(cls, settings: ScriptedSettings) -> float:
        return 0.0


class Stage:
    def __init__(self, **keys: Any) -> None:
        settings = ScriptedSettings.model_validate({"name": "u", "url": "http://127.0.0.1:9", "interval": "10s"} | keys)
        self.clock = FakeClock()
        self.store = Store()
        self.store.arrange(["u"])
        self.metrics = FamilyRegistry()
        polling_metrics = PollingMetrics(self.metrics)
        polling_metrics.add_upstream("scripted", "u")
        self.client = UpstreamClient.from_settings(
            settings, clock=self.clock, observe=polling_metrics.request_observer("scripted", "u")
        )
        self.platform = Scripted(settings, self.client, self.clock)
        self.coordinator = Coordinator(
            settings,
            platform=self.platform,
            client=self.client,
            tracker=Tracker(settings, self.clock.now()),
            histograms=PollHistograms(platform="scripted", upstream="u"),
            schedule=Schedule(settings.interval, random.Random(1)),
            store=self.store,
            metrics=polling_metrics,
            clock=self.clock,
        )

    async def poll(self, *answers: Any, after: float = 10.0) -> UpstreamState:
        self.platform.answers = list(answers)
        for _ in answers:
            self.clock.advance(after)
            await self.coordinator.poll()
        view = self.store.get("u")
        assert view is not None
        return view

    def counted(self, line: str) -> bool:
        return line in self.metrics.render().decode()


def news(*ids: str, **keys: Any) -> PollResult:
    samples = tuple(StreamReport(id=id_, live=True, status=Status.LIVE) for id_ in ids)
    known: dict[str, Any] = {"listing": Listing.COMPLETE, **keys}
    return PollResult(streams=samples, **known)


DOWN = UpstreamError(Reason.CONNECT, "GET /streams: nobody listens")


async def test_nothing_is_published_before_the_first_poll_is_completed() -> None:
    stage = Stage()
    assert stage.store.views() == ()
    view = await stage.poll(news("a"))
    assert (view.up, len(view.streams), view.last_success_timestamp_seconds) == (True, 1, stage.clock.now())


async def test_a_failed_poll_keeps_what_is_known_and_says_why() -> None:
    stage = Stage()
    before = await stage.poll(news("a"))
    view = await stage.poll(DOWN)
    assert (view.up, view.last_error_reason, view.last_error) == (False, Reason.CONNECT, str(DOWN))
    assert [state.live for state in view.streams] == [True]
    assert view.last_success_timestamp_seconds == before.last_success_timestamp_seconds
    assert stage.counted('stream_upstream_poll_failures_total{platform="scripted",reason="connect",upstream="u"} 1.0')
    recovered = await stage.poll(news("a"))
    assert (recovered.up, recovered.last_error, recovered.last_error_reason) == (True, "", None)


async def test_the_log_speaks_once_when_it_fails_and_once_when_it_is_back() -> None:
    stage = Stage()
    with structlog.testing.capture_logs() as logs:
        await stage.poll(news("a"), DOWN, DOWN, UpstreamError(Reason.TIMEOUT, "late"), news("a"), news("a"))
    told = [(entry["log_level"], entry["event"]) for entry in logs if entry["log_level"] != "debug"]
    assert told == [("warning", "upstream fails"), ("info", "upstream is back")]
    assert logs[-1]["down_seconds"] == 30.0
    assert logs[-1]["failed_polls"] == 3


async def test_bad_fields_and_failing_streams_are_counted_always_and_told_once() -> None:
    stage = Stage()
    bad = news("a", dropped_fields={"bitrate": 2}, failures={"b": Reason.TIMEOUT})
    with structlog.testing.capture_logs() as logs:
        await stage.poll(bad, bad, news("a", "b"), bad)
    assert [entry["event"] for entry in logs] == [
        "bad values left out",
        "streams fail while their upstream answers",
        "streams fail while their upstream answers",
    ]
    assert stage.counted('stream_upstream_fields_dropped_total{field="bitrate",platform="scripted",upstream="u"} 6.0')
    assert stage.counted('stream_upstream_stream_failures_total{platform="scripted",reason="timeout",upstream="u"} 3.0')


async def test_an_unforeseen_error_costs_one_poll_and_its_text_stays_inside() -> None:
    stage = Stage()
    with structlog.testing.capture_logs() as logs:
        view = await stage.poll(KeyError("canary"))
    assert (view.up, view.last_error_reason) == (False, Reason.INTERNAL)
    assert "canary" not in repr(logs) + view.last_error


async def test_a_poll_that_hangs_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.polling.coordinator.DEADLINE_SLACK_SECONDS", 0.0)
    stage = Stage(interval="500ms", timeout="100ms")
    view = await stage.poll(asyncio.Event())
    assert (view.up, view.last_error_reason) == (False, Reason.TIMEOUT)


async def test_an_expected_stream_that_is_missing_counts_as_health_0() -> None:
    stage = Stage(streams=[{"key": "a", "expected": True}])
    view = await stage.poll(news())
    (histogram,) = view.sampled
    assert (histogram.family, histogram.sum, sum(histogram.counts)) == ("stream_sampled_health_score_ratio", 0.0, 1)


async def test_states_age_between_polls() -> None:
    stage = Stage(stale_after="30s", interval="10s")
    await stage.poll(news("a"))
    await stage.poll(DOWN)
    await stage.coordinator.tick()
    assert len(stage.store.views()[0].streams) == 1
    stage.clock.advance(20)
    await stage.coordinator.tick()
    assert stage.store.views()[0].streams == ()


async def test_it_runs_on_schedule_and_never_over_itself() -> None:
    stage = Stage()
    stage.platform.answers = [news("a")]
    task = asyncio.create_task(stage.coordinator.run())
    for _ in range(100):
        stage.clock.advance(1.0)
        for _ in range(20):
            await asyncio.sleep(0)
    assert 10 <= stage.platform.polls <= 11
    hanging = asyncio.Event()
    stage.platform.answers = [hanging]
    before = stage.platform.polls
    for _ in range(60):
        stage.clock.advance(1.0)
        for _ in range(20):
            await asyncio.sleep(0)
    assert stage.platform.polls == before + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_rate_limit_shows_in_the_interval() -> None:
    stage = Stage()
    view = await stage.poll(UpstreamError(Reason.RATE_LIMITED, "slow down", retry_after=120.0))
    assert view.poll_interval_seconds == 120.0
    assert view.next_poll_at == stage.clock.now() + 120.0
    assert (await stage.poll(news(round_seconds=90.0), after=120.0)).poll_interval_seconds == 90.0


# -- what a platform says besides streams ------------------------------------------------------------------------------


def figures(stream: str, stale_at: float, name: str = "") -> Analytics:
    return Analytics(stream=stream, name=name, period="24h", viewers=1, stale_at=stale_at)


async def test_figures_have_the_label_that_the_configuration_gives_them_or_their_stream() -> None:
    stage = Stage(streams=[{"key": "a", "name": "main"}])
    end = stage.clock.now() + 1000
    given = (figures("a", end), figures("x", end), figures("y", end, "named"), figures("", end))
    view = await stage.poll(news("a", analytics=given))
    assert [item.stream for item in view.analytics] == ["main", "x", "named", ""]
    assert {item.name for item in view.analytics} == {""}


async def test_the_ids_of_figures_are_hidden_as_those_of_streams() -> None:
    stage = Stage(stream_label="hash", stream_hash_key="some-hash-key")
    view = await stage.poll(news("a", analytics=(figures("a", stage.clock.now() + 1000),)))
    assert [item.stream for item in view.analytics] == [hashed("", "u", "a")]


async def test_what_is_served_besides_streams_leaves_when_it_is_stale_although_polls_fail() -> None:
    stage = Stage()
    end = stage.clock.now() + 35
    passthrough = PassthroughMetrics(prefix="p_", families=(), dropped=0, stale_at=end)
    view = await stage.poll(news("a", analytics=(figures("x", end),), passthrough=passthrough))
    assert (len(view.analytics), view.passthrough) == (1, passthrough)
    view = await stage.poll(DOWN, DOWN)
    assert (len(view.analytics), view.passthrough) == (1, passthrough)
    view = await stage.poll(DOWN)
    assert (view.analytics, view.passthrough) == ((), None)
