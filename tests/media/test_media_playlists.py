from datetime import UTC, datetime

import pytest

from exporter.media.hls_playlist import (
    MAX_PLAYLIST_BYTES,
    MAX_SEGMENTS,
    ByteRange,
    MediaPlaylist,
    PlaylistError,
    parse_playlist,
    uri_path,
)
from exporter.media.hls_text import MAX_PARSED_BYTES
from tests.media.media_files import document, live_list, media

SEGMENT = ("#EXTINF:6.0,", "a.ts")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "empty body"),
        (b"\xef\xbb\xbf \r\n", "empty body"),
        (b"#EXT", "cut off before the first tag"),
        (b"#EXTM3U\n", "a playlist without segments and variants, or cut off"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "a playlist without segments and variants, or cut off"),
        (b"#EXTM3U\n#EXTINF:-1,Channel\nhttp://a/x\n", "not an HLS playlist (channel list)"),
        (b"#EXTM3U x-tvg-url=''\n#EXTINF:0 tvg-id='a',B\nhttp://a/x\n", "not an HLS playlist (channel list)"),
        (b"#EXTM3U\n#EXTINF:123,Artist - Song\nsong.mp3\n", "not an HLS playlist (no target duration)"),
        (b"<!DOCTYPE html><p>no", "not an HLS playlist (an HTML page)"),
        (b"\xef\xbb\xbf\n <HTML>", "not an HLS playlist (an HTML page)"),
        (b"<?xml version='1.0'?>\n<MPD/>", "not an HLS playlist (a DASH manifest)"),
        (b"<?xml version='1.0'?><Error/>", "not an HLS playlist (an XML document)"),
        (b'{"error": 1}', "not an HLS playlist (a JSON document)"),
        (b"\x1f\x8b\x08", "not an HLS playlist (compressed data (gzip))"),
        (b"G" + bytes(187) + b"G", "not an HLS playlist (media data (MPEG-TS))"),
        (b"Not Found", "not an HLS playlist"),
        (b"a.ts\n#EXTM3U\n", "not an HLS playlist"),
        (b"\xff\xfe#\0E\0", "not an HLS playlist"),
        (b" " * (MAX_PLAYLIST_BYTES + 1), f"larger than {MAX_PLAYLIST_BYTES} bytes"),
    ],
)
def test_other_documents_are_refused(body: bytes, text: str) -> None:
    with pytest.raises(PlaylistError) as refusal:
        parse_playlist(body)
    assert str(refusal.value) == text


@pytest.mark.parametrize("value", ["-1", "x", "", "18446744073709551616", "1e3", "1" * 5_000, "٣"])
def test_unreadable_media_sequence_is_refused(value: str) -> None:
    with pytest.raises(PlaylistError, match="EXT-X-MEDIA-SEQUENCE") as refusal:
        media(f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:{value}\n#EXTINF:6,\na.ts\n")
    assert refusal.value.__cause__ is None


def test_too_many_segments_are_refused() -> None:
    with pytest.raises(PlaylistError, match="more than 100000 segments"):
        media(live_list() + "#EXTINF:1,\na\n" * (MAX_SEGMENTS + 1))


@pytest.mark.parametrize("filler", ["# comment\n", "\n", "#EXT-X-KEY:METHOD=NONE\n"])
def test_too_many_other_lines_are_refused(filler: str) -> None:
    lines = filler * (MAX_PARSED_BYTES // len(filler) + 1)
    for text in (live_list(lines, *SEGMENT), live_list(*SEGMENT) + lines):
        with pytest.raises(PlaylistError, match="more than 262144 bytes before or after the segments"):
            media(text)


def test_errors_do_not_quote_the_document() -> None:
    with pytest.raises(PlaylistError) as refusal:
        media(live_list("#EXTINF:6,", "https://example.com/" + "secret" * 5_000))
    assert str(refusal.value) == "URI longer than 16384 characters"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "  \n", "\n\n", "\n# comment\n", "\n#EXT-VENDOR:1\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_line_ends_comments_and_byte_order_mark(ending: str, start: str) -> None:
    text = live_list("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z", *SEGMENT, "#EXTINF:5.5", "b.ts", sequence=7)
    expected = media(text)
    assert media(start + text.replace("\n", ending)) == expected
    assert expected.newest_media == (9, 0)


def test_latin_1_and_utf_8() -> None:
    head = live_list().encode()
    playlist = media(head + b"#EXTINF:6,caf\xe9\ncaf\xe9.ts\n#EXTINF:6,\n" + "café.ts\n".encode())
    assert [segment.uri for segment in playlist.segments] == ["café.ts", "café.ts"]
    assert not playlist.truncated


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "-1", "1e300", ",title"])
def test_unreadable_duration_keeps_the_segment(value: str) -> None:
    playlist = media(live_list("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z", f"#EXTINF:{value}", "a.ts", *SEGMENT))
    assert [segment.duration_seconds for segment in playlist.segments] == [None, 6]
    assert playlist.segments[0].start_timestamp_seconds is not None
    assert (playlist.newest_media, playlist.window_seconds, playlist.edge_timestamp_seconds) == ((3, 0), 6, None)
    assert playlist.dropped == ("EXTINF",)


def test_duration_with_attributes() -> None:
    assert media(live_list('#EXTINF:6.5 tvg-id="a",Title, with comma', "a.ts")).window_seconds == 6.5


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("#EXT-X-VERSION:x", "EXT-X-VERSION"),
        ("#EXT-X-TARGETDURATION:0", "EXT-X-TARGETDURATION"),
        ("#EXT-X-DISCONTINUITY-SEQUENCE:-1", "EXT-X-DISCONTINUITY-SEQUENCE"),
        ("#EXT-X-PLAYLIST-TYPE:LIVE", "EXT-X-PLAYLIST-TYPE"),
        ("#EXT-X-PROGRAM-DATE-TIME:yesterday", "EXT-X-PROGRAM-DATE-TIME"),
        ("#EXT-X-PROGRAM-DATE-TIME:2026-01-01", "EXT-X-PROGRAM-DATE-TIME"),
        ("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T25:00:00Z", "EXT-X-PROGRAM-DATE-TIME"),
        ("#EXT-X-MAP:BYTERANGE=1", "EXT-X-MAP"),
        ('#EXT-X-MAP:URI=""', "EXT-X-MAP"),
        ('#EXT-X-MAP:URI="a', "EXT-X-MAP"),
        ("#EXT-X-KEY:", "EXT-X-KEY"),
        ("#EXT-X-BYTERANGE:x@1", "EXT-X-BYTERANGE"),
        ("#EXT-X-PART-INF:PART-TARGET=nan", "EXT-X-PART-INF"),
        ("#EXT-X-SKIP:", "EXT-X-SKIP"),
        ("#EXT-X-SERVER-CONTROL:HOLD-BACK=x", "EXT-X-SERVER-CONTROL"),
        ("#EXT-X-PRELOAD-HINT:TYPE=PART", "EXT-X-PRELOAD-HINT"),
        ('#EXT-X-PRELOAD-HINT:TYPE=X,URI="a"', "EXT-X-PRELOAD-HINT"),
        ("#EXT-X-DATERANGE:ID=1", "EXT-X-DATERANGE"),
        ("#EXT-X-DEFINE:NAME=1", "EXT-X-DEFINE"),
        ("#EXT-X-MAP:" + "x" * 20_000, "EXT-X-MAP"),
        ("b.ts", "URI"),
    ],
)
def test_unreadable_tag_drops_only_itself(tag: str, name: str) -> None:
    playlist = media(live_list(tag, *SEGMENT, *SEGMENT))
    assert playlist.dropped == (name,)
    assert playlist.newest_media == (3, 0)


@pytest.mark.parametrize(
    "tag", ["#EXT-X-MEDIA-SEQUENCE:9", "#EXT-X-DISCONTINUITY-SEQUENCE:9", "#EXT-X-SKIP:SKIPPED-SEGMENTS=9"]
)
def test_late_tags_are_dropped(tag: str) -> None:
    playlist = media(live_list(*SEGMENT, tag, *SEGMENT))
    assert [segment.sequence for segment in playlist.segments] == [1, 2]
    assert playlist.dropped == (tag[1:].partition(":")[0],)


def test_missing_target_duration_is_unknown() -> None:
    assert media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF:6,\na.ts\n").target_duration_seconds is None


def test_playlist_before_the_first_segment() -> None:
    playlist = media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:5\n")
    assert (playlist.newest_media, playlist.newest_segment, playlist.longest_segment_seconds) == ((5, 0), None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T00:00:00.5+0100", datetime(2025, 12, 31, 23, 0, 0, 500_000, tzinfo=UTC)),
        (" 2026-01-01T00:00:00.123456789-06:00", datetime(2026, 1, 1, 6, 0, 0, 123_456, tzinfo=UTC)),
        ("0001-01-01T00:00:00+12:00", None),
        ("9999-12-31T23:59:59-12:00", None),
    ],
)
def test_date_times(text: str, expected: datetime | None) -> None:
    playlist = media(live_list(f"#EXT-X-PROGRAM-DATE-TIME:{text}", *SEGMENT))
    start = playlist.segments[0].start_timestamp_seconds
    assert start is not None
    if expected is not None:
        assert start == pytest.approx(expected.timestamp())
    assert not playlist.assumed_utc


def test_date_time_without_zone_is_utc() -> None:
    playlist = media(live_list("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00", *SEGMENT))
    assert playlist.assumed_utc
    assert playlist.edge_timestamp_seconds == datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC).timestamp()


def test_unreadable_date_time_is_not_bridged() -> None:
    dates = ("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z", *SEGMENT, "#EXT-X-PROGRAM-DATE-TIME:x", *SEGMENT)
    assert media(live_list(*dates)).edge_timestamp_seconds is None


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("a.ts", "a.ts"),
        ("a.ts?token=1#x", "a.ts"),
        ("/live/a.ts?x=https://b/c", "/live/a.ts"),
        ("https://cdn-1.example.com/live/a.ts?t=1", "/live/a.ts"),
        ("//cdn-1.example.com:8080/live/a.ts", "/live/a.ts"),
        ("https://example.com", "/"),
        ("https://example.com?a=/b", "/"),
    ],
)
def test_path_has_no_host_and_query(uri: str, path: str) -> None:
    assert uri_path(uri) == path


def test_byte_ranges_follow_each_other() -> None:
    lines = [
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:100@50", "all.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:200", "all.ts?token=2"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE: 10@ 400", "all.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:20", "all.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:20", "other.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:x", "all.ts"),
        *("#EXTINF:1,", "whole.ts"),
    ]
    playlist = media(live_list(*lines))
    assert [segment.byte_range for segment in playlist.segments] == [
        ByteRange(50, 100),
        ByteRange(None, 200),  # a token is part of the URI
        ByteRange(400, 10),
        ByteRange(410, 20),
        ByteRange(None, 20),
        ByteRange(None, 0),
        None,
    ]
    assert [segment.key for segment in playlist.segments[2:4]] == ["all.ts@400+10", "all.ts@410+20"]


def test_init_section_with_byte_range() -> None:
    playlist = media(
        live_list('#EXT-X-MAP:URI="a.mp4",BYTERANGE="720@8"', *SEGMENT, "#EXT-X-MAP:BYTERANGE=9,URI=b", *SEGMENT)
    )
    first, second = [segment.init for segment in playlist.segments]
    assert first is not None
    assert second is not None
    assert (first.uri, first.byte_range) == ("a.mp4", ByteRange(8, 720))
    assert (second.uri, second.byte_range) == ("b", ByteRange(0, 9))


def test_keys() -> None:
    lines = [
        *('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://a"', *SEGMENT),
        *("#EXT-X-KEY:METHOD=NONE", *SEGMENT),
        *("#EXT-X-KEY:METHOD=ROT13", *SEGMENT),
        *('#EXT-X-KEY:URI="a"', *SEGMENT),
    ]
    playlist = media(live_list(*lines))
    assert [segment.key_method for segment in playlist.segments] == ["SAMPLE-AES", "", "UNKNOWN", "UNKNOWN"]
    assert [segment.opaque for segment in playlist.segments] == [False, False, True, True]


@pytest.mark.parametrize(
    ("cue", "expected"),
    [
        ("#EXT-X-CUE-OUT", [False, True, True, True, False]),
        ("#EXT-X-CUE-OUT:12.0", [False, True, True, False, False]),
        ("#EXT-X-CUE-OUT:DURATION=12.3", [False, True, True, False, False]),
        ("#EXT-X-CUE-OUT-CONT:6/12", [False, True, False, False, False]),
        ("#EXT-X-CUE-OUT-CONT:ElapsedTime=6.0,Duration=18,SCTE35=/DA", [False, True, True, False, False]),
        ("#EXT-X-CUE-OUT-CONT:ElapsedTime=x", [False, True, True, True, False]),
    ],
)
def test_ad_breaks(cue: str, expected: list[bool]) -> None:
    playlist = media(live_list(*SEGMENT, cue, *SEGMENT, *SEGMENT, *SEGMENT, "#EXT-X-CUE-IN", *SEGMENT))
    assert [segment.ad_break for segment in playlist.segments] == expected
    assert playlist.ad_markers


def test_ad_break_whose_start_has_left_the_window() -> None:
    playlist = media(live_list(*SEGMENT, "#EXT-X-CUE-IN", *SEGMENT))
    assert [segment.ad_break for segment in playlist.segments] == [True, False]


def test_number_of_attributes_is_bounded() -> None:
    line = "#EXT-X-DATERANGE:" + "A=1," * 1_000 + 'ID="a",START-DATE="2026-01-01T00:00:00Z"'
    assert media(live_list(line, *SEGMENT)).dropped == ("EXT-X-DATERANGE",)


def test_date_ranges() -> None:
    line = '#EXT-X-DATERANGE:ID="a",START-DATE="2026-01-01T00:00:00Z"'
    playlist = media(live_list(line, *SEGMENT))
    assert (playlist.date_ranges, playlist.ad_markers) == (1, False)
    assert media(live_list(line + ",SCTE35-OUT=0xFC", *SEGMENT)).ad_markers


def test_parts() -> None:
    lines = [
        '#EXT-X-PART:DURATION=1,URI="all.mp4",BYTERANGE="100@0",INDEPENDENT=YES',
        '#EXT-X-PART:DURATION=1,URI="all.mp4",BYTERANGE="50"',
        '#EXT-X-PART:DURATION=x,URI="p.mp4",GAP=YES',
        '#EXT-X-PART:DURATION=1,URI="all.mp4",BYTERANGE="x"',
        "#EXT-X-PART:DURATION=1",
        '#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="i.mp4",BYTERANGE-START=5,BYTERANGE-LENGTH=6',
    ]
    playlist = media(live_list("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00Z", *SEGMENT, *lines))
    assert [part.byte_range for part in playlist.parts] == [
        ByteRange(0, 100),
        ByteRange(100, 50),
        None,
        ByteRange(None, 0),
    ]
    assert [part.gap for part in playlist.parts] == [False, False, True, False]
    assert (playlist.newest_media, playlist.edge_timestamp_seconds) == ((2, 4), 9)
    assert playlist.dropped == ("EXT-X-PART",)
    hint = playlist.preload_hints[0]
    assert (hint.kind, hint.start_bytes, hint.length_bytes) == ("MAP", 5, 6)


def test_parts_before_any_date_time_have_no_edge() -> None:
    assert media(live_list('#EXT-X-PART:DURATION=1,URI="p"')).edge_timestamp_seconds is None


def test_newest_media_rises_with_every_change() -> None:
    steps = [
        [*SEGMENT],
        [*SEGMENT, '#EXT-X-PART:DURATION=3,URI="1"'],
        [*SEGMENT, '#EXT-X-PART:DURATION=3,URI="1"', '#EXT-X-PART:DURATION=3,URI="2"'],
        [*SEGMENT, '#EXT-X-PART:DURATION=3,URI="1"', '#EXT-X-PART:DURATION=3,URI="2"', *SEGMENT],
    ]
    keys = [media(live_list(*lines)).newest_media for lines in steps]
    assert keys == [(2, 0), (2, 1), (2, 2), (3, 0)]


@pytest.mark.parametrize(
    ("end", "segments"),
    [
        ("#EXTINF:6.0,\n", 2),
        ("#EXTINF:6.0", 2),
        ("#EXTI", 2),
        ("#EXT-X-PROGRAM-DA", 2),
        ("#EXTINF:6.0,\nc.t", 2),
        ("#EXTINF:6.0,\nc", 2),
        ("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n#EXTINF:6.0,\n", 2),
    ],
)
def test_cut_off_body(end: str, segments: int) -> None:
    playlist = media(live_list(*SEGMENT, *SEGMENT) + end)
    assert playlist.truncated
    assert (playlist.segment_count, playlist.window_seconds) == (segments, 6.0 * segments)


@pytest.mark.parametrize("end", ["#EXTINF:6.0,\nc.ts", "#EXT-X-ENDLIST", "# comment", "#EXT-X-DISCONTINUITY"])
def test_body_without_last_line_end_is_complete(end: str) -> None:
    assert not media(live_list(*SEGMENT, *SEGMENT) + end).truncated


def parse(text: str, query: str = "", **imported: str) -> MediaPlaylist:
    playlist = parse_playlist(text.encode(), query=query, imported=imported)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def test_variables() -> None:
    lines = [
        '#EXT-X-DEFINE:NAME="host",VALUE="cdn"',
        '#EXT-X-DEFINE:IMPORT="shared"',
        '#EXT-X-DEFINE:QUERYPARAM="token"',
        '#EXT-X-MAP:URI="{$shared}/init.mp4"',
        *("#EXTINF:6,", "https://{$host}/{$host}.ts?t={$token}"),
    ]
    playlist = parse(live_list(*lines), "a=b&token=x%20y", shared="s")
    assert playlist.segments[0].uri == "https://cdn/cdn.ts?t=x y"
    init = playlist.segments[0].init
    assert init is not None
    assert init.uri == "s/init.mp4"
    assert playlist.dropped == ()


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ['#EXT-X-DEFINE:IMPORT="b"'],
        ['#EXT-X-DEFINE:QUERYPARAM="b"'],
        ['#EXT-X-DEFINE:QUERYPARAM="quote"'],
        [f'#EXT-X-DEFINE:NAME="b",VALUE="{"x" * 5_000}"'],
    ],
)
def test_unknown_variables_stay(lines: list[str]) -> None:
    playlist = parse(live_list(*lines, "#EXTINF:6,", "{$b}{$quote}.ts"), "quote=%22")
    assert playlist.segments[0].uri == "{$b}{$quote}.ts"
    assert playlist.dropped == ("EXT-X-DEFINE",)


def test_variables_do_not_grow_without_bound() -> None:
    bomb = ['#EXT-X-DEFINE:NAME="a",VALUE="' + "x" * 4_000 + '"']
    lines = [line for _ in range(1_000) for line in ("#EXTINF:6,", "{$a}" * 4)]
    playlist = parse(live_list(*bomb, *lines, "#EXTINF:6,", "{$a}" * 4_000))
    assert sum(len(segment.uri) for segment in playlist.segments) < 1_200_000
    assert playlist.segment_count == 1_001


def test_variables_are_not_substituted_in_values() -> None:
    lines = ['#EXT-X-DEFINE:NAME="a",VALUE="{$b}"', '#EXT-X-DEFINE:NAME="b",VALUE="c"', "#EXTINF:6,", "{$a}.ts"]
    assert parse(live_list(*lines)).segments[0].uri == "{$b}.ts"


def test_number_of_variables_is_bounded() -> None:
    lines = [f'#EXT-X-DEFINE:NAME="v{n}",VALUE="{n}"' for n in range(200)]
    playlist = parse(live_list(*lines, "#EXTINF:6,", "{$v99}", "#EXTINF:6,", "{$v100}"))
    assert [segment.uri for segment in playlist.segments] == ["99", "{$v100}"]


def test_long_comment_is_ignored() -> None:
    assert media(live_list("#" + "x" * 100_000, *SEGMENT)).dropped == ()


def test_long_extinf_keeps_the_segment() -> None:
    playlist = media(live_list("#EXTINF:6," + "x" * 20_000, "a.ts"))
    assert (playlist.segment_count, playlist.segments[0].duration_seconds) == (1, None)


def test_i_frame_playlist() -> None:
    playlist = media(live_list("#EXT-X-I-FRAMES-ONLY", *SEGMENT))
    assert playlist.i_frames_only


def test_playlists_of_one_stream_compare_by_key() -> None:
    first = media(document("odd/02-two-origins-behind-lb.a"))
    assert [segment.key for segment in first.segments] == ["1256.ts", "1257.ts", "1258.ts"]
