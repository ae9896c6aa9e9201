import pytest

from exporter.media.facts import Container, MediaFacts
from exporter.media.packed_audio import inspect_packed_audio
from exporter.media.segment import inspect_segment
from tests.media.media_files import segment

OWNER = b"com.apple.streaming.transportStreamTimestamp\0"


def id3(*frames: bytes) -> bytes:
    body = b"".join(frames)
    return b"ID3\4\0\0" + bytes([0, 0, len(body) >> 7, len(body) & 0x7F]) + body


def timestamp(pts: int) -> bytes:
    value = OWNER + pts.to_bytes(8, "big")
    return b"PRIV" + bytes([0, 0, 0, len(value)]) + b"\0\0" + value


@pytest.mark.parametrize(
    ("codec", "packets", "seconds"), [("aac", 45, 1.045), ("mp3", 43, 1.032), ("ac3", 32, 1.024), ("eac3", 32, 1.024)]
)
def test_whole_segments(codec: str, packets: int, seconds: float) -> None:
    facts = inspect_segment(segment(f"packed.{codec}"), whole=True)
    assert (facts.container, facts.audio, facts.video) == (Container.PACKED_AUDIO, True, False)
    assert (facts.codecs, facts.truncated, facts.encrypted) == ((codec,), False, False)
    assert facts.tracks[0].packets == packets
    assert facts.tracks[0].duration_seconds == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize("codec", ["aac", "mp3", "ac3", "eac3"])
def test_cut_off_segments(codec: str) -> None:
    data = segment(f"packed.{codec}")[:-5]
    assert inspect_segment(data, whole=True).truncated
    start = inspect_segment(data, whole=False)
    assert (start.truncated, start.audio) == (False, True)


def test_timestamp() -> None:
    data = id3(timestamp(1 << 33 | 900_000)) + segment("packed.ac3")
    assert inspect_segment(data, whole=True).tracks[0].first_seconds == 10
    assert inspect_segment(id3(b"TIT2\0\0\0\0\0\0") + segment("packed.ac3"), whole=True).tracks[0].first_seconds is None


def test_timestamp_alone_is_unknown() -> None:
    assert inspect_segment(id3(timestamp(900_000)), whole=True) == MediaFacts(container=Container.UNKNOWN)


@pytest.mark.parametrize(
    ("header", "codec", "length"),
    [
        (b"\xff\xfb\x90\x00", "mp3", 417),
        (b"\xff\xfb\x92\x00", "mp3", 418),
        (b"\xff\xf3\x80\x00", "mp3", 208),
        (b"\xff\xe3\x80\x00", "mp3", 417),
        (b"\xff\xfd\x80\x00", "mp2", 417),
        (b"\xff\xff\x80\x00", "mp1", 276),
        (b"\x0b\x77\0\0\x40\x40", "ac3", 138),
        (b"\x0b\x77\0\0\x41\x40", "ac3", 140),
        (b"\x0b\x77\0\x3f\xc0\x80", "eac3", 128),
        (b"\x0b\x77\x40\x3f\x30\x80", "eac3", 128),
    ],
)
def test_frame_lengths(header: bytes, codec: str, length: int) -> None:
    facts = inspect_packed_audio(header.ljust(length, b"\0") * 3, whole=True)
    assert facts is not None
    assert (facts.codecs, facts.tracks[0].packets, facts.truncated) == ((codec,), 3, False)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xeb\x90\x00",  # reserved version
        b"\xff\xf9\x00\x00",  # reserved layer of MPEG audio, free bitrate
        b"\xff\xfb\xf0\x00",
        b"\xff\xfb\x9c\x00",
        b"\xff\xf1\x7c\x00\x1f\xfc\0",  # reserved rate of AAC
        b"\xff\xf1\x50\x00\x00\x1f\xfc",  # no length
        b"\x0b\x77\0\0\xc0\x40",
        b"\x0b\x77\0\0\x3f\x40",
        b"\x0b\x77\0\0\0\xff",
    ],
)
def test_impossible_headers(header: bytes) -> None:
    assert inspect_packed_audio(header.ljust(500, b"\0") * 3, whole=True) is None


def test_one_frame_in_random_data_is_no_proof() -> None:
    frame = segment("packed.ac3")[:256]
    assert inspect_packed_audio(frame + b"x" * 10_000, whole=True) is None
    assert inspect_packed_audio(frame, whole=True) is not None


@pytest.mark.parametrize(
    ("data", "container"),
    [
        (b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n", Container.WEBVTT),
        (b"\xef\xbb\xbfWEBVTT - title\n", Container.WEBVTT),
        (b"WEBVTT", Container.WEBVTT),
        (b"WEBVTTX", Container.TEXT),
        (b"\n<!doctype HTML><html>", Container.HTML),
        (b"<html><head><title>404 Not Found</title>", Container.HTML),
        (b"#EXTM3U\n", Container.TEXT),
        (b'{"error": "not found"}', Container.TEXT),
        (b"\x80\x00\xff" * 100, Container.UNKNOWN),
        (b"", Container.UNKNOWN),
    ],
)
def test_texts(data: bytes, container: Container) -> None:
    facts = inspect_segment(data, whole=True)
    assert facts == MediaFacts(container=container)
