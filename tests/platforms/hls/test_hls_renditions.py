"""Streams with renditions: which playlists are requested and how often, and what each rendition proves."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest

from exporter.http.media import FetchReason
from tests.platforms.hls.check_world import (
    PLAYLIST_URL,
    TS,
    Answer,
    CheckWorld,
    LivePackager,
    check_world,
    longest_run,
    master_playlist,
    media_playlist,
)

LADDER = tuple(f"v{number}.m3u8" for number in range(5))


class Ladder:
    """A master playlist and its renditions, which a test freezes or removes."""

    def __init__(self, world: CheckWorld, *names: str, audio: dict[str, str] | None = None, **packager: Any) -> None:
        self.master: Answer | None = None
        self.names = names or LADDER
        self.audio = audio or {}
        self.packagers = {name: LivePackager(world.clock, **packager) for name in (*self.names, *self.audio.values())}
        self.answers: dict[str, Answer] = {}
        world.respond = self.respond

    def respond(self, url: str, what: str, _now: float) -> Answer:
        name = url.partition("?")[0].rpartition("/")[2]
        if name in self.answers:
            return self.answers[name]
        if what != "playlist":
            return Answer(TS, content_type="video/mp2t")
        if name == "main.m3u8":
            return self.master or Answer(master_playlist(*self.names, audio=self.audio))
        return Answer(self.packagers[name].playlist())


def polled(world: CheckWorld) -> Counter[str]:
    return Counter(url.partition("?")[0].rpartition("/")[2] for url in world.urls())


@pytest.mark.parametrize(("mode", "others"), [("first", 0), ("rotate", 15), ("all", 60)])
async def test_renditions_that_are_polled(mode: str, others: int) -> None:
    async with check_world(lambda *_: Answer(), renditions=mode, whole_segment_every="0") as world:
        Ladder(world)
        await world.poll()
        await world.run(300)
        requested = polled(world)
    assert requested["main.m3u8"] == 1
    assert requested["v0.m3u8"] == 61
    for name in LADDER[1:]:
        # all are looked at first, unless only the first one is wanted
        assert requested[name] == others + (mode != "first")


@pytest.mark.parametrize("seconds", [2.0, 6.0, 10.0, 20.0, 60.0])
@pytest.mark.parametrize("mode", ["first", "rotate", "all"])
async def test_playlists_are_not_requested_faster_than_half_a_target_duration(mode: str, seconds: float) -> None:
    async with check_world(lambda *_: Answer(), renditions=mode, interval="1s") as world:
        Ladder(world, seconds=seconds)
        await world.poll()
        reports = await world.run(150)
        by_url: dict[str, list[float]] = {}
        for request in world.requests:
            if request.what == "playlist":
                by_url.setdefault(request.url, []).append(request.at)
    assert len(by_url) > 1
    for times in by_url.values():
        assert all(later - earlier >= seconds / 2 - 0.06 for earlier, later in itertools.pairwise(times))
    assert all(report.playable is True for _, report in reports)


@pytest.mark.parametrize("mode", ["rotate", "all"])
async def test_rotated_renditions_do_not_seem_stale_between_their_turns(mode: str) -> None:
    async with check_world(lambda *_: Answer(), renditions=mode) as world:
        Ladder(world, *(f"v{number}.m3u8" for number in range(12)))
        await world.poll()
        reports = await world.run(600)
    assert all(report.playable is True for _, report in reports)
    assert {report.playable_renditions for _, report in reports} == {12}
    assert all(report.playback_findings == () for _, report in reports)


async def test_frozen_rendition_is_found_in_its_turn_and_recovers() -> None:
    async with check_world(lambda *_: Answer(), has_alerts=True) as world:
        ladder = Ladder(world)
        await world.poll()
        await world.run(60)
        ladder.packagers["v3.m3u8"].freeze()
        reports = await world.run(60)
        assert reports[-1][1].playable is True
        assert (reports[-1][1].playable_renditions, reports[-1][1].expected_renditions) == (4, 5)
        assert "rendition_missing" in reports[-1][1].playback_findings
        await world.run(240)
        assert "StreamRenditionMissing warning" in world.fired
        ladder.packagers["v3.m3u8"].frozen_at = None
        reports = await world.run(60)
        assert reports[-1][1].playable_renditions == 5


async def test_single_failure_of_a_rotated_rendition_is_confirmed_at_once() -> None:
    async with check_world(lambda *_: Answer()) as world:
        ladder = Ladder(world, *(f"v{number}.m3u8" for number in range(9)))
        await world.poll()
        await world.run(60)
        failed = itertools.count()

        def respond(url: str, what: str, now: float) -> Answer:
            if url.endswith("v5.m3u8") and next(failed) == 0:
                return Answer(status=503)
            return ladder.respond(url, what, now)

        world.respond = respond
        reports = await world.run(80)
        assert {report.playable_renditions for _, report in reports} == {9}
        assert next(failed) >= 3


async def test_dead_encoder_of_a_ladder_is_found_as_soon_as_that_of_one_rendition() -> None:
    async with check_world(lambda *_: Answer()) as world:
        ladder = Ladder(world, *(f"v{number}.m3u8" for number in range(8)))
        await world.poll()
        await world.run(100)
        died = world.elapsed
        for packager in ladder.packagers.values():
            packager.freeze()
        reports = await world.run(60)
    dead = next(at for at, report in reports if report.playable is False)
    assert dead - died <= 25.0
    assert reports[-1][1].unplayable_reason == "stale"
    assert reports[-1][1].live is False


async def test_renditions_missing_although_the_master_playlist_exists() -> None:
    async with check_world(lambda *_: Answer()) as world:
        ladder = Ladder(world)
        ladder.answers = dict.fromkeys(LADDER, Answer(status=404))
        await world.poll()
        reports = await world.run(30)
        assert reports[-1][1].unplayable_reason == "renditions_missing"
        assert reports[-1][1].live is False
        # gone altogether
        ladder.master = Answer(status=404)
        reports = await world.run(90)
    assert reports[-1][1].unplayable_reason == "playlist_missing"
    assert reports[-1][1].status.value == "idle"


async def test_missing_master_playlist_stops_new_viewers_although_renditions_go_on() -> None:
    async with check_world(lambda *_: Answer()) as world:
        ladder = Ladder(world)
        await world.poll()
        await world.run(590)
        ladder.master = Answer(status=404)
        reports = await world.run(60)
        assert reports[-1][1].unplayable_reason == "playlist_missing"
        assert reports[-1][1].live is True
        ladder.master = None
        reports = await world.run(10)
        assert reports[-1][1].playable is True


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_master_playlist_is_requested_again_if_a_rendition_has_moved(status: int) -> None:
    async with check_world(lambda *_: Answer()) as world:
        ladder = Ladder(world, "a0.m3u8", "a1.m3u8")
        await world.poll()
        await world.run(60)
        moved = Ladder(world, "b0.m3u8", "b1.m3u8")
        moved.answers = {name: Answer(status=status) for name in ladder.names}
        reports = await world.run(30)
        assert reports[-1][1].playable is True
        assert longest_run(reports, is_bad=lambda report: report.playable is False) == 0.0
        assert polled(world)["main.m3u8"] == 2


async def test_missing_rendition_does_not_open_a_session_with_each_poll() -> None:
    async with check_world(lambda *_: Answer()) as world:
        ladder = Ladder(world)
        ladder.answers["v4.m3u8"] = Answer(status=404)
        await world.poll()
        await world.run(590)
        assert polled(world)["main.m3u8"] <= 20
        assert world.report().playable is True


async def test_playlist_of_a_dead_edge_is_left_for_that_of_a_new_viewer() -> None:
    """Each request for the master playlist leads to another edge; the first one dies."""
    async with check_world(lambda *_: Answer()) as world:
        edges = itertools.count()
        packager = LivePackager(world.clock)

        def respond(url: str, what: str, _now: float) -> Answer:
            if what != "playlist":
                return Answer(TS)
            if url == PLAYLIST_URL:
                edge = f"https://edge{next(edges)}.example.net"
                return Answer(master_playlist(f"{edge}/v0.m3u8", f"{edge}/v1.m3u8"))
            return Answer(reason=FetchReason.TIMEOUT) if "edge0" in url and is_dead else Answer(packager.playlist())

        is_dead = False
        world.respond = respond
        await world.poll()
        await world.run(60)
        is_dead = True
        reports = await world.run(120)
    assert longest_run(reports, is_bad=lambda report: report.playable is False) <= 15.0
    assert reports[-1][1].playable is True


async def test_master_playlist_of_a_dead_edge_is_left_although_a_redirect_led_to_it() -> None:
    async with check_world(lambda *_: Answer()) as world:
        sessions = itertools.count()
        packager = LivePackager(world.clock)

        def respond(url: str, what: str, _now: float) -> Answer:
            if what != "playlist":
                return Answer(TS)
            if url == PLAYLIST_URL:
                return Answer(master_playlist("v0.m3u8"), url=f"https://edge{next(sessions)}.example.net/m.m3u8")
            return Answer(status=503) if "edge0" in url and is_dead else Answer(packager.playlist())

        is_dead = False
        world.respond = respond
        await world.poll()
        await world.run(60)
        assert Counter(world.urls())[PLAYLIST_URL] == 1
        is_dead = True
        reports = await world.run(60)
    assert longest_run(reports, is_bad=lambda report: report.playable is False) <= 10.0
    assert reports[-1][1].playable is True
    assert world.urls()[-1] == "https://edge1.example.net/v0.m3u8"


async def test_other_renditions_are_tried_if_the_only_wanted_one_fails() -> None:
    async with check_world(lambda *_: Answer(), renditions="first") as world:
        ladder = Ladder(world)
        await world.poll()
        await world.run(60)
        ladder.packagers["v0.m3u8"].freeze()
        reports = await world.run(60)
        assert longest_run(reports, is_bad=lambda report: report.playable is False) <= 10.0
        assert reports[-1][1].playable is True
        ladder.packagers["v0.m3u8"].frozen_at = None
        await world.run(30)
        before = polled(world)["v3.m3u8"]
        await world.run(60)
        assert polled(world)["v3.m3u8"] == before


async def test_redirect_to_a_session_is_followed_once_until_the_session_fails() -> None:
    async with check_world(lambda *_: Answer()) as world:
        sessions = itertools.count(1)
        packager = LivePackager(world.clock)
        dead: set[str] = set()

        def respond(url: str, what: str, _now: float) -> Answer:
            if what != "playlist":
                return Answer(TS)
            if url == PLAYLIST_URL:
                return Answer(packager.playlist(), url=f"{PLAYLIST_URL}?sid={next(sessions)}")
            return Answer(status=503) if url in dead else Answer(packager.playlist())

        world.respond = respond
        await world.poll()
        await world.run(300)
        assert Counter(world.urls())[PLAYLIST_URL] == 1
        dead.add(f"{PLAYLIST_URL}?sid=1")
        reports = await world.run(60)
        assert all(report.playable is True for _, report in reports)
        assert Counter(world.urls())[PLAYLIST_URL] == 2
        assert world.urls()[-1] == f"{PLAYLIST_URL}?sid=2"


async def test_frozen_session_is_left() -> None:
    async with check_world(lambda *_: Answer()) as world:
        packager, frozen = LivePackager(world.clock), LivePackager(world.clock)
        sessions = itertools.count(1)

        def respond(url: str, what: str, _now: float) -> Answer:
            if what != "playlist":
                return Answer(TS)
            if url == PLAYLIST_URL:
                return Answer(packager.playlist(), url=f"{PLAYLIST_URL}?sid={next(sessions)}")
            return Answer((frozen if url.endswith("=1") else packager).playlist())

        world.respond = respond
        await world.poll()
        await world.run(60)
        frozen.freeze()
        reports = await world.run(60)
        assert longest_run(reports, is_bad=lambda report: report.playable is False) <= 5.0
        assert reports[-1][1].playable is True


# -- audio -------------------------------------------------------------------------------------------------------------

LANGUAGES = {"en": "en.m3u8", "de": "de.m3u8", "fr": "fr.m3u8"}


async def test_frozen_audio_makes_a_stream_unplayable() -> None:
    async with check_world(lambda *_: Answer()) as world:
        ladder = Ladder(world, "v0.m3u8", "v1.m3u8", audio={"en": "en.m3u8"})
        await world.poll()
        reports = await world.run(60)
        assert all(report.playable is True for _, report in reports)
        ladder.packagers["en.m3u8"].freeze()
        reports = await world.run(60)
    assert reports[-1][1].playable is False
    assert reports[-1][1].unplayable_reason == "stale"
    assert reports[-1][1].playback_detail.startswith("audio: no new media for")
    assert reports[-1][1].live is True


async def test_whole_segments_of_each_language_are_fetched_in_turn() -> None:
    async with check_world(lambda *_: Answer()) as world:
        Ladder(world, "v0.m3u8", audio=LANGUAGES, uri="x".join(("s{:05d}", ".ts")).format)
        await world.poll()
        await world.run(300)
        requested = polled(world)
        whole = [request for request in world.requests if request.is_whole]
    assert all(requested[name] >= 10 for name in LANGUAGES.values())
    # the lowest variant and each language, about once a minute
    assert 4 * 4 <= len(whole) <= 4 * 7


async def test_parts_count_as_new_media() -> None:
    """Low-latency HLS with segments that are longer than the stale limit: only parts show that the stream is live."""
    async with check_world(lambda *_: Answer(), interval="2s") as world:
        began = world.clock.monotonic()

        def respond(_url: str, what: str, now: float) -> Answer:
            if what != "playlist":
                return Answer(TS)
            position, part = divmod(int(now - began), 30)
            parts = "".join(f'#EXT-X-PART:DURATION=1.0,URI="p{position}.{number}.m4s"\n' for number in range(part))
            head = "#EXT-X-PART-INF:PART-TARGET=1.0\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3.0"
            body = media_playlist(100 + position, 4, seconds=30.0, head=head)
            return Answer(body + (parts.encode() if is_moving else b""))

        is_moving = True
        world.respond = respond
        await world.poll()
        reports = await world.run(120)
        assert all(report.live is True for _, report in reports[12:])
        assert reports[-1][1].protocol == "ll-hls"
        assert not any("_HLS" in url for url in world.urls())
        assert not any("/p" in url for url in world.urls("segment"))
