"""Playback checks and their sources: from the configuration to the served states."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import msgspec
import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.playback import PlaybackSettings
from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import (
    NO_REPORT,
    Identity,
    PollResult,
    Reason,
    Status,
    StreamReport,
    StreamState,
    UpstreamState,
)
from exporter.polling.pairing import PairWatch
from exporter.polling.tracker import Tracker
from exporter.runtime.clock import Instant
from exporter.store import Store
from tests.fake_clock import FakeClock

FEEDS = frozenset({"playable"})


def stream(label: str, live: bool | None = True, playable: bool | None = None, of: str = "") -> StreamState:
    """Return a stream's state; ``of`` is its source as ``upstream/stream``."""
    upstream, _, source = of.partition("/")
    return StreamState(
        identity=Identity("p", "", label),
        report=StreamReport(id=label, playable=playable),
        live=live,
        status={True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}[live],
        source_upstream=upstream,
        source_stream=source,
    )


def state(upstream: str, *streams: StreamState, answering: bool | None = True, **facts: Any) -> UpstreamState:
    return UpstreamState(
        platform="p",
        upstream=upstream,
        host="h",
        health_score="derived",
        answering=answering,
        streams=streams,
        source_upstreams=frozenset(each.source_upstream for each in streams if each.source_upstream),
        **facts,
    )


class Served:
    """A store that notes every state it notifies of."""

    def __init__(self, *upstreams: str) -> None:
        self.store = Store()
        self.store.arrange(upstreams)
        self.published: list[UpstreamState] = []
        self.store.subscribe(self.published.append)

    def publish(self, *states: UpstreamState) -> list[str]:
        """Publish the states; return the upstreams of which subscribers were notified."""
        self.published.clear()
        for each in states:
            self.store.publish(each)
        return [each.upstream for each in self.published]

    def source_live(self, upstream: str, label: str) -> bool | None:
        found = self.store.find_stream(upstream, label)
        assert found is not None
        return found.source_live


# -- source_live -------------------------------------------------------------------------------------------------------


def test_check_follows_its_source_whichever_is_published() -> None:
    served = Served("edge", "cdn")
    check = state("cdn", stream("main", of="edge/live"))
    assert served.publish(check) == ["cdn"]
    assert served.source_live("cdn", "main") is None
    # the check is published again, because it has changed
    assert served.publish(state("edge", stream("live"))) == ["edge", "cdn"]
    assert served.source_live("cdn", "main") is True
    assert served.publish(state("edge", stream("live", live=False))) == ["edge", "cdn"]
    assert served.source_live("cdn", "main") is False
    assert served.publish(check) == ["cdn"]
    assert served.published[0].streams[0].source_live is False


def test_unchanged_states_are_neither_replaced_nor_published() -> None:
    served = Served("edge", "cdn", "other")
    one, other = stream("one", of="edge/live"), stream("two", of="edge/gone")
    served.publish(state("edge", stream("live")), state("cdn", one, other, stream("unpaired")))
    before = served.store.get("cdn")
    assert served.publish(state("edge", stream("live", playable=True)), state("other", stream("live"))) == [
        "edge",
        "other",
    ]
    assert served.store.get("cdn") is before
    served.publish(state("edge", stream("live", live=False)))
    after = served.store.get("cdn")
    assert before is not None
    assert after is not None
    assert [each is then for each, then in zip(after.streams, before.streams, strict=True)] == [False, True, True]
    unpaired = state("other", stream("x"))
    assert served.publish(unpaired) == ["other"]
    assert served.store.get("other") is unpaired


@pytest.mark.parametrize("answering", [False, None])
def test_source_is_unknown_while_its_upstream_is_not_answering(answering: bool | None) -> None:
    served = Served("edge", "cdn")
    served.publish(state("edge", stream("live")), state("cdn", stream("main", of="edge/live")))
    assert served.source_live("cdn", "main") is True
    served.publish(state("edge", stream("live"), answering=answering))
    assert served.source_live("cdn", "main") is None


@pytest.mark.parametrize("is_removed", [False, True])
def test_source_is_unknown_once_its_upstream_is_withdrawn_or_removed(is_removed: bool) -> None:
    served = Served("edge", "cdn")
    served.publish(state("edge", stream("live")), state("cdn", stream("main", of="edge/live")))
    served.published.clear()
    if is_removed:
        served.store.arrange(["cdn"])
    else:
        served.store.withdraw("edge")
    assert served.source_live("cdn", "main") is None
    assert [each.upstream for each in served.published] == ["cdn"]


@pytest.mark.parametrize(
    ("live", "playable", "expected"),
    [
        (True, True, True),
        (True, False, False),
        (True, None, None),
        (False, True, False),
        (False, None, False),
        (None, False, False),
        (None, True, None),
        (None, None, None),
    ],
)
def test_source_that_is_a_check_must_be_playable(
    live: bool | None, playable: bool | None, expected: bool | None
) -> None:
    served = Served("origin", "cdn")
    served.publish(state("origin", stream("main", live, playable), feeds=FEEDS))
    served.publish(state("cdn", stream("main", of="origin/main")))
    assert served.source_live("cdn", "main") is expected


def test_only_the_first_broken_hop_of_a_chain_has_a_live_source() -> None:
    names = ["encoder", "origin", "shield", "cdn", "player"]
    served = Served(*names)
    served.publish(state("encoder", stream("main")))
    for broken in (2, 3, 1, 4):
        for hop, (source, name) in enumerate(pairwise(names), 1):
            check = stream("main", playable=hop < broken, of=f"{source}/main")
            served.publish(state(name, check, feeds=FEEDS))
        lives = [served.source_live(name, "main") for name in names[1:]]
        assert lives == [hop <= broken for hop in range(1, 5)]


def test_checks_of_one_upstream_can_form_a_chain() -> None:
    served = Served("cdn")
    origin, edge = stream("origin", playable=True), stream("edge", playable=True, of="cdn/origin")
    served.publish(state("cdn", origin, edge, feeds=FEEDS))
    assert served.source_live("cdn", "edge") is True
    assert served.publish(state("cdn", edge, stream("origin", playable=False), feeds=FEEDS)) == ["cdn"]
    assert served.source_live("cdn", "edge") is False


UPSTREAMS = ("a", "b", "c", "d")
labels = st.sampled_from(["w", "x", "y", "z"])
facts = st.sampled_from([True, False, None])
sources = st.dictionaries(
    st.tuples(st.sampled_from(UPSTREAMS), labels), st.tuples(st.sampled_from(UPSTREAMS), labels), max_size=8
)
reports = st.lists(st.tuples(labels, facts, facts), max_size=4, unique_by=lambda report: report[0])
events = st.lists(
    st.tuples(st.sampled_from(UPSTREAMS), st.sampled_from(["publish"] * 6 + ["withdraw"]), facts, reports), max_size=12
)


def recomputed(store: Store, check: StreamState) -> bool | None:
    """Return what ``source_live`` should be, from the served states."""
    upstream = store.get(check.source_upstream)
    if upstream is None or upstream.answering is not True:
        return None
    found = [each for each in upstream.streams if each.identity.stream == check.source_stream]
    if not found:
        return None
    live, playable = found[0].live, found[0].report.playable
    if upstream.feeds is None and playable is None:
        return live
    if live is False or playable is False:
        return False
    return True if live and playable else None


@given(sources, st.sets(st.sampled_from(UPSTREAMS)), events)
def test_source_live_equals_a_simple_recomputation(
    pairs: dict[tuple[str, str], tuple[str, str]], checking: set[str], published: list[Any]
) -> None:
    served = Served(*UPSTREAMS)
    seen: dict[str, UpstreamState] = {}
    for upstream, event, answering, streams in published:
        before = {name: served.store.get(name) for name in UPSTREAMS}
        if event == "withdraw":
            served.published.clear()
            served.store.withdraw(upstream)
            seen.pop(upstream, None)
        else:
            built = [
                stream(label, live, playable, "/".join(pairs.get((upstream, label), ())))
                for label, live, playable in streams
            ]
            feeds = FEEDS if upstream in checking else None
            served.publish(state(upstream, *built, answering=answering, feeds=feeds))
        seen |= {each.upstream: each for each in served.published}
        for name in UPSTREAMS:
            current = served.store.get(name)
            # subscribers know the current states, and are notified of changes only
            assert current is seen.get(name)
            if current is not None and name != upstream:
                assert (current is before[name]) is (current == before[name])
            for each in current.streams if current else ():
                assert each.source_live is (recomputed(served.store, each) if each.source_upstream else None)


# -- configuration to states -------------------------------------------------------------------------------------------


class CheckSettings(PlaybackSettings):
    """Settings of a platform with playback checks."""

    platform: Literal["check"] = "check"


class ServerSettings(UpstreamSettings):
    """Settings of a streaming server."""

    platform: Literal["server"] = "server"


LONG = "x" * 300


@pytest.fixture
def tracker() -> Tracker:
    streams = [
        {"name": "main", "url": "/main.m3u8", "expected": True, "of": {"upstream": "edge", "stream": LONG}},
        {"name": "alone", "url": "/alone.m3u8", "expected": True},
    ]
    cdn = CheckSettings.model_validate({"name": "cdn", "url": "http://127.0.0.1:1", "streams": streams})
    Settings(upstreams=(ServerSettings(name="edge", url="http://127.0.0.1:1"), cdn))
    return Tracker(cdn, Instant(1e9, 0.0))


def exhaust(steps: Any) -> None:
    for _ in steps:
        pass


def test_state_has_the_configured_source_with_and_without_a_report(tracker: Tracker) -> None:
    unknown = PollResult(failures={"main": Reason.TIMEOUT})
    live = PollResult(streams=(StreamReport(id="main", status=Status.LIVE, live=True),))
    for result in (unknown, live):
        exhaust(tracker.apply(result, Instant(1e9, 0.0)))
        main, alone = tracker.states()
        assert (main.report is NO_REPORT) is (result is unknown)
        assert (main.source_platform, main.source_upstream) == ("server", "edge")
        # as the label of the source itself
        assert main.source_stream.startswith("x" * 240 + "#")
        assert (alone.source_platform, alone.source_upstream, alone.source_stream) == ("", "", "")


def test_exposition_has_the_source(tracker: Tracker) -> None:
    exhaust(tracker.refresh(Instant(1e9, 0.0)))
    served = Served("edge", "cdn")
    (main, alone) = tracker.states()
    main = msgspec.structs.replace(main, source_stream="live/main")
    served.publish(state("edge", stream("live/main")), state("cdn", main, alone))
    text = Exposition(served.store.states, ExporterMetrics()).render().decode()
    own = 'platform="check",upstream="cdn",stream="main"'
    source = 'source_platform="server",source_upstream="edge",source_stream="live/main"'
    lines = [line for line in text.splitlines() if line.startswith("stream_source_")]
    assert lines == [f"stream_source_live{{{own}}} 1", f"stream_source_info{{{own},{source}}} 1"]


# -- pairs that match nothing ------------------------------------------------------------------------------------------


class Watched(Served):
    """A store with a watch of the pairs, and a clock."""

    def __init__(self) -> None:
        super().__init__("edge", "cdn")
        self.clock = FakeClock()
        self.watch = PairWatch(self.store, self.clock)

    def pass_minutes(self, minutes: int, *sources: StreamState, answering: bool = True) -> list[Any]:
        """Publish both upstreams every minute; return what was logged."""
        with structlog.testing.capture_logs() as logs:
            for _ in range(minutes):
                check = stream("main", of="edge/lvie")
                self.publish(state("edge", *sources, answering=answering), state("cdn", check, stream("alone")))
                self.clock.advance(60)
        return logs


def test_pair_that_matches_nothing_is_logged_once() -> None:
    watched = Watched()
    assert watched.pass_minutes(10, stream("live")) == []
    (entry,) = watched.pass_minutes(60, stream("live"))
    assert entry == {
        "event": "source of a playback check is unknown to its upstream; check its name",
        "log_level": "warning",
        "upstream": "",
        "stream": "main",
        "source_upstream": "edge",
        "source_stream": "lvie",
    }


def test_pair_is_not_logged_while_the_upstream_of_the_source_is_not_answering() -> None:
    watched = Watched()
    assert watched.pass_minutes(60, answering=False) == []
    assert watched.pass_minutes(9, stream("live")) == []
    # the time starts again
    assert watched.pass_minutes(1, answering=False) == []
    assert watched.pass_minutes(9, stream("live")) == []
    assert len(watched.pass_minutes(5, stream("live"))) == 1


def test_pair_that_has_matched_once_is_never_logged() -> None:
    watched = Watched()
    assert watched.pass_minutes(1, stream("lvie")) == []
    assert watched.pass_minutes(60, stream("live")) == []
