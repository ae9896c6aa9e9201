"""Playlists of real software, and those that are odd: what each of them proves, alone or after another one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exporter.media.hls_playlist import MediaPlaylist, PlaylistError, parse_playlist
from exporter.model import HealthReason, StreamReport
from tests.platforms.hls.check_world import BASE, TS, Answer, CheckWorld, LivePackager, check_world

DOCUMENTS = Path(__file__).parents[2] / "media" / "documents"
COUNTERS = (
    "missed_segments", "sequence_resets", "sequence_regressions", "sequence_conflicts", "discontinuities",
    "gap_segments", "segment_fetch_failures",
)  # fmt: skip
INTERVAL = 5.0
ODD = "odd"
_MORE = {"=": "", "+": "{extinf}", "~": "#EXT-X-DISCONTINUITY\n{extinf}", "-": "#EXT-X-GAP\n{extinf}"}


@dataclass(frozen=True)
class Case:
    """Documents in the order in which they are served, one for each poll, and what then is known."""

    documents: tuple[str, ...]
    """Names of files. ``+``: the document before with one more segment; ``~``: with one more after a discontinuity;
    ``-``: with one more that is missing; ``=``: the same document."""
    live: bool | None
    playable: bool | None
    reason: str = ""
    notes: tuple[str, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)
    detail: str = ""
    has_latency: bool = False
    check: Callable[[StreamReport], None] = lambda report: None

    def __str__(self) -> str:
        return " ".join(self.documents)


UNREADABLE = "a playlist has unreadable tags"
WRONG_DATE = "dates differ too much from the clock to give a latency (H11)"
ENCRYPTED = "segments are encrypted, so audio and video are not checked"
WITHOUT_COUNT = "a discontinuity left a playlist without EXT-X-DISCONTINUITY-SEQUENCE (H6)"
TOO_LONG = "segments are longer than the target duration (H7)"
FROZEN = ("=",) * 5
"""Polls for 25 s, which is longer than any of these playlists may stay as it is."""


def has_gap(report: StreamReport) -> None:
    assert HealthReason.GAP in report.playback_findings


def has_parts(report: StreamReport) -> None:
    assert report.protocol == "ll-hls"


def is_low_latency(report: StreamReport) -> None:
    assert report.protocol == "ll-hls"
    assert report.target_latency_seconds is not None


def has_two_renditions(report: StreamReport) -> None:
    assert (report.playable_renditions, report.expected_renditions) == (2, 2)
    assert report.renditions is not None
    assert [rendition.name for rendition in report.renditions] == ["180p", "90p"]


def has_a_bitrate(report: StreamReport) -> None:
    assert report.renditions is not None
    assert report.renditions[0].target_bitrate_bytes_per_second == pytest.approx(66406.2 / 8)


CASES = (
    # dated as fresh, so they are live at once
    Case(("ffmpeg-5.1-ts-media.m3u8",), True, True, has_latency=True),
    Case(("ffmpeg-5.1-fmp4-media.m3u8",), True, True, has_latency=True),
    Case(("ffmpeg-5.1-fmp4-media.m3u8", "+"), True, True, has_latency=True),
    # byte for byte a healthy one: only time tells
    Case(("ffmpeg-5.1-fmp4-frozen-after-kill9.m3u8",), True, True, has_latency=True),
    Case(("ffmpeg-5.1-fmp4-frozen-after-kill9.m3u8", *FROZEN), False, False, "stale", detail="no new media for 25 s"),
    Case(("ffmpeg-5.1-ts-ended.m3u8",), None, None, has_latency=True),
    Case(("ffmpeg-5.1-ts-ended.m3u8", "="), False, False, "ended"),
    Case(("ffmpeg-5.1-ts-master.m3u8",), True, True, has_latency=True, check=has_two_renditions),
    # without dates, only new media proves that a stream is live
    Case(("nginx-rtmp-hls.m3u8",), None, None),
    Case(("nginx-rtmp-hls.m3u8", "+"), True, True),
    Case(("nginx-rtmp-hls.m3u8", *FROZEN), False, False, "stale"),
    Case(
        ("nginx-rtmp-hls.m3u8", "nginx-rtmp-hls-after-reconnect.m3u8"), None, None, counters={"sequence_regressions": 1}
    ),
    Case(("nginx-rtmp-hls-after-reconnect.m3u8", "+"), True, True),
    Case(("llhls-aiohttp-origin.m3u8",), True, True, has_latency=True, check=is_low_latency),
    Case(("llhls-delta-update.m3u8",), True, True, has_latency=True, check=is_low_latency),
    Case(
        (f"{ODD}/01-msn-reset-to-zero.a.m3u8", f"{ODD}/01-msn-reset-to-zero.b.m3u8"),
        True,
        True,
        counters={"sequence_resets": 1},
    ),
    Case(
        (f"{ODD}/02-two-origins-behind-lb.a.m3u8", "+", f"{ODD}/02-two-origins-behind-lb.b.m3u8"),
        True,
        True,
        counters={"sequence_regressions": 1},
    ),
    Case((f"{ODD}/03-endlist-without-segments-not-ended.m3u8",), None, None),
    Case((f"{ODD}/03-endlist-without-segments-not-ended.m3u8", "="), None, None),
    Case((f"{ODD}/03-endlist-without-segments-not-ended.m3u8", "=", "="), False, False, "ended"),
    Case((f"{ODD}/04-pdt-one-digit-offset.m3u8", "+"), True, True, notes=(UNREADABLE,)),
    Case((f"{ODD}/05-discontinuity-before-every-segment.m3u8", "~", "~"), True, True, counters={"discontinuities": 2}),
    # 3.5 target durations would be 35 s
    Case(
        (f"{ODD}/05-discontinuity-before-every-segment.m3u8", "~", "=", "=", "="),
        False,
        False,
        "stale",
        counters={"discontinuities": 1},
    ),
    Case((f"{ODD}/06-targetduration-too-small.m3u8", "="), True, True, has_latency=True),
    Case((f"{ODD}/06-targetduration-too-small.m3u8", "=", "="), True, True, has_latency=True, notes=(TOO_LONG,)),
    Case((f"{ODD}/08-spaces-after-colon.m3u8", "+"), True, True),
    Case((f"{ODD}/09-map-between-extinf-and-uri.m3u8", "+"), True, True),
    Case((f"{ODD}/11-daterange-without-start-date.m3u8", "+"), True, True, notes=(UNREADABLE,)),
    Case((f"{ODD}/12-ll-parts-without-blocking-reload.m3u8",), True, True, has_latency=True, check=is_low_latency),
    Case((f"{ODD}/13-master-float-bandwidth.m3u8",), True, True, has_latency=True, check=has_a_bitrate),
    Case((f"{ODD}/14-master-spaces-in-attributes.m3u8",), True, True, has_latency=True),
    # one such poll proves nothing
    Case((f"{ODD}/15-not-hls-iptv-list.m3u8",), None, None),
    Case((f"{ODD}/16-empty-body.m3u8",), None, None),
    Case((f"{ODD}/17-html-200.m3u8",), None, None),
    Case((f"{ODD}/15-not-hls-iptv-list.m3u8", *FROZEN), None, False, "playlist_invalid", detail="channel list"),
    Case((f"{ODD}/16-empty-body.m3u8", *FROZEN), None, False, "playlist_invalid", detail="empty body"),
    Case((f"{ODD}/17-html-200.m3u8", *FROZEN), None, False, "playlist_invalid", detail="HTML page"),
    *(
        Case(("nginx-rtmp-hls.m3u8", "+", f"{ODD}/{name}"), True, True)
        for name in ("15-not-hls-iptv-list.m3u8", "16-empty-body.m3u8", "17-html-200.m3u8")
    ),
    # the playlist is not requested more often than every half target duration of 11 s
    Case((f"{ODD}/18-single-segment-window.m3u8", "=", "+"), True, True),
    Case(
        (f"{ODD}/19-dropped-discontinuity-sequence.a.m3u8", f"{ODD}/19-dropped-discontinuity-sequence.b.m3u8"),
        True,
        True,
        notes=(WITHOUT_COUNT,),
    ),
    Case((f"{ODD}/21-gap-at-edge.m3u8", "+"), True, True, check=has_gap),
    Case((f"{ODD}/21-gap-at-edge.m3u8", "-"), True, False, "gap", counters={"gap_segments": 1}, check=has_gap),
    Case((f"{ODD}/22-delta-update.m3u8", "+"), True, True, check=has_parts),
    Case((f"{ODD}/23-aes128-key.m3u8", "+"), True, True, notes=(ENCRYPTED,)),
    Case((f"{ODD}/24-neulion-comment-and-pdt-first.m3u8",), True, True, has_latency=True),
    Case((f"{ODD}/26-media-sequence-unsigned-64bit.m3u8", "+"), True, True),
)


async def serve(case: Case) -> tuple[CheckWorld, StreamReport]:
    """Poll each document once; return the last report."""
    documents: list[bytes] = []
    for name, number in zip(case.documents, itertools.count(), strict=False):
        if name in _MORE:
            extinf = f"#EXTINF:{_seconds(documents[-1]):.3f},\nnext-{number}.ts\n" if name != "=" else ""
            documents.append(documents[-1] + _MORE[name].format(extinf=extinf).encode())
        else:
            documents.append((DOCUMENTS / name).read_bytes())
    current = documents[0]

    def respond(url: str, what: str, _now: float) -> Answer:
        if what == "playlist":
            return Answer(current if url.startswith(f"{BASE}/live/main.m3u8") else packager.playlist())
        assert not url.startswith("https://keys."), "keys are never fetched"
        return Answer(TS, content_type="video/mp2t")

    async with check_world(respond) as world:
        packager = LivePackager(world.clock)
        edge = _edge(documents[0])
        if edge is not None:
            world.clock.step(edge + 1.0 - world.clock.now())
        for current in documents:  # noqa: B007 - ``respond`` returns it
            await world.poll()
            await world.wait(INTERVAL)
        return world, world.report()


def _edge(document: bytes) -> float | None:
    try:
        playlist = parse_playlist(document)
    except PlaylistError:
        return None
    return playlist.edge_timestamp_seconds if isinstance(playlist, MediaPlaylist) else None


def _seconds(document: bytes) -> float:
    playlist = parse_playlist(document)
    assert isinstance(playlist, MediaPlaylist)
    return playlist.longest_segment_seconds or 1.0


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_verdict_on_documents(case: Case) -> None:
    world, report = await serve(case)
    counted = {name: getattr(report, name) for name in COUNTERS if getattr(report, name)}
    assert (report.live, report.playable, report.unplayable_reason) == (case.live, case.playable, case.reason)
    assert counted == case.counters
    assert set(report.playback_notes) == set(case.notes)
    assert case.detail in report.playback_detail
    assert (report.latency_seconds is not None) is case.has_latency
    case.check(report)
    world.text()
