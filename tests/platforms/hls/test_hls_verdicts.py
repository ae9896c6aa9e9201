"""Verdicts on streams over time: what viewers would get, and what the exporter cannot tell."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.http.media import FetchReason
from exporter.model import StreamReport
from tests.media.media_files import SEGMENTS
from tests.platforms.hls.check_world import (
    TS,
    Answer,
    CheckWorld,
    LivePackager,
    check_world,
    longest_run,
    numbered,
)

FORBIDDEN = (401, 403)
HEALTHY = 60.0


class Stream:
    """A healthy packager, and what a test makes of the responses."""

    def __init__(self, world: CheckWorld, **packager: Any) -> None:
        self.packager = LivePackager(world.clock, **packager)
        self.playlist: Answer | None = None
        self.segment: Answer | Callable[[str], Answer] = Answer(TS, content_type="video/mp2t")
        self.init: Answer = Answer(b"")
        self.tags: str = ""
        world.respond = self.respond

    def respond(self, url: str, what: str, _now: float) -> Answer:
        if what == "playlist":
            return self.playlist or Answer(self.packager.playlist(head=self.tags))
        if what == "init":
            return self.init
        return self.segment(url) if callable(self.segment) else self.segment


async def test_healthy_stream_is_playable_from_the_first_poll() -> None:
    async with check_world(numbered({})) as world:
        Stream(world)
        await world.poll()
        assert world.report().playable is True
        assert world.report().live is True
        for _, report in await world.run(120):
            assert (report.live, report.playable, report.missed_segments) == (True, True, 0)
        served = world.served()
    assert served.value("stream_playable", "main") == 1
    assert served.value("stream_playback_forbidden", "main") == 0
    assert served.status("main") == "live"
    assert served.reasons("main") == set()


@pytest.mark.parametrize("mode", ["none", "head", "full"])
async def test_first_verdict_waits_for_a_segment(mode: str) -> None:
    async with check_world(numbered({}), segments=mode) as world:
        stream = Stream(world)
        stream.segment = Answer(status=404)
        await world.poll()
        assert world.report().playable is (True if mode == "none" else None)
        assert world.report().live is True
        await world.wait(2.0)
        stream.segment = Answer(TS)
        reports = await world.run(15)
    assert reports[-1][1].playable is True
    assert longest_run(reports, is_bad=lambda report: report.playable is False) == 0.0


async def test_segments_that_never_existed_make_a_stream_unplayable() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        stream.segment = Answer(status=404)
        await world.poll()
        reports = await world.run(30)
    assert [report.playable for _, report in reports if report.playable] == []
    assert reports[-1][1].unplayable_reason == "segment_missing"


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (Answer(status=404), "segment_missing"),
        (Answer(status=500), "segment_missing"),
        (Answer(reason=FetchReason.BLOCKED), "segment_missing"),
        (Answer(reason=FetchReason.TOO_LARGE), "segment_missing"),
        (Answer(b"<html>Not found</html>"), "segment_invalid"),
        (Answer(b""), "segment_invalid"),
    ],
)
async def test_segments_that_viewers_do_not_get(segment: Answer, reason: str) -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        await world.poll()
        await world.run(HEALTHY)
        stream.segment = segment
        reports = await world.run(40)
        assert reports[-1][1].unplayable_reason == reason
        assert reports[-1][1].live is True
        assert (reports[-1][1].segment_fetch_failures or 0) >= 2
        stream.segment = Answer(TS)
        reports = await world.run(20)
    assert reports[-1][1].playable is True


async def test_segment_that_appears_a_second_late_is_no_failure() -> None:
    """A cache may remember for a moment that a segment did not exist."""
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        known: set[str] = set()

        def late(url: str) -> Answer:
            if url in known:
                return Answer(TS)
            known.add(url)
            return Answer(status=404)

        stream.segment = late
        await world.poll()
        reports = await world.run(HEALTHY)
    assert reports[-1][1].playable is True
    assert reports[-1][1].segment_fetch_failures == 0


# -- what the exporter cannot tell -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", FORBIDDEN)
@pytest.mark.parametrize("what", ["playlist", "segment"])
async def test_refused_requests_are_no_verdict_on_the_stream(what: str, status: int) -> None:
    async with check_world(numbered({}), has_alerts=True) as world:
        stream = Stream(world)
        await world.poll()
        await world.run(HEALTHY)
        setattr(stream, what, Answer(status=status))
        reports = await world.run(900)
        served = world.served()
        assert all(report.playable is not False for _, report in reports)
        assert reports[-1][1].playable is None
        assert served.value("stream_playable", "main") is None
        assert served.value("stream_playback_forbidden", "main") == 1
        assert served.status("main") == ("unknown" if what == "playlist" else "live")
        assert not {alert for alert in world.fired if alert.endswith("critical")}
        assert "StreamPlaybackForbidden warning" in world.fired
        # and it clears again
        setattr(stream, what, None if what == "playlist" else Answer(TS))
        reports = await world.run(30)
        assert reports[-1][1].playable is True
        assert reports[-1][1].playback_forbidden is False


async def test_frozen_playlist_is_stale_although_segments_are_refused() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        stream.segment = Answer(status=403)
        await world.poll()
        await world.run(HEALTHY)
        assert world.report().playable is None
        stream.packager.freeze()
        reports = await world.run(40)
    assert reports[-1][1].unplayable_reason == "stale"


async def test_long_pause_that_a_server_asks_for_makes_a_stream_unknown() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        await world.poll()
        await world.run(HEALTHY)
        stream.playlist = Answer(reason=FetchReason.RATE_LIMITED, is_inconclusive=True)
        reports = await world.run(10)
        assert reports[-1][1].playable is True
        reports = await world.run(60)
        assert reports[-1][1].playable is None
        assert reports[-1][1].live is None
        assert world.served().status("main") == "unknown"
        stream.playlist = None
        reports = await world.run(10)
    assert reports[-1][1].playable is True


# -- the exporter's own network ----------------------------------------------------------------------------------------

HOSTS = ("a", "b", "c")


def add_hosts(world: CheckWorld, hosts: tuple[str, ...] = HOSTS) -> None:
    for host in hosts:
        url = f"https://{host}.example.com"
        world.add(host, url=url, streams=[{"name": host, "url": "/main.m3u8", "expected": True, "start_grace": "0s"}])


def network(world: CheckWorld, down: set[str], reason: FetchReason = FetchReason.TIMEOUT, seconds: float = 4.0) -> None:
    packager = LivePackager(world.clock, seconds=seconds)

    def respond(url: str, what: str, _now: float) -> Answer:
        if "*" in down or url.removeprefix("https://")[0] in down:
            return Answer(reason=reason)
        return Answer(packager.playlist() if what == "playlist" else TS)

    world.respond = respond


async def run_all(
    world: CheckWorld, seconds: float, *, offsets: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> list[StreamReport]:
    """Poll each upstream every 5 s at its own offset; return all reports."""
    begin = world.elapsed
    reports: list[StreamReport] = []
    polls: dict[str, asyncio.Task[None]] = {}

    async def poll(name: str) -> None:
        await world.start_poll(name)
        reports.append(world.report(name, name))

    events = sorted(
        (begin + offset + 5.0 * number, name)
        for name, offset in zip(world.upstreams, offsets, strict=False)
        for number in range(int(seconds / 5))
    )
    for at, name in events:
        await world.wait(max(0.0, at - world.elapsed))
        if name not in polls or polls[name].done():
            polls[name] = asyncio.create_task(poll(name))
    while not all(task.done() for task in polls.values()):
        await world.wait(1.0)
    return reports


@settings(max_examples=15)
@given(
    st.tuples(st.floats(0, 4.9), st.floats(0, 4.9), st.floats(0, 4.9)),
    st.sampled_from([FetchReason.TIMEOUT, FetchReason.CONNECT]),
    st.sampled_from([20.0, 60.0, 300.0]),
)
def test_own_network_that_is_down_kills_no_stream(
    offsets: tuple[float, float, float], reason: FetchReason, seconds: float
) -> None:
    async def scenario() -> None:
        async with check_world(numbered({}), add=False, has_alerts=True) as world:
            add_hosts(world)
            down: set[str] = set()
            network(world, down, reason)
            reports = await run_all(world, 60, offsets=offsets)
            down.add("*")
            reports += await run_all(world, seconds, offsets=offsets)
            assert [world.state(name).up for name in HOSTS] == [False] * 3
            assert world.state("a").last_error_reason == "vantage"
            assert 'stream_upstream_up{platform="hls",upstream="a"} 0' in world.text()
            down.clear()
            after = await run_all(world, 60, offsets=offsets)
            assert [report.playable for report in (*reports, *after) if report.playable is False] == []
            assert [report.live for report in (*reports, *after) if report.live is False] == []
            assert all(report.playable is True for report in after[-6:])
            assert not {alert for alert in world.fired if "Unplayable" in alert or "Nothing" in alert}

    asyncio.run(scenario())


@pytest.mark.parametrize("reason", [FetchReason.TIMEOUT, FetchReason.CONNECT])
async def test_server_that_is_down_is_found_while_others_are_reached(reason: FetchReason) -> None:
    async with check_world(numbered({}), add=False, has_alerts=True) as world:
        add_hosts(world)
        down: set[str] = set()
        network(world, down, reason)
        await run_all(world, 60)
        down.add("a")
        await run_all(world, 90)
        assert world.report("a", "a").unplayable_reason == "playlist_failed"
        assert world.report("b", "b").playable is True
        assert world.state("a").up is True
        assert "StreamUnplayable critical" in world.fired


async def test_half_of_the_servers_down_does_not_hide_the_others() -> None:
    async with check_world(numbered({}), add=False, has_alerts=True) as world:
        add_hosts(world, ("a", "b", "c", "d"))
        down: set[str] = set()
        network(world, down)
        await run_all(world, 60, offsets=(0.0, 1.0, 2.0, 3.0))
        down.update("ab")
        reports = await run_all(world, 90, offsets=(0.0, 1.0, 2.0, 3.0))
        assert {report.playable for report in reports if report.id in ("c", "d")} == {True}
        assert world.report("a", "a").playable is not False
        # after two minutes it is clear that the network is not at fault
        await run_all(world, 120, offsets=(0.0, 1.0, 2.0, 3.0))
        assert world.report("a", "a").unplayable_reason == "playlist_failed"
        assert world.report("c", "c").playable is True
        assert "StreamUnplayable critical" in world.fired


async def test_server_whose_playlists_are_not_due_is_not_down_with_others() -> None:
    async with check_world(numbered({}), add=False) as world:
        add_hosts(world, ("a", "b", "c", "d"))
        down: set[str] = set()
        network(world, down, seconds=30.0)
        await run_all(world, 60, offsets=(0.0, 1.0, 2.0, 3.0))
        down.update("ab")
        for _ in range(12):
            await run_all(world, 5, offsets=(0.0, 1.0, 2.0, 3.0))
            assert world.state("c").up is True


# -- segments ----------------------------------------------------------------------------------------------------------


async def test_gap_is_not_fetched_and_only_gaps_at_the_edge_are_unplayable() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        gaps = {f"s{number:05d}.ts" for number in range(120, 124)}

        def respond(url: str, what: str, now: float) -> Answer:
            answer = stream.respond(url, what, now)
            if what != "playlist":
                assert url.rpartition("/")[2] not in gaps
                return answer
            lines = answer.body.decode().split("\n")
            with_gaps = [
                f"{'#EXT-X-GAP' + chr(10) if following in gaps else ''}{line}"
                for line, following in itertools.zip_longest(lines, lines[1:], fillvalue="")
            ]
            return Answer("\n".join(with_gaps).encode())

        world.respond = respond
        await world.poll()
        reports = await world.run(100, every=2.0)
    assert {report.unplayable_reason for _, report in reports} == {"", "gap"}
    assert longest_run(reports, is_bad=lambda report: report.playable is False) <= 8.0
    assert reports[-1][1].playable is True
    assert reports[-1][1].gap_segments == 4
    assert any("gap" in report.playback_findings for _, report in reports)


@pytest.mark.parametrize(
    ("tags", "segment"),
    [
        ('#EXT-X-KEY:METHOD=AES-128,URI="https://keys.example.com/k"', bytes(1000)),
        ('#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI="skd://k"', (SEGMENTS / "encrypted.mp4").read_bytes()),
    ],
)
async def test_encrypted_segments_are_playable_and_not_judged(tags: str, segment: bytes) -> None:
    async with check_world(numbered({}), segments="full") as world:
        stream = Stream(world)
        stream.tags = tags
        stream.segment = Answer(segment)
        await world.poll()
        reports = await world.run(HEALTHY)
        assert not any("key" in url or "skd" in url for url in world.urls("segment") + world.urls())
    last = reports[-1][1]
    assert (last.playable, last.audio_present, last.video_present) == (True, None, None)
    assert "segments are encrypted, so audio and video are not checked" in last.playback_notes


async def test_sound_that_is_gone_is_confirmed_and_reported() -> None:
    with_audio, without = (SEGMENTS / "h264-aac.ts").read_bytes(), (SEGMENTS / "h264.ts").read_bytes()
    async with check_world(numbered({}), segments="full", has_alerts=True) as world:
        stream = Stream(world)
        stream.segment = Answer(with_audio)
        await world.poll()
        reports = await world.run(HEALTHY)
        assert (reports[-1][1].audio_present, reports[-1][1].video_present) == (True, True)
        assert (reports[-1][1].audio_codec, reports[-1][1].video_codec) == ("aac", "h264")
        stream.segment = Answer(without)
        reports = await world.run(180)
        assert (reports[-1][1].audio_present, reports[-1][1].video_present) == (False, True)
        assert reports[-1][1].playable is True
        assert "audio_missing" in reports[-1][1].playback_findings
        assert "StreamAudioMissing critical" in world.fired


async def test_slow_segments_delay_no_playlist_and_one_is_fetched_at_a_time() -> None:
    async with check_world(numbered({}), segments="full") as world:
        stream = Stream(world, seconds=2.0)
        stream.segment = Answer(TS, seconds=7.5)
        await world.poll()
        await world.run(120, every=1.0)
        playlists = [request.at for request in world.requests if request.what == "playlist"]
        segments = [request.at for request in world.requests if request.what == "segment"]
        assert all(later - earlier <= 1.1 for earlier, later in itertools.pairwise(playlists[1:]))
        assert all(later - earlier >= 7.5 for earlier, later in itertools.pairwise(segments))
        assert world.report().latency_seconds is not None
        assert "slow" in world.report().playback_findings


async def test_closing_ends_the_fetches_of_segments() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        await world.poll()
        stream.segment = Answer(TS, seconds=3.0)
        await world.wait(2.0)
        await world.poll()
        tasks = world.tasks()
        assert tasks
        await world.upstreams["edge"].coordinator.close()
        assert all(task.done() for task in tasks)
        assert world.upstreams["edge"].fetcher.is_closed


async def test_several_networks_are_separate_streams() -> None:
    async with check_world(
        numbered({}),
        streams=[
            {"name": "main@a", "url": "https://cdn-a.example.com/main.m3u8"},
            {"name": "main@b", "url": "https://cdn-b.example.com/main.m3u8"},
        ],
    ) as world:
        packager = LivePackager(world.clock)

        def respond(url: str, what: str, _now: float) -> Answer:
            if "cdn-b" in url and is_down:
                return Answer(status=503)
            return Answer(packager.playlist() if what == "playlist" else TS)

        is_down = False
        world.respond = respond
        await world.poll()
        for _ in range(12):
            await world.wait(5.0)
            await world.poll()
        is_down = True
        for _ in range(12):
            await world.wait(5.0)
            await world.poll()
        assert world.report(stream="main@a").playable is True
        assert world.report(stream="main@b").unplayable_reason == "playlist_failed"


# -- numbering ---------------------------------------------------------------------------------------------------------


async def test_tokens_in_urls_do_not_look_like_new_media() -> None:
    """The same segments have other tokens in every playlist, in the query, the host or the path."""
    async with check_world(numbered({})) as world:
        stream = Stream(world, dated=False)
        tokens = itertools.count()

        def respond(url: str, what: str, _now: float) -> Answer:
            if what != "playlist":
                return Answer(TS)
            number = next(tokens)
            stream.packager.uri = lambda segment: f"https://n{number}.example.com/t{number}/s{segment}.ts?t={number}"
            return Answer(stream.packager.playlist())

        world.respond = respond
        await world.poll()
        reports = await world.run(HEALTHY)
        assert reports[-1][1].playable is True
        assert reports[-1][1].sequence_resets == 0
        stream.packager.freeze()
        reports = await world.run(40)
    assert reports[-1][1].unplayable_reason == "stale"


async def test_stream_that_starts_again_is_not_short_of_media() -> None:
    async with check_world(numbered({}), has_alerts=True) as world:
        stream = Stream(world)
        await world.poll()
        await world.run(130)
        stream.playlist = Answer(status=404)
        await world.run(130)
        stream.playlist = None
        stream.packager.first = 0
        reports = await world.run(200)
        assert all("shortage" not in report.playback_findings for _, report in reports)
        assert not {alert for alert in world.fired if "Shortage" in alert}


@pytest.mark.parametrize("seconds", [20.0, 60.0])
async def test_long_segments_are_stale_in_time(seconds: float) -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world, seconds=seconds)
        await world.poll()
        reports = await world.run(10 * seconds)
        assert all(report.playable is True for _, report in reports)
        stream.packager.freeze()
        reports = await world.run(5 * seconds)
    stale = next(at for at, report in reports if report.playable is False)
    began = reports[0][0] - 5.0
    assert 2.5 * seconds <= stale - began <= 3.5 * seconds + seconds / 2 + 10.0


async def test_ended_stream_is_ended_and_not_an_error() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        await world.poll()
        await world.run(HEALTHY)
        stream.playlist = Answer(stream.packager.playlist(ended=True))
        reports = await world.run(30)
        served = world.served()
    assert reports[-1][1].unplayable_reason == "ended"
    assert served.status("main") == "ended"


async def test_segments_are_relative_to_the_target_of_a_redirect() -> None:
    async with check_world(numbered({})) as world:
        packager = LivePackager(world.clock)
        moved = "https://other.example.net/x/y.m3u8"
        world.respond = lambda _url, what, _now: (
            Answer(packager.playlist(), url=moved) if what == "playlist" else Answer(TS)
        )
        await world.poll()
        assert world.urls("segment") == ["https://other.example.net/x/s00104.ts"]
