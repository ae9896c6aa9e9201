"""Key frames in video elementary streams, found by the types of their NAL units or pictures.

Sources: ITU-T H.264 table 7-1, H.265 table 7-1, H.266 table 5, H.262 section 6.2.3.
"""

from __future__ import annotations

from collections.abc import Callable

_START_CODE = b"\0\0\1"


def starts_with_key_frame(codec: str, data: bytes) -> bool | None:
    """Tell whether the first picture of an elementary stream is a key frame; None if no picture is found."""
    classify = _CLASSIFIERS.get(codec)
    if classify is None:
        return None
    position = data.find(_START_CODE)
    while position >= 0:
        result = classify(data[position + 3 : position + 6])
        if result is not None:
            return result
        position = data.find(_START_CODE, position + 3)
    return None


def _classify_h264(unit: bytes) -> bool | None:
    """Tell by the start of a unit whether it is part of a key frame; None if it is no part of a picture."""
    kind = unit[0] & 0x1F if unit else 0
    return kind == 5 if 1 <= kind <= 5 else None


def _classify_hevc(unit: bytes) -> bool | None:
    kind = unit[0] >> 1 & 0x3F if unit else 63
    return kind >= 16 if kind <= 21 else None


def _classify_vvc(unit: bytes) -> bool | None:
    kind = unit[1] >> 3 if len(unit) > 1 else 31
    return kind >= 7 if kind <= 9 else None


def _classify_mpeg2(unit: bytes) -> bool | None:
    if len(unit) < 3 or unit[0] != 0:  # not a picture header
        return None
    return unit[2] >> 3 & 7 == 1


_CLASSIFIERS: dict[str, Callable[[bytes], bool | None]] = {
    "h264": _classify_h264,
    "hevc": _classify_hevc,
    "vvc": _classify_vvc,
    "mpeg2video": _classify_mpeg2,
    "mpeg1video": _classify_mpeg2,
}
