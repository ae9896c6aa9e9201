from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.model import (
    NO_REPORT,
    HealthReason,
    Listing,
    PollResult,
    Reason,
    Rendition,
    Status,
    StreamReport,
    StreamState,
)
from exporter.platforms.base import slim_report
from exporter.polling.tracker import FILTER_CACHE_SIZE, Tracker
from exporter.runtime.clock import Instant

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


def plain_settings(**keys: Any) -> PlainSettings:
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


class TrackedUpstream:
    """A tracker and its clock."""

    def __init__(self, **keys: Any) -> None:
        self.now = START
        self.tracker = Tracker(plain_settings(**keys), Instant(START, START))

    def poll(self, *reports: StreamReport, after: float = 15.0, **fields: Any) -> dict[str, StreamState]:
        self.now += after
        result = PollResult(streams=reports, **({"listing": Listing.COMPLETE} | fields))
        for _ in self.tracker.apply(result, Instant(self.now, self.now)):
            pass
        return self.served()

    def refresh_after(self, seconds: float) -> dict[str, StreamState]:
        self.now += seconds
        for _ in self.tracker.refresh(Instant(self.now, self.now)):
            pass
        return self.served()

    def served(self) -> dict[str, StreamState]:
        return {state.identity.stream: state for state in self.tracker.states()}


def live(id_: str = "a", **fields: Any) -> StreamReport:
    values: dict[str, Any] = {"live": True, "status": Status.LIVE} | fields
    return StreamReport(id=id_, **values)


def idle(id_: str = "a", **fields: Any) -> StreamReport:
    return live(id_, live=False, status=Status.IDLE, **fields)


# -- start and end ---------------------------------------------------------------------------------------------------


def test_no_stream_is_served_before_the_first_poll() -> None:
    assert TrackedUpstream(streams=[{"key": "a", "expected": True}]).served() == {}


def test_live_stream_is_served_with_its_status() -> None:
    state = TrackedUpstream().poll(live(healthy=True))["a"]
    assert (state.live, state.status, state.restarts, state.expected) == (True, Status.LIVE, 0, None)
    assert state.reported_at == START + 15


def test_unhealthy_live_stream_is_degraded() -> None:
    assert TrackedUpstream().poll(live(healthy=False))["a"].status is Status.DEGRADED


def test_stream_absent_from_a_complete_list_ends_and_is_forgotten_after_ended_ttl() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(viewers=5, ingest_bytes=10, recording_status="ready", ingest_bitrate_bytes_per_second=9.0))
    gone = upstream.poll()["a"]
    assert (gone.live, gone.status) == (False, Status.ENDED)
    assert (gone.report.viewers, gone.report.ingest_bitrate_bytes_per_second) == (None, None)
    assert (gone.report.ingest_bytes, gone.report.recording_status) == (10, "ready")
    assert gone.report.end_timestamp_seconds == upstream.now
    assert "a" in upstream.poll(after=299)
    assert "a" not in upstream.poll(after=1)


def test_departed_stream_is_forgotten_without_another_poll() -> None:
    upstream = TrackedUpstream(stale_after="10m")
    upstream.poll(live())
    upstream.poll()
    assert upstream.tracker.next_change == upstream.now + 300
    assert upstream.refresh_after(300) == {}


def test_stream_absent_from_a_paged_list_ends_after_two_polls() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(), listing=Listing.SHIFTING)
    assert upstream.poll(listing=Listing.SHIFTING)["a"].live is True
    assert upstream.poll(listing=Listing.SHIFTING)["a"].live is False


def test_stream_back_on_a_paged_list_resets_its_absences() -> None:
    upstream = TrackedUpstream()
    for _ in range(4):
        upstream.poll(live(), listing=Listing.SHIFTING)
        assert upstream.poll(listing=Listing.SHIFTING)["a"].live is True


def test_stream_no_longer_requested_is_forgotten_at_once() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(), listing=Listing.DIRECT)
    assert upstream.poll(listing=Listing.DIRECT) == {}


def test_stream_listed_as_ended_is_forgotten_after_ended_ttl() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live())
    ended = live(live=False, status=Status.ENDED)
    assert upstream.poll(ended)["a"].status is Status.ENDED
    assert upstream.poll(ended, after=300) == {}


def test_configured_stream_that_ended_is_kept() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a"}])
    for _ in range(5):
        assert upstream.poll(live(live=False, status=Status.ENDED), after=300)["a"].live is False


def test_departed_streams_never_exceed_max_streams() -> None:
    upstream = TrackedUpstream(max_streams=10)
    for n in range(100):
        upstream.poll(live(f"s{n}"))
    assert len(upstream.served()) <= 10


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
def test_restarts_count_new_ingest_sessions(first: dict[str, Any], second: dict[str, Any], restarts: int) -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(**first))
    assert upstream.poll(live(**second))["a"].restarts == restarts


@pytest.mark.parametrize("before", [{"session": "1"}, {"session": "1", "live": False, "status": Status.IDLE}])
@pytest.mark.parametrize("session", ["2", ""])
def test_new_ingest_session_with_a_late_start_time_is_one_restart(before: dict[str, Any], session: str) -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(session="1", start_timestamp_seconds=START))
    upstream.poll(live(start_timestamp_seconds=START, **before))
    upstream.poll(live(session=session))
    assert upstream.poll(live(session="2", start_timestamp_seconds=START + 40))["a"].restarts == 1


def test_return_from_idle_is_a_restart_and_the_first_session_is_not() -> None:
    upstream = TrackedUpstream()
    assert upstream.poll(idle())["a"].restarts == 0
    assert upstream.poll(live())["a"].restarts == 0
    upstream.poll(idle())
    assert upstream.poll(live())["a"].restarts == 1


def test_same_ingest_session_after_a_pause_is_no_restart() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(start_timestamp_seconds=START))
    upstream.poll(live(live=False, status=Status.PAUSED, start_timestamp_seconds=START))
    assert upstream.poll(live(start_timestamp_seconds=START))["a"].restarts == 0


def test_restarts_survive_an_outage() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(session="1"))
    upstream.poll(live(session="2"))
    assert upstream.refresh_after(600)["a"].is_withdrawn
    assert upstream.poll(live(session="3"))["a"].restarts == 2


# -- unknown ---------------------------------------------------------------------------------------------------------


def test_stream_without_a_new_report_is_served_until_stale() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live())
    assert upstream.tracker.next_change == upstream.now + 45
    assert upstream.refresh_after(44)["a"].live is True
    withdrawn = upstream.refresh_after(1)["a"]
    assert (withdrawn.status, withdrawn.live, withdrawn.was_live) == (Status.UNKNOWN, None, True)
    assert withdrawn.report == NO_REPORT
    assert upstream.poll(live())["a"].live is True


def test_unknown_stream_is_served_for_a_day_at_most() -> None:
    upstream = TrackedUpstream(streams=[{"key": "b", "expected": True}])
    upstream.poll(live("a"), live("b"))
    upstream.refresh_after(45)
    assert set(upstream.refresh_after(24 * 3600 - 1)) == {"a", "b"}
    assert set(upstream.refresh_after(1)) == {"b"}


def test_unknown_stream_that_is_missing_from_a_complete_list_has_ended_at_an_unknown_time() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live("a"))
    upstream.refresh_after(600)
    state = upstream.poll(live("b"))["a"]
    assert (state.status, state.live, state.report.end_timestamp_seconds) == (Status.ENDED, False, None)


def test_stale_expected_stream_is_served_as_unknown() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "name": "stage", "expected": True}])
    upstream.poll(live())
    state = upstream.refresh_after(45)["stage"]
    assert (state.live, state.status, state.expected) == (None, Status.UNKNOWN, True)


def test_failed_first_poll_serves_expected_streams_as_unknown() -> None:
    state = TrackedUpstream(streams=[{"key": "a", "expected": True}]).refresh_after(0)["a"]
    assert (state.live, state.expected, state.restarts) == (None, True, None)


def test_failing_stream_is_served_until_stale() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live("a"), live("b"))
    for _ in range(2):
        states = upstream.poll(live("b"), failures={"a": Reason.TIMEOUT}, listing=Listing.DIRECT)
        assert states["a"].live is True
    assert upstream.poll(live("b"), failures={"a": Reason.TIMEOUT}, listing=Listing.DIRECT)["a"].is_withdrawn


def test_configured_stream_that_has_only_failed_is_unknown_immediately() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a"}])
    state = upstream.poll(failures={"a": Reason.BAD_RESPONSE}, listing=Listing.DIRECT)["a"]
    assert (state.is_withdrawn, state.status_changed_at) == (True, None)


def test_doubtful_list_proves_no_absence() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live("a"))
    for _ in range(2):
        assert upstream.poll(listing=Listing.DOUBTFUL)["a"].live is True
    assert upstream.tracker.list_complete is False
    assert upstream.poll(listing=Listing.DOUBTFUL)["a"].is_withdrawn
    assert upstream.poll()["a"].status is Status.ENDED


def test_more_unreadable_rows_than_before_may_hide_a_missing_stream() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live("a"), live("b"), unreadable_rows=1)
    assert upstream.poll(live("b"), unreadable_rows=2)["a"].live is True
    assert upstream.poll(live("b"), unreadable_rows=1)["a"].live is False


def test_stream_that_was_never_listed_is_absent_once_unreadable_rows_are_not_new() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "expected": True}])
    for _ in range(3):
        assert upstream.poll(live("b"), unreadable_rows=1)["a"].is_withdrawn
    assert upstream.poll(live("b"), unreadable_rows=1)["a"].status is Status.IDLE
    assert upstream.tracker.list_complete is True


def test_list_cut_at_max_streams_proves_no_absence() -> None:
    upstream = TrackedUpstream(max_streams=2)
    upstream.poll(live("a"), live("b"))
    state = upstream.poll(live("b"), live("c"), live("d"))["a"]
    assert (state.live, upstream.tracker.list_complete) == (True, False)


def test_poll_too_soon_after_the_last_is_no_evidence_of_absence() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live("a"))
    for _ in range(3):
        assert upstream.poll(listing=Listing.SHIFTING, is_evidence=False, after=1)["a"].live is True
    upstream.poll(listing=Listing.SHIFTING)
    assert upstream.poll(listing=Listing.SHIFTING)["a"].live is False


def test_status_changed_at_is_the_time_of_the_last_status_change() -> None:
    upstream = TrackedUpstream()
    assert upstream.poll(live())["a"].status_changed_at is None
    assert upstream.poll(live(healthy=False))["a"].status_changed_at == upstream.now
    changed_at = upstream.now
    assert upstream.poll(live(healthy=False))["a"].status_changed_at == changed_at


def test_setting_the_wall_clock_ages_nothing() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live())
    for wall in (START - 3600, START + 3600):
        for _ in upstream.tracker.refresh(Instant(wall, upstream.now + 40)):
            pass
        assert upstream.served()["a"].live is True
    for _ in upstream.tracker.refresh(Instant(START - 3600, upstream.now + 45)):
        pass
    assert upstream.served()["a"].is_withdrawn


def test_postponed_stream_is_kept_and_a_longer_interval_makes_it_stale_later() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live("a"), live("b"), listing=Listing.DIRECT)
    upstream.tracker.set_interval(60.0)
    assert "a" in upstream.poll(live("b"), postponed=frozenset({"a"}), after=60, listing=Listing.DIRECT)
    state = upstream.poll(live("b"), postponed=frozenset({"a"}), after=120, listing=Listing.DIRECT)["a"]
    assert state.is_withdrawn


def test_expected_stream_absent_from_every_list_is_idle() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "expected": True}])
    state = upstream.poll()["a"]
    assert (state.live, state.status, state.expected, state.restarts) == (False, Status.IDLE, True, 0)
    assert [state.identity.stream for state in upstream.tracker.updated_states()] == ["a"]
    assert upstream.poll(after=3600)["a"].live is False


# -- expectation -----------------------------------------------------------------------------------------------------


def test_ended_stream_is_not_expected_with_end_ok() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "expected": True, "end_ok": True}])
    assert upstream.poll(live())["a"].expected is True
    assert upstream.poll(live(live=False, status=Status.ENDED))["a"].expected is False
    assert upstream.poll(idle())["a"].expected is True


def test_expectation_is_not_known_within_start_grace_of_the_exporters_start() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "expected": True, "start_grace": "1m"}])
    assert upstream.poll(live())["a"].expected is None
    assert upstream.poll(idle(), after=44)["a"].expected is None
    assert upstream.tracker.next_change <= START + 60
    assert upstream.refresh_after(1)["a"].expected is True


def test_stream_configured_as_not_expected_is_not_expected() -> None:
    assert TrackedUpstream(streams=[{"key": "a", "expected": False}]).poll(idle())["a"].expected is False


def test_new_configuration_applies_and_keeps_the_restarts() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "name": "stage"}])
    upstream.poll(live(session="1"))
    upstream.poll(live(session="2"))
    upstream.tracker.configure((PlainStream.model_validate({"key": "a", "name": "arena", "expected": True}),))
    state = upstream.poll(live(session="2"))["arena"]
    assert (state.restarts, state.expected) == (1, True)
    assert set(upstream.served()) == {"arena"}


# -- last known figures -----------------------------------------------------------------------------------------------


def last_figures(state: StreamState) -> tuple[float | None, int | None]:
    return state.last_ingest_bitrate_bytes_per_second, state.last_viewers


def test_figures_of_the_last_live_report_are_kept_while_the_stream_is_off_air_or_unknown() -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "expected": True}])
    assert last_figures(upstream.poll(idle())["a"]) == (None, None)
    upstream.poll(live(ingest_bitrate_bytes_per_second=9e5, viewers=7))
    state = upstream.poll(live(ingest_bitrate_bytes_per_second=5e5, viewers=12))["a"]
    assert last_figures(state) == (5e5, 12)
    for states in (upstream.poll(idle()), upstream.poll(), upstream.refresh_after(3600)):
        assert last_figures(states["a"]) == (5e5, 12)
    assert states["a"].status is Status.UNKNOWN
    assert last_figures(upstream.poll(idle())["a"]) == (5e5, 12)


def test_each_figure_comes_from_the_last_live_report_that_contained_it() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(ingest_bitrate_bytes_per_second=5e5, viewers=12))
    assert last_figures(upstream.poll(live(viewers=0))["a"]) == (5e5, 0)
    assert last_figures(upstream.poll(live(ingest_bitrate_bytes_per_second=0.0))["a"]) == (0.0, 0)
    assert last_figures(upstream.poll(idle(ingest_bitrate_bytes_per_second=1.0, viewers=1))["a"]) == (0.0, 0)


def test_figures_are_forgotten_with_their_stream() -> None:
    upstream = TrackedUpstream()
    upstream.poll(live(viewers=12))
    upstream.poll()
    assert upstream.poll(after=300) == {}
    assert last_figures(upstream.poll(live())["a"]) == (None, None)


def test_figures_that_the_platform_cannot_report_are_none() -> None:
    slim = slim_report({"viewers"})
    upstream = TrackedUpstream()
    state = upstream.poll(slim(id="a", live=True, status=Status.LIVE, viewers=3))["a"]
    assert last_figures(state) == (None, 3)
    assert last_figures(upstream.refresh_after(60)["a"]) == (None, 3)


# -- which streams are tracked ----------------------------------------------------------------------------------------


def test_include_and_exclude_match_names_and_ids_but_never_configured_streams() -> None:
    upstream = TrackedUpstream(include=["court-*", "id-9"], exclude=["*-test"], streams=[{"key": "id-5"}])
    names = {"id-1": "court-1", "id-2": "court-test", "id-3": "other", "id-5": "own", "id-9": "by-id"}
    assert set(upstream.poll(*(live(id_, name=name) for id_, name in names.items()))) == {"court-1", "id-5", "by-id"}


def test_include_applies_to_thousands_of_changing_streams() -> None:
    upstream = TrackedUpstream(include=["court-*"], ended_ttl="1s")
    for number in range(3 * FILTER_CACHE_SIZE // 100):
        streams = [f"court-{number}-{place}" for place in range(100)]
        assert upstream.poll(*(live(name, name=name) for name in streams)).keys() >= set(streams)


def test_max_streams_prefers_configured_and_live_streams() -> None:
    upstream = TrackedUpstream(max_streams=2, streams=[{"key": "z", "expected": True}])
    states = upstream.poll(idle("a"), live("b"), live("c"), idle("z"))
    assert set(states) == {"b", "z"}
    assert upstream.tracker.dropped == 2
    assert upstream.poll(live("b"), idle("z")).keys() == {"b", "z"}
    assert upstream.tracker.dropped == 0


def test_max_streams_prefers_streams_already_served() -> None:
    upstream = TrackedUpstream(max_streams=1)
    upstream.poll(live("b"))
    assert set(upstream.poll(live("a"), live("b"))) == {"b"}


# -- health, secrets -------------------------------------------------------------------------------------------------


def test_derived_score_starts_after_health_grace() -> None:
    upstream = TrackedUpstream()
    assert upstream.poll(live(healthy=False))["a"].health_score_ratio is None
    assert upstream.poll(live(healthy=False), after=60)["a"].health_score_ratio == pytest.approx(0.4)


def test_ingest_session_started_long_ago_has_a_score_at_once() -> None:
    state = TrackedUpstream().poll(live(healthy=False, start_timestamp_seconds=START - 3600))["a"]
    assert state.health_score_ratio == pytest.approx(0.4)
    assert state.health_reasons == (HealthReason.VERDICT,)


def test_score_does_not_fall_while_no_poll_succeeds() -> None:
    upstream = TrackedUpstream(health_grace="0s", stale_after="10m")
    upstream.poll(live(last_seen_age_seconds=90.0))
    assert upstream.refresh_after(300)["a"].health_score_ratio == pytest.approx(0.5)


def test_configured_bitrate_and_frame_rate_lower_the_score() -> None:
    stream = {"key": "a", "expected_bitrate": "8Mbps", "expected_frame_rate": 30}
    upstream = TrackedUpstream(health_grace="0s", streams=[stream])
    state = upstream.poll(live(ingest_bitrate_bytes_per_second=450_000.0, frames_per_second=30.0))["a"]
    assert state.expected_ingest_bitrate_bytes_per_second == 1_000_000
    assert state.expected_frames_per_second == 30
    assert state.health_score_ratio == pytest.approx(0.5)
    assert state.health_reasons == (HealthReason.BITRATE_LOW,)


def test_hashed_labels_hide_the_key_in_every_field() -> None:
    upstream = TrackedUpstream(stream_label="hash", stream_hash_key="pepper")
    key = "s3cr3t-canary"
    shown = live(
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
    for states in (upstream.poll(shown), upstream.poll(shown), upstream.poll(), upstream.refresh_after(10)):
        (state,) = states.values()
        assert key not in repr(msgspec.to_builtins(state))
        assert state.report.application == "live"
    assert upstream.tracker.label(f"live/{key}") == state.identity.stream
    assert upstream.tracker.label("unheard of") == "?"


def test_restart_is_detected_with_hashed_labels() -> None:
    upstream = TrackedUpstream(stream_label="hash", stream_hash_key="pepper")
    upstream.poll(live(session="1"))
    (state,) = upstream.poll(live(session="2")).values()
    assert state.restarts == 1


# -- random polls ----------------------------------------------------------------------------------------------------

random_polls = st.fixed_dictionaries(
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
@given(st.lists(random_polls, max_size=25))
def test_random_polls_keep_the_invariants_of_states(history: list[dict[str, Any]]) -> None:
    upstream = TrackedUpstream(streams=[{"key": "a", "expected": True}, {"key": "b", "name": "stage"}], max_streams=5)
    restarts: dict[str, int] = {}
    for poll in history:
        if poll["success"]:
            ids = poll["ids"] - poll["fail"]
            reports = [live(i) if i in poll["live"] else idle(i) for i in sorted(ids)]
            states = upstream.poll(
                *reports,
                after=poll["after"],
                listing=poll["listing"],
                failures=dict.fromkeys(poll["fail"], Reason.TIMEOUT),
            )
        else:
            states = upstream.refresh_after(poll["after"])
        assert len(upstream.tracker.states()) == len(states), "labels are unique"
        assert states["a"].expected is True
        assert upstream.tracker.next_change > upstream.now or upstream.tracker.next_change == math.inf
        # a departed stream is forgotten eventually, and its restarts then start again at 0
        restarts = {label: times for label, times in restarts.items() if label in states}
        for label, state in states.items():
            if state.live is None:
                assert state.is_withdrawn
            else:
                assert state.reported_at is not None
                assert upstream.now - state.reported_at < 45
            if state.restarts is not None and label in {"a", "stage"}:
                assert state.restarts >= restarts.get(label, 0)
                restarts[label] = state.restarts


# -- renames -----------------------------------------------------------------------------------------------------------


def former_labels(upstream: TrackedUpstream) -> tuple[str, ...]:
    return upstream.tracker.former_labels(Instant(upstream.now, upstream.now))


def test_former_label_of_a_renamed_stream_is_known_for_20_minutes() -> None:
    upstream = TrackedUpstream(stream_label="name")
    upstream.poll(live(name="before"))
    assert former_labels(upstream) == ()
    assert set(upstream.poll(live(name="after"))) == {"after"}
    assert former_labels(upstream) == ("before",)
    upstream.poll(live(name="after"), after=1199.0)
    assert former_labels(upstream) == ("before",)
    upstream.poll(live(name="after"), after=1.0)
    assert former_labels(upstream) == ()


def test_former_label_taken_by_another_stream_is_current_again() -> None:
    upstream = TrackedUpstream(stream_label="name")
    upstream.poll(live(name="before"))
    upstream.poll(live(name="after"), live("b", name="before"))
    assert former_labels(upstream) == ()


def test_stream_that_leaves_the_list_has_no_former_label() -> None:
    upstream = TrackedUpstream(stream_label="name")
    upstream.poll(live(name="before"))
    upstream.poll(after=600.0)
    assert former_labels(upstream) == ()
