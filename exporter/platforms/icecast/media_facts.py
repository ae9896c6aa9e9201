"""Codecs and declared rates of a source: what its encoder or the server says about the media.

Sources: Icecast 2.4.4 and 2.5.0, ``src/source.c`` and ``src/format_*.c``; Icecast-KH, ``src/format_mp3.c``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from exporter.platforms.api import BITS_PER_SECOND, KILOBITS_PER_SECOND, Record

_AUDIO_TYPES = {
    "audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-mpeg": "mp3", "audio/aac": "aac", "audio/aacp": "aac",
    "audio/x-aac": "aac", "audio/opus": "opus", "audio/flac": "flac", "audio/x-flac": "flac", "audio/speex": "speex",
}  # fmt: skip
"""Codecs of the MIME types that have only one."""
_AUDIO_SUBTYPES = frozenset({"vorbis", "opus", "flac", "speex", "aac", "mp3"})
_VIDEO_SUBTYPES = frozenset({"theora", "vp8", "vp9", "av1", "h264"})
_KH_AUDIO_CODECS = {2: "mp3", 10: "aac"}
"""Icecast-KH's ``audio_codecid``, which it reads from the media."""
_SUBTYPE_WORD = re.compile(r"[A-Za-z0-9]+")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_FRAME_SIZE = re.compile(r"\s*([0-9]{1,5})\s*x\s*([0-9]{1,5})\s*")


def codecs(row: Record) -> tuple[str, str]:
    """Return the video and the audio codec; empty if unknown.

    ``subtype`` lists the codecs of an Ogg stream, such as ``Vorbis/Theora``; FLAC has a field of its own.
    """
    kind = text(row, "server_type") or text(row, "content-type")
    words = [word.lower() for word in _SUBTYPE_WORD.findall(text(row, "subtype"))]
    video = next((word for word in words if word in _VIDEO_SUBTYPES), "")
    audio = next((word for word in words if word in _AUDIO_SUBTYPES), "")
    if not audio and "FLAC_version" in row:
        audio = "flac"
    number = declared(row.raw, "audio_codecid")
    if number is not None:
        audio = _KH_AUDIO_CODECS.get(int(number), audio)
    return video, audio or _AUDIO_TYPES.get(kind.partition(";")[0].strip().lower(), "")


class AudioFacts:
    """The declared rates of a source.

    ``audio_*`` is read from Ogg media, ``mpeg_*`` by Icecast-KH from MPEG audio. The encoder sends everything else:
    ``audio_info`` has pairs such as ``ice-bitrate=128;ice-channels=2`` or ``channels=2;samplerate=44100``, and 2.4
    repeats them as fields. Bitrates may be words, such as ``Quality 4``.
    """

    def __init__(self, row: Record) -> None:
        info = _audio_info(text(row, "audio_info"))
        channels = _rate(row.raw, info, "channels")
        self.channels = None if channels is None else int(channels) or None
        self.sample_rate_hertz = _rate(row.raw, info, "samplerate")
        self.bitrate = _bitrate(row.raw, info)
        """In bytes per second."""


def _rate(raw: Mapping[str, object], info: Mapping[str, str], name: str) -> float | None:
    read_from_media = declared(raw, f"audio_{name}", f"mpeg_{name}")
    return read_from_media or declared(info, name, f"ice-{name}") or declared(raw, name, f"ice-{name}")


def _bitrate(raw: Mapping[str, object], info: Mapping[str, str]) -> float | None:
    """Return the declared bitrate in bytes per second."""
    audio, video = declared(raw, "audio_bitrate"), declared(raw, "video_bitrate")
    if audio is not None or video is not None:
        return BITS_PER_SECOND * ((audio or 0.0) + (video or 0.0))
    kilobits = declared(raw, "bitrate") or declared(info, "bitrate", "ice-bitrate") or declared(raw, "ice-bitrate")
    return None if kilobits is None else KILOBITS_PER_SECOND * kilobits


def frame_size(row: Record) -> tuple[int, int] | None:
    """Return width and height in pixels, from ``640 x 360``."""
    match = _FRAME_SIZE.fullmatch(text(row, "frame_size"))
    return (int(match[1]), int(match[2])) if match else None


def text(row: Record, name: str) -> str:
    """Return a field as text.

    ``status-json.xsl`` writes text that looks like a number or a boolean as one; such a value says nothing here.
    """
    return row.text(name) if isinstance(row.raw.get(name), str) else ""


def declared(fields: Mapping[str, object], *names: str) -> float | None:
    """Return the first of these fields that is a number above 0; words and 0 mean that it is not known."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            continue
        written = f"{value}".strip()
        if _NUMBER.fullmatch(written) and float(written) > 0.0:
            return float(written)
    return None


def _audio_info(written: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in written.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
