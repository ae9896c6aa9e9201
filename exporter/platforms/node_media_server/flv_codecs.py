"""The names of codecs, from the numbers and texts that publishers announce in their FLV metadata.

Source: Adobe Flash Video File Format 10.1, E.4.2.1 and E.4.3.1; Enhanced RTMP 1 and 2 for the four-letter codes.
"""

from __future__ import annotations

from typing import Any

_VIDEO_NUMBERS = {2: "h263", 3: "screen", 4: "vp6", 5: "vp6a", 6: "screen2", 7: "h264", 12: "hevc"}
"""12 is no number of Adobe's, but what many servers and encoders have agreed on."""
_AUDIO_NUMBERS = {1: "adpcm", 2: "mp3", 3: "pcm", 5: "nellymoser", 6: "nellymoser", 7: "alaw", 8: "mulaw", 10: "aac",
                  11: "speex", 13: "opus", 14: "mp3"}  # fmt: skip
_FOUR_LETTERS = {"avc1": "h264", "hvc1": "hevc", "hev1": "hevc", "vvc1": "vvc", "av01": "av1", "vp08": "vp8",
                 "vp09": "vp9", "mp4a": "aac", ".mp3": "mp3", "flac": "flac", "opus": "opus", "ac-3": "ac3",
                 "ec-3": "eac3"}  # fmt: skip


def video_codec(announced: Any) -> str:
    """``h264`` for 7, ``avc1`` or the number that spells it; empty when nothing is announced (missing, null, 0)."""
    return _codec(announced, _VIDEO_NUMBERS)


def audio_codec(announced: Any) -> str:
    """``aac`` for 10, ``mp4a`` or the number that spells it; empty when nothing is announced (missing, null, 0)."""
    return _codec(announced, _AUDIO_NUMBERS)


def _codec(announced: Any, numbers: dict[int, str]) -> str:
    if isinstance(announced, str):
        name = announced.lower()
        return _FOUR_LETTERS.get(name, name)
    if isinstance(announced, bool) or not isinstance(announced, int | float) or not 0 < announced < 2**32:
        return ""
    number = int(announced)
    letters = number.to_bytes(4, "big").decode("latin-1")
    if number > 0xFFFFFF and letters.isascii() and letters.isprintable():
        return _codec(letters, numbers)
    return numbers.get(number, str(number))
