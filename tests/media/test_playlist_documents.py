"""Every recorded playlist, and every odd one with the facts that a verdict needs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.media.hls_playlist import InitSection, MasterPlaylist, PlaylistError, parse_playlist
from tests.media.media_files import DOCUMENTS, document, master, media

FILES = sorted(DOCUMENTS.rglob("*.m3u8"))
REFUSED = {
    # globocom/m3u8#128, #256
    "odd/15-not-hls-iptv-list": "not an HLS playlist (channel list)",
    # flowplayer/flowplayer-hlsjs#98
    "odd/16-empty-body": "empty body",
    # tsduck/tsduck#1449 (there for a segment)
    "odd/17-html-200": "not an HLS playlist (an HTML page)",
}
FACTS: dict[str, dict[str, Any]] = {
    "ffmpeg-5.1-ts-media": {"newest_media": (17, 0), "window_seconds": 10, "target_duration_seconds": 2},
    "ffmpeg-5.1-fmp4-media": {"newest_media": (17, 0), "independent_segments": True},
    # exactly a healthy playlist: nothing in it tells that the encoder was killed
    "ffmpeg-5.1-fmp4-frozen-after-kill9": {"newest_media": (79, 0), "ended": False, "truncated": False},
    "ffmpeg-5.1-ts-ended": {"newest_media": (95, 0), "ended": True, "window_seconds": 8.2},
    "nginx-rtmp-hls": {"newest_media": (17, 0), "edge_timestamp_seconds": None, "discontinuity_sequence": None},
    "nginx-rtmp-hls-after-reconnect": {"newest_media": (10, 0), "window_seconds": 8.8, "discontinuity_sequence": None},
    "llhls-aiohttp-origin": {
        "newest_media": (6, 3), "part_target_seconds": 0.5, "part_hold_back_seconds": 1.5, "can_block_reload": True,
        "can_skip_until_seconds": 12, "hold_back_seconds": None, "skipped_segments": 0, "segment_count": 6,
    },
    "llhls-delta-update": {"newest_media": (6, 3), "skipped_segments": 2, "segment_count": 4},
    # google/ExoPlayer#2872, #2249; video-dev/hls.js#3913
    "odd/01-msn-reset-to-zero.a": {"newest_media": (4_310_642, 0), "media_sequence": 4_310_639},
    "odd/01-msn-reset-to-zero.b": {"newest_media": (2, 0), "media_sequence": 0},
    # video-dev/hls.js#1225; Eyevinn/hls-monitor#18
    "odd/02-two-origins-behind-lb.a": {"newest_media": (1259, 0)},
    "odd/02-two-origins-behind-lb.b": {"newest_media": (1059, 0)},
    # xbmc/inputstream.adaptive#1532
    "odd/03-endlist-without-segments-not-ended": {"ended": True, "segment_count": 0, "newest_media": (88, 0)},
    # google/ExoPlayer#2838
    "odd/04-pdt-one-digit-offset": {
        "edge_timestamp_seconds": None, "dropped": ("EXT-X-PROGRAM-DATE-TIME",), "newest_media": (8, 0),
    },
    # androidx/media#519
    "odd/05-discontinuity-before-every-segment": {
        "target_duration_seconds": 10, "longest_segment_seconds": 1.28, "discontinuity_sequence": 539_644,
    },
    # livekit/egress#534
    "odd/06-targetduration-too-small": {
        "target_duration_seconds": 6, "longest_segment_seconds": 8.138, "playlist_type": "EVENT",
    },
    # HaishinKit#413
    "odd/08-spaces-after-colon": {"target_duration_seconds": 6, "version": 3, "dropped": ()},
    # video-dev/hls.js#4237, #4223
    "odd/09-map-between-extinf-and-uri": {"window_seconds": 12, "newest_media": (199_910, 0), "dropped": ()},
    # videojs/m3u8-parser#186, androidx/media#2428
    "odd/11-daterange-without-start-date": {
        "date_ranges": 0, "ad_markers": True, "dropped": ("EXT-X-DATERANGE",), "segment_count": 2,
    },
    # video-dev/hls.js#6975
    "odd/12-ll-parts-without-blocking-reload": {
        "can_block_reload": False, "part_target_seconds": 1.28, "newest_media": (141, 1),
    },
    # streamlink/streamlink#1614
    "odd/18-single-segment-window": {"window_seconds": 10.01, "target_duration_seconds": 11},
    # videojs/video.js#6813; hls.js#1172
    "odd/19-dropped-discontinuity-sequence.a": {"discontinuity_sequence": None},
    "odd/19-dropped-discontinuity-sequence.b": {"discontinuity_sequence": None, "media_sequence": 1},
    # RFC 8216bis 4.4.4.7; hls.js#2940
    "odd/21-gap-at-edge": {"newest_media": (53, 0)},
    # RFC 8216bis 6.2.5.1
    "odd/22-delta-update": {"skipped_segments": 6, "newest_media": (108, 0)},
    "odd/23-aes128-key": {"newest_media": (12, 0)},
    # kuu/hls-parser#36
    "odd/24-neulion-comment-and-pdt-first": {"newest_media": (1_116_589, 0), "dropped": ()},
    # RFC 8216 4.2
    "odd/26-media-sequence-unsigned-64bit": {"media_sequence": 2**64 - 1, "newest_media": (2**64, 0)},
}  # fmt: skip
MASTERS = {"ffmpeg-5.1-ts-master", "odd/13-master-float-bandwidth", "odd/14-master-spaces-in-attributes"}


def name_of(file: Path) -> str:
    return file.relative_to(DOCUMENTS).with_suffix("").as_posix()


def test_every_document_is_expected() -> None:
    assert {name_of(file) for file in FILES} == FACTS.keys() | MASTERS | REFUSED.keys()


@pytest.mark.parametrize(("name", "text"), REFUSED.items())
def test_other_documents_are_refused(name: str, text: str) -> None:
    with pytest.raises(PlaylistError) as refusal:
        parse_playlist(document(name))
    assert str(refusal.value) == text


@pytest.mark.parametrize("name", sorted(FACTS))
def test_media_playlist_has_the_facts(name: str) -> None:
    playlist = media(document(name))
    for fact, expected in FACTS[name].items():
        value = getattr(playlist, fact)
        assert value == (pytest.approx(expected) if isinstance(expected, float) else expected), fact
    assert not playlist.truncated


@pytest.mark.parametrize("name", sorted(MASTERS))
def test_master_playlist_is_told_apart(name: str) -> None:
    assert isinstance(parse_playlist(document(name)), MasterPlaylist)


def test_date_time_after_extinf_belongs_to_the_segment() -> None:
    playlist = media(document("ffmpeg-5.1-ts-media"))
    first = datetime(2026, 11, 29, 20, 25, 36, 904_000, tzinfo=UTC).timestamp()
    assert [segment.start_timestamp_seconds for segment in playlist.segments] == [first + 2 * n for n in range(5)]
    assert playlist.edge_timestamp_seconds == first + 10


def test_date_time_is_carried_forward() -> None:
    playlist = media(document("odd/24-neulion-comment-and-pdt-first"))
    assert playlist.edge_timestamp_seconds == datetime(2026, 12, 5, 23, 42, 16, tzinfo=UTC).timestamp()


def test_parts_count_towards_the_edge() -> None:
    playlist = media(document("llhls-aiohttp-origin"))
    assert playlist.edge_timestamp_seconds == datetime(2026, 11, 29, 20, 31, 13, 854_000, tzinfo=UTC).timestamp()
    assert [part.independent for part in playlist.parts] == [True, False, False]
    assert [segment.part_count for segment in playlist.segments] == [0, 0, 0, 0, 4, 4]
    assert [(hint.kind, hint.uri) for hint in playlist.preload_hints] == [("PART", "p6_3.m4s")]


def test_delta_update_gives_the_same_newest_media() -> None:
    full, delta = media(document("llhls-aiohttp-origin")), media(document("llhls-delta-update"))
    assert full.segments[2:] == delta.segments


def test_init_section_applies_to_the_segments_after_it() -> None:
    playlist = media(document("odd/09-map-between-extinf-and-uri"))
    assert [segment.init for segment in playlist.segments] == [InitSection("init.mp4")] * 2
    assert [segment.duration_seconds for segment in playlist.segments] == [6, 6]


def test_gap_is_not_the_newest_segment_to_fetch() -> None:
    playlist = media(document("odd/21-gap-at-edge"))
    assert [segment.gap for segment in playlist.segments] == [False, False, True]
    newest = playlist.newest_segment
    assert newest is not None
    assert newest.sequence == 51


def test_encrypted_segments_are_opaque() -> None:
    playlist = media(document("odd/23-aes128-key"))
    assert [(segment.key_method, segment.opaque) for segment in playlist.segments] == [("AES-128", True)] * 2


def test_discontinuities_raise_the_discontinuity_sequence() -> None:
    odd = media(document("odd/05-discontinuity-before-every-segment"))
    assert [segment.discontinuity_sequence for segment in odd.segments] == [539_645, 539_646, 539_647]
    # the DISCONTINUITY has left the window, and the server has not raised the discontinuity sequence
    before = media(document("odd/19-dropped-discontinuity-sequence.a"))
    after = media(document("odd/19-dropped-discontinuity-sequence.b"))
    assert before.segments[1].key == after.segments[0].key
    assert (before.segments[1].discontinuity_sequence, after.segments[0].discontinuity_sequence) == (1, 0)


def test_first_segment_after_a_delta_update() -> None:
    assert [segment.sequence for segment in media(document("odd/22-delta-update")).segments] == [106, 107]


def test_bandwidth_may_have_a_fraction() -> None:
    assert master(document("odd/13-master-float-bandwidth")).variants[0].bandwidth_bytes_per_second == 66_406.2 / 8


def test_attributes_may_have_spaces() -> None:
    variants = master(document("odd/14-master-spaces-in-attributes")).variants
    assert [(variant.uri, variant.bandwidth_bytes_per_second, variant.width_pixels) for variant in variants] == [
        ("50k/chunk.m3u8", 101_485 / 8, 140),
        ("100k/chunk.m3u8", 151_395 / 8, 210),
    ]
