"""Inspection of fragmented MP4 without decoding: initialization sections and media segments.

Sources: ISO/IEC 14496-12 sections 8.3 to 8.8 (boxes) and 8.12 (protection), 14496-15 (AVC, HEVC), 23001-7 (encryption).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from exporter.media.facts import Container, MediaFacts, Track, TrackKind, is_present
from exporter.media.mp4_boxes import Box, BoxReader

MAX_TRACKS: Final = 64
_MAX_SAMPLES = 100_000
"""Maximum number of samples in one run."""
_FIRST_BOXES = frozenset(
    {b"styp", b"ftyp", b"moof", b"moov", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip", b"mdat"}
)
_KINDS = {
    b"vide": TrackKind.VIDEO,
    b"auxv": TrackKind.VIDEO,
    b"soun": TrackKind.AUDIO,
    b"subt": TrackKind.SUBTITLES,
    b"text": TrackKind.SUBTITLES,
    b"sbtl": TrackKind.SUBTITLES,
    b"meta": TrackKind.DATA,
    b"hint": TrackKind.DATA,
}
_CODECS = {
    b"avc1": "h264", b"avc2": "h264", b"avc3": "h264", b"avc4": "h264", b"hvc1": "hevc", b"hev1": "hevc",
    b"dvh1": "hevc", b"dvhe": "hevc", b"vvc1": "vvc", b"vvi1": "vvc", b"av01": "av1", b"vp08": "vp8", b"vp09": "vp9",
    b"mp4v": "mpeg4", b"mp4a": "aac", b".mp3": "mp3", b"ac-3": "ac3", b"ec-3": "eac3", b"ac-4": "ac4",
    b"Opus": "opus", b"fLaC": "flac", b"alac": "alac", b"mhm1": "mpegh", b"mha1": "mpegh", b"dtsc": "dts",
    b"dtse": "dts", b"dtsh": "dts", b"dtsl": "dts", b"dtsx": "dts", b"wvtt": "webvtt", b"stpp": "ttml",
}  # fmt: skip
_MP3_OBJECT_TYPES = frozenset({0x69, 0x6B})
"""MPEG audio in ``mp4a``."""
_ENCRYPTED_ENTRIES = frozenset({b"encv", b"enca", b"enct", b"encs"})
_VISUAL_ENTRY_BYTES, _AUDIO_ENTRY_BYTES = 78, 28
_NOT_SYNC = 0x0001_0000
"""Sample flag: not a key frame."""
# flags of tfhd
_BASE_DATA_OFFSET, _DESCRIPTION_INDEX, _DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
# flags of trun
_DATA_OFFSET, _FIRST_FLAGS, _DURATIONS, _SIZES, _FLAGS, _COMPOSITION_OFFSETS = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800


class InitTrack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One track of an initialization section."""

    number: int
    """Track id."""
    kind: TrackKind
    codec: str
    """Short name, such as ``h264``; empty if unknown."""
    sample_entry: str
    """FourCC, such as ``avc1``, also of an encrypted track; empty if unknown."""
    encrypted: bool
    timescale_hertz: int | None
    width_pixels: int | None
    height_pixels: int | None
    default_duration: int | None
    """Duration of samples in units of the timescale, where the segment does not tell it; None if unknown."""
    default_size_bytes: int | None
    default_flags: int | None


class InitFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an initialization section shows."""

    tracks: tuple[InitTrack, ...]
    truncated: bool
    """Whether the section is cut off, and so tracks may be missing."""


def inspect_init(data: bytes) -> InitFacts | None:
    """Inspect an initialization section; None if it has no ``moov`` box."""
    reader = BoxReader(data)
    for box in reader.iterate(0, len(data)):
        if box.kind == b"moov":
            return InitFacts(tracks=tuple(_read_tracks(reader, box)), truncated=box.cut)
    return None


def inspect_fmp4(data: bytes, *, whole: bool, init: InitFacts | None = None) -> MediaFacts | None:
    """Inspect the start of a segment, or a whole segment; None if it has no boxes of a segment.

    Kinds, codecs and times need the initialization section, which may also be part of the segment.
    """
    if data[4:8] not in _FIRST_BOXES:
        return None
    segment = _Segment(BoxReader(data), init)
    segment.read()
    return segment.result(whole=whole)


# initialization section


def _read_tracks(reader: BoxReader, moov: Box) -> list[InitTrack]:
    """Return the tracks of a ``moov`` box."""
    defaults: dict[int, tuple[int, int, int]] = {}
    extends = reader.find(moov, b"mvex")
    for box in reader.iterate(extends.start, extends.end) if extends else ():
        if box.kind == b"trex" and box.end - box.start >= 24:
            values = [reader.integer(box.start + offset, 4) for offset in (4, 12, 16, 20)]
            defaults[values[0]] = (values[1], values[2], values[3])
    tracks: list[InitTrack] = []
    for box in reader.iterate(moov.start, moov.end):
        if box.kind == b"trak" and not box.cut and len(tracks) < MAX_TRACKS:
            tracks.append(_read_track(reader, box, defaults))
    return tracks


def _read_track(reader: BoxReader, trak: Box, defaults: Mapping[int, tuple[int, int, int]]) -> InitTrack:
    """Return one track."""
    number, width, height = _read_track_header(reader, trak)
    handler = reader.find(trak, b"mdia", b"hdlr")
    kind_code = reader.data[handler.start + 8 : handler.start + 12] if handler else b""
    kind = _KINDS.get(kind_code, TrackKind.UNKNOWN)
    entry = _read_sample_entry(reader, trak, kind)
    default = defaults.get(number, (None, None, None))
    return InitTrack(
        number=number,
        kind=kind,
        codec=entry.codec,
        sample_entry=entry.name,
        encrypted=entry.encrypted,
        timescale_hertz=_read_timescale(reader, trak),
        width_pixels=entry.width_pixels or width or None,
        height_pixels=entry.height_pixels or height or None,
        default_duration=default[0] or None,
        default_size_bytes=default[1] or None,
        default_flags=default[2],
    )


def _read_track_header(reader: BoxReader, trak: Box) -> tuple[int, int, int]:
    """Return the track's id, width and height."""
    box = reader.find(trak, b"tkhd")
    if box is None:
        return 0, 0, 0
    long_times = reader.integer(box.start, 1) == 1
    number = reader.integer(box.start + (20 if long_times else 12), 4)
    size = box.start + (88 if long_times else 76)  # two numbers in 16.16 format
    return number, reader.integer(size, 2), reader.integer(size + 4, 2)


def _read_timescale(reader: BoxReader, trak: Box) -> int | None:
    """Return the units per second of the track's times."""
    box = reader.find(trak, b"mdia", b"mdhd")
    if box is None:
        return None
    return reader.integer(box.start + (20 if reader.integer(box.start, 1) == 1 else 12), 4) or None


class _SampleEntry(msgspec.Struct, frozen=True, gc=False):
    """Format of a track's samples."""

    name: str = ""
    codec: str = ""
    encrypted: bool = False
    width_pixels: int = 0
    height_pixels: int = 0


def _read_sample_entry(reader: BoxReader, trak: Box, kind: TrackKind) -> _SampleEntry:
    """Return the first sample entry of a track."""
    box = reader.find(trak, b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(reader.iterate(box.start + 8, box.end), None) if box else None
    if entry is None:
        return _SampleEntry()
    name = entry.kind
    extra = {TrackKind.VIDEO: _VISUAL_ENTRY_BYTES, TrackKind.AUDIO: _AUDIO_ENTRY_BYTES}.get(kind, 8)
    inner = Box(name, entry.start + extra, entry.end, entry.cut)
    encrypted = name in _ENCRYPTED_ENTRIES
    if encrypted:
        original = reader.find(inner, b"sinf", b"frma")
        name = reader.data[original.start : original.start + 4] if original else b""
    codec = _CODECS.get(name, "")
    if name == b"mp4a" and _object_type(reader, inner) in _MP3_OBJECT_TYPES:
        codec = "mp3"
    width = height = 0
    if kind is TrackKind.VIDEO:
        width, height = reader.integer(entry.start + 24, 2), reader.integer(entry.start + 26, 2)
    return _SampleEntry(name.decode() if name in _CODECS else "", codec, encrypted, width, height)


def _object_type(reader: BoxReader, entry: Box) -> int:
    """Return the object type of an ``esds`` box, which tells MP3 from AAC; 0 if unknown."""
    box = reader.find(entry, b"esds")
    if box is None:
        return 0
    body = reader.data[box.start + 4 : box.end]
    for tag in (0x03, 0x04):
        if not body or body[0] != tag:
            return 0
        length_bytes = next((index for index, byte in enumerate(body[1:5], 1) if not byte & 0x80), 4)
        body = body[1 + length_bytes :]
        if tag == 0x03:
            body = body[3:]  # without the optional fields, which MP4 does not use
    return body[0] if body else 0


# media segment


class _TrackRun:
    """Facts of one track in a segment so far."""

    __slots__ = ("bytes", "duration", "duration_known", "samples", "size_known", "start", "sync")

    def __init__(self) -> None:
        self.samples = 0
        self.bytes = 0
        self.size_known = True
        self.duration = 0
        """In units of the timescale."""
        self.duration_known = True
        self.start: int | None = None
        self.sync: bool | None = None
        """Whether the first sample is a key frame."""


class _Defaults(msgspec.Struct, frozen=True, gc=False):
    """Properties of samples that a run does not tell."""

    duration: int | None
    size: int | None
    flags: int | None


class _Segment:
    """Facts of one segment so far."""

    def __init__(self, reader: BoxReader, init: InitFacts | None) -> None:
        self._reader = reader
        self._init = init
        self._runs: dict[int, _TrackRun] = {}
        self._cut = False
        self._has_media = False
        """Whether there is media data after a ``moof``."""
        self._has_fragments = False
        self._damaged = False

    def read(self) -> None:
        """Read all boxes."""
        end = len(self._reader.data)
        position = 0
        for box in self._reader.iterate(0, end):
            position = box.end
            self._cut = box.cut
            if box.kind == b"moof" and not box.cut:
                self._has_fragments = True
                self._read_fragment(box)
            elif box.kind == b"moov" and self._init is None:
                self._init = InitFacts(tracks=tuple(_read_tracks(self._reader, box)), truncated=box.cut)
            elif box.kind == b"mdat":
                self._has_media |= box.end > box.start
        if position < end:  # the last box makes no sense, or its header is cut off
            self._cut |= end - position < 16
            self._damaged = True

    def _read_fragment(self, moof: Box) -> None:
        """Read the tracks of a ``moof`` box."""
        for box in self._reader.iterate(moof.start, moof.end):
            if box.kind == b"traf":
                header = self._reader.find(box, b"tfhd")
                if header is None or box.cut:
                    self._damaged = True
                else:
                    self._read_track_fragment(box, header)

    def _read_track_fragment(self, traf: Box, header: Box) -> None:
        """Read one track of a fragment."""
        reader = self._reader
        number = reader.integer(header.start + 4, 4)
        if number not in self._runs and len(self._runs) >= MAX_TRACKS:
            return
        run = self._runs.setdefault(number, _TrackRun())
        defaults = self._read_defaults(header, number)
        for box in reader.iterate(traf.start, traf.end):
            if box.kind == b"tfdt" and run.start is None and not run.samples:
                run.start = reader.integer(box.start + 4, 8 if reader.integer(box.start, 1) else 4)
            elif box.kind == b"trun":
                self._damaged |= box.cut or not _read_run(reader, box, run, defaults)

    def _read_defaults(self, header: Box, number: int) -> _Defaults:
        """Return the defaults of ``tfhd``, and those of the initialization section where it has none."""
        reader = self._reader
        flags = reader.integer(header.start + 1, 3)
        track = self._find_init_track(number)
        values: list[int | None] = [None, None, None]
        if track is not None:
            values = [track.default_duration, track.default_size_bytes, track.default_flags]
        position = header.start + 8
        position += 8 * (flags & _BASE_DATA_OFFSET != 0) + 4 * (flags & _DESCRIPTION_INDEX != 0)
        for index, flag in enumerate((_DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS)):
            if flags & flag:
                values[index] = reader.integer(position, 4)
                position += 4
        return _Defaults(*values)

    def _find_init_track(self, number: int) -> InitTrack | None:
        """Return a track of the initialization section."""
        tracks = self._init.tracks if self._init else ()
        return next((track for track in tracks if track.number == number), None)

    def result(self, *, whole: bool) -> MediaFacts:
        """Return the facts."""
        tracks = [self._to_track(number, run) for number, run in self._runs.items()]
        silent = [track for track in (self._init.tracks if self._init else ()) if track.number not in self._runs]
        tracks += [_to_declared_track(track) for track in silent]
        encrypted = any(track.encrypted for track in tracks) if self._init else None
        complete = self._has_fragments and self._init is not None and not self._init.truncated
        conclusive = whole and complete and not (self._cut or self._damaged)
        return MediaFacts(
            container=Container.FMP4,
            audio=is_present(TrackKind.AUDIO, tracks, whole=conclusive),
            video=is_present(TrackKind.VIDEO, tracks, whole=conclusive),
            tracks=tuple(tracks),
            encrypted=encrypted,
            truncated=whole and (self._cut or (not self._has_media and any(track.packets for track in tracks))),
        )

    def _to_track(self, number: int, run: _TrackRun) -> Track:
        """Return the facts of a track with fragments."""
        track = self._find_init_track(number)
        scale = track.timescale_hertz if track else None
        kind = track.kind if track else TrackKind.UNKNOWN
        empty = run.size_known and not run.bytes
        return Track(
            kind=kind,
            codec=track.codec if track else "",
            number=number,
            declared=track is not None,
            packets=0 if empty else run.samples,
            encrypted=track is not None and track.encrypted,
            first_seconds=run.start / scale if scale and run.start is not None else None,
            duration_seconds=run.duration / scale if scale and run.duration_known else None,
            key_frame_at_start=run.sync if kind is TrackKind.VIDEO else None,
            width_pixels=track.width_pixels if track else None,
            height_pixels=track.height_pixels if track else None,
        )


def _to_declared_track(track: InitTrack) -> Track:
    """Return a track without fragments."""
    return Track(
        kind=track.kind,
        codec=track.codec,
        number=track.number,
        declared=True,
        packets=0,
        encrypted=track.encrypted,
        width_pixels=track.width_pixels,
        height_pixels=track.height_pixels,
    )


def _read_run(reader: BoxReader, box: Box, run: _TrackRun, defaults: _Defaults) -> bool:
    """Add the samples of a ``trun`` box. Return whether it was readable."""
    flags = reader.integer(box.start + 1, 3)
    count = reader.integer(box.start + 4, 4)
    first_flags = box.start + 8 + 4 * (flags & _DATA_OFFSET != 0)
    position = first_flags + 4 * (flags & _FIRST_FLAGS != 0)
    columns = [flag for flag in (_DURATIONS, _SIZES, _FLAGS, _COMPOSITION_OFFSETS) if flags & flag]
    if count > _MAX_SAMPLES or position + 4 * len(columns) * count > box.end:
        return False
    if not count:
        return True
    table = struct.unpack_from(f">{len(columns) * count}I", reader.data, position)
    values = {flag: table[index :: len(columns)] for index, flag in enumerate(columns)}
    if not run.samples:
        first = values[_FLAGS][0] if _FLAGS in values else defaults.flags
        if flags & _FIRST_FLAGS:
            first = reader.integer(first_flags, 4)
        run.sync = None if first is None else not first & _NOT_SYNC
    run.samples += count
    duration = _total(values.get(_DURATIONS), defaults.duration, count)
    size = _total(values.get(_SIZES), defaults.size, count)
    run.duration += duration or 0
    run.duration_known &= duration is not None
    run.bytes += size or 0
    run.size_known &= size is not None
    return True


def _total(values: Sequence[int] | None, default: int | None, count: int) -> int | None:
    """Return the sum of a property of samples; None if unknown."""
    if values is not None:
        return sum(values)
    return None if default is None else default * count
