"""Program tables of MPEG-TS: which PIDs are declared, and what they carry.

Sources: ISO/IEC 13818-1 section 2.4.4 and table 2-34, ATSC A/52 annex G, ETSI EN 300 468 section 6.1, SCTE 35
section 8.1, and Apple's "MPEG-2 Stream Encryption Format for HTTP Live Streaming" (types 0xDB, 0xCF, 0xC1, 0xC2).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from exporter.media.facts import TrackKind

MAX_SECTION_BYTES = 4_096
_AUDIO, _VIDEO, _SUBTITLES, _DATA, _UNKNOWN = (
    TrackKind.AUDIO,
    TrackKind.VIDEO,
    TrackKind.SUBTITLES,
    TrackKind.DATA,
    TrackKind.UNKNOWN,
)
_PRIVATE_DATA = 0x06
_ENCRYPTED_TYPES = frozenset({0xDB, 0xCF, 0xC1, 0xC2})
_STREAM_TYPES = {
    0x01: (_VIDEO, "mpeg1video"), 0x02: (_VIDEO, "mpeg2video"), 0x10: (_VIDEO, "mpeg4"), 0x1B: (_VIDEO, "h264"),
    0x20: (_VIDEO, "h264"), 0x21: (_VIDEO, "jpeg2000"), 0x24: (_VIDEO, "hevc"), 0x33: (_VIDEO, "vvc"),
    0x42: (_VIDEO, "avs"), 0xD2: (_VIDEO, "avs2"), 0xD4: (_VIDEO, "avs3"), 0xDB: (_VIDEO, "h264"),
    0xEA: (_VIDEO, "vc1"),
    0x03: (_AUDIO, "mpeg_audio"), 0x04: (_AUDIO, "mpeg_audio"), 0x0F: (_AUDIO, "aac"), 0x11: (_AUDIO, "aac"),
    0x1C: (_AUDIO, "aac"), 0x2D: (_AUDIO, "mpegh"), 0x2E: (_AUDIO, "mpegh"), 0x81: (_AUDIO, "ac3"),
    0x82: (_AUDIO, "dts"), 0x83: (_AUDIO, "truehd"), 0x84: (_AUDIO, "eac3"), 0x85: (_AUDIO, "dts"),
    0x87: (_AUDIO, "eac3"), 0x8A: (_AUDIO, "dts"), 0xC1: (_AUDIO, "ac3"), 0xC2: (_AUDIO, "eac3"),
    0xCF: (_AUDIO, "aac"),
    0x05: (_DATA, ""), 0x0B: (_DATA, ""), 0x0D: (_DATA, ""), 0x15: (_DATA, "id3"), 0x86: (_DATA, "scte35"),
}  # fmt: skip
_DESCRIPTORS = {
    0x6A: (_AUDIO, "ac3"), 0x7A: (_AUDIO, "eac3"), 0x7B: (_AUDIO, "dts"), 0x7C: (_AUDIO, "aac"),
    0x56: (_SUBTITLES, "teletext"), 0x59: (_SUBTITLES, "dvb"),
}  # fmt: skip
"""DVB descriptors that tell what private data is."""
_REGISTRATIONS = {
    b"AC-3": (_AUDIO, "ac3"), b"EAC3": (_AUDIO, "eac3"), b"AC-4": (_AUDIO, "ac4"), b"Opus": (_AUDIO, "opus"),
    b"DTS1": (_AUDIO, "dts"), b"DTS2": (_AUDIO, "dts"), b"DTS3": (_AUDIO, "dts"), b"BSSD": (_AUDIO, "s302m"),
    b"HEVC": (_VIDEO, "hevc"), b"VVC ": (_VIDEO, "vvc"), b"AV01": (_VIDEO, "av1"), b"KLVA": (_DATA, "klv"),
    b"ID3 ": (_DATA, "id3"), b"CUEI": (_DATA, "scte35"),
}  # fmt: skip
"""Format identifiers of the registration descriptor."""


class DeclaredStream(msgspec.Struct, frozen=True, gc=False):
    """One elementary stream of a PMT."""

    pid: int
    kind: TrackKind
    codec: str
    encrypted: bool


class SectionBuffer:
    """Collects the packets of one section."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def add(self, payload: bytes, *, starts: bool) -> bytes | None:
        """Add a packet's payload, and return the section once it is complete."""
        if starts:
            self._data = payload[1 + payload[0] :] if payload else b""
        elif self._data:
            self._data += payload
        if len(self._data) < 3:
            return None
        length = 3 + ((self._data[1] & 0x0F) << 8 | self._data[2])
        if len(self._data) < length and len(self._data) <= MAX_SECTION_BYTES:
            return None
        section, self._data = self._data[:length], b""
        return section


def parse_pat(section: bytes) -> list[int]:
    """Return the PIDs of the program maps."""
    if not section or section[0] != 0:
        return []
    pids = []
    for position in range(8, len(section) - 7, 4):
        program = section[position] << 8 | section[position + 1]
        if program:  # 0 is the network information table
            pids.append((section[position + 2] & 0x1F) << 8 | section[position + 3])
    return pids


def parse_pmt(section: bytes) -> list[DeclaredStream]:
    """Return the elementary streams of a program."""
    if len(section) < 12 or section[0] != 2:
        return []
    streams = []
    end = len(section) - 4  # CRC
    position = 12 + ((section[10] & 0x0F) << 8 | section[11])
    while position + 5 <= end:
        stream_type = section[position]
        pid = (section[position + 1] & 0x1F) << 8 | section[position + 2]
        length = (section[position + 3] & 0x0F) << 8 | section[position + 4]
        descriptors = section[position + 5 : min(position + 5 + length, end)]
        kind, codec = _classify(stream_type, descriptors)
        streams.append(DeclaredStream(pid, kind, codec, stream_type in _ENCRYPTED_TYPES))
        position += 5 + length
    return streams


def _classify(stream_type: int, descriptors: bytes) -> tuple[TrackKind, str]:
    """Return the kind and codec of an elementary stream."""
    known = _STREAM_TYPES.get(stream_type)
    if known is not None:
        return known
    for tag, body in _split_descriptors(descriptors):
        found = _REGISTRATIONS.get(body[:4]) if tag == 0x05 else _DESCRIPTORS.get(tag)
        if found is not None and (stream_type >= 0x80 or stream_type == _PRIVATE_DATA):
            return found
    return _UNKNOWN, ""


def _split_descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over tag and body of descriptors."""
    position = 0
    while position + 2 <= len(data):
        length = data[position + 1]
        yield data[position], data[position + 2 : position + 2 + length]
        position += 2 + length
