"""Inspection of audio segments without container: ADTS AAC, MPEG audio and (E-)AC-3.

Sources: RFC 8216 section 3.4 (ID3 timestamp), ISO/IEC 13818-7 section 6.2 (ADTS), 11172-3 section 2.4.2.3 and
13818-3 (MPEG audio), ETSI TS 102 366 sections 4.3 and E.1.2 (AC-3, E-AC-3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from exporter.media.facts import Container, MediaFacts, Track, TrackKind

MAX_FRAMES: Final = 100_000
"""Maximum number of frames that are read."""
_PROOF_FRAMES = 3
"""Frames in a row that prove a codec, because random data may look like one."""
_TIMESTAMP_OWNER = b"com.apple.streaming.transportStreamTimestamp\0"
_CLOCK_HERTZ = 90_000
_ADTS_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_ADTS_SAMPLES = 1_024
_MPEG_RATES = (44_100, 48_000, 32_000)
_MPEG1_KILOBITS = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
"""Bitrates by layer."""
_MPEG2_KILOBITS = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_RATES = (48_000, 44_100, 32_000)
_AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_SAMPLES = 1_536


class _Frame(NamedTuple):
    """Header of one frame."""

    codec: str
    length_bytes: int
    seconds: float


def inspect_packed_audio(data: bytes, *, whole: bool) -> MediaFacts | None:
    """Inspect the start of a segment, or a whole segment; None if it is not packed audio."""
    start, timestamp = _read_id3(data)
    for parse in (_parse_adts, _parse_ac3, _parse_mpeg_audio):
        frames, end = _read_frames(data, start, parse)
        if len(frames) >= _PROOF_FRAMES or (frames and end == len(data)):
            return _to_facts(frames, timestamp, whole=whole, complete=end == len(data))
    return None


def _to_facts(frames: list[_Frame], timestamp: float | None, *, whole: bool, complete: bool) -> MediaFacts:
    """Return the facts of a run of frames."""
    track = Track(
        kind=TrackKind.AUDIO,
        codec=frames[0].codec,
        number=0,
        declared=False,
        packets=len(frames),
        encrypted=False,
        first_seconds=timestamp,
        duration_seconds=sum(frame.seconds for frame in frames),
    )
    return MediaFacts(
        container=Container.PACKED_AUDIO,
        audio=True,
        video=False,
        tracks=(track,),
        encrypted=False,
        truncated=whole and not complete and len(frames) < MAX_FRAMES,
    )


def _read_id3(data: bytes) -> tuple[int, float | None]:
    """Return the offset after the ID3 tags at the start, and the timestamp of the segment in seconds."""
    position, timestamp = 0, None
    while data[position : position + 3] == b"ID3" and len(data) >= position + 10:
        end = position + 10 + _synchsafe(data[position + 6 : position + 10])
        body = data[position + 10 : end]
        owner = body.find(_TIMESTAMP_OWNER)
        value = body[owner + len(_TIMESTAMP_OWNER) :][:8] if owner >= 0 else b""
        if len(value) == 8 and timestamp is None:
            timestamp = (int.from_bytes(value, "big") & 0x1_FFFF_FFFF) / _CLOCK_HERTZ
        position = end
    return position, timestamp


def _synchsafe(field: bytes) -> int:
    """Return a number of which each byte has 7 bits."""
    number = 0
    for byte in field:
        number = number << 7 | byte & 0x7F
    return number


def _read_frames(data: bytes, position: int, parse: Callable[[bytes], _Frame | None]) -> tuple[list[_Frame], int]:
    """Return the complete frames from an offset on, and the offset after them."""
    frames: list[_Frame] = []
    while len(frames) < MAX_FRAMES:
        frame = parse(data[position : position + 7])
        if frame is None or position + frame.length_bytes > len(data):
            break
        frames.append(frame)
        position += frame.length_bytes
    return frames, position


def _parse_adts(header: bytes) -> _Frame | None:
    """Parse the header of an AAC frame."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    rate = header[2] >> 2 & 0x0F
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    if rate >= len(_ADTS_RATES) or length < 7:
        return None
    blocks = (header[6] & 3) + 1
    return _Frame("aac", length, blocks * _ADTS_SAMPLES / _ADTS_RATES[rate])


def _parse_mpeg_audio(header: bytes) -> _Frame | None:
    """Parse the header of an MPEG audio frame (layers I to III)."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    first_version = version == 3
    kilobits = (_MPEG1_KILOBITS if first_version else _MPEG2_KILOBITS)[layer][bitrate]
    hertz = _MPEG_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return _Frame("mp1", (12_000 * kilobits // hertz + padding) * 4, 384 / hertz)
    samples = 576 if layer == 3 and not first_version else 1_152
    return _Frame("mp3" if layer == 3 else "mp2", samples * 125 * kilobits // hertz + padding, samples / hertz)


def _parse_ac3(header: bytes) -> _Frame | None:
    """Parse the header of an AC-3 or E-AC-3 frame."""
    if len(header) < 6 or header[:2] != b"\x0b\x77":
        return None
    bitstream, rate = header[5] >> 3, header[4] >> 6
    if bitstream > 16 or (rate == 3 and bitstream <= 10):
        return None
    if bitstream > 10:
        return _parse_eac3(header, rate)
    size = header[4] & 0x3F
    if size >= 2 * len(_AC3_KILOBITS):
        return None
    hertz, kilobits = _AC3_RATES[rate], _AC3_KILOBITS[size >> 1]
    words = kilobits * 1_000 * _AC3_SAMPLES // hertz // 16
    if hertz == 44_100:
        words += size & 1
    return _Frame("ac3", 2 * words, _AC3_SAMPLES / hertz)


def _parse_eac3(header: bytes, rate: int) -> _Frame:
    """Parse the header of an E-AC-3 frame; dependent substreams add no time."""
    length = 2 * (((header[2] & 7) << 8 | header[3]) + 1)
    half_rate = header[4] >> 4 & 3
    if rate == 3:
        hertz, blocks = _AC3_RATES[min(half_rate, 2)] // 2, 6
    else:
        hertz, blocks = _AC3_RATES[rate], (1, 2, 3, 6)[half_rate]
    independent = header[2] >> 6 != 1
    return _Frame("eac3", length, 256 * blocks / hertz if independent else 0.0)
