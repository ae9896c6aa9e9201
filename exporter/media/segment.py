"""Inspection of any media segment: find out what it is, and what it has."""

from __future__ import annotations

import re

from exporter.media.facts import Container, MediaFacts
from exporter.media.fmp4 import InitFacts, inspect_fmp4
from exporter.media.mpeg_ts import inspect_mpeg_ts
from exporter.media.packed_audio import inspect_packed_audio

_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,1000}<(?:!doctype html|html|head|body)", re.IGNORECASE)
_TEXT_BYTES = 256
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]+")
_WEBVTT = re.compile(rb"(?:\xef\xbb\xbf)?WEBVTT(?:[ \t\r\n]|$)")


def inspect_segment(data: bytes, *, whole: bool, init: InitFacts | None = None, opaque: bool = False) -> MediaFacts:
    """Inspect the start of a segment (16 KiB are enough), or a whole segment. Never raises.

    ``whole`` tells whether ``data`` is meant to be the whole segment: only then may audio or video be absent.
    ``opaque`` tells that the segment is encrypted as a whole (``Segment.opaque``), so its bytes show nothing.
    """
    if opaque:
        return MediaFacts(container=Container.UNKNOWN, encrypted=True)
    return (
        inspect_fmp4(data, whole=whole, init=init)
        or inspect_mpeg_ts(data, whole=whole)
        or inspect_packed_audio(data, whole=whole)
        or MediaFacts(container=_recognize_text(data))
    )


def _recognize_text(data: bytes) -> Container:
    """Tell what a document without audio and video is."""
    if _WEBVTT.match(data):
        return Container.WEBVTT
    if _HTML.match(data):
        return Container.HTML
    return Container.TEXT if _TEXT.fullmatch(data[:_TEXT_BYTES]) else Container.UNKNOWN
