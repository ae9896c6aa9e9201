"""Any bytes give a result: a playlist or PlaylistError, and facts about a segment."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.media.fmp4 import inspect_fmp4, inspect_init
from exporter.media.hls_playlist import (
    MAX_SEGMENTS,
    MAX_VARIANTS,
    MasterPlaylist,
    MediaPlaylist,
    PlaylistError,
    parse_playlist,
)
from exporter.media.hls_text import parse_attributes
from exporter.media.mpeg_ts import inspect_mpeg_ts
from exporter.media.packed_audio import inspect_packed_audio
from exporter.media.segment import inspect_segment
from tests.media.media_files import DOCUMENTS, PACKET, SEGMENTS, init, segment

PLAYLISTS = [file.read_bytes() for file in sorted(DOCUMENTS.rglob("*.m3u8"))]
MEDIA = [file.read_bytes() for file in sorted(SEGMENTS.iterdir()) if file.suffix != ".sh"]
INITS = [init(name) for name in ("h264-aac", "aac", "hevc")]
SECRET = "qqsecretqq"
LINES = [
    "#EXTM3U", "#EXTINF:6,", "#EXTINF:", "a.ts", f"https://a/{SECRET}?{SECRET}", "#EXT-X-TARGETDURATION:6",
    "#EXT-X-MEDIA-SEQUENCE:5", f"#EXT-X-MEDIA-SEQUENCE:{SECRET}", "#EXT-X-DISCONTINUITY", "#EXT-X-ENDLIST",
    "#EXT-X-BYTERANGE:5", "#EXT-X-BYTERANGE:5@5", '#EXT-X-PART:DURATION=1,URI="p",BYTERANGE=5', "#EXT-X-CUE-OUT:9",
    '#EXT-X-MAP:URI="i",BYTERANGE="9"', "#EXT-X-CUE-IN", "#EXT-X-SKIP:SKIPPED-SEGMENTS=3", "#EXT-X-KEY:METHOD=NONE",
    "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z", '#EXT-X-DEFINE:NAME="a",VALUE="{$a}{$a}"', "{$a}.ts",
    "#EXT-X-STREAM-INF:BANDWIDTH=1", '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a"', '#EXT-X-I-FRAME-STREAM-INF:URI="i"', "",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """Draw a real document with a few bytes changed, removed, repeated or inserted."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        change = draw(st.sampled_from(["remove", "repeat", "overwrite", "insert", "cut"]))
        if change == "remove":
            del data[start:end]
        elif change == "repeat":
            data[start:start] = data[start:end] * draw(st.integers(1, 20))
        elif change == "overwrite":
            data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
        elif change == "insert":
            data[start:start] = draw(st.binary(max_size=20))
        else:
            del data[end:]
    return bytes(data)


def check_playlist(data: bytes, **options: Any) -> None:
    try:
        playlist = parse_playlist(data, **options)
    except PlaylistError as error:
        text = str(error)
    else:
        check_facts(playlist)
        text = " ".join(playlist.dropped)
    assert len(text) < 600
    assert SECRET not in text


def check_facts(playlist: MasterPlaylist | MediaPlaylist) -> None:
    if not isinstance(playlist, MediaPlaylist):
        assert len(playlist.variants) <= MAX_VARIANTS
        return
    assert len(playlist.segments) <= playlist.segment_count <= MAX_SEGMENTS
    assert playlist.window_seconds >= 0
    assert all(segment.key is not None and segment.sequence >= 0 for segment in playlist.segments)
    for older, newer in zip(playlist.segments, playlist.segments[1:], strict=False):
        assert newer.sequence == older.sequence + 1
        assert newer.discontinuity_sequence >= older.discontinuity_sequence
    if playlist.segments:
        assert playlist.newest_media[0] == playlist.segments[-1].sequence + 1


@given(st.binary(max_size=500))
def test_any_bytes_as_a_playlist(data: bytes) -> None:
    check_playlist(data)
    check_playlist(b"#EXTM3U\n#EXTINF:1,\n" + data)
    check_playlist(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + data)
    check_playlist(b"#EXTM3U\n#EXT-X-STREAM-INF:" + data)


@given(mutated(PLAYLISTS), st.sampled_from([0, 1_000_000]))
def test_changed_playlists(data: bytes, tail_above_bytes: int) -> None:
    check_playlist(data, tail_above_bytes=tail_above_bytes)


@given(st.lists(st.sampled_from(LINES), max_size=60), st.integers(0, 300), st.integers(0, 5_000))
def test_tags_in_any_order(lines: list[str], repeats: int, tail_above_bytes: int) -> None:
    middle = "#EXTINF:6,\nhttps://example.com/segment.ts?token=" + "0" * 200 + "\n"
    text = "#EXTM3U\n" + "\n".join(lines[::2]) + "\n" + middle * repeats + "\n".join(lines[1::2])
    check_playlist(text.encode(), tail_above_bytes=tail_above_bytes, query=f"a={SECRET}", imported={"a": SECRET})


@given(st.text(alphabet='ABC=", \t01', max_size=200))
def test_any_attribute_list(text: str) -> None:
    attributes = parse_attributes(text)
    assert sum(map(len, attributes.values())) <= len(text)
    assert not any(
        '"' in value for value in attributes.values() if not value.startswith(('"', " ")) and '"' not in text
    )


@given(
    st.dictionaries(
        st.text(alphabet="ABCXYZ-", min_size=1, max_size=9), st.text(alphabet="a=,b .0", max_size=9), max_size=9
    ),
    st.sampled_from([",", ", ", " , "]),
    st.sampled_from(["=", " =", "= "]),
)
def test_attribute_lists_are_read_back(attributes: dict[str, str], comma: str, equals: str) -> None:
    text = comma.join(f'{name}{equals}"{value}"' for name, value in attributes.items())
    assert parse_attributes(text) == attributes


@given(st.binary(max_size=2_000), st.booleans())
def test_any_bytes_as_a_segment(data: bytes, whole: bool) -> None:
    check_segment(data, whole=whole)
    check_segment(b"".join(b"G" + data[start : start + 187] for start in range(0, len(data), 187)), whole=whole)
    for kind in (b"moof", b"moov", b"styp"):
        check_segment((8 + len(data)).to_bytes(4, "big") + kind + data, whole=whole)
    for header in (b"ID3", b"\xff\xf1", b"\xff\xfb", b"\x0b\x77"):
        check_segment(header + data, whole=whole)


@given(mutated(MEDIA), st.booleans(), st.sampled_from([None, *INITS]))
def test_changed_segments(data: bytes, whole: bool, init_section: Any) -> None:
    check_segment(data, whole=whole, init=init_section)


def check_segment(data: bytes, *, whole: bool, **options: Any) -> None:
    facts = inspect_segment(data, whole=whole, **options)
    assert len(facts.tracks) <= 200
    assert whole or not facts.truncated
    for track in facts.tracks:
        assert track.packets >= 0
        assert track.duration_seconds is None or track.duration_seconds >= 0
    inspect_init(data)
    for inspect in (inspect_fmp4, inspect_mpeg_ts, inspect_packed_audio):
        inspect(data, whole=whole)


@given(st.integers(0, len(segment("h264.ts")) // PACKET - 1), st.data())
def test_audio_is_never_absent_when_it_was_cut_off(count: int, data: st.DataObject) -> None:
    whole = segment("h264-aac.ts")
    size = data.draw(st.integers(count * PACKET, len(whole)))
    assert inspect_segment(whole[:size], whole=False).audio is not False
    if size % PACKET:
        assert inspect_segment(whole[:size], whole=True).audio is not False
