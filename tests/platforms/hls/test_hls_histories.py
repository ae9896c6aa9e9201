"""Any sequence of playlists, failures and blind periods: statements that hold whatever happens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.http.media import FetchReason
from exporter.model import Reason, StreamReport
from tests.platforms.hls.check_world import (
    PLAYLIST_TYPE,
    TS,
    Answer,
    CheckWorld,
    LivePackager,
    Respond,
    check_world,
    master_playlist,
    media_playlist,
)

INTERVAL = 5.0
SOME = settings(max_examples=25)
TOTALS = (
    "media_segments", "media_seconds", "missed_segments", "sequence_resets", "sequence_regressions",
    "sequence_conflicts", "discontinuities", "gap_segments", "segment_fetch_failures", "segment_download_seconds",
    "segment_media_seconds",
)  # fmt: skip
HTML = Answer(b"<html>Sorry</html>", content_type="text/html")
FAILURES = {
    "404": Answer(status=404),
    "410": Answer(status=410),
    "500": Answer(status=500),
    "503": Answer(status=503),
    "html": HTML,
    "empty": Answer(b""),
    "timeout": Answer(reason=FetchReason.TIMEOUT),
    "connect": Answer(reason=FetchReason.CONNECT),
    "blocked": Answer(reason=FetchReason.BLOCKED),
}
BLIND = {
    "401": Answer(status=401),
    "403": Answer(status=403),
    "pause": Answer(reason=FetchReason.RATE_LIMITED, is_inconclusive=True),
    "not sent": Answer(reason=FetchReason.TIMEOUT, is_inconclusive=True),
}
_LIMIT = 3.5 * 2 * 10.0
"""Longest time without new media after which any of these streams is stale: target durations are at most 20 s."""


class Origin:
    """A stream with a position and a numbering, which a test moves."""

    def __init__(self, world: CheckWorld, seconds: float, count: int, *, is_dated: bool) -> None:
        self._world = world
        self.seconds = seconds
        self.count = count
        self.is_dated = is_dated
        self.first = 1000
        self.edge = world.clock.now()
        self.prefix = "a"
        self.failure: Answer | None = None
        self.segment: Answer | None = None

    def respond(self, _url: str, what: str, _now: float) -> Answer:
        if what != "playlist":
            return self.segment or Answer(TS, content_type="video/mp2t")
        return self.failure or Answer(self.playlist())

    def playlist(self) -> bytes:
        return media_playlist(
            self.first, self.count, seconds=self.seconds, edge=self.edge if self.is_dated else None,
            uri=lambda number: f"{self.prefix}{number}.ts",
        )  # fmt: skip

    def advance(self, segments: int) -> None:
        self.first += segments
        self.edge = self._world.clock.now()

    def restart(self, first: int) -> None:
        self.first = first
        self.prefix = chr(ord(self.prefix) + 1) if self.prefix < "y" else "a"
        self.edge = self._world.clock.now()


Step = tuple[str, Any]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(1, 40)),
        st.tuples(st.just("stay"), st.none()),
        st.tuples(st.just("back"), st.integers(1, 300)),
        st.tuples(st.just("jump"), st.integers(50, 10**6)),
        st.tuples(st.just("restart"), st.sampled_from([0, 1, 5, 999, 2**63])),
        st.tuples(st.just("fail"), st.sampled_from(sorted(FAILURES))),
        st.tuples(st.just("blind"), st.sampled_from(sorted(BLIND))),
        st.tuples(st.just("segments"), st.sampled_from(["404", "503", "403", "html", "timeout", "ok"])),
        st.tuples(st.just("sleep"), st.sampled_from([1.0, 60.0, 600.0])),
    ),
    max_size=12,
)
shapes = st.tuples(st.sampled_from([1.0, 2.0, 6.0, 10.0]), st.integers(1, 10), st.booleans())
"""Duration of segments, segments in a playlist, and whether they have dates."""


async def take(origin: Origin, world: CheckWorld, step: Step) -> None:
    """Do what a step says, poll, and wait an interval."""
    kind, value = step
    origin.failure = None
    if kind == "advance":
        origin.advance(value)
    elif kind == "back":
        origin.first = max(0, origin.first - value)
    elif kind == "jump":
        origin.first += value
    elif kind == "restart":
        origin.restart(value)
    elif kind == "fail":
        origin.failure = FAILURES[value]
    elif kind == "blind":
        origin.failure = BLIND[value]
    elif kind == "segments":
        origin.segment = None if value == "ok" else {**FAILURES, **BLIND}[value]
    elif kind == "sleep":
        await world.wait(value)
    await world.poll()
    await world.wait(INTERVAL)


def check(report: StreamReport, before: StreamReport | None) -> None:
    """Check what is true of every report."""
    assert (report.playable is False) == bool(report.unplayable_reason), report
    if report.playable:
        assert report.live is True, report
    for name in TOTALS if before is not None else ():
        old, new = getattr(before, name), getattr(report, name)
        assert old is None or new is None or new >= old, (name, old, new)


def serving(document: bytes) -> Respond:
    return lambda _url, what, _now: Answer(document if what == "playlist" else TS)


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


async def follow(
    origin: Origin, world: CheckWorld, steps: Sequence[Step], before: StreamReport | None = None
) -> list[StreamReport]:
    """Take the steps; return the reports."""
    reports = []
    for step in steps:
        await take(origin, world, step)
        state = world.state()
        assert state.last_error_reason is not Reason.INTERNAL, state.last_error
        report = world.report()
        check(report, before)
        reports.append(report)
        before = report
    return reports


@SOME
@given(steps, shapes)
def test_anything_then_a_healthy_stream_is_playable(given_steps: list[Step], shape: tuple[float, int, bool]) -> None:
    async def scenario() -> None:
        async with check_world(lambda *_: Answer()) as world:
            origin = Origin(world, shape[0], shape[1], is_dated=shape[2])
            world.respond = origin.respond
            await follow(origin, world, given_steps)
            origin.segment = None
            # at most half of the playlist is new each time
            rounds = [("advance", max(1, min(origin.count // 2, int(INTERVAL / origin.seconds))))] * 9
            reports = await follow(origin, world, rounds)
            assert [report.live for report in reports[-3:]] == [True] * 3
            assert [report.playable for report in reports[-3:]] == [True] * 3
            world.text()

    run(scenario)


@SOME
@given(steps, shapes, st.sampled_from(["stay", *sorted(FAILURES)]))
def test_anything_then_no_new_media_is_not_live(
    given_steps: list[Step], shape: tuple[float, int, bool], end: str
) -> None:
    async def scenario() -> None:
        async with check_world(lambda *_: Answer()) as world:
            origin = Origin(world, shape[0], shape[1], is_dated=shape[2])
            world.respond = origin.respond
            await follow(origin, world, given_steps)
            step: Step = ("stay", None) if end == "stay" else ("fail", end)
            reports = await follow(origin, world, [step] * int(_LIMIT / INTERVAL + 4))
            assert reports[-1].live is not True
            assert reports[-1].playable is False
            if end == "stay":
                assert reports[-1].live is False
                assert reports[-1].unplayable_reason == "stale"

    run(scenario)


@SOME
@given(shapes, st.lists(st.sampled_from(sorted(BLIND)), min_size=1, max_size=30), st.sampled_from([1.0, 5.0, 60.0]))
def test_blind_time_does_not_make_a_stream_stale(
    shape: tuple[float, int, bool], blind: list[str], pause: float
) -> None:
    async def scenario() -> None:
        async with check_world(lambda *_: Answer()) as world:
            origin = Origin(world, shape[0], max(3, shape[1]), is_dated=shape[2])
            world.respond = origin.respond
            await follow(origin, world, [("advance", 1)] * 4)
            assert world.report().playable is True
            for name in blind:
                origin.failure = BLIND[name]
                await world.poll()
                report = world.report()
                assert report.live is not False
                assert report.playable is not False
                await world.wait(pause)
            # the same playlist as before: whether it has stopped is to be seen only from now on
            report = (await follow(origin, world, [("stay", None)]))[0]
            assert report.live is not False
            assert (await follow(origin, world, [("advance", 1)]))[0].live is True

    run(scenario)


@SOME
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 100), st.booleans()), min_size=2, max_size=4),
    st.lists(st.permutations(range(4)), min_size=25, max_size=25),
    st.booleans(),
)
def test_frozen_caches_that_alternate_are_not_live(
    caches: list[tuple[int, int, bool]], order: list[list[int]], is_dated: bool
) -> None:
    async def scenario() -> None:
        async with check_world(lambda *_: Answer()) as world:
            start = world.clock.now()
            documents = [
                media_playlist(
                    first, edge=start - age if is_dated else None, uri=f"{'b' if is_other else 'a'}{{}}.ts".format
                )
                for first, age, is_other in caches
            ]
            turns = [number for turn in order for number in turn if number < len(documents)]
            reports = []
            for number in turns:
                document = documents[number]
                world.respond = serving(document)
                await world.poll()
                reports.append(world.report())
                await world.wait(INTERVAL)
            for before, report in itertools.pairwise(reports):
                check(report, before)
            settled = reports[len(reports) // 2 :]
            assert {report.live for report in settled} == {False}
            assert {report.unplayable_reason for report in settled} == {"stale"}

    run(scenario)


@pytest.mark.parametrize("is_dated", [True, False])
@pytest.mark.parametrize("behind", [1, 2, 3, 5, 10, 20, 40, 200])
async def test_origin_that_is_behind_is_followed(behind: int, is_dated: bool) -> None:
    """A balancer changes to an origin that is behind, with the same names and numbers, for good."""
    async with check_world(lambda *_: Answer()) as world:
        packager = LivePackager(world.clock, dated=is_dated, first=1000)
        packager._began -= 600.0
        world.respond = lambda _url, what, _now: Answer(packager.playlist() if what == "playlist" else TS)
        await world.run(120)
        world.respond = lambda _url, what, _now: Answer(packager.playlist(behind=behind) if what == "playlist" else TS)
        reports = await world.run(200)
    assert all(report.live is True and report.playable is True for _, report in reports)
    assert reports[-1][1].sequence_resets == 0


@pytest.mark.parametrize("is_dated", [True, False])
async def test_origins_out_of_step_behind_one_balancer_are_live(is_dated: bool) -> None:
    """Sequence numbers go back again and again, while the edge is fresh."""
    async with check_world(lambda *_: Answer()) as world:
        packager = LivePackager(world.clock, dated=is_dated)
        turn = itertools.cycle([0, 0, 2, 1, 0, 3])
        world.respond = lambda _url, what, _now: Answer(
            packager.playlist(behind=next(turn)) if what == "playlist" else TS
        )
        await world.poll()
        reports = await world.run(300, every=2.0)
    assert all(report.live is not False and report.playable is not False for _, report in reports)
    last = reports[-1][1]
    assert last.sequence_regressions is not None
    assert last.sequence_regressions > 10
    assert "sequence" in last.playback_findings
    assert (last.sequence_resets, last.missed_segments) == (0, 0)


@SOME
@given(st.lists(st.sampled_from([(0, 1, 2), (0, 1), (1, 0), (2,), (0,)]), min_size=2, max_size=12), st.data())
def test_totals_of_a_stream_with_renditions_never_fall(ladders: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Renditions come and go, fail and restart; the stream's totals only rise."""

    async def scenario() -> None:
        async with check_world(lambda *_: Answer()) as world:
            packager = LivePackager(world.clock)
            failing: set[int] = set()
            listed: tuple[int, ...] = ladders[0]

            def respond(url: str, what: str, _now: float) -> Answer:
                if what == "segment":
                    return Answer(TS)
                if url.endswith("main.m3u8"):
                    return Answer(master_playlist(*(f"v{number}.m3u8" for number in listed)))
                number = int(url.removesuffix(".m3u8")[-1])
                if number in failing or number not in listed:
                    return Answer(status=404)
                return Answer(packager.playlist(behind=number), content_type=PLAYLIST_TYPE)

            world.respond = respond
            before = None
            for listed in ladders:  # noqa: B007 - ``respond`` uses it
                failing = data.draw(st.sets(st.integers(0, 2)))
                for _ in range(data.draw(st.integers(1, 12))):
                    await world.poll()
                    check(world.report(), before)
                    before = world.report()
                    await world.wait(INTERVAL)

    run(scenario)
