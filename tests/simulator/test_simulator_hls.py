"""The simulated HLS origin: playlists and segments over time, and its faults."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.media.facts import MediaFacts
from exporter.media.hls_playlist import MasterPlaylist, MediaPlaylist, parse_playlist
from exporter.media.segment import inspect_segment
from exporter.simulator.fault_injection import PLAYBACK_FAULTS, STREAM_FAULTS, UPSTREAM_FAULTS, FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.hls_timeline import LINGER_SECONDS, WINDOW_SEGMENTS, find_segment, playlist_segments
from exporter.simulator.simulated_hls import CACHE_SECONDS, SLOW_SECONDS, master_path
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.transport_stream import RENDITIONS, SEGMENT_SECONDS
from tests.simulator.conftest import Simulate, Simulator

START = 1_790_000_000.0
HOUR = 3600.0


class Viewer:
    """Requests what a player of one stream requests."""

    def __init__(self, simulator: Simulator, stream: Stream) -> None:
        self.simulator = simulator
        self.base = f"/hls/{stream.id}"

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        async with self.simulator.client.get(f"{self.base}/{path}", headers=headers) as response:
            return response.status, response.content_type, await response.read()

    async def status(self, path: str = "240p.m3u8") -> int:
        return (await self.get(path))[0]

    async def master(self) -> MasterPlaylist:
        status, content_type, body = await self.get("master.m3u8")
        assert (status, content_type) == (200, "application/vnd.apple.mpegurl")
        playlist = parse_playlist(body)
        assert isinstance(playlist, MasterPlaylist)
        assert playlist.dropped == ()
        return playlist

    async def media(self, uri: str = "240p.m3u8") -> MediaPlaylist:
        status, content_type, body = await self.get(uri)
        assert (status, content_type) == (200, "application/vnd.apple.mpegurl")
        playlist = parse_playlist(body)
        assert isinstance(playlist, MediaPlaylist)
        assert playlist.dropped == ()
        return playlist

    async def segment(self, uri: str) -> MediaFacts:
        status, content_type, body = await self.get(uri)
        assert (status, content_type) == (200, "video/mp2t")
        return inspect_segment(body, whole=True)

    async def newest(self) -> MediaFacts:
        segment = (await self.media()).newest_segment
        assert segment is not None
        return await self.segment(segment.uri)


def steady_viewer(simulator: Simulator) -> tuple[Stream, Viewer]:
    stream = simulator.find_steady(Platform.STORM)
    return stream, Viewer(simulator, stream)


async def test_master_playlist_lists_every_rendition(simulate: Simulate) -> None:
    async with simulate() as simulator:
        _, viewer = steady_viewer(simulator)
        variants = (await viewer.master()).variants
        assert [(variant.width_pixels, variant.height_pixels) for variant in variants] == [
            (rendition.width, rendition.height) for rendition in RENDITIONS
        ]
        for variant, rendition in zip(variants, RENDITIONS, strict=True):
            assert variant.codecs == ("avc1.42c01f", "mp4a.40.2")
            assert variant.bandwidth_bytes_per_second == pytest.approx(rendition.size / SEGMENT_SECONDS)
            assert (await viewer.media(variant.uri)).window_seconds == WINDOW_SEGMENTS * SEGMENT_SECONDS


async def test_playlist_advances_with_the_clock_and_every_segment_can_be_fetched(simulate: Simulate) -> None:
    async with simulate() as simulator:
        _, viewer = steady_viewer(simulator)
        first = await viewer.media()
        for step in range(8):
            for rendition in RENDITIONS:
                playlist = await viewer.media(f"{rendition.name}.m3u8")
                assert playlist.media_sequence == first.media_sequence + step
                assert playlist.discontinuity_sequence == first.discontinuity_sequence
                assert playlist.target_duration_seconds == SEGMENT_SECONDS
                assert playlist.segment_count == WINDOW_SEGMENTS
                assert playlist.edge_timestamp_seconds is not None
                # the dates have milliseconds
                assert -0.001 <= simulator.clock.now() - playlist.edge_timestamp_seconds < SEGMENT_SECONDS
                for segment in playlist.segments:
                    facts = await viewer.segment(segment.uri)
                    assert (facts.audio, facts.video, facts.key_frame_at_start) == (True, True, True)
            simulator.clock.advance(SEGMENT_SECONDS)


async def test_segments_of_a_playlist_continue_each_other(simulate: Simulate) -> None:
    async with simulate() as simulator:
        _, viewer = steady_viewer(simulator)
        bodies = [(await viewer.get(segment.uri))[2] for segment in (await viewer.media()).segments]
        transport = inspect_segment(b"".join(bodies), whole=True).transport
        assert transport is not None
        assert transport.continuity_errors == 0


async def test_unknown_stream_rendition_or_segment_is_not_found(simulate: Simulate) -> None:
    async with simulate() as simulator:
        _, viewer = steady_viewer(simulator)
        newest = (await viewer.media()).newest_media[0]
        for path in (
            "144p.m3u8", "240p/0.ts", f"240p/{newest}.ts", f"240p/{10**17}.ts", f"144p/{newest - 1}.ts", "240p/x.ts",
        ):  # fmt: skip
            status, content_type, _ = await viewer.get(path)
            assert status == 404
            if not path.endswith("x.ts"):
                assert content_type == "text/html"
        viewer.base = "/hls/edge/nothing"
        assert await viewer.status() == await viewer.status("master.m3u8") == 404


@pytest.mark.parametrize(
    ("header", "status", "start", "stop"),
    [("bytes=0-16383", 206, 0, 16384), ("bytes=-188", 206, -188, None), ("bytes=188-", 206, 188, None)],
)
async def test_range_of_a_segment_is_served(
    simulate: Simulate, header: str, status: int, start: int, stop: int | None
) -> None:
    async with simulate() as simulator:
        _, viewer = steady_viewer(simulator)
        segment = (await viewer.media()).newest_segment
        assert segment is not None
        whole = (await viewer.get(segment.uri))[2]
        assert await viewer.get(segment.uri, {"Range": header}) == (status, "video/mp2t", whole[start:stop])
        for invalid in (f"bytes={len(whole)}-", "bytes=5-2", "bytes=a-b"):
            assert (await viewer.get(segment.uri, {"Range": invalid}))[0] == 416


async def test_playlist_lingers_after_the_end_and_then_disappears(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        await simulator.inject(Platform.STORM, "end", stream)
        last = await viewer.media()
        simulator.clock.advance(LINGER_SECONDS - 0.5)
        assert await viewer.media() == last
        simulator.clock.advance(1)
        assert await viewer.status() == await viewer.status("master.m3u8") == 404


async def test_short_pause_is_a_discontinuity_without_a_gap_in_the_numbers(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        before = await viewer.media()
        await simulator.inject(Platform.STORM, "end", stream, "5s")
        simulator.clock.advance(5 + 2 * SEGMENT_SECONDS)
        after = await viewer.media()
        assert after.media_sequence == before.media_sequence + 2
        assert [segment.discontinuity for segment in after.segments] == [False] * 4 + [True, False]
        for segment in after.segments:
            await viewer.segment(segment.uri)
        simulator.clock.advance(4 * SEGMENT_SECONDS)
        shown = await viewer.media()
        assert shown.segments[0].discontinuity
        assert shown.discontinuity_sequence == before.discontinuity_sequence
        simulator.clock.advance(SEGMENT_SECONDS)
        assert before.discontinuity_sequence is not None
        assert (await viewer.media()).discontinuity_sequence == before.discontinuity_sequence + 1


async def test_long_pause_starts_a_new_playlist(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        before = await viewer.media()
        await simulator.inject(Platform.STORM, "end", stream, "60s")
        simulator.clock.advance(60 + SEGMENT_SECONDS + 0.1)
        after = await viewer.media()
        assert after.segment_count == 1
        assert after.media_sequence == before.newest_media[0]


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["stream", "all"])
def of_all(request: pytest.FixtureRequest) -> bool:
    """Whether a fault is injected for all streams, or for one."""
    return bool(request.param == "all")


async def test_frozen_playlist_does_not_change_and_its_segments_stay(simulate: Simulate, of_all: bool) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        before = await viewer.media()
        await simulator.inject(Platform.HLS, "playlist_frozen", None if of_all else stream, "5m")
        simulator.clock.advance(299)
        assert await viewer.media() == before
        for segment in before.segments:
            assert (await viewer.segment(segment.uri)).video
        simulator.clock.advance(1)
        assert (await viewer.media()).media_sequence == before.media_sequence + 150


async def test_missing_segments_leave_the_playlist_advancing(simulate: Simulate, of_all: bool) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        before = await viewer.media()
        await simulator.inject(Platform.HLS, "segments_missing", None if of_all else stream, "1m")
        simulator.clock.advance(10)
        playlist = await viewer.media()
        assert playlist.media_sequence == before.media_sequence + 5
        for segment in playlist.segments:
            status, content_type, body = await viewer.get(segment.uri)
            assert (status, content_type) == (404, "text/html")
            assert b"404 Not Found" in body
        simulator.clock.advance(50)
        assert (await viewer.newest()).video


async def test_stale_playlist_advances_in_steps_and_loses_segments(simulate: Simulate, of_all: bool) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        await simulator.inject(Platform.HLS, "cdn_stale", None if of_all else stream)
        sequences = []
        for _ in range(4 * int(CACHE_SECONDS)):
            playlist = await viewer.media()
            sequences.append(playlist.media_sequence)
            for segment in playlist.segments:
                assert await viewer.status(segment.uri) == 200
            simulator.clock.advance(1)
        steps = [later - earlier for earlier, later in pairwise(sequences) if later != earlier]
        assert len(steps) == 3
        assert all(step in (12, 13) for step in steps)
        await simulator.request("/faults?platform=hls", method="DELETE")
        assert (await viewer.media()).media_sequence > sequences[-1]


async def test_missing_audio_leaves_video(simulate: Simulate, of_all: bool) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        await simulator.inject(Platform.HLS, "audio_missing", None if of_all else stream, "1m")
        facts = await viewer.newest()
        assert (facts.audio, facts.video) == (False, True)
        assert "aac" in {track.codec for track in facts.tracks}
        simulator.clock.advance(60)
        assert (await viewer.newest()).audio


async def wait_for_sleepers(simulator: Simulator, count: int) -> None:
    while len(simulator.clock.slept) < count:  # noqa: ASYNC110 - the clock has no event for a new sleeper
        await asyncio.sleep(0)


async def test_slow_edge_takes_longer_than_the_segment_lasts(simulate: Simulate, of_all: bool) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        await simulator.inject(Platform.HLS, "slow_edge", None if of_all else stream)
        segment = (await viewer.media()).newest_segment
        assert segment is not None
        begin = simulator.clock.monotonic()
        fetching = asyncio.create_task(viewer.segment(segment.uri))
        while not fetching.done():
            await asyncio.sleep(0.001)
            simulator.clock.advance(0.25)
        elapsed = simulator.clock.monotonic() - begin
        assert SLOW_SECONDS <= elapsed < 4 * SLOW_SECONDS
        assert sum(simulator.clock.slept) == pytest.approx(SLOW_SECONDS, rel=0.1)
        facts = await fetching
        assert (facts.audio, facts.video, facts.truncated) == (True, True, False)


async def test_head_request_gets_no_body(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        await simulator.inject(Platform.HLS, "slow_edge", stream)
        segment = (await viewer.media()).newest_segment
        assert segment is not None
        for uri in ("240p.m3u8", segment.uri):
            async with simulator.client.head(f"{viewer.base}/{uri}") as response:
                assert response.status == 200
                assert int(response.headers["Content-Length"]) > 0
            # a body would be read as the next response on the same connection
            await viewer.media()


async def test_slow_edge_stops_when_the_client_leaves(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        await simulator.inject(Platform.HLS, "slow_edge", stream)
        segment = (await viewer.media()).newest_segment
        assert segment is not None
        fetching = asyncio.create_task(viewer.get(segment.uri))
        await wait_for_sleepers(simulator, 1)
        fetching.cancel()
        await asyncio.wait([fetching])
        count = 0
        while count < len(simulator.clock.slept):
            count = len(simulator.clock.slept)
            simulator.clock.advance(1)
            await asyncio.sleep(0.01)
        assert count < 10


async def test_slow_edge_does_not_delay_shutdown(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        await simulator.inject(Platform.HLS, "slow_edge", stream)
        segment = (await viewer.media()).newest_segment
        assert segment is not None
        fetching = asyncio.create_task(viewer.get(segment.uri))
        await wait_for_sleepers(simulator, 1)
        await asyncio.wait_for(simulator.client.server.close(), 30)
        await asyncio.wait([fetching])
        assert len(simulator.clock.slept) == 1


@pytest.mark.parametrize("fault", sorted(PLAYBACK_FAULTS))
async def test_playback_fault_of_a_stream_affects_neither_other_streams_nor_the_platform(
    simulate: Simulate, fault: FaultKind
) -> None:
    async with simulate() as simulator:
        stream, _ = steady_viewer(simulator)
        other = next(
            found
            for found, ingest in simulator.fleet.live_streams(Platform.STORM, simulator.clock.now())
            if found is not stream and simulator.clock.now() - ingest.start > 60
        )
        viewer = Viewer(simulator, other)
        path = f"/storm/api/streams/{stream.id}"
        before = (await simulator.request(path))["data"]
        await simulator.inject(Platform.HLS, fault, stream)
        assert (await simulator.request(path))["data"] == before
        playlist = await viewer.media()
        simulator.clock.advance(SEGMENT_SECONDS)
        assert (await viewer.media()).media_sequence == playlist.media_sequence + 1
        facts = await viewer.newest()
        assert (facts.audio, facts.video) == (True, True)
        assert simulator.fleet.is_live(stream, simulator.clock.now())


@pytest.mark.parametrize(
    ("fault", "of_stream"),
    [(kind, True) for kind in sorted(STREAM_FAULTS - {FaultKind.END, FaultKind.FLAP})]
    + [(kind, False) for kind in sorted(UPSTREAM_FAULTS)],
)
async def test_fault_of_the_platform_does_not_affect_the_origin(
    simulate: Simulate, fault: FaultKind, of_stream: bool
) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        before = await viewer.media()
        await simulator.inject(Platform.STORM, fault, stream if of_stream else None)
        simulator.clock.advance(10)
        after = await viewer.media()
        assert after.media_sequence == before.media_sequence + 5
        assert (await viewer.newest()).audio


async def test_playback_faults_are_listed_and_cleared_by_stream(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, _ = steady_viewer(simulator)
        now = simulator.clock.now()
        body = {"platform": "hls", "stream": stream.name, "fault": "cdn_stale", "for": "1m"}
        created = await simulator.request("/faults", method="POST", status=201, json=body)
        names = {"platform": "hls", "stream": stream.name, "id": stream.id, "fault": "cdn_stale"}
        assert created == names | {"since": now, "until": now + 60}
        await simulator.inject(Platform.HLS, "slow_edge")
        await simulator.inject(Platform.STORM, "unhealthy", stream)
        assert len((await simulator.request("/faults"))["faults"]) == 3
        query = {"platform": "hls", "stream": stream.id}
        assert await simulator.request("/faults", method="DELETE", params=query) == {"cleared": 1}
        assert await simulator.request("/faults?platform=hls", method="DELETE") == {"cleared": 1}
        assert [fault["fault"] for fault in (await simulator.request("/faults"))["faults"]] == ["unhealthy"]


@pytest.mark.parametrize(("platform", "fault"), [("hls", "down"), ("hls", "stall"), ("storm", "cdn_stale")])
async def test_fault_of_another_platform_is_rejected(simulate: Simulate, platform: str, fault: str) -> None:
    async with simulate() as simulator:
        body = {"platform": platform, "fault": fault}
        rejected = await simulator.request("/faults", method="POST", status=400, json=body)
        assert rejected["error"].startswith("fault: expected one of")


async def test_first_of_several_freezes_counts(simulate: Simulate) -> None:
    async with simulate() as simulator:
        stream, viewer = steady_viewer(simulator)
        before = await viewer.media()
        await simulator.inject(Platform.HLS, "playlist_frozen", stream)
        simulator.clock.advance(60)
        await simulator.inject(Platform.HLS, "playlist_frozen")
        assert await viewer.media() == before


# -- over time ---------------------------------------------------------------------------------------------------------


class Playlists:
    """The playlists of one stream over time: each one is checked by itself and against the previous one."""

    def __init__(self, fleet: Fleet, stream: Stream) -> None:
        self.fleet, self.stream = fleet, stream
        self.newest = -1
        self.known: dict[int, tuple[float, int]] = {}
        """Start and discontinuity sequence of the segments in the last playlist."""

    def observe(self, now: float) -> int:
        """Check the playlist at this time, and return its number of segments."""
        segments = playlist_segments(self.fleet, self.stream, now)
        ingest = self.fleet.latest_ingest(self.stream, now)
        if not segments:
            assert not ingest.is_live(now) or now - ingest.start < SEGMENT_SECONDS
            return 0
        assert len(segments) <= WINDOW_SEGMENTS
        sequences = [segment.sequence for segment in segments]
        assert sequences == list(range(sequences[0], sequences[0] + len(segments)))
        assert sequences[-1] >= self.newest
        for earlier, later in pairwise(segments):
            is_continuous = later.start - earlier.start == pytest.approx(SEGMENT_SECONDS)
            assert later.is_first or is_continuous
            assert later.start >= earlier.end - 1e-6
            assert later.discontinuity_sequence == earlier.discontinuity_sequence + later.is_first
        latency = now - segments[-1].end
        assert latency >= -1e-6
        if ingest.is_live(now) and now - ingest.start > SEGMENT_SECONDS:
            assert latency < SEGMENT_SECONDS + 1e-6
            if now - ingest.start > (WINDOW_SEGMENTS + 1) * SEGMENT_SECONDS:
                assert len(segments) == WINDOW_SEGMENTS
        else:
            assert latency < LINGER_SECONDS + 2 * SEGMENT_SECONDS
        for segment in segments:
            assert find_segment(self.fleet, self.stream, segment.sequence, now) == segment
            known = self.known.get(segment.sequence)
            assert known in (None, (segment.start, segment.discontinuity_sequence))
        self.newest = sequences[-1]
        self.known = {segment.sequence: (segment.start, segment.discontinuity_sequence) for segment in segments}
        return len(segments)


@pytest.mark.parametrize(("streams", "speed"), [(60, 1.0), (60, 20.0), (6, 1.0), (12, 100.0)])
def test_playlists_are_consistent_over_a_day(streams: int, speed: float) -> None:
    fleet = Fleet(streams, seed=3, speed=speed)
    for stream in fleet.streams(Platform.STORM)[:3]:
        playlists = Playlists(fleet, stream)
        now, end = START, START + 26 * HOUR / speed
        while now < end:
            playlists.observe(now)
            # dense around starts and ends, sparse in between
            ingest = fleet.latest_ingest(stream, now)
            is_near = now - ingest.start < 60 or ingest.end - now < 60 or now > ingest.end
            now += 0.7 if is_near else min(61.3, max(1.0, ingest.end - 50 - now))


def test_sequence_rises_by_one_every_two_seconds() -> None:
    fleet = Fleet(60, seed=3)
    [stream, *_] = [stream for stream, ingest in fleet.live_streams(Platform.STORM, START) if ingest.end > START + HOUR]
    first = playlist_segments(fleet, stream, START)[0].sequence
    for step in range(0, 1800, 7):
        now = START + step * SEGMENT_SECONDS
        assert playlist_segments(fleet, stream, now)[0].sequence == first + step


@given(
    data=st.data(),
    seed=st.integers(0, 50),
    faults=st.lists(
        st.tuples(st.sampled_from(["end", "flap", "stall", "error"]), st.floats(0.1, 300.0), st.floats(0.5, 200.0)),
        max_size=5,
    ),
)
@settings(max_examples=30, deadline=None)
def test_playlists_are_consistent_with_any_restarts(
    data: st.DataObject, seed: int, faults: list[tuple[str, float, float]]
) -> None:
    """Fault times are relative to the previous fault."""
    fleet = Fleet(12, seed=seed)
    stream = data.draw(st.sampled_from(fleet.streams(Platform.STORM)))
    playlists = Playlists(fleet, stream)
    now = START + data.draw(st.floats(0.0, 20_000.0))
    for kind, pause, seconds in faults:
        end = now + pause
        while now < end:
            playlists.observe(now)
            now = min(end, now + data.draw(st.floats(0.5, 9.0)))
        fleet.faults.inject(Platform.STORM, stream.index, FaultKind(kind), now, seconds)
    for _ in range(40):
        playlists.observe(now)
        now += data.draw(st.floats(0.1, 15.0))


@contextmanager
def traced_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def test_time_and_memory_are_bounded() -> None:
    fleet = Fleet(60, seed=3)
    streams = fleet.streams(Platform.STORM)[:3]
    fleet.faults.inject(Platform.STORM, streams[0].index, FaultKind.FLAP, START - 10 * HOUR)

    def view(begin: float) -> None:
        for step in range(100):
            for stream in streams:
                playlist_segments(fleet, stream, begin + 2 * step)

    view(START)
    with traced_memory():
        view(START + HOUR)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        begin = time.process_time()
        view(START + 5 * HOUR)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        # tracing makes it several times slower
        assert time.process_time() - begin < 30
    assert after - before < 500_000


def test_master_path_is_that_of_the_stream() -> None:
    stream = Fleet(3).streams(Platform.STORM)[0]
    assert master_path(stream) == f"/{stream.application}/{stream.name}/master.m3u8"


async def test_platform_of_the_origin_is_named_in_errors(simulate: Simulate) -> None:
    async with simulate(6) as simulator:
        body = {"platform": "dash", "fault": "cdn_stale"}
        assert "hls" in (await simulator.request("/faults", method="POST", status=400, json=body))["error"]
