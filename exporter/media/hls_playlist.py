"""HLS playlists: tell master and media playlists and other documents apart, and parse them.

The parser is our own because libraries are slower and refuse or misread real documents. Any bytes give a playlist or
a ``PlaylistError``; an unreadable optional tag drops only that fact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from exporter.media.hls_master import MAX_VARIANTS, AlternativeRendition, MasterPlaylist, Variant, parse_master
from exporter.media.hls_media_parser import MAX_SEGMENTS, TAIL_ABOVE_BYTES, parse_media
from exporter.media.hls_media_playlist import (
    UNKNOWN_KEY_METHOD,
    MediaPlaylist,
    Part,
    PreloadHint,
    Segment,
    uri_path,
)
from exporter.media.hls_text import MAX_PLAYLIST_BYTES, ByteRange, InitSection, PlaylistError

__all__ = [
    "MAX_PLAYLIST_BYTES",
    "MAX_SEGMENTS",
    "MAX_VARIANTS",
    "TAIL_ABOVE_BYTES",
    "UNKNOWN_KEY_METHOD",
    "AlternativeRendition",
    "ByteRange",
    "InitSection",
    "MasterPlaylist",
    "MediaPlaylist",
    "Part",
    "PlaylistError",
    "PreloadHint",
    "Segment",
    "Variant",
    "parse_playlist",
    "uri_path",
]

_BOM = b"\xef\xbb\xbf"
_KIND_BYTES = 64 * 1024
"""How much of a document is searched to find out what it is."""
_CHANNEL_MARKS = re.compile(rb"#EXTINF:[ \t]*-|tvg-|group-title=|#EXTGRP")
_OTHER_DOCUMENTS = (
    (re.compile(rb"<(?:!doctype html|html|head|body)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,2000}?-->\s*)?<MPD", re.DOTALL), "a DASH manifest"),
    (re.compile(rb"<"), "an XML document"),
    (re.compile(rb"[{\[]"), "a JSON document"),
    (re.compile(rb"\x1f\x8b"), "compressed data (gzip)"),
    (re.compile(rb"\x47.{187}\x47", re.DOTALL), "media data (MPEG-TS)"),
)


def parse_playlist(
    data: bytes,
    *,
    query: str = "",
    imported: Mapping[str, str] | None = None,
    tail_above_bytes: int = TAIL_ABOVE_BYTES,
) -> MasterPlaylist | MediaPlaylist:
    """Parse a playlist. Raises PlaylistError if it is none, and for nothing else.

    ``query`` is the query string of the playlist's URL, and ``imported`` has the variables of the master playlist;
    both are for EXT-X-DEFINE. Above ``tail_above_bytes``, only the end of a media playlist is parsed, and the
    segments before it are counted. The lines to be parsed may have 256 KiB.
    """
    if len(data) > MAX_PLAYLIST_BYTES:
        raise PlaylistError(f"larger than {MAX_PLAYLIST_BYTES} bytes")
    start = data[:1024].removeprefix(_BOM).lstrip()
    if not start.startswith(b"#EXTM3U"):
        raise PlaylistError(_describe_other(data, start))
    head = data[:_KIND_BYTES]
    if b"#EXTINF" in head or b"#EXT-X-TARGETDURATION" in head:
        _check_media(head)
        return parse_media(data, query=query, imported=imported or {}, tail_above_bytes=tail_above_bytes)
    if b"#EXT-X-STREAM-INF" in head or b"#EXT-X-I-FRAME-STREAM-INF" in head or b"#EXT-X-MEDIA:" in head:
        return parse_master(data, query=query, imported=imported or {})
    if b"#EXT-X-MEDIA-SEQUENCE" in head or b"#EXT-X-ENDLIST" in head or b"#EXT-X-PART" in head:
        return parse_media(data, query=query, imported=imported or {}, tail_above_bytes=tail_above_bytes)
    raise PlaylistError("a playlist without segments and variants, or cut off")


def _check_media(head: bytes) -> None:
    """Raise PlaylistError if a list with EXTINF is a list of channels or files for other players."""
    if b"#EXT-X-TARGETDURATION" in head or b"#EXT-X-MEDIA-SEQUENCE" in head:
        return
    if _CHANNEL_MARKS.search(head):
        raise PlaylistError("not an HLS playlist (channel list)")
    raise PlaylistError("not an HLS playlist (no target duration)")


def _describe_other(data: bytes, start: bytes) -> str:
    """Describe a document that does not start like a playlist."""
    if not start and not data.strip(b"\xef\xbb\xbf \t\r\n"):
        return "empty body"
    if start and b"#EXTM3U".startswith(start):
        return "cut off before the first tag"
    for pattern, name in _OTHER_DOCUMENTS:
        if pattern.match(start):
            return f"not an HLS playlist ({name})"
    return "not an HLS playlist"
