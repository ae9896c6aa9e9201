"""Inspection of MPEG-TS segments without decoding.

What a segment has is judged by the packets seen, never by the PMT alone: nginx-rtmp declares H.264 and AAC whatever
the encoder sends. Packets of 204 bytes are not supported.

Sources: ISO/IEC 13818-1 sections 2.4.3.2 (packets), 2.4.3.4 (adaptation field) and 2.4.3.6 (PES packets).
"""

from __future__ import annotations

from typing import Final

from exporter.media.facts import Container, MediaFacts, Track, TrackKind, TransportFacts, is_present
from exporter.media.key_frames import starts_with_key_frame
from exporter.media.mpeg_ts_tables import DeclaredStream, SectionBuffer, parse_pat, parse_pmt

PACKET_BYTES: Final = 188
MAX_LEADING_GARBAGE_BYTES: Final = 4_096
"""Maximum number of bytes before the first packet."""
_SYNC = b"\x47"
_PROBE_PACKETS = 5
"""Sync bytes in a row that prove MPEG-TS, because random data often has two."""
_MAX_SYNC_LOSSES = 20
"""Number of losses of sync after which the rest is not read."""
_RESYNC_BYTES = 16 * 1024
"""How far to look for the next packet after a loss of sync."""
_NULL_PID = 0x1FFF
_MAX_TRACKS = 64
_FIRST_PICTURE_BYTES = 8_192
"""How much of the first picture is searched for its type."""
_CLOCK_HERTZ = 90_000
_CLOCK_MODULUS = 1 << 33
_STREAM_IDS_WITHOUT_HEADER = frozenset({0xBC, 0xBE, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8, 0xFF})


def inspect_mpeg_ts(data: bytes, *, whole: bool) -> MediaFacts | None:
    """Inspect the start of a segment, or a whole segment; None if it is not MPEG-TS."""
    start = find_sync(data)
    if start is None:
        return None
    inspection = _Inspection()
    inspection.read(data, start)
    return inspection.result(whole=whole)


def find_sync(data: bytes) -> int | None:
    """Return the offset of the first packet; None if this is not MPEG-TS."""
    if PACKET_BYTES <= len(data) < PACKET_BYTES * _PROBE_PACKETS:
        probe = data[::PACKET_BYTES]
        return 0 if probe.count(_SYNC) == len(probe) else None
    return _find_packets(data, 0, MAX_LEADING_GARBAGE_BYTES + 1)


def _find_packets(data: bytes, start: int, end: int) -> int | None:
    """Return the offset in a range at which several packets follow each other."""
    position = data.find(_SYNC, start, end)
    while position >= 0:
        probe = data[position : position + PACKET_BYTES * (_PROBE_PACKETS - 1) + 1 : PACKET_BYTES]
        if probe.count(_SYNC) == _PROBE_PACKETS:
            return position
        position = data.find(_SYNC, position + 1, end)
    return None


class _Stream:
    """State of one PID."""

    __slots__ = (
        "codec",
        "declared",
        "encrypted",
        "first_picture",
        "first_pts",
        "kind",
        "last_offset",
        "lowest_offset",
        "next_counter",
        "packets",
        "pid",
        "random_access",
        "section",
        "slow",
    )

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.next_counter = -1
        """Expected continuity counter; negative before the first packet."""
        self.slow = pid == _NULL_PID
        """Whether every packet must be looked into."""
        self.section: SectionBuffer | None = None
        """Set for program tables."""
        self.kind = TrackKind.UNKNOWN
        self.codec = ""
        self.declared = False
        self.encrypted = False
        self.packets = 0
        self.first_pts: int | None = None
        self.lowest_offset = 0
        self.last_offset = 0
        self.random_access = False
        self.first_picture = b""


class _Inspection:
    """Facts of one segment so far."""

    def __init__(self) -> None:
        pat = _Stream(0)
        pat.section, pat.slow = SectionBuffer(), True
        self._streams = {0: pat}
        self._has_pat = False
        self._has_pmt = False
        self._packets = 0
        self._null_packets = 0
        self._continuity_errors = 0
        self._transport_errors = 0
        self._scrambled_packets = 0
        self._sync_losses = 0
        self._leading_garbage_bytes = 0
        self._cut = False

    def read(self, data: bytes, start: int) -> None:
        """Read all packets from an offset on."""
        self._leading_garbage_bytes = start
        position: int | None = start
        while position is not None:
            marks = data[position::PACKET_BYTES]
            in_step = len(marks) - len(marks.lstrip(_SYNC))
            count = min(in_step, (len(data) - position) // PACKET_BYTES)
            self._read_packets(data, position, count)
            position += count * PACKET_BYTES
            if len(marks) == in_step:
                self._cut = position < len(data)
                return
            if len(data) - position < PACKET_BYTES:
                self._cut = True
                return
            self._sync_losses += 1
            if self._sync_losses >= _MAX_SYNC_LOSSES:
                return
            position = _find_packets(data, position + 1, position + _RESYNC_BYTES)

    def _read_packets(self, data: bytes, start: int, count: int) -> None:
        """Read packets that are in step. This loop is most of the cost of an inspection."""
        end = start + count * PACKET_BYTES
        streams = self._streams
        position = start
        headers = zip(
            data[start + 1 : end : PACKET_BYTES],
            data[start + 2 : end : PACKET_BYTES],
            data[start + 3 : end : PACKET_BYTES],
            strict=True,
        )
        for flags, low_pid, control in headers:
            pid = (flags & 0x1F) << 8 | low_pid
            stream = streams.get(pid)
            if stream is None:
                stream = streams[pid] = _Stream(pid)
            if control & 0x10:  # has a payload
                counter = control & 0x0F
                if counter != stream.next_counter:
                    self._check_counter(stream, counter, data, position, control)
                stream.next_counter = counter + 1 & 0x0F
            if flags & 0xC0 or control & 0xC0 or stream.slow:
                self._read_packet(stream, data[position : position + PACKET_BYTES])
            position += PACKET_BYTES
        self._packets += count

    def _check_counter(self, stream: _Stream, counter: int, data: bytes, position: int, control: int) -> None:
        """Count a gap of the continuity counter, unless the packet is a duplicate or announces the gap."""
        if stream.next_counter < 0 or stream.pid == _NULL_PID or counter + 1 & 0x0F == stream.next_counter:
            return
        announced = control & 0x20 and data[position + 4] and data[position + 5] & 0x80
        if not announced:
            self._continuity_errors += 1

    def _read_packet(self, stream: _Stream, packet: bytes) -> None:
        """Read a packet that starts something, is damaged or scrambled, or continues what is being collected."""
        starts, control = packet[1] & 0x40 != 0, packet[3]
        if packet[1] & 0x80:
            self._transport_errors += 1
            return
        if stream.pid == _NULL_PID:
            self._null_packets += 1
            return
        if not control & 0x10:  # no payload
            return
        if control & 0xC0:
            self._scrambled_packets += 1
            stream.encrypted = True
            stream.packets += starts
            return
        offset = 5 + packet[4] if control & 0x20 else 4
        payload = packet[offset:]
        if stream.section is not None:
            self._read_section(stream.section, payload, starts=starts)
        elif starts:
            random_access = control & 0x20 != 0 and packet[4] > 0 and packet[5] & 0x40 != 0
            _read_pes_start(stream, payload, random_access=random_access)
        else:
            stream.first_picture += payload
            stream.slow = len(stream.first_picture) < _FIRST_PICTURE_BYTES

    def _read_section(self, buffer: SectionBuffer, payload: bytes, *, starts: bool) -> None:
        """Read part of a PAT or PMT."""
        section = buffer.add(payload, starts=starts)
        if section is None:
            return
        for pid in parse_pat(section):
            self._has_pat = True
            stream = self._streams.setdefault(pid, _Stream(pid))
            if stream.section is None:
                stream.section, stream.slow = SectionBuffer(), True
        for declared in parse_pmt(section):
            self._has_pmt = True
            self._declare(declared)

    def _declare(self, declared: DeclaredStream) -> None:
        """Remember what the PMT declares about a PID."""
        stream = self._streams.setdefault(declared.pid, _Stream(declared.pid))
        stream.declared = True
        stream.codec = declared.codec
        stream.encrypted |= declared.encrypted
        if declared.kind is not TrackKind.UNKNOWN:
            stream.kind = declared.kind

    def result(self, *, whole: bool) -> MediaFacts:
        """Return the facts."""
        streams = [stream for stream in self._streams.values() if stream.section is None]
        tracks = tuple(_to_track(stream) for stream in streams if stream.declared or stream.packets)[:_MAX_TRACKS]
        damaged = self._cut or self._sync_losses or self._transport_errors
        conclusive = whole and not damaged and self._leading_garbage_bytes < PACKET_BYTES
        return MediaFacts(
            container=Container.MPEG_TS,
            audio=is_present(TrackKind.AUDIO, tracks, whole=conclusive),
            video=is_present(TrackKind.VIDEO, tracks, whole=conclusive),
            tracks=tracks,
            encrypted=any(track.encrypted for track in tracks) if tracks else None,
            truncated=whole and self._cut,
            transport=TransportFacts(
                packets=self._packets,
                null_packets=self._null_packets,
                has_pat=self._has_pat,
                has_pmt=self._has_pmt,
                continuity_errors=self._continuity_errors,
                transport_errors=self._transport_errors,
                scrambled_packets=self._scrambled_packets,
                sync_losses=self._sync_losses,
                leading_garbage_bytes=self._leading_garbage_bytes,
            ),
        )


def _read_pes_start(stream: _Stream, payload: bytes, *, random_access: bool) -> None:
    """Read the header of a PES packet."""
    stream.slow = False
    if len(payload) < 6 or payload[:3] != b"\0\0\1":
        return
    stream.packets += 1
    stream_id = payload[3]
    if stream.kind is TrackKind.UNKNOWN:
        stream.kind = _kind_of_stream_id(stream_id)
    if stream_id in _STREAM_IDS_WITHOUT_HEADER or len(payload) < 9:
        return
    if payload[6] & 0x30:
        stream.encrypted = True
    if payload[7] & 0x80:
        _read_timestamp(stream, payload[9:14])
    if stream.packets == 1 and stream.kind is TrackKind.VIDEO:
        stream.random_access = random_access
        stream.first_picture = payload[9 + payload[8] :]
        stream.slow = True


def _kind_of_stream_id(stream_id: int) -> TrackKind:
    """Return the kind of a stream that the PMT does not tell."""
    if 0xC0 <= stream_id <= 0xDF:
        return TrackKind.AUDIO
    return TrackKind.VIDEO if 0xE0 <= stream_id <= 0xEF else TrackKind.UNKNOWN


def _read_timestamp(stream: _Stream, field: bytes) -> None:
    """Remember a presentation time stamp. The clock wraps every 26.5 hours, and pictures may be out of order."""
    if len(field) < 5 or not field[0] & field[2] & field[4] & 1:  # marker bits
        return
    pts = (field[0] & 0x0E) << 29 | field[1] << 22 | (field[2] & 0xFE) << 14 | field[3] << 7 | field[4] >> 1
    if stream.first_pts is None:
        stream.first_pts = pts
        return
    offset = (pts - stream.first_pts + _CLOCK_MODULUS // 2) % _CLOCK_MODULUS - _CLOCK_MODULUS // 2
    stream.lowest_offset = min(stream.lowest_offset, offset)
    stream.last_offset = max(stream.last_offset, offset)


def _to_track(stream: _Stream) -> Track:
    """Return the facts of one PID."""
    first = last = None
    if stream.first_pts is not None:
        first = (stream.first_pts + stream.lowest_offset) % _CLOCK_MODULUS / _CLOCK_HERTZ
        last = first + (stream.last_offset - stream.lowest_offset) / _CLOCK_HERTZ
    key_frame = None
    if stream.kind is TrackKind.VIDEO and stream.packets:
        key_frame = stream.random_access or starts_with_key_frame(stream.codec, stream.first_picture)
    return Track(
        kind=stream.kind,
        codec=stream.codec,
        number=stream.pid,
        declared=stream.declared,
        packets=stream.packets,
        encrypted=stream.encrypted,
        first_seconds=first,
        last_seconds=last,
        key_frame_at_start=key_frame,
    )
