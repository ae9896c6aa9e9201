"""What the bytes of a media segment show: the common result of all inspections. None means that they cannot tell."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Container(StrEnum):
    """What a segment is."""

    MPEG_TS = "mpeg_ts"
    FMP4 = "fmp4"
    PACKED_AUDIO = "packed_audio"
    """ADTS AAC, MPEG audio or (E-)AC-3 frames without container."""
    WEBVTT = "webvtt"
    HTML = "html"
    """A web page, such as an error page sent with status 200."""
    TEXT = "text"
    """Other text, such as an error message sent with status 200."""
    UNKNOWN = "unknown"
    """Anything else, such as encrypted data."""


class TrackKind(StrEnum):
    """Kind of a track."""

    AUDIO = "audio"
    VIDEO = "video"
    SUBTITLES = "subtitles"
    DATA = "data"
    UNKNOWN = "unknown"


class Track(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One track: an elementary stream of MPEG-TS, a track of fMP4, or packed audio."""

    kind: TrackKind
    codec: str
    """Short name, such as ``h264`` or ``aac``; empty if unknown."""
    number: int
    """PID in MPEG-TS, track id in fMP4, 0 in packed audio."""
    declared: bool
    """Whether the PMT or the initialization section lists the track."""
    packets: int
    """Packets seen: PES packets, samples or frames. 0 for a track that is only declared."""
    encrypted: bool
    first_seconds: float | None = None
    """Presentation time of the first packet (in fMP4, its decode time)."""
    last_seconds: float | None = None
    """Presentation time of the last packet; only in MPEG-TS."""
    duration_seconds: float | None = None
    """Total duration of the packets; not in MPEG-TS."""
    key_frame_at_start: bool | None = None
    """Whether the first packet is a key frame; only of video."""
    width_pixels: int | None = None
    height_pixels: int | None = None


class TransportFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What only MPEG-TS shows."""

    packets: int
    null_packets: int
    has_pat: bool
    has_pmt: bool
    continuity_errors: int
    """Gaps in the continuity counters."""
    transport_errors: int
    """Packets with the transport error indicator."""
    scrambled_packets: int
    sync_losses: int
    """Places where packets were out of step."""
    leading_garbage_bytes: int
    """Bytes before the first packet."""


class MediaFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the bytes of a segment show."""

    container: Container
    audio: bool | None = None
    """True: audio packets were seen. False: a whole segment was read, and it has none. None: cannot tell."""
    video: bool | None = None
    tracks: tuple[Track, ...] = ()
    encrypted: bool | None = None
    """Whether any track is encrypted."""
    truncated: bool = False
    """Whether a whole segment was expected, and its end is missing."""
    transport: TransportFacts | None = None

    @property
    def key_frame_at_start(self) -> bool | None:
        """Whether the first video track starts with a key frame."""
        return next((track.key_frame_at_start for track in self.tracks if track.kind is TrackKind.VIDEO), None)

    @property
    def codecs(self) -> tuple[str, ...]:
        """Codecs of the tracks of which packets were seen, sorted."""
        return tuple(sorted({track.codec for track in self.tracks if track.packets and track.codec}))


def is_present(kind: TrackKind, tracks: Iterable[Track], *, whole: bool) -> bool | None:
    """Tell whether packets of a kind were seen; False only for a whole segment without doubtful tracks."""
    absent = whole
    for track in tracks:
        if track.packets and track.kind is kind:
            return True
        if track.packets and track.kind is TrackKind.UNKNOWN:
            absent = False
    return False if absent else None
