"""Long media playlists: what must be known of the segments that are not parsed.

A recording of a day with a segment every 2 s has 43,200 segments. Only the newest ones matter, so the ones before
them are counted and added up by scans that take milliseconds.
"""

from __future__ import annotations

import re
from typing import Final

TAIL_BYTES: Final = 64 * 1024
"""How much of the end of a long playlist is parsed: several hundred segments."""
_MAX_LINES_BACK = 64
"""Maximum number of lines between a segment's first tag and any other of its tags."""
_EXTINF_SECONDS = re.compile(rb"\n#EXTINF:[ \t]*([0-9]{1,9}(?:\.[0-9]{0,20})?)")


def find_middle(data: bytes) -> tuple[int, int] | None:
    """Return the offsets of the part that need not be parsed, or None to parse everything.

    It starts at the line of the first EXTINF, and ends after the URI of a segment.
    """
    start = data.find(b"\n#EXTINF:") + 1
    position = data.find(b"\n", max(0, len(data) - TAIL_BYTES)) + 1
    if not start or not position or position < start:
        return None
    while position < len(data):
        line_start = position
        position = data.find(b"\n", line_start) + 1 or len(data)
        line = data[line_start:position].strip()
        if line and not line.startswith(b"#"):
            return start, position
    return None


def count_segments(data: bytes, start: int, end: int) -> int:
    """Return the number of EXTINF lines. The offsets are those of the line ends before the lines."""
    return data.count(b"\n#EXTINF:", start, end)


def sum_seconds(data: bytes, start: int, end: int) -> tuple[float, bool]:
    """Return the sum of the readable EXTINF values, and whether all were readable."""
    durations = _EXTINF_SECONDS.findall(data, start, end)
    return sum(map(float, durations)), len(durations) == count_segments(data, start, end)


def count_discontinuities(data: bytes, start: int, end: int) -> int:
    """Return the number of EXT-X-DISCONTINUITY lines."""
    tag = b"\n#EXT-X-DISCONTINUITY"
    return data.count(tag, start, end) - data.count(tag + b"-", start, end)


def find_segment_start(data: bytes, start: int, position: int) -> int | None:
    """Return the offset before the first tag of the segment that has a tag after ``position``.

    All offsets are those of the line end before a line. None if the segment has too many lines.
    """
    for _ in range(_MAX_LINES_BACK):
        before = data.rfind(b"\n", start, position)
        if before < 0:
            return position
        line = data[before + 1 : position].strip()
        if line and not line.startswith(b"#"):
            return position
        position = before
    return None


def cut_line(data: bytes, position: int) -> bytes:
    """Return the line after the line end at ``position``."""
    end = data.find(b"\n", position + 1)
    return data[position + 1 : end if end >= 0 else len(data)]
