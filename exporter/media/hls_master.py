"""HLS master (multivariant) playlists: the variants of a stream and their alternative renditions.

Source: RFC 8216 section 4.3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from exporter.media.hls_text import (
    MAX_LINE_CHARACTERS,
    MAX_PARSED_BYTES,
    PlaylistError,
    Variables,
    decode_playlist,
    get_required,
    parse_attributes,
    to_bytes_per_second,
    to_resolution,
)

MAX_VARIANTS: Final = 1_000
"""Maximum number of variants, and of renditions, in a master playlist."""
_RENDITION_KINDS = frozenset({"AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"})
_MAX_CODECS = 16
_MAX_NAME_CHARACTERS = 128
_Value = TypeVar("_Value")


class Variant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One variant (EXT-X-STREAM-INF), or one list of key frames (EXT-X-I-FRAME-STREAM-INF)."""

    uri: str
    """As written, with variables substituted; it may hold a token."""
    bandwidth_bytes_per_second: float | None
    """Peak bitrate (BANDWIDTH, which is in bits per second)."""
    average_bandwidth_bytes_per_second: float | None
    codecs: tuple[str, ...]
    """As declared, such as ``avc1.640028``; empty if not declared."""
    width_pixels: int | None
    height_pixels: int | None
    frame_rate_hertz: float | None
    name: str
    """NAME, which is in no standard but in use; empty without one."""
    audio_group: str
    """GROUP-ID of the audio renditions; empty without one."""
    video_group: str
    subtitles_group: str
    pathway: str
    """PATHWAY-ID of content steering; empty without one."""


class AlternativeRendition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One alternative rendition (EXT-X-MEDIA)."""

    kind: str
    """``AUDIO``, ``VIDEO``, ``SUBTITLES`` or ``CLOSED-CAPTIONS``."""
    group: str
    name: str
    language: str
    """Empty if not declared."""
    default: bool
    channels: str
    """CHANNELS, such as ``2`` or ``6``; empty if not declared."""
    uri: str | None
    """None if the media is part of the variants' own segments."""


class MasterPlaylist(msgspec.Struct, frozen=True, kw_only=True):
    """A master playlist."""

    variants: tuple[Variant, ...]
    i_frame_variants: tuple[Variant, ...]
    renditions: tuple[AlternativeRendition, ...]
    variables: dict[str, str]
    """Variables that media playlists may import."""
    independent_segments: bool
    truncated: bool
    """Whether the body seems to be cut off: the last variant has no URI."""
    dropped: tuple[str, ...]
    """Names of the tags and attributes that were unreadable, sorted, each once."""

    @property
    def audio_renditions(self) -> tuple[AlternativeRendition, ...]:
        """Audio renditions with a playlist of their own."""
        return tuple(
            rendition for rendition in self.renditions if rendition.kind == "AUDIO" and rendition.uri is not None
        )


def parse_master(data: bytes, *, query: str, imported: Mapping[str, str]) -> MasterPlaylist:
    """Parse a master playlist. Raises PlaylistError. ``query`` and ``imported`` are for EXT-X-DEFINE."""
    if len(data) > MAX_PARSED_BYTES:
        raise PlaylistError(f"a master playlist larger than {MAX_PARSED_BYTES} bytes")
    parser = _MasterParser(Variables(query, imported))
    for raw in decode_playlist(data).split("\n"):
        line = raw.strip()
        if line:
            parser.read_line(line)
    return parser.result()


class _MasterParser:
    """Facts of the playlist so far, and the variant whose URI comes next."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        self._variants: list[Variant] = []
        self._i_frame_variants: list[Variant] = []
        self._renditions: list[AlternativeRendition] = []
        self._attributes: dict[str, str] | None = None
        """Attributes of the variant whose URI comes next."""
        self._independent_segments = False
        self._dropped: set[str] = set()

    def read_line(self, line: str) -> None:
        """Read one line. Raises PlaylistError."""
        if len(line) > MAX_LINE_CHARACTERS:
            self._dropped.add("long line")
            return
        if "{$" in line and not line.startswith("#EXT-X-DEFINE"):
            line = self._substitute(line)
        if not line.startswith("#"):
            self._add_variant(line)
            return
        tag, _, value = line.partition(":")
        handler = _HANDLERS.get(tag)
        if handler is not None:
            try:
                handler(self, value)
            except PlaylistError:
                raise
            except (ValueError, LookupError):
                self._dropped.add(tag[1:])

    def _substitute(self, line: str) -> str:
        """Substitute variables; an unknown one stays as it is."""
        try:
            return self._variables.substitute(line)
        except ValueError:
            self._dropped.add("EXT-X-DEFINE")
            return line

    def _add_variant(self, uri: str) -> None:
        """Add the variant with this URI."""
        if self._attributes is None:
            self._dropped.add("URI")
            return
        if len(self._variants) >= MAX_VARIANTS:
            raise PlaylistError(f"more than {MAX_VARIANTS} variants")
        self._variants.append(self._to_variant(uri, self._attributes))
        self._attributes = None

    def _to_variant(self, uri: str, attributes: Mapping[str, str]) -> Variant:
        """Return a variant with all attributes that are readable."""
        size = self._read(attributes, "RESOLUTION", to_resolution)
        codecs = [codec.strip() for codec in attributes.get("CODECS", "").split(",", _MAX_CODECS)]
        return Variant(
            uri=uri,
            bandwidth_bytes_per_second=self._read(attributes, "BANDWIDTH", to_bytes_per_second),
            average_bandwidth_bytes_per_second=self._read(attributes, "AVERAGE-BANDWIDTH", to_bytes_per_second),
            codecs=tuple(codec for codec in codecs[:_MAX_CODECS] if codec),
            width_pixels=size and size[0],
            height_pixels=size and size[1],
            frame_rate_hertz=self._read(attributes, "FRAME-RATE", _to_frame_rate),
            name=attributes.get("NAME", "")[:_MAX_NAME_CHARACTERS],
            audio_group=attributes.get("AUDIO", ""),
            video_group=attributes.get("VIDEO", ""),
            subtitles_group=attributes.get("SUBTITLES", ""),
            pathway=attributes.get("PATHWAY-ID", ""),
        )

    def _read(self, attributes: Mapping[str, str], name: str, convert: Callable[[str], _Value]) -> _Value | None:
        """Convert an attribute; None if it is missing or unreadable."""
        text = attributes.get(name)
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError:
            self._dropped.add(name)
            return None

    def read_variant(self, value: str) -> None:
        if self._attributes is not None:  # a variant without URI
            self._dropped.add("EXT-X-STREAM-INF")
        self._attributes = parse_attributes(value)

    def read_i_frame_variant(self, value: str) -> None:
        if len(self._i_frame_variants) >= MAX_VARIANTS:
            raise PlaylistError(f"more than {MAX_VARIANTS} variants")
        attributes = parse_attributes(value)
        self._i_frame_variants.append(self._to_variant(get_required(attributes, "URI"), attributes))

    def read_rendition(self, value: str) -> None:
        if len(self._renditions) >= MAX_VARIANTS:
            raise PlaylistError(f"more than {MAX_VARIANTS} renditions")
        attributes = parse_attributes(value)
        kind = attributes["TYPE"].upper()
        if kind not in _RENDITION_KINDS:
            raise ValueError("unknown type of rendition")
        self._renditions.append(
            AlternativeRendition(
                kind=kind,
                group=get_required(attributes, "GROUP-ID"),
                name=attributes.get("NAME", "")[:_MAX_NAME_CHARACTERS],
                language=attributes.get("LANGUAGE", "")[:_MAX_NAME_CHARACTERS],
                default=attributes.get("DEFAULT") == "YES",
                channels=attributes.get("CHANNELS", "")[:_MAX_NAME_CHARACTERS],
                uri=attributes.get("URI") or None,
            )
        )

    def read_define(self, value: str) -> None:
        self._variables.define(value)

    def read_independent_segments(self, _value: str) -> None:
        self._independent_segments = True

    def result(self) -> MasterPlaylist:
        """Return the playlist."""
        return MasterPlaylist(
            variants=tuple(self._variants),
            i_frame_variants=tuple(self._i_frame_variants),
            renditions=tuple(self._renditions),
            variables=self._variables.values,
            independent_segments=self._independent_segments,
            truncated=self._attributes is not None,
            dropped=tuple(sorted(self._dropped)),
        )


def _to_frame_rate(text: str) -> float:
    """Read frames per second. Raises ValueError."""
    value = float(text)
    if not 0 < value <= 1_000:
        raise ValueError("frame rate out of range")
    return value


_HANDLERS: dict[str, Callable[[_MasterParser, str], None]] = {
    "#EXT-X-STREAM-INF": _MasterParser.read_variant,
    "#EXT-X-I-FRAME-STREAM-INF": _MasterParser.read_i_frame_variant,
    "#EXT-X-MEDIA": _MasterParser.read_rendition,
    "#EXT-X-DEFINE": _MasterParser.read_define,
    "#EXT-X-INDEPENDENT-SEGMENTS": _MasterParser.read_independent_segments,
}
