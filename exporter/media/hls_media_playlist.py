"""Data of an HLS media playlist: the segments of one rendition, and the parts of low-latency HLS."""

from __future__ import annotations

from typing import Final

import msgspec

from exporter.media.hls_text import ByteRange, InitSection

UNKNOWN_KEY_METHOD: Final = "UNKNOWN"
"""Key method of segments whose EXT-X-KEY is unreadable or has an unknown method."""


class Segment(msgspec.Struct, frozen=True, gc=False):
    """One media segment."""

    uri: str
    """As written, with variables substituted; it may hold a token."""
    sequence: int
    """Media sequence number."""
    duration_seconds: float | None
    """None if unreadable."""
    start_timestamp_seconds: float | None
    """Unix time of EXT-X-PROGRAM-DATE-TIME, or carried forward from an earlier segment."""
    discontinuity: bool
    """Whether EXT-X-DISCONTINUITY precedes the segment."""
    discontinuity_sequence: int
    gap: bool
    """Whether the segment is missing (EXT-X-GAP) and must not be fetched."""
    key_method: str
    """Empty if not encrypted, else ``AES-128``, ``SAMPLE-AES`` or another method."""
    init: InitSection | None
    byte_range: ByteRange | None
    """None for the whole resource."""
    ad_break: bool
    """Whether the segment is between EXT-X-CUE-OUT and EXT-X-CUE-IN."""
    part_count: int
    """Number of the segment's parts that are still in the playlist."""

    @property
    def key(self) -> str:
        """Return what identifies the segment in later playlists: its path and byte range.

        Hosts and tokens may differ from one request to the next.
        """
        path = uri_path(self.uri)
        if self.byte_range is None:
            return path
        return f"{path}@{self.byte_range.start_bytes}+{self.byte_range.length_bytes}"

    @property
    def opaque(self) -> bool:
        """Whether the segment is encrypted as a whole, so that its bytes show nothing about the media."""
        return self.key_method != "" and not self.key_method.startswith("SAMPLE-AES")


class Part(msgspec.Struct, frozen=True, gc=False):
    """One part of the segment that is being produced (EXT-X-PART)."""

    uri: str
    duration_seconds: float | None
    """None if unreadable."""
    independent: bool
    """Whether the part starts with a key frame."""
    gap: bool
    """Whether the part is missing and must not be fetched."""
    byte_range: ByteRange | None


class PreloadHint(msgspec.Struct, frozen=True, gc=False):
    """A resource that will be needed next (EXT-X-PRELOAD-HINT)."""

    kind: str
    """``PART`` or ``MAP``."""
    uri: str
    start_bytes: int
    length_bytes: int | None
    """None: to the end of the resource."""


class MediaPlaylist(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A media playlist."""

    version: int | None
    target_duration_seconds: float | None
    """None if missing or unreadable; hls.js and ExoPlayer refuse such a playlist."""
    media_sequence: int
    """EXT-X-MEDIA-SEQUENCE, 0 to 2^64-1."""
    discontinuity_sequence: int | None
    """EXT-X-DISCONTINUITY-SEQUENCE; None if the tag is missing, which counts as 0."""
    ended: bool
    """Whether EXT-X-ENDLIST is present. Without segments, this does not prove that the stream has ended."""
    playlist_type: str | None
    """``EVENT`` or ``VOD``."""
    segments: tuple[Segment, ...]
    """Parsed segments: all of a short playlist, the last ones of a long playlist."""
    segment_count: int
    """Number of segments in the playlist, without those left out of a delta update."""
    skipped_segments: int
    """Number of segments left out of a delta update (EXT-X-SKIP)."""
    window_seconds: float
    """Total duration of the ``segment_count`` segments; unreadable durations count as 0."""
    edge_timestamp_seconds: float | None
    """Unix time of the end of the newest segment or part; None without program date time."""
    parts: tuple[Part, ...]
    """Parts of the segment that is being produced."""
    preload_hints: tuple[PreloadHint, ...]
    part_target_seconds: float | None
    hold_back_seconds: float | None
    part_hold_back_seconds: float | None
    can_block_reload: bool
    can_skip_until_seconds: float | None
    independent_segments: bool
    i_frames_only: bool
    date_ranges: int
    """Number of readable EXT-X-DATERANGE tags in the parsed part."""
    ad_markers: bool
    """Whether the parsed part has cue tags, or date ranges with SCTE-35."""
    assumed_utc: bool
    """Whether a program date time without time zone was read as UTC."""
    truncated: bool
    """Whether the body seems to be cut off. The incomplete segment is left out."""
    dropped: tuple[str, ...]
    """Names of the tags that had an unreadable value, sorted, each once."""

    @property
    def newest_media(self) -> tuple[int, int]:
        """Return the sequence number of the segment being produced, and the number of its parts so far.

        The pair rises with every new segment or part.
        """
        return self.media_sequence + self.skipped_segments + self.segment_count, len(self.parts)

    @property
    def unparsed_segments(self) -> int:
        """Number of segments at the start of a long playlist that were only counted."""
        return self.segment_count - len(self.segments)

    @property
    def newest_segment(self) -> Segment | None:
        """Newest complete segment that may be fetched; None if there is none."""
        return next((segment for segment in reversed(self.segments) if not segment.gap), None)

    @property
    def longest_segment_seconds(self) -> float | None:
        """Longest duration of the parsed segments; None without a readable duration."""
        durations = (segment.duration_seconds for segment in self.segments)
        return max((duration for duration in durations if duration is not None), default=None)


def uri_path(uri: str) -> str:
    """Return the path of an absolute or relative URI, without scheme, host, query and fragment."""
    path = uri.partition("#")[0].partition("?")[0]
    start = path.find("://")
    if start < 0 and not path.startswith("//"):
        return path
    slash = path.find("/", start + 3 if start >= 0 else 2)
    return path[slash:] if slash >= 0 else "/"
