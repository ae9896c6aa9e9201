import msgspec
import pytest

from exporter.media.facts import Container, MediaFacts, TrackKind
from exporter.media.fmp4 import InitFacts, InitTrack, inspect_fmp4, inspect_init
from exporter.media.mp4_boxes import MAX_BOXES, BoxReader
from exporter.media.segment import inspect_segment
from tests.media.media_files import box, box_offsets, init, segment


def inspect(data: bytes, *, whole: bool = True, init: InitFacts | None = None) -> MediaFacts:
    facts = inspect_fmp4(data, whole=whole, init=init)
    assert facts is not None
    return facts


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def fragment(*truns: bytes, flags: int = 0, defaults: bytes = b"", track: int = 1) -> bytes:
    tfhd = box(b"tfhd", number(flags), number(track), defaults)
    return box(b"moof", box(b"traf", tfhd, box(b"tfdt", number(0), number(1_000)), *truns)) + box(b"mdat", b"x" * 99)


def trun(count: int, flags: int, *values: int) -> bytes:
    return box(b"trun", number(flags), number(count), *map(number, values))


AUDIO = InitTrack(
    number=1, kind=TrackKind.AUDIO, codec="aac", sample_entry="mp4a", encrypted=False, timescale_hertz=1_000,
    width_pixels=None, height_pixels=None, default_duration=20, default_size_bytes=None, default_flags=0,
)  # fmt: skip
AUDIO_INIT = InitFacts(tracks=(AUDIO,), truncated=False)
VIDEO_INIT = InitFacts(tracks=(msgspec.structs.replace(AUDIO, kind=TrackKind.VIDEO, codec="h264"),), truncated=False)


def test_init_section() -> None:
    facts = init("h264-aac")
    assert not facts.truncated
    video, audio = facts.tracks
    assert (video.number, video.kind, video.codec, video.sample_entry) == (1, TrackKind.VIDEO, "h264", "avc1")
    assert (video.width_pixels, video.height_pixels, video.timescale_hertz) == (64, 36, 10_240)
    assert (audio.number, audio.kind, audio.codec, audio.timescale_hertz) == (2, TrackKind.AUDIO, "aac", 44_100)
    assert [(track.kind, track.codec) for track in init("aac").tracks] == [(TrackKind.AUDIO, "aac")]
    assert [(track.codec, track.sample_entry) for track in init("hevc").tracks] == [("hevc", "hvc1")]


def test_encrypted_tracks() -> None:
    data = segment("encrypted.mp4")
    facts = inspect_init(data)
    assert facts is not None
    assert [(track.codec, track.encrypted) for track in facts.tracks] == [("h264", True), ("aac", True)]
    media = inspect_segment(data, whole=True)
    assert (media.encrypted, media.audio, media.video, media.codecs) == (True, True, True, ("aac", "h264"))


@pytest.mark.parametrize(
    ("name", "codecs", "audio", "video", "key_frame"),
    [
        ("h264-aac", ("aac", "h264"), True, True, True),
        ("aac", ("aac",), True, False, None),
        ("hevc", ("hevc",), False, True, True),
    ],
)
def test_whole_segments(name: str, codecs: tuple[str, ...], audio: bool, video: bool, key_frame: bool | None) -> None:
    facts = inspect_segment(segment(f"{name}.m4s"), whole=True, init=init(name))
    assert (facts.container, facts.codecs) == (Container.FMP4, codecs)
    assert (facts.audio, facts.video, facts.key_frame_at_start) == (audio, video, key_frame)
    assert (facts.truncated, facts.encrypted, facts.transport) == (False, False, None)


def test_times() -> None:
    video, audio = inspect(segment("h264-aac.m4s"), init=init("h264-aac")).tracks
    assert (video.packets, video.first_seconds, video.duration_seconds) == (10, 1.0, 1.0)
    assert audio.packets == 43
    assert audio.first_seconds == pytest.approx(1.045, abs=0.001)
    assert audio.duration_seconds == pytest.approx(0.978, abs=0.001)
    assert (video.width_pixels, video.height_pixels) == (64, 36)


def test_start_of_a_segment_never_proves_absence() -> None:
    data = segment("hevc.m4s")
    facts = inspect(data[:600], whole=False, init=init("hevc"))
    assert (facts.audio, facts.video, facts.truncated, facts.key_frame_at_start) == (None, True, False, True)


def test_cut_off_segment() -> None:
    data = segment("hevc.m4s")
    for size in (len(data) - 1, 600):
        facts = inspect(data[:size], init=init("hevc"))
        assert (facts.truncated, facts.audio, facts.video) == (True, None, True)


def test_segment_cut_off_before_its_media() -> None:
    data = segment("hevc.m4s")
    start = next(start for kind, start, _ in box_offsets(data) if kind == b"mdat")
    assert inspect(data[:start], init=init("hevc")).truncated
    assert inspect(data[: start + 4], init=init("hevc")).truncated


def test_segment_cut_off_in_its_index() -> None:
    data = segment("hevc.m4s")
    start = next(start for kind, start, _ in box_offsets(data) if kind == b"moof")
    facts = inspect(data[: start + 50], init=init("hevc"))
    assert (facts.truncated, facts.audio, facts.video) == (True, None, None)


def test_segment_without_init_section_has_unknown_tracks() -> None:
    facts = inspect(segment("h264-aac.m4s"))
    assert (facts.audio, facts.video, facts.encrypted, facts.codecs) == (None, None, None, ())
    assert [(track.number, track.packets, track.kind) for track in facts.tracks] == [
        (1, 10, TrackKind.UNKNOWN),
        (2, 43, TrackKind.UNKNOWN),
    ]


def test_segment_with_its_own_init_section() -> None:
    facts = inspect(segment("h264-aac-init.mp4") + segment("h264-aac.m4s"))
    assert (facts.audio, facts.video, facts.codecs) == (True, True, ("aac", "h264"))


def test_init_section_alone_proves_nothing() -> None:
    facts = inspect(segment("h264-aac-init.mp4"))
    assert (facts.audio, facts.video, facts.codecs) == (None, None, ())
    assert [(track.codec, track.packets) for track in facts.tracks] == [("h264", 0), ("aac", 0)]


def test_cut_off_init_section_proves_no_absence() -> None:
    data = segment("h264-aac-init.mp4")
    facts = inspect_init(data[:-200])
    assert facts is not None
    assert (facts.truncated, [track.codec for track in facts.tracks]) == (True, ["h264"])
    assert inspect(segment("hevc.m4s"), init=facts).audio is None


def test_declared_track_without_samples_is_absent() -> None:
    facts = inspect(segment("hevc.m4s"), init=init("h264-aac"))
    assert (facts.audio, facts.video) == (False, True)


@pytest.mark.parametrize("run", [trun(0, 0), trun(3, 0x200, 0, 0, 0)])
def test_track_with_empty_samples_is_absent(run: bytes) -> None:
    # nginx-rtmp writes .m4a files of 164 bytes for a publisher without audio
    facts = inspect(fragment(run), init=AUDIO_INIT)
    assert (facts.audio, facts.tracks[0].packets) == (False, 0)


@pytest.mark.parametrize(
    ("run", "flags", "defaults", "duration", "key_frame"),
    [
        (trun(3, 0x100, 10, 20, 30), 0, b"", 0.06, True),
        (trun(3, 0), 0, b"", 0.06, True),
        (trun(3, 0), 0x8, number(40), 0.12, True),
        (trun(3, 0), 0x28, number(40) + number(0x1_0000), 0.12, False),
        (trun(3, 0), 0x3B, bytes(12) + number(40) + number(5) + number(0x1_0000), 0.12, False),
        (trun(3, 0x5, 0, 0), 0x20, number(0x1_0000), 0.06, True),
        (trun(3, 0x4, 0x1_0000), 0, b"", 0.06, False),
        (trun(2, 0x700, 10, 5, 0x1_0000, 20, 5, 0), 0, b"", 0.03, False),
        (trun(2, 0xF00, 10, 5, 0, 1, 20, 5, 0x1_0000, 1), 0, b"", 0.03, True),
    ],
)
def test_sample_tables(run: bytes, flags: int, defaults: bytes, duration: float, key_frame: bool) -> None:
    track = inspect(fragment(run, flags=flags, defaults=defaults), init=VIDEO_INIT).tracks[0]
    assert track.duration_seconds == pytest.approx(duration)
    assert (track.first_seconds, track.key_frame_at_start) == (1.0, key_frame)


def test_unknown_durations() -> None:
    track = msgspec.structs.replace(AUDIO, default_duration=None, timescale_hertz=None)
    for tracks in ((track,), (msgspec.structs.replace(track, timescale_hertz=1),)):
        facts = inspect(fragment(trun(3, 0)), init=InitFacts(tracks=tracks, truncated=False))
        assert (facts.audio, facts.tracks[0].duration_seconds) == (True, None)


@pytest.mark.parametrize("run", [trun(5, 0x100, 1, 2), trun(2**32 - 1, 0), box(b"trun", b"\0\0\0\5")])
def test_impossible_sample_tables_prove_nothing(run: bytes) -> None:
    facts = inspect(fragment(run), init=AUDIO_INIT)
    assert (facts.audio, facts.video) == (None, None)


def test_several_fragments_add_up() -> None:
    facts = inspect(box(b"styp") + fragment(trun(2, 0)) + fragment(trun(3, 0)), init=AUDIO_INIT)
    assert (facts.tracks[0].packets, facts.tracks[0].duration_seconds) == (5, 0.1)


def test_long_sizes_and_boxes_up_to_the_end() -> None:
    moof, mdat = fragment(trun(2, 0))[:-107], b"x" * 99
    long_mdat = number(1) + b"mdat" + (16 + len(mdat)).to_bytes(8, "big") + mdat
    last_mdat = number(0) + b"mdat" + mdat
    for data in (moof + long_mdat, moof + last_mdat):
        facts = inspect(data, init=AUDIO_INIT)
        assert (facts.audio, facts.video, facts.truncated) == (True, False, False)
    huge = number(1) + b"mdat" + (2**64 - 1).to_bytes(8, "big") + mdat
    assert inspect(moof + huge, init=AUDIO_INIT).truncated


def test_long_decode_times() -> None:
    tfdt = box(b"tfdt", b"\1\0\0\0", (2**40).to_bytes(8, "big"))
    traf = box(b"traf", box(b"tfhd", number(0), number(1)), tfdt, trun(1, 0))
    facts = inspect(box(b"moof", traf) + box(b"mdat", b"x"), init=AUDIO_INIT)
    assert facts.tracks[0].first_seconds == 2**40 / 1_000


@pytest.mark.parametrize("size", [2, 7])
def test_impossible_sizes_end_the_reading(size: int) -> None:
    facts = inspect(fragment(trun(1, 0)) + number(size) + b"free" + bytes(50), init=AUDIO_INIT)
    assert (facts.audio, facts.video) == (True, None)


def test_number_of_boxes_is_bounded() -> None:
    reader = BoxReader(box(b"free") * (2 * MAX_BOXES))
    assert sum(1 for _ in reader.iterate(0, len(reader.data))) == MAX_BOXES
    assert list(reader.iterate(0, len(reader.data))) == []
    many = inspect(box(b"free") * (2 * MAX_BOXES), init=AUDIO_INIT)
    assert many.audio is None


def test_number_of_tracks_is_bounded() -> None:
    fragments = b"".join(fragment(trun(1, 0), track=track) for track in range(200))
    assert len(inspect(fragments).tracks) == 64


def test_deep_nesting_is_not_followed() -> None:
    data = b""
    for _ in range(5_000):
        data = box(b"moov", data)
    assert inspect_init(data) == InitFacts(tracks=(), truncated=False)


def test_fragment_without_header_proves_nothing() -> None:
    facts = inspect(box(b"moof", box(b"traf", trun(1, 0))) + box(b"mdat", b"x"), init=AUDIO_INIT)
    assert (facts.audio, facts.video) == (None, None)


def test_mp3_in_mp4() -> None:
    data = segment("aac-init.mp4")
    at = data.index(b"esds") + 8
    descriptor = data.index(b"\x04\x80\x80\x80", at) + 5
    facts = inspect_init(data[:descriptor] + b"\x6b" + data[descriptor + 1 :])
    assert facts is not None
    assert facts.tracks[0].codec == "mp3"


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x08", b"<html>", segment("h264.ts"), segment("packed.aac")])
def test_other_data(data: bytes) -> None:
    assert inspect_init(data) is None
    assert inspect_fmp4(data, whole=True) is None


def test_track_with_hardly_any_boxes() -> None:
    facts = inspect_init(box(b"moov", box(b"mvex", box(b"trex")), box(b"trak", box(b"mdia", box(b"minf")))))
    assert facts is not None
    track = facts.tracks[0]
    assert (track.number, track.kind, track.codec, track.timescale_hertz) == (0, TrackKind.UNKNOWN, "", None)


@pytest.mark.parametrize("name", [b"esds", b"\x03\x80\x80\x80\x22"])
def test_damaged_description_of_aac(name: bytes) -> None:
    facts = inspect_init(segment("aac-init.mp4").replace(name, bytes(len(name))))
    assert facts is not None
    assert facts.tracks[0].codec == "aac"
