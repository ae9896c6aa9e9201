"""Long playlists, of which only the head and the tail are parsed, must give the same facts as a full parse."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from exporter.media.hls_playlist import MediaPlaylist, parse_playlist
from exporter.media.hls_tail import TAIL_BYTES
from tests.media.media_files import live_list

COUNT = 10_000
START = 1_767_225_600


def date_time(second: int) -> str:
    return f"#EXT-X-PROGRAM-DATE-TIME:{datetime.fromtimestamp(START + second, UTC).isoformat()}"


def long_list(*head: str, every: Mapping[int, tuple[str, ...]] | None = None, date_after_extinf: bool = False) -> str:
    """Make a list of 2 s segments; ``every`` has lines to add before a segment, by its index."""
    lines = list(head)
    for index in range(COUNT):
        extra = (every or {}).get(index, ())
        extinf = ("#EXTINF:2.000,",)
        lines += [*extinf, *extra] if date_after_extinf else [*extra, *extinf]
        lines.append(f"segment-{index:05}.ts?token=0123456789")
    return live_list(*lines, target=2, sequence=50)


def parse(text: str, *, full: bool) -> MediaPlaylist:
    data = text.encode()
    playlist = parse_playlist(data, tail_above_bytes=len(data) + 1 if full else 131_072)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def assert_same_facts(text: str) -> MediaPlaylist:
    full, tail = parse(text, full=True), parse(text, full=False)
    assert full.segment_count == len(full.segments) == tail.segment_count
    assert 0 < len(tail.segments) < TAIL_BYTES / 40
    assert tail.unparsed_segments == COUNT - len(tail.segments)
    for newest in (-1, -10, -len(tail.segments)):
        assert tail.segments[newest] == full.segments[newest]
    ignored = {"segments": (), "date_ranges": 0, "ad_markers": False}
    assert msgspec.structs.replace(tail, **ignored) == msgspec.structs.replace(full, **ignored)
    return tail


def test_plain_list() -> None:
    playlist = assert_same_facts(long_list())
    assert (playlist.newest_media, playlist.window_seconds) == ((50 + COUNT, 0), 2 * COUNT)


def test_recording_with_windows_line_ends() -> None:
    assert_same_facts(long_list("#EXT-X-PLAYLIST-TYPE:VOD").replace("\n", "\r\n") + "#EXT-X-ENDLIST\r\n")


def test_end_in_the_middle() -> None:
    assert assert_same_facts(long_list(every={100: ("#EXT-X-ENDLIST",)})).ended


def test_tags_of_the_first_segment_do_not_reach_the_tail() -> None:
    tags = ("#EXT-X-DISCONTINUITY", "#EXT-X-GAP", "#EXT-X-BYTERANGE:1@2", '#EXT-X-PART:DURATION=1,URI="a"')
    assert_same_facts(long_list("#EXT-X-DISCONTINUITY-SEQUENCE:7", *tags))


def test_last_key_and_init_section_apply() -> None:
    changes = {
        0: ('#EXT-X-MAP:URI="1.mp4"', "#EXT-X-KEY:METHOD=AES-128"),
        500: ('#EXT-X-MAP:URI="2.mp4"',),
        600: ("#EXT-X-KEY:METHOD=NONE",),
    }
    segment = assert_same_facts(long_list(every=changes)).segments[0]
    assert segment.init is not None
    assert (segment.init.uri, segment.key_method) == ("2.mp4", "")


def test_discontinuities_are_counted() -> None:
    changes = dict.fromkeys(range(0, COUNT, 1000), ("#EXT-X-DISCONTINUITY",))
    assert_same_facts(long_list("#EXT-X-DISCONTINUITY-SEQUENCE:3", every=changes))


@pytest.mark.parametrize("after_extinf", [False, True])
@pytest.mark.parametrize("indexes", [range(1), range(0, 5_000, 700), range(0, COUNT, 3), range(4_000, 4_001)])
def test_date_time_is_carried_over_the_middle(indexes: range, *, after_extinf: bool) -> None:
    dates = {index: ("# comment", date_time(2 * index)) for index in indexes}
    playlist = assert_same_facts(long_list(every=dates, date_after_extinf=after_extinf))
    assert playlist.edge_timestamp_seconds == START + 2 * COUNT


def test_unreadable_duration_in_the_middle_loses_the_date_time() -> None:
    text = long_list(date_time(0)).replace("#EXTINF:2.000,\nsegment-00500", "#EXTINF:x,\nsegment-00500")
    playlist = parse(text, full=False)
    assert playlist.edge_timestamp_seconds is None
    assert playlist.window_seconds == 2 * (COUNT - 1)


def test_segment_with_very_many_lines_loses_the_date_time() -> None:
    playlist = parse(long_list(every={500: ("# comment",) * 100 + (date_time(0),)}), full=False)
    assert playlist.edge_timestamp_seconds is None
    assert playlist.segment_count == COUNT


@pytest.mark.parametrize(("cue", "expected"), [("", True), (":1000", False), (":50000", True)])
def test_ad_break_that_starts_in_the_middle(cue: str, expected: bool) -> None:
    playlist = parse(long_list(every={1_000: (f"#EXT-X-CUE-OUT{cue}",)}), full=False)
    assert playlist.segments[0].ad_break is expected


def test_implicit_byte_range_after_the_middle_is_unknown() -> None:
    ranges = {index: ("#EXT-X-BYTERANGE:100" + ("@0" if index == 0 else ""),) for index in range(COUNT)}
    text = long_list(every=ranges)
    first = parse(text, full=False).segments[0].byte_range
    assert first is not None
    assert (first.start_bytes, first.length_bytes) == (None, 100)


@pytest.mark.parametrize("filler", ["# comment\n", "#EXT-VENDOR\r"])
def test_list_without_uri_in_the_tail_is_parsed_in_full(filler: str) -> None:
    playlist = parse(live_list("#EXTINF:6,", "a.ts") + filler * 20_000, full=False)
    assert (playlist.segment_count, playlist.unparsed_segments) == (1, 0)


def test_parts_at_the_end_of_a_long_list() -> None:
    text = long_list(date_time(0)) + '#EXT-X-PART:DURATION=0.5,URI="p"\n'
    assert assert_same_facts(text).newest_media == (50 + COUNT, 1)
