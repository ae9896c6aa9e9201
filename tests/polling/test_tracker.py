from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.model import HealthReason, Listing, PollResult, Reason, Rendition, Status, StreamReport, StreamState
from exporter.polling.tracker import WANTED_KEPT, Tracker

START = 1_750_000_000.0


class PlainStream(StreamSettings):
    key: str

    @property
    def id(self) -> str:
        return self.key


class PlainSettings(UpstreamSettings):
    platform: Literal["plain"] = "plain"
    streams: tuple[PlainStream, ...] = ()

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        return self.streams


def plain(**keys: Any) -> PlainSettings:
    base = {
        "name": "up",
        "url": "http://127.0.0.1:1",
        "interval": "15s",
        "timeout": "10s",
        "stale_after": "45s",
        "ended_ttl": "5m",
        "health_grace": "60s",
    }
    return PlainSettings.model_validate(base | keys)


class Play:
    """A tracker and a clock: each call is a poll."""

    def __init__(self, *, hash_key: str | None = None, **keys: Any) -> None:
        self.now = START
        self.tracker = Tracker(plain(**keys), START, hash_key=hash_key)

    def poll(self, *samples: StreamReport, after: float = 15.0, **snapshot: Any) -> dict[str, StreamState]:
        self.now += after
        news = PollResult(streams=samples, **({"listing": Listing.COMPLETE} | snapshot))
        for _ in self.tracker.apply(news, self.now):
            pass
        return self.served()

    def pass_by(self, seconds: float) -> dict[str, StreamState]:
        self.now += seconds
        for _ in self.tracker.refresh(self.now):
            pass
        return self.served()

    def served(self) -> dict[str, StreamState]:
        return {state.identity.stream: state for state in self.tracker.states()}


def sample(id_: str = "a", **fields: Any) -> StreamReport:
    known: dict[str, Any] = {"live": True, "status": Status.LIVE, **fields}
    return StreamReport(id=id_, **known)


def idle(id_: str = "a", **fields: Any) -> StreamReport:
    return sample(id_, live=False, status=Status.IDLE, **fields)


# -- coming, going ---------------------------------------------------------------------------------------------------


def test_nothing_is_served_before_the_first_poll() -> None:
    assert Play(streams=[{"key": "a", "expected": True}]).served() == {}


def test_a_live_stream() -> None:
    state = Play().poll(sample(healthy=True))["a"]
    assert (state.live, state.status, state.restarts, state.expected) == (True, Status.LIVE, 0, None)
    assert state.reported_at == START + 15


def test_a_verdict_against_a_live_stream_degrades_it() -> None:
    assert Play().poll(sample(healthy=False))["a"].status is Status.DEGRADED


def test_gone_from_a_complete_list_at_once_and_forgotten_after_its_time() -> None:
    play = Play()
    play.poll(sample(viewers=5, ingest_bytes=10, recording_status="ready", ingest_bitrate_bytes_per_second=9.0))
    gone = play.poll()["a"]
    assert (gone.live, gone.status) == (False, Status.ENDED)
    assert (gone.report.viewers, gone.report.ingest_bitrate_bytes_per_second) == (None, None)
    assert (gone.report.ingest_bytes, gone.report.recording_status) == (10, "ready")
    assert gone.report.end_timestamp_seconds == play.now
    assert "a" in play.poll(after=299)
    assert "a" not in play.poll(after=1)


def test_a_gone_stream_leaves_without_any_further_poll() -> None:
    play = Play(stale_after="10m")
    play.poll(sample())
    play.poll()
    assert play.tracker.next_change == play.now + 300
    assert play.pass_by(300) == {}


def test_a_paged_list_must_miss_it_twice() -> None:
    play = Play()
    play.poll(sample(), listing=Listing.PAGED)
    assert play.poll(listing=Listing.PAGED)["a"].live is True
    assert play.poll(listing=Listing.PAGED)["a"].live is False


def test_a_paged_list_that_shows_it_again_starts_over() -> None:
    play = Play()
    for _ in range(4):
        play.poll(sample(), listing=Listing.PAGED)
        assert play.poll(listing=Listing.PAGED)["a"].live is True


def test_nobody_asks_for_it_any_more() -> None:
    play = Play()
    play.poll(sample(), listing=Listing.DIRECT)
    assert play.poll(listing=Listing.DIRECT) == {}


def test_a_stream_that_the_platform_lists_as_ended_leaves_too() -> None:
    play = Play()
    play.poll(sample())
    ended = sample(live=False, status=Status.ENDED)
    assert play.poll(ended)["a"].status is Status.ENDED
    assert play.poll(ended, after=300) == {}


def test_a_configured_one_that_ended_stays() -> None:
    play = Play(streams=[{"key": "a"}])
    for _ in range(5):
        assert play.poll(sample(live=False, status=Status.ENDED), after=300)["a"].live is False


def test_streams_that_come_and_go_quickly_do_not_pile_up() -> None:
    play = Play(max_streams=10)
    for n in range(100):
        play.poll(sample(f"s{n}"))
    assert len(play.served()) <= 10


# -- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "restarts"),
    [
        pytest.param({"session": "1"}, {"session": "1"}, 0, id="same session"),
        pytest.param({"session": "1"}, {"session": "2"}, 1, id="other session"),
        pytest.param({"start_timestamp_seconds": 5.0}, {"start_timestamp_seconds": 5.4}, 0, id="start rounded"),
        pytest.param({"start_timestamp_seconds": 5.0}, {"start_timestamp_seconds": 9.0}, 1, id="other start"),
        pytest.param({}, {}, 0, id="nothing to tell by"),
        pytest.param({"session": "1"}, {}, 0, id="session not known yet"),
    ],
)
def test_new_publish(first: dict[str, Any], second: dict[str, Any], restarts: int) -> None:
    play = Play()
    play.poll(sample(**first))
    assert play.poll(sample(**second))["a"].restarts == restarts


def test_back_after_idle_counts_and_the_first_publish_does_not() -> None:
    play = Play()
    assert play.poll(idle())["a"].restarts == 0
    assert play.poll(sample())["a"].restarts == 0
    play.poll(idle())
    assert play.poll(sample())["a"].restarts == 1


def test_the_same_publish_seen_again_after_a_pause_is_none() -> None:
    play = Play()
    play.poll(sample(start_timestamp_seconds=START))
    play.poll(sample(live=False, status=Status.PAUSED, start_timestamp_seconds=START))
    assert play.poll(sample(start_timestamp_seconds=START))["a"].restarts == 0


def test_restarts_are_remembered_over_an_outage() -> None:
    play = Play()
    play.poll(sample(session="1"))
    play.poll(sample(session="2"))
    assert play.pass_by(600) == {}
    assert play.poll(sample(session="3"))["a"].restarts == 2


# -- unknown ---------------------------------------------------------------------------------------------------------


def test_without_news_it_is_as_before_until_stale_then_gone() -> None:
    play = Play()
    play.poll(sample())
    assert play.tracker.next_change == play.now + 45
    assert play.pass_by(44)["a"].live is True
    assert play.pass_by(1) == {}
    assert play.poll(sample())["a"].live is True


def test_an_expected_one_keeps_its_expectation() -> None:
    play = Play(streams=[{"key": "a", "name": "stage", "expected": True}])
    play.poll(sample())
    state = play.pass_by(45)["stage"]
    assert (state.live, state.status, state.expected) == (None, None, True)


def test_a_first_poll_that_fails_shows_what_is_expected() -> None:
    state = Play(streams=[{"key": "a", "expected": True}]).pass_by(0)["a"]
    assert (state.live, state.expected, state.restarts) == (None, True, None)


def test_its_own_failure_keeps_it_until_stale() -> None:
    play = Play()
    play.poll(sample("a"), sample("b"))
    for _ in range(2):
        states = play.poll(sample("b"), failures={"a": Reason.TIMEOUT}, listing=Listing.DIRECT)
        assert states["a"].live is True
    assert "a" not in play.poll(sample("b"), failures={"a": Reason.TIMEOUT}, listing=Listing.DIRECT)


def test_a_postponed_one_is_kept_and_a_longer_round_makes_it_stale_later() -> None:
    play = Play()
    play.poll(sample("a"), sample("b"), listing=Listing.DIRECT)
    play.tracker.set_interval(60.0)
    assert "a" in play.poll(sample("b"), postponed=frozenset({"a"}), after=60, listing=Listing.DIRECT)
    assert "a" not in play.poll(sample("b"), postponed=frozenset({"a"}), after=120, listing=Listing.DIRECT)


def test_an_expected_stream_that_no_list_holds_is_idle() -> None:
    play = Play(streams=[{"key": "a", "expected": True}])
    state = play.poll()["a"]
    assert (state.live, state.status, state.expected, state.restarts) == (False, Status.IDLE, True, 0)
    assert [fresh.identity.stream for fresh in play.tracker.fresh()] == ["a"]
    assert play.poll(after=3600)["a"].live is False


# -- expectation -----------------------------------------------------------------------------------------------------


def test_an_allowed_end_ends_the_expectation() -> None:
    play = Play(streams=[{"key": "a", "expected": True, "end_ok": True}])
    assert play.poll(sample())["a"].expected is True
    assert play.poll(sample(live=False, status=Status.ENDED))["a"].expected is False
    assert play.poll(idle())["a"].expected is True


def test_grace_after_the_exporters_own_start() -> None:
    play = Play(streams=[{"key": "a", "expected": True, "start_grace": "1m"}])
    assert play.poll(idle())["a"].expected is False
    assert play.poll(idle(), after=44)["a"].expected is False
    assert play.tracker.next_change <= START + 60
    assert play.pass_by(1)["a"].expected is True


def test_never_expected() -> None:
    assert Play(streams=[{"key": "a", "expected": False}]).poll(idle())["a"].expected is False


def test_new_configuration_is_taken_without_losing_history() -> None:
    play = Play(streams=[{"key": "a", "name": "stage"}])
    play.poll(sample(session="1"))
    play.poll(sample(session="2"))
    play.tracker.configure((PlainStream.model_validate({"key": "a", "name": "arena", "expected": True}),))
    state = play.poll(sample(session="2"))["arena"]
    assert (state.restarts, state.expected) == (1, True)
    assert set(play.served()) == {"arena"}


# -- who is in -------------------------------------------------------------------------------------------------------


def test_include_and_exclude_work_on_names_and_ids_but_not_on_configured_ones() -> None:
    play = Play(include=["court-*", "id-9"], exclude=["*-test"], streams=[{"key": "id-5"}])
    names = {"id-1": "court-1", "id-2": "court-test", "id-3": "other", "id-5": "own", "id-9": "by-id"}
    assert set(play.poll(*(sample(id_, name=name) for id_, name in names.items()))) == {"court-1", "own", "by-id"}


def test_names_that_come_and_go_are_not_remembered_for_ever() -> None:
    play = Play(include=["court-*"], ended_ttl="1s")
    for number in range(3 * WANTED_KEPT // 100):
        streams = [f"court-{number}-{place}" for place in range(100)]
        assert play.poll(*(sample(name, name=name) for name in streams)).keys() >= set(streams)
    assert len(play.tracker._wanted) <= WANTED_KEPT + 300


def test_beyond_the_limit_expected_and_live_ones_stay() -> None:
    play = Play(max_streams=2, streams=[{"key": "z", "expected": True}])
    states = play.poll(idle("a"), sample("b"), sample("c"), idle("z"))
    assert set(states) == {"b", "z"}
    assert play.tracker.dropped == 2
    assert play.poll(sample("b"), idle("z")).keys() == {"b", "z"}
    assert play.tracker.dropped == 0


def test_beyond_the_limit_those_already_served_stay() -> None:
    play = Play(max_streams=1)
    play.poll(sample("b"))
    assert set(play.poll(sample("a"), sample("b"))) == {"b"}


# -- health, secrets -------------------------------------------------------------------------------------------------


def test_health_begins_after_the_grace_of_a_new_publish() -> None:
    play = Play()
    assert play.poll(sample(healthy=False))["a"].health_score_ratio is None
    assert play.poll(sample(healthy=False), after=60)["a"].health_score_ratio == pytest.approx(0.4)


def test_an_old_publish_needs_no_grace() -> None:
    state = Play().poll(sample(healthy=False, start_timestamp_seconds=START - 3600))["a"]
    assert state.health_score_ratio == pytest.approx(0.4)
    assert state.health_reasons == (HealthReason.VERDICT,)


def test_age_is_told_on_the_platforms_clock() -> None:
    play = Play(health_grace="0s")
    news = PollResult(streams=(sample(last_seen_timestamp_seconds=START + 3600 - 90),))
    for _ in play.tracker.apply(news, START, clock_skew=3600.0):
        pass
    assert play.served()["a"].health_score_ratio == pytest.approx(0.5)


def test_configured_expectations_judge() -> None:
    play = Play(health_grace="0s", streams=[{"key": "a", "expected_bitrate": "8Mbps", "expected_frame_rate": 30}])
    state = play.poll(sample(ingest_bitrate_bytes_per_second=450_000.0, frames_per_second=30.0))["a"]
    assert state.expected_ingest_bitrate_bytes_per_second == 1_000_000
    assert state.expected_frames_per_second == 30
    assert state.health_score_ratio == pytest.approx(0.5)
    assert state.health_reasons == (HealthReason.BITRATE_LOW,)


def test_with_hashed_labels_no_field_shows_the_key() -> None:
    play = Play(stream_label="hash", stream_hash_key="pepper", hash_key="pepper")
    key = "s3cr3t-canary"
    shown = sample(
        f"live/{key}",
        name=f"live/{key}",
        session=f"pub-{key}",
        playback_id=key,
        application="live",
        issues=(f"{key} starves",),
        health_grade=f"grade of {key}",
        health_conditions={f"{key} ok": True},
        renditions=(Rendition(f"{key}_720p", 1.0),),
    )
    for states in (play.poll(shown), play.poll(shown), play.poll(), play.pass_by(10)):
        (state,) = states.values()
        assert key not in repr(msgspec.to_builtins(state))
        assert state.report.application == "live"
    assert play.tracker.label(f"live/{key}") == state.identity.stream
    assert play.tracker.label("unheard of") == "?"


def test_a_restart_is_seen_through_hashed_labels() -> None:
    play = Play(stream_label="hash", stream_hash_key="pepper", hash_key="pepper")
    play.poll(sample(session="1"))
    (state,) = play.poll(sample(session="2")).values()
    assert state.restarts == 1


# -- everything at once ----------------------------------------------------------------------------------------------

news = st.fixed_dictionaries(
    {
        "ids": st.sets(st.sampled_from("abcdef")),
        "live": st.sets(st.sampled_from("abcdef")),
        "fail": st.sets(st.sampled_from("abcdef")),
        "listing": st.sampled_from(list(Listing)),
        "after": st.floats(1, 400),
        "success": st.booleans(),
    }
)


@hypothesis_settings(deadline=None)
@given(st.lists(news, max_size=25))
def test_whatever_comes_the_states_keep_their_promises(history: list[dict[str, Any]]) -> None:
    play = Play(streams=[{"key": "a", "expected": True}, {"key": "b", "name": "stage"}], max_streams=5)
    restarts: dict[str, int] = {}
    for poll in history:
        if poll["success"]:
            ids = poll["ids"] - poll["fail"]
            samples = [sample(i) if i in poll["live"] else idle(i) for i in sorted(ids)]
            states = play.poll(
                *samples,
                after=poll["after"],
                listing=poll["listing"],
                failures=dict.fromkeys(poll["fail"], Reason.TIMEOUT),
            )
        else:
            states = play.pass_by(poll["after"])
        assert len(play.tracker.states()) == len(states), "labels are unique"
        assert states["a"].expected is True
        assert play.tracker.next_change > play.now or play.tracker.next_change == math.inf
        # one that left is forgotten after a while, and begins anew
        restarts = {label: times for label, times in restarts.items() if label in states}
        for label, state in states.items():
            if state.live is None:
                assert state.expected is not None
            else:
                assert state.reported_at is not None
                assert play.now - state.reported_at < 45
            if state.restarts is not None and label in {"a", "stage"}:
                assert state.restarts >= restarts.get(label, 0)
                restarts[label] = state.restarts
