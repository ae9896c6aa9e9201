"""Segments of MPEG-TS with one H.264 and one AAC track.

A segment is a template with its timestamps filled in. Every track has a multiple of 16 packets per segment, so that
the continuity counters go on from one segment to the next without being filled in too.

Sources: ISO/IEC 13818-1 sections 2.4.3 (packets, PES) and 2.4.4 (program tables).
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from exporter.simulator.elementary_streams import (
    AUDIO_SAMPLE_RATE,
    MACROBLOCK,
    SAMPLES_PER_AUDIO_FRAME,
    key_picture,
    repeated_picture,
    silent_frame,
)

SEGMENT_SECONDS: Final = 2
FRAME_RATE: Final = 16
PACKET_BYTES: Final = 188
_HERTZ: Final = 90_000
_CLOCK_MODULUS: Final = 1 << 33
_SEGMENT_TICKS = SEGMENT_SECONDS * _HERTZ
_FIRST_TICKS = _HERTZ
"""Timestamp of the first picture of a session."""
_PCR_LEAD_TICKS = _HERTZ // 2
_COUNTERS = 16
_PICTURES = SEGMENT_SECONDS * FRAME_RATE
_PICTURE_TICKS = _HERTZ // FRAME_RATE
_AUDIO_TICKS = SAMPLES_PER_AUDIO_FRAME * _HERTZ // AUDIO_SAMPLE_RATE
_AUDIO_PHASES = 4
"""A segment has 93.75 frames of audio, so every fourth one starts with a frame."""
_PAT_PID, _PMT_PID, _VIDEO_PID, _AUDIO_PID = 0, 0x1000, 0x100, 0x101
_VIDEO_ID, _AUDIO_ID = 0xE0, 0xC0
_H264, _AAC = 0x1B, 0x0F
_PES_HEADER_BYTES = 14
_PCR_FIELD_BYTES = 8


class Rendition(NamedTuple):
    """One quality of a stream."""

    name: str
    width: int
    height: int
    picture_packets: int
    """Packets per picture; the key frame has a multiple of 16 more."""
    more_key_packets: int

    @property
    def size(self) -> int:
        """Size of a segment in bytes."""
        video = _PICTURES * self.picture_packets + self.more_key_packets
        return PACKET_BYTES * (video + 3 * _COUNTERS)

    @property
    def bitrate(self) -> int:
        """Bits per second."""
        return self.size * 8 // SEGMENT_SECONDS


RENDITIONS: Final = (
    Rendition("720p", 1280, 720, 13, 5 * _COUNTERS),
    Rendition("480p", 53 * MACROBLOCK, 480, 9, 3 * _COUNTERS),
    Rendition("240p", 27 * MACROBLOCK, 240, 5, 2 * _COUNTERS),
)
"""Larger than necessary, so that the exporter's fetch of the first 16 KiB takes less time than a whole segment."""


def make_segment(rendition: Rendition, number: int, *, with_audio: bool = True) -> bytes:
    """Return the segment with this number in its session, counted from 0."""
    template = _template(rendition, number % _AUDIO_PHASES if with_audio else None)
    data = bytearray(template.data)
    start = _FIRST_TICKS + number * _SEGMENT_TICKS
    for position, offset in template.presentation_times:
        data[position : position + 5] = _presentation_time(start + offset)
    for position, offset in template.clocks:
        data[position : position + 6] = _clock_reference(start + offset - _PCR_LEAD_TICKS)
    return bytes(data)


class _Template:
    """A segment, and where its timestamps belong."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.presentation_times: list[tuple[int, int]] = []
        """Positions, and offsets from the start of the segment in ticks."""
        self.clocks: list[tuple[int, int]] = []
        self._counters: dict[int, int] = {}

    def add_section(self, pid: int, section: bytes) -> None:
        """Add a program table."""
        self._add_packet(pid, b"\0" + section + b"\xff" * (PACKET_BYTES - 5 - len(section)), starts=True)

    def add_media(self, pid: int, stream_id: int, media: bytes, offset: int, *, clock: int | None = None) -> None:
        """Add the packets of a PES packet; ``clock``: flags of the adaptation field with the clock reference."""
        length = len(media) + _PES_HEADER_BYTES - 6
        header = b"\0\0\1" + bytes([stream_id]) + length.to_bytes(2, "big") + b"\x84\x80\x05" + bytes(5)
        rest = header + media
        field = b"" if clock is None else bytes([_PCR_FIELD_BYTES - 1, clock]) + bytes(6)
        packet = len(self.data)
        if clock is not None:
            self.clocks.append((packet + 6, offset))
        starts = True
        while rest:
            room = PACKET_BYTES - 4 - len(field)
            if len(rest) < room and not field:
                field = _stuffing(room - len(rest))
                room = len(rest)
            if starts:
                self.presentation_times.append((packet + 4 + len(field) + 9, offset))
            self._add_packet(pid, rest[:room], field=field, starts=starts)
            rest, field, starts = rest[room:], b"", False

    def _add_packet(self, pid: int, payload: bytes, *, field: bytes = b"", starts: bool) -> None:
        counter = self._counters.get(pid, 0)
        self._counters[pid] = (counter + 1) % _COUNTERS
        header = 0x47 << 24 | starts << 22 | pid << 8 | (0x30 if field else 0x10) | counter
        self.data += header.to_bytes(4, "big") + field + payload


@cache
def _template(rendition: Rendition, audio_phase: int | None) -> _Template:
    """Return the template of all segments whose number has this remainder; None: without packets of audio."""
    template = _Template()
    width, height = rendition.width, rendition.height
    for step in range(_COUNTERS):
        template.add_section(_PAT_PID, _pat())
        template.add_section(_PMT_PID, _pmt())
        for number in (2 * step, 2 * step + 1):
            packets = rendition.picture_packets + (0 if number else rendition.more_key_packets)
            size = packets * (PACKET_BYTES - 4) - _PCR_FIELD_BYTES - _PES_HEADER_BYTES
            picture = repeated_picture(width, height, number, size) if number else key_picture(width, height, size)
            # with a clock reference, and the first one is a random access point
            flags = 0x10 if number else 0x50
            template.add_media(_VIDEO_PID, _VIDEO_ID, picture, number * _PICTURE_TICKS, clock=flags)
        if audio_phase is not None:
            offsets = _audio_offsets(audio_phase, step)
            template.add_media(_AUDIO_PID, _AUDIO_ID, silent_frame() * len(offsets), offsets[0])
    return template


def _audio_offsets(phase: int, step: int) -> range:
    """Return the offsets of the audio frames in one of the 16 parts of a segment, in ticks."""
    begin = phase * _SEGMENT_TICKS
    length = _SEGMENT_TICKS // _COUNTERS
    first = -(-(begin + step * length) // _AUDIO_TICKS)
    end = -(-(begin + (step + 1) * length) // _AUDIO_TICKS)
    return range(first * _AUDIO_TICKS - begin, end * _AUDIO_TICKS - begin, _AUDIO_TICKS)


def _pat() -> bytes:
    """Return the program association table, with program 1."""
    return _section(0x00, b"\0\1" + (0xE000 | _PMT_PID).to_bytes(2, "big"))


def _pmt() -> bytes:
    """Return the program map table."""
    body = (0xE000 | _VIDEO_PID).to_bytes(2, "big") + b"\xf0\0"
    for stream_type, pid in ((_H264, _VIDEO_PID), (_AAC, _AUDIO_PID)):
        body += bytes([stream_type]) + (0xE000 | pid).to_bytes(2, "big") + b"\xf0\0"
    return _section(0x02, body)


def _section(table: int, body: bytes) -> bytes:
    """Return a section of program 1 (or transport stream 1), version 0."""
    section = bytes([table]) + (0xB000 | len(body) + 9).to_bytes(2, "big") + b"\0\1\xc1\0\0" + body
    return section + _crc32(section).to_bytes(4, "big")


def _crc32(data: bytes) -> int:
    """Return the checksum of ISO/IEC 13818-1 annex A."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return register


def _stuffing(size: int) -> bytes:
    """Return an adaptation field of this size without content."""
    return b"\0" if size == 1 else bytes([size - 1, 0]) + b"\xff" * (size - 2)


def _presentation_time(ticks: int) -> bytes:
    ticks %= _CLOCK_MODULUS
    high, middle, low = ticks >> 30, ticks >> 15 & 0x7FFF, ticks & 0x7FFF
    return (0x2100010001 | high << 33 | middle << 17 | low << 1).to_bytes(5, "big")


def _clock_reference(ticks: int) -> bytes:
    return (ticks % _CLOCK_MODULUS << 15 | 0x3F << 9).to_bytes(6, "big")
