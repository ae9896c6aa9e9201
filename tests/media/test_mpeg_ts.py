import random

import pytest

from exporter.media.facts import Container, MediaFacts, Track, TrackKind
from exporter.media.key_frames import starts_with_key_frame
from exporter.media.mpeg_ts import find_sync, inspect_mpeg_ts
from exporter.media.mpeg_ts_tables import SectionBuffer, parse_pat, parse_pmt
from exporter.media.segment import inspect_segment
from tests.media.media_files import PACKET, packets, pid, segment, without_pid

VIDEO_PID, AUDIO_PID, PMT_PID = 256, 257, 4096


def inspect(data: bytes, *, whole: bool = True) -> MediaFacts:
    facts = inspect_mpeg_ts(data, whole=whole)
    assert facts is not None
    return facts


def track(facts: MediaFacts, kind: TrackKind) -> Track:
    return next(track for track in facts.tracks if track.kind is kind)


@pytest.mark.parametrize(
    ("name", "codecs", "audio", "video", "key_frame"),
    [
        ("h264-aac.ts", ("aac", "h264"), True, True, True),
        ("h264.ts", ("h264",), False, True, True),
        ("aac.ts", ("aac",), True, False, None),
        ("hevc-aac.ts", ("aac", "hevc"), True, True, True),
        ("mpeg2-mp2.ts", ("mpeg2video", "mpeg_audio"), True, True, True),
        ("h264-ac3.ts", ("ac3", "h264"), True, True, True),
        ("h264-without-key-frame.ts", ("h264",), False, True, False),
    ],
)
def test_whole_segments(name: str, codecs: tuple[str, ...], audio: bool, video: bool, key_frame: bool | None) -> None:
    facts = inspect_segment(segment(name), whole=True)
    assert (facts.container, facts.codecs) == (Container.MPEG_TS, codecs)
    assert (facts.audio, facts.video, facts.key_frame_at_start) == (audio, video, key_frame)
    assert (facts.truncated, facts.encrypted) == (False, False)
    transport = facts.transport
    assert transport is not None
    assert (transport.has_pat, transport.has_pmt, transport.packets) == (True, True, len(segment(name)) // PACKET)
    assert (transport.continuity_errors, transport.sync_losses, transport.leading_garbage_bytes) == (0, 0, 0)


def test_times() -> None:
    video = track(inspect(segment("h264-aac.ts")), TrackKind.VIDEO)
    assert video.first_seconds is not None
    assert video.last_seconds is not None
    assert video.last_seconds - video.first_seconds == pytest.approx(0.9)
    assert (video.packets, video.number, video.declared, video.duration_seconds) == (10, VIDEO_PID, True, None)


def test_start_of_a_segment_never_proves_absence() -> None:
    data = segment("h264.ts")
    assert (inspect(data, whole=False).audio, inspect(data, whole=False).video) == (None, True)
    start = segment("h264-aac.ts")[: 4 * PACKET]
    facts = inspect(start, whole=False)
    assert (facts.audio, facts.video, facts.truncated) == (None, True, False)


def test_declared_audio_without_packets_is_absent() -> None:
    # nginx-rtmp declares AAC whatever the publisher sends
    facts = inspect(without_pid(segment("h264-aac.ts"), AUDIO_PID))
    assert (facts.audio, facts.video, facts.codecs) == (False, True, ("h264",))
    audio = track(facts, TrackKind.AUDIO)
    assert (audio.declared, audio.packets, audio.codec) == (True, 0, "aac")


@pytest.mark.parametrize("removed", [0, PMT_PID])
def test_segment_without_tables_is_judged_by_its_packets(removed: int) -> None:
    facts = inspect(without_pid(segment("h264-aac.ts"), removed))
    assert (facts.audio, facts.video, facts.codecs) == (True, True, ())
    assert facts.transport is not None
    assert not facts.transport.has_pmt
    assert facts.key_frame_at_start is True  # by the random access indicator


@pytest.mark.parametrize("name", ["h264-aac.ts", "hevc-aac.ts", "mpeg2-mp2.ts"])
def test_key_frame_is_found_without_random_access_indicator(name: str) -> None:
    data = [
        packet[:5] + bytes([packet[5] & ~0x40]) + packet[6:] if packet[3] & 0x20 and packet[4] else packet
        for packet in packets(segment(name))
    ]
    assert inspect(b"".join(data)).key_frame_at_start is True


@pytest.mark.parametrize("size", [1, PACKET - 1])
def test_truncated_tail_proves_nothing(size: int) -> None:
    facts = inspect(segment("h264.ts") + segment("h264.ts")[:size])
    assert (facts.truncated, facts.audio, facts.video) == (True, None, True)
    assert not inspect(segment("h264.ts") + segment("h264.ts")[:size], whole=False).truncated


def test_lost_packets_are_continuity_errors() -> None:
    data = packets(segment("h264-ac3.ts"))
    audio = [index for index, packet in enumerate(data) if pid(packet) == AUDIO_PID]
    del data[audio[20]], data[audio[5]]
    assert continuity_errors(data) == 2


def test_duplicates_and_announced_gaps_are_no_errors() -> None:
    data = packets(segment("h264-ac3.ts"))
    audio = [index for index, packet in enumerate(data) if pid(packet) == AUDIO_PID]
    data.insert(audio[5], data[audio[5]])
    assert continuity_errors(data) == 0
    gap = audio[12]
    announced = data[gap][:3] + bytes([data[gap][3] | 0x20, 1, 0x80]) + data[gap][6:]
    data[gap:gap] = []
    data[gap] = announced
    del data[audio[11]]
    assert continuity_errors(data) == 0


def continuity_errors(data: list[bytes]) -> int:
    transport = inspect(b"".join(data)).transport
    assert transport is not None
    return transport.continuity_errors


def test_null_packets() -> None:
    null = b"\x47\x1f\xff\x10" + bytes(184)
    facts = inspect(segment("h264.ts") + 7 * null)
    assert facts.transport is not None
    assert (facts.transport.null_packets, facts.transport.continuity_errors) == (7, 0)
    assert (facts.audio, len(facts.tracks)) == (False, 1)


def test_leading_garbage() -> None:
    facts = inspect(b"ID3 garbage" + segment("h264-aac.ts"))
    assert facts.transport is not None
    assert (facts.transport.leading_garbage_bytes, facts.audio, facts.key_frame_at_start) == (11, True, True)
    assert inspect_mpeg_ts(bytes(5_000) + segment("h264-aac.ts"), whole=True) is None


def test_garbage_in_the_middle_proves_nothing() -> None:
    data = segment("h264-aac.ts")
    video_only = without_pid(data, AUDIO_PID)
    damaged = video_only[: 3 * PACKET] + b"garbage" + video_only[3 * PACKET :]
    assert inspect(damaged).audio is None  # all of it seems to be garbage before the first packet
    facts = inspect(video_only[: 6 * PACKET] + b"garbage" + video_only[6 * PACKET :])
    assert facts.transport is not None
    assert (facts.transport.sync_losses, facts.audio, facts.video) == (1, None, True)
    # packets after the garbage are read
    assert inspect(data[: 3 * PACKET] + b"garbage" + data[3 * PACKET :]).audio is True


def test_number_of_sync_losses_is_bounded() -> None:
    data = segment("h264-aac.ts")
    facts = inspect((data[: 6 * PACKET] + b"x") * 1_000)
    assert facts.transport is not None
    assert (facts.transport.sync_losses, facts.transport.packets) == (20, 120)


def test_transport_errors() -> None:
    data = packets(segment("h264.ts"))
    data[5] = data[5][:1] + bytes([data[5][1] | 0x80]) + data[5][2:]
    facts = inspect(b"".join(data))
    assert facts.transport is not None
    assert (facts.transport.transport_errors, facts.audio) == (1, None)


def test_scrambled_packets() -> None:
    data = [
        packet[:3] + bytes([packet[3] | 0x80]) + packet[4:] if pid(packet) in (VIDEO_PID, AUDIO_PID) else packet
        for packet in packets(segment("h264-aac.ts"))
    ]
    facts = inspect(b"".join(data))
    assert facts.transport is not None
    assert facts.transport.scrambled_packets > 0
    assert (facts.encrypted, facts.audio, facts.video) == (True, True, True)


def test_scrambled_pes_packets() -> None:
    data = packets(segment("aac.ts"))
    index = next(index for index, packet in enumerate(data) if b"\0\0\1\xc0" in packet)
    at = data[index].index(b"\0\0\1\xc0") + 6
    data[index] = data[index][:at] + bytes([data[index][at] | 0x10]) + data[index][at + 1 :]
    assert inspect(b"".join(data)).encrypted is True


def test_204_byte_packets_are_not_supported() -> None:
    data = b"".join(packet + bytes(16) for packet in packets(segment("h264-aac.ts")))
    assert inspect_mpeg_ts(data, whole=True) is None


@pytest.mark.parametrize("seed", range(20))
def test_encrypted_segment_is_unknown(seed: int) -> None:
    facts = inspect_segment(random.Random(seed).randbytes(20_000 // 16 * 16), whole=True)
    assert facts == MediaFacts(container=Container.UNKNOWN)
    assert (facts.audio, facts.video, facts.key_frame_at_start, facts.codecs) == (None, None, None, ())


def test_opaque_segment_is_not_inspected() -> None:
    facts = inspect_segment(segment("h264-aac.ts"), whole=True, opaque=True)
    assert facts == MediaFacts(container=Container.UNKNOWN, encrypted=True)


def test_single_packet() -> None:
    assert find_sync(segment("h264.ts")[:PACKET]) == 0
    assert find_sync(segment("h264.ts")[: PACKET - 1]) is None
    assert find_sync(b"Gateway Timeout" * 20) is None


def test_clock_wraps_around() -> None:
    def pes(counter: int, pts: int) -> bytes:
        stamp = [0x21 | pts >> 29 & 0x0E, pts >> 22 & 0xFF, pts >> 14 & 0xFE | 1, pts >> 7 & 0xFF, pts << 1 & 0xFE | 1]
        header = b"\x47\x41\x00" + bytes([0x10 | counter]) + b"\0\0\1\xe0\0\0\x80\x80\x05"
        return (header + bytes(stamp)).ljust(PACKET, b"\xff")

    end = 1 << 33
    data = b"".join(pes(index, pts % end) for index, pts in enumerate([end - 9_000, end + 9_000, end - 18_000]))
    video = track(inspect(data), TrackKind.VIDEO)
    assert video.first_seconds == pytest.approx((end - 18_000) / 90_000)
    assert video.last_seconds == pytest.approx((end + 9_000) / 90_000)


@pytest.mark.parametrize(
    ("codec", "data", "expected"),
    [
        ("h264", b"\0\0\0\1\x09\x10\0\0\0\1\x67\1\0\0\1\x65\x88", True),
        ("h264", b"\0\0\1\x09\x10\0\0\1\x41\x9a", False),
        ("h264", b"\0\0\1\x09\x10\0\0\1", None),
        ("hevc", b"\0\0\1\x46\1\0\0\1\x26\1", True),
        ("hevc", b"\0\0\1\x2a\1", True),
        ("hevc", b"\0\0\1\x02\1", False),
        ("vvc", b"\0\0\1\0\x41", True),
        ("vvc", b"\0\0\1\0\x01", False),
        ("mpeg2video", b"\0\0\1\xb3\0\0\0\1\0\0\x08", True),
        ("mpeg2video", b"\0\0\1\0\0\x10", False),
        ("av1", b"\0\0\1\x65", None),
        ("h264", b"", None),
    ],
)
def test_key_frames(codec: str, data: bytes, expected: bool | None) -> None:
    assert starts_with_key_frame(codec, data) is expected


def pmt(*streams: tuple[int, int, bytes]) -> bytes:
    body = b"".join(
        bytes([kind, 0xE0 | number >> 8, number & 0xFF, 0xF0, len(descriptors)]) + descriptors
        for kind, number, descriptors in streams
    )
    return b"\x02\xb0" + bytes([9 + len(body) + 4]) + b"\0\1\xc1\0\0\xe1\0\xf0\0" + body + b"CRC!"


@pytest.mark.parametrize(
    ("stream_type", "descriptors", "expected"),
    [
        (0x1B, b"", (TrackKind.VIDEO, "h264", False)),
        (0xDB, b"", (TrackKind.VIDEO, "h264", True)),
        (0xCF, b"", (TrackKind.AUDIO, "aac", True)),
        (0x86, b"", (TrackKind.DATA, "scte35", False)),
        (0x06, b"\x05\x04Opus", (TrackKind.AUDIO, "opus", False)),
        (0x06, b"\x0a\x04eng\0\x6a\x01\0", (TrackKind.AUDIO, "ac3", False)),
        (0x06, b"\x59\x00", (TrackKind.SUBTITLES, "dvb", False)),
        (0x06, b"\x05\x04????", (TrackKind.UNKNOWN, "", False)),
        (0x06, b"", (TrackKind.UNKNOWN, "", False)),
        (0x7F, b"\x6a\x00", (TrackKind.UNKNOWN, "", False)),
    ],
)
def test_stream_types(stream_type: int, descriptors: bytes, expected: tuple[TrackKind, str, bool]) -> None:
    streams = parse_pmt(pmt((0x15, 300, b""), (stream_type, 301, descriptors)))
    assert [stream.pid for stream in streams] == [300, 301]
    assert (streams[1].kind, streams[1].codec, streams[1].encrypted) == expected


def test_private_data_of_unknown_kind_is_doubtful() -> None:
    data = segment("h264-ac3.ts")
    unknown = data.replace(b"\x81\xe1\x01", b"\x06\xe1\x01").replace(b"AC-3", b"????")
    facts = inspect(unknown.replace(b"\x6a\x00", b"\x60\x00"))
    assert (facts.audio, facts.video) == (None, True)


def test_tables_in_several_packets() -> None:
    section = pmt(*[(0x0F, 300 + index, b"\x0a\x04eng\0") for index in range(20)])
    buffer = SectionBuffer()
    assert buffer.add(b"\0" + section[:100], starts=True) is None
    assert buffer.add(section[100:] + b"\xff" * 10, starts=False) == section
    assert buffer.add(b"more", starts=False) is None
    assert len(parse_pmt(section)) == 20


def test_other_tables_are_ignored() -> None:
    assert parse_pat(b"\x42" + bytes(20)) == []
    assert parse_pmt(b"\x42" + bytes(20)) == []
    assert parse_pat(b"\0\xb0\x11\0\1\xc1\0\0\0\0\xe0\x10\0\1\xf0\0CRC!") == [0x1000]


def test_trailing_garbage_counts_as_a_cut_off_packet() -> None:
    facts = inspect(segment("h264.ts") + b"garbage")
    assert (facts.truncated, facts.audio) == (True, None)


def test_packet_without_payload_is_neither_a_gap_nor_a_start() -> None:
    data = packets(segment("h264.ts"))
    empty = b"\x47\x41\x00\x20\xb7\x00" + b"\xff" * 182
    data.insert(5, empty)
    assert continuity_errors(data) == 0
    assert track(inspect(b"".join(data)), TrackKind.VIDEO).packets == 10


def test_start_of_a_packet_that_is_no_pes_packet_is_ignored() -> None:
    data = segment("h264.ts") + b"\x47\x41\x23\x10" + bytes(184) + b"\x47\x41\x24\x10\0\0\1\xbe".ljust(PACKET, b"\xff")
    facts = inspect(data)
    assert [(track.number, track.packets) for track in facts.tracks] == [(VIDEO_PID, 10), (0x124, 1)]
    assert facts.audio is None
