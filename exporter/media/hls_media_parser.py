"""Parser of HLS media playlists.

Sources: RFC 8216 section 4.3, draft-pantos-hls-rfc8216bis section 4.4; for EXT-X-CUE-OUT, EXT-X-CUE-OUT-CONT and
EXT-X-CUE-IN, which are in no standard, the manuals of AWS Elemental MediaPackage and Unified Streaming.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from exporter.media.hls_media_playlist import (
    UNKNOWN_KEY_METHOD,
    MediaPlaylist,
    Part,
    PreloadHint,
    Segment,
    uri_path,
)
from exporter.media.hls_tail import (
    count_discontinuities,
    count_segments,
    cut_line,
    find_middle,
    find_segment_start,
    sum_seconds,
)
from exporter.media.hls_text import (
    MAX_LINE_CHARACTERS,
    MAX_PARSED_BYTES,
    MAX_SECONDS,
    ByteRange,
    InitSection,
    PlaylistError,
    Variables,
    decode_playlist,
    get_required,
    parse_attributes,
    to_byte_range,
    to_integer,
    to_seconds,
)

MAX_SEGMENTS: Final = 100_000
"""Maximum number of segments in a playlist."""
TAIL_ABOVE_BYTES: Final = 128 * 1024
"""Size above which only the head and the tail of a playlist are parsed."""
_KEY_METHODS = frozenset({"AES-128", "AES-256", "AES-256-GCM", "AES-256-CTR", "SAMPLE-AES", "SAMPLE-AES-CTR"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_DATE_TIME_CHARACTERS = len("20260101T000000")
_CUE_TOLERANCE_SECONDS = 0.5
"""How much longer than its segments an ad break may be declared: segments are cut at key frames."""
_UNREADABLE = (ValueError, LookupError, OverflowError)


def parse_media(data: bytes, *, query: str, imported: Mapping[str, str], tail_above_bytes: int) -> MediaPlaylist:
    """Parse a media playlist. Raises PlaylistError.

    Of a playlist above ``tail_above_bytes``, only the lines before the first segment and the last 64 KiB are parsed;
    the segments between them are counted. ``query`` and ``imported`` are for EXT-X-DEFINE.
    """
    if data.count(b"#EXTINF:") > MAX_SEGMENTS:
        raise PlaylistError(f"more than {MAX_SEGMENTS} segments")
    parser = _MediaParser(Variables(query, imported))
    limit = max(MAX_PARSED_BYTES, tail_above_bytes)
    middle = find_middle(data) if len(data) > tail_above_bytes else None
    start, end = middle or (len(data), len(data))
    if start + len(data) - end > limit:
        raise PlaylistError(f"more than {limit} bytes before or after the segments")
    parser.feed(decode_playlist(data[:start]))
    if middle is not None:
        parser.skip(data, *middle)
        parser.feed(decode_playlist(data[end:]))
    return parser.result()


def _parse_cue(text: str) -> float:
    """Return the remaining seconds of an ad break; infinite if unknown.

    Forms: ``30``, ``DURATION=30``, ``10/30`` and ``ElapsedTime=10,Duration=30``.
    """
    try:
        if "=" in text:
            attributes = {name.lower(): value for name, value in parse_attributes(text).items()}
            elapsed, total = attributes.get("elapsedtime", "0"), attributes["duration"]
        else:
            elapsed, slash, total = text.partition("/")
            if not slash:
                elapsed, total = "0", text
        remaining = to_seconds(total) - to_seconds(elapsed)
    except (ValueError, LookupError):
        return math.inf
    return remaining if remaining > 0 else math.inf


def _extension(uri: str) -> str:
    """Return the file name extension of a URI; empty without one."""
    _, dot, extension = uri_path(uri).rpartition("/")[2].rpartition(".")
    return extension if dot else ""


class _MediaParser:
    """Facts of the playlist so far, and those that apply to the next segment."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        self._dropped: set[str] = set()
        self._last_line = ""
        """Last line if it has no line end."""
        self._version: int | None = None
        self._target_duration: float | None = None
        self._media_sequence = 0
        self._discontinuity_sequence: int | None = None
        self._ended = False
        self._playlist_type: str | None = None
        self._server_control: dict[str, str] = {}
        self._part_target: float | None = None
        self._independent_segments = False
        self._i_frames_only = False
        self._date_ranges = 0
        self._assumed_utc = False
        self._ad_markers = False
        self._cue_seen = False
        self._preload_hints: list[PreloadHint] = []
        self._segments: list[Segment] = []
        self._unparsed = 0
        self._skipped = 0
        self._window_seconds = 0.0
        # state carried from segment to segment
        self._sequence = 0
        self._discontinuities = 0
        self._next_start: float | None = None
        self._key_method = ""
        self._init: InitSection | None = None
        self._range_end: tuple[str, int | None] = ("", None)
        """URI of the last byte range and the offset after it."""
        self._ad_seconds_left = 0.0
        # tags of the next segment only
        self._extinf = False
        self._duration: float | None = None
        self._discontinuity = False
        self._gap = False
        self._byte_range: ByteRange | None = None
        self._part_lines: list[str] = []

    def feed(self, text: str) -> None:
        """Parse lines. Raises PlaylistError."""
        has_variables = "{$" in text
        lines = text.split("\n")
        self._last_line = lines[-1].strip()
        for raw in lines:
            line = raw.strip()
            if not line:
                continue
            if has_variables or len(line) > MAX_LINE_CHARACTERS:
                line = self._prepare(line)
            if line[0] != "#":
                self._add_segment(line)
                continue
            tag, _, value = line.partition(":")
            handler = _HANDLERS.get(tag)
            if handler is not None:
                try:
                    handler(self, value)
                except PlaylistError:
                    raise
                except _UNREADABLE:
                    self._dropped.add(tag[1:])

    def _prepare(self, line: str) -> str:
        """Substitute variables and check the length. Return a comment to drop a tag. Raises PlaylistError."""
        tag = line.partition(":")[0]
        if len(line) > MAX_LINE_CHARACTERS:
            if line[0] != "#":
                raise PlaylistError(f"URI longer than {MAX_LINE_CHARACTERS} characters")
            if tag in _HANDLERS:
                self._dropped.add(tag[1:])
            if tag == "#EXTINF":
                self._extinf, self._duration = True, None
            return "#"
        if "{$" not in line or tag == "#EXT-X-DEFINE":
            return line
        try:
            return self._variables.substitute(line)
        except ValueError:
            self._dropped.add("EXT-X-DEFINE")
            return line

    def _add_segment(self, uri: str) -> None:
        """Add the segment with this URI and the tags before it."""
        if not self._extinf:
            self._dropped.add("URI")
            return
        duration, start, byte_range = self._duration, self._next_start, self._byte_range
        if byte_range is not None:
            byte_range = self._resolve_range(uri, byte_range)
            self._byte_range = None
        self._segments.append(
            Segment(
                uri,
                self._sequence,
                duration,
                start,
                self._discontinuity,
                (self._discontinuity_sequence or 0) + self._discontinuities,
                self._gap,
                self._key_method,
                self._init,
                byte_range,
                self._ad_seconds_left > 0,
                len(self._part_lines),
            )
        )
        self._sequence += 1
        self._extinf = self._discontinuity = self._gap = False
        if self._part_lines:
            self._part_lines = []
        if duration is None:
            self._next_start = None
            return
        self._window_seconds += duration
        if start is not None:
            self._next_start = start + duration
        if self._ad_seconds_left:
            self._shorten_ad_break(duration)

    def _shorten_ad_break(self, seconds: float) -> None:
        """Subtract media from what is left of the ad break."""
        left = self._ad_seconds_left - seconds
        self._ad_seconds_left = left if left > _CUE_TOLERANCE_SECONDS else 0.0

    def _resolve_range(self, uri: str, byte_range: ByteRange) -> ByteRange:
        """Fill in an implicit start: the byte after the previous range of the same resource."""
        if byte_range.start_bytes is None and byte_range.length_bytes and self._range_end[0] == uri:
            byte_range = ByteRange(self._range_end[1], byte_range.length_bytes)
        start = byte_range.start_bytes
        self._range_end = (uri, None if start is None else start + byte_range.length_bytes)
        return byte_range

    # tags of segments

    def read_extinf(self, value: str) -> None:
        self._extinf, self._duration = True, None
        text = value.partition(",")[0]
        try:
            duration = float(text)
        except ValueError:
            duration = float(text.split()[0])  # attributes may follow, separated by a space
        if not 0 <= duration <= MAX_SECONDS:
            raise ValueError("duration out of range")
        self._duration = duration

    def read_date_time(self, value: str) -> None:
        self._next_start = None
        if len(value) < _MIN_DATE_TIME_CHARACTERS:
            raise ValueError("date without time")
        moment = datetime.fromisoformat(value.strip())  # refuses -6:00, about which players disagree
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
            self._assumed_utc = True
        self._next_start = (moment - _EPOCH).total_seconds()  # faster than timestamp()

    def read_discontinuity(self, _value: str) -> None:
        self._discontinuity = True
        self._discontinuities += 1

    def read_gap(self, _value: str) -> None:
        self._gap = True

    def read_byte_range(self, value: str) -> None:
        self._byte_range = ByteRange(None, 0)
        self._byte_range = to_byte_range(value)

    def read_map(self, value: str) -> None:
        self._init = None
        attributes = parse_attributes(value)
        uri, byte_range = get_required(attributes, "URI"), None
        if "BYTERANGE" in attributes:
            byte_range = to_byte_range(attributes["BYTERANGE"])
            byte_range = ByteRange(byte_range.start_bytes or 0, byte_range.length_bytes)
        self._init = InitSection(uri, byte_range)

    def read_key(self, value: str) -> None:
        self._key_method = UNKNOWN_KEY_METHOD
        method = parse_attributes(value)["METHOD"].upper()
        if method == "NONE":
            self._key_method = ""
        elif method in _KEY_METHODS:
            self._key_method = method

    def read_part(self, value: str) -> None:
        self._part_lines.append(value)

    # ad breaks

    def read_cue_out(self, value: str) -> None:
        self._ad_markers = self._cue_seen = True
        self._ad_seconds_left = _parse_cue(value)

    def read_cue_in(self, _value: str) -> None:
        if not self._cue_seen:  # the start of the break has left the window
            self._segments = [msgspec.structs.replace(segment, ad_break=True) for segment in self._segments]
        self._ad_markers = self._cue_seen = True
        self._ad_seconds_left = 0.0

    def read_date_range(self, value: str) -> None:
        attributes = parse_attributes(value)
        self._ad_markers |= any(name.startswith("SCTE35-") for name in attributes)
        if "ID" not in attributes or "START-DATE" not in attributes:
            raise ValueError("incomplete date range")
        self._date_ranges += 1

    # tags of the playlist

    def read_version(self, value: str) -> None:
        self._version = to_integer(value)

    def read_target_duration(self, value: str) -> None:
        seconds = to_seconds(value)
        if not seconds:
            raise ValueError("no duration")
        self._target_duration = seconds

    def read_media_sequence(self, value: str) -> None:
        if self._unparsed or self._segments:
            raise ValueError("media sequence after the first segment")
        try:
            self._media_sequence = to_integer(value)
        except ValueError:
            # a guess would look like a restart of the encoder
            raise PlaylistError("EXT-X-MEDIA-SEQUENCE is not a number up to 2^64-1") from None
        self._sequence = self._media_sequence + self._skipped

    def read_discontinuity_sequence(self, value: str) -> None:
        if self._unparsed or self._segments:
            raise ValueError("discontinuity sequence after the first segment")
        self._discontinuity_sequence = to_integer(value)

    def read_end(self, _value: str) -> None:
        self._ended = True

    def read_type(self, value: str) -> None:
        kind = value.strip().upper()
        if kind not in ("EVENT", "VOD"):
            raise ValueError("unknown playlist type")
        self._playlist_type = kind

    def read_server_control(self, value: str) -> None:
        self._server_control = parse_attributes(value)

    def read_part_target(self, value: str) -> None:
        self._part_target = to_seconds(parse_attributes(value)["PART-TARGET"])

    def read_skip(self, value: str) -> None:
        if self._unparsed or self._segments:
            raise ValueError("skip after the first segment")
        self._skipped = to_integer(parse_attributes(value)["SKIPPED-SEGMENTS"])
        self._sequence = self._media_sequence + self._skipped

    def read_preload_hint(self, value: str) -> None:
        attributes = parse_attributes(value)
        kind = attributes["TYPE"].upper()
        if kind not in ("PART", "MAP"):
            raise ValueError("unknown type of hint")
        uri = get_required(attributes, "URI")
        length = attributes.get("BYTERANGE-LENGTH")
        start = to_integer(attributes.get("BYTERANGE-START", "0"))
        self._preload_hints.append(PreloadHint(kind, uri, start, None if length is None else to_integer(length)))

    def read_define(self, value: str) -> None:
        self._variables.define(value)

    def read_independent_segments(self, _value: str) -> None:
        self._independent_segments = True

    def read_i_frames_only(self, _value: str) -> None:
        self._i_frames_only = True

    # long playlists

    def skip(self, data: bytes, start: int, end: int) -> None:
        """Pass over the segments between two offsets: count them, and keep what applies to later ones."""
        first = start - 1  # the line end before the first line
        self._discontinuity = self._gap = False
        self._byte_range = None
        self._part_lines = []
        self._unparsed = count_segments(data, first, end)
        self._sequence += self._unparsed
        self._discontinuities += count_discontinuities(data, first, end)
        seconds, readable = sum_seconds(data, first, end)
        self._window_seconds += seconds
        date_time = self._feed_last(b"\n#EXT-X-PROGRAM-DATE-TIME:", data, first, end)
        if date_time >= 0:
            segment_start = find_segment_start(data, first, date_time)
            seconds, readable = sum_seconds(data, segment_start, end) if segment_start is not None else (0.0, False)
        if self._next_start is not None:
            self._next_start = self._next_start + seconds if readable else None
        for tag in (b"\n#EXT-X-MAP:", b"\n#EXT-X-KEY:", b"\n#EXT-X-ENDLIST"):
            self._feed_last(tag, data, first, end)
        cue = self._feed_last(b"\n#EXT-X-CUE-", data, first, end)
        if self._ad_seconds_left:
            self._shorten_ad_break(sum_seconds(data, max(cue, first), end)[0])

    def _feed_last(self, tag: bytes, data: bytes, first: int, end: int) -> int:
        """Parse the last line with this tag, and return the offset before it, or -1 if there is none."""
        position = data.rfind(tag, first, end)
        if position >= 0:
            self.feed(decode_playlist(cut_line(data, position)))
        return position

    # the end

    def result(self) -> MediaPlaylist:
        """Return the playlist."""
        truncated = self._remove_cut_segment()
        parts = tuple(part for line in self._part_lines if (part := self._parse_part(line)) is not None)
        return MediaPlaylist(
            version=self._version,
            target_duration_seconds=self._target_duration,
            media_sequence=self._media_sequence,
            discontinuity_sequence=self._discontinuity_sequence,
            ended=self._ended,
            playlist_type=self._playlist_type,
            segments=tuple(self._segments),
            segment_count=self._unparsed + len(self._segments),
            skipped_segments=self._skipped,
            window_seconds=self._window_seconds,
            edge_timestamp_seconds=self._edge(parts),
            parts=parts,
            preload_hints=tuple(self._preload_hints),
            part_target_seconds=self._part_target,
            hold_back_seconds=self._control_seconds("HOLD-BACK"),
            part_hold_back_seconds=self._control_seconds("PART-HOLD-BACK"),
            can_block_reload=self._server_control.get("CAN-BLOCK-RELOAD") == "YES",
            can_skip_until_seconds=self._control_seconds("CAN-SKIP-UNTIL"),
            independent_segments=self._independent_segments,
            i_frames_only=self._i_frames_only,
            date_ranges=self._date_ranges,
            ad_markers=self._ad_markers,
            assumed_utc=self._assumed_utc,
            truncated=truncated,
            dropped=tuple(sorted(self._dropped)),
        )

    def _remove_cut_segment(self) -> bool:
        """Return whether the body seems to be cut off, after removing a segment with half a URI."""
        if self._extinf:
            return True
        last = self._last_line
        if last.startswith("#"):
            tag = last.partition(":")[0]
            return tag not in _HANDLERS and any(name.startswith(tag) for name in _HANDLERS)
        if not last or len(self._segments) < 2:
            return False
        expected = _extension(self._segments[-2].uri)
        if not expected or _extension(self._segments[-1].uri) == expected:
            return False
        self._window_seconds -= self._segments.pop().duration_seconds or 0.0
        return True

    def _parse_part(self, line: str) -> Part | None:
        """Parse the attributes of a part; None if it has no URI."""
        attributes = parse_attributes(line)
        uri = attributes.get("URI")
        if not uri:
            self._dropped.add("EXT-X-PART")
            return None
        duration, byte_range = None, None
        try:
            duration = to_seconds(attributes["DURATION"])
            if "BYTERANGE" in attributes:
                byte_range = ByteRange(None, 0)
                byte_range = self._resolve_range(uri, to_byte_range(attributes["BYTERANGE"]))
        except _UNREADABLE:
            self._dropped.add("EXT-X-PART")
        independent, gap = attributes.get("INDEPENDENT") == "YES", attributes.get("GAP") == "YES"
        return Part(uri, duration, independent, gap, byte_range)

    def _edge(self, parts: tuple[Part, ...]) -> float | None:
        """Return the Unix time of the end of the newest media; None if unknown."""
        if parts:
            if self._next_start is None:
                return None
            return self._next_start + sum(part.duration_seconds or 0.0 for part in parts)
        if not self._segments:
            return None
        last = self._segments[-1]
        if last.start_timestamp_seconds is None or last.duration_seconds is None:
            return None
        return last.start_timestamp_seconds + last.duration_seconds

    def _control_seconds(self, name: str) -> float | None:
        """Return a duration of EXT-X-SERVER-CONTROL."""
        if name not in self._server_control:
            return None
        try:
            return to_seconds(self._server_control[name])
        except ValueError:
            self._dropped.add("EXT-X-SERVER-CONTROL")
            return None


_HANDLERS: dict[str, Callable[[_MediaParser, str], None]] = {
    "#EXTINF": _MediaParser.read_extinf,
    "#EXT-X-PROGRAM-DATE-TIME": _MediaParser.read_date_time,
    "#EXT-X-DISCONTINUITY": _MediaParser.read_discontinuity,
    "#EXT-X-GAP": _MediaParser.read_gap,
    "#EXT-X-BYTERANGE": _MediaParser.read_byte_range,
    "#EXT-X-MAP": _MediaParser.read_map,
    "#EXT-X-KEY": _MediaParser.read_key,
    "#EXT-X-PART": _MediaParser.read_part,
    "#EXT-X-CUE-OUT": _MediaParser.read_cue_out,
    "#EXT-X-CUE-OUT-CONT": _MediaParser.read_cue_out,
    "#EXT-X-CUE-IN": _MediaParser.read_cue_in,
    "#EXT-X-DATERANGE": _MediaParser.read_date_range,
    "#EXT-X-VERSION": _MediaParser.read_version,
    "#EXT-X-TARGETDURATION": _MediaParser.read_target_duration,
    "#EXT-X-MEDIA-SEQUENCE": _MediaParser.read_media_sequence,
    "#EXT-X-DISCONTINUITY-SEQUENCE": _MediaParser.read_discontinuity_sequence,
    "#EXT-X-ENDLIST": _MediaParser.read_end,
    "#EXT-X-PLAYLIST-TYPE": _MediaParser.read_type,
    "#EXT-X-SERVER-CONTROL": _MediaParser.read_server_control,
    "#EXT-X-PART-INF": _MediaParser.read_part_target,
    "#EXT-X-SKIP": _MediaParser.read_skip,
    "#EXT-X-PRELOAD-HINT": _MediaParser.read_preload_hint,
    "#EXT-X-DEFINE": _MediaParser.read_define,
    "#EXT-X-INDEPENDENT-SEGMENTS": _MediaParser.read_independent_segments,
    "#EXT-X-I-FRAMES-ONLY": _MediaParser.read_i_frames_only,
}
"""Methods that read the value of a tag, by its name. They raise one of ``_UNREADABLE`` to drop the tag."""
