"""A number of viewers over time: the maximum of each minute, run-length encoded."""

from __future__ import annotations

import struct
from typing import Final

_ENTRY = struct.Struct("<II")
"""A minute, and the maximum in this and the following minutes."""
_UNKNOWN: Final = 0xFFFF_FFFF
_MAX_VIEWERS: Final = _UNKNOWN - 1


class ViewerCounts:
    """The numbers of viewers of one stream, or of several together. A number holds until the next one is noted."""

    __slots__ = ("_changed", "_entries", "_held")

    def __init__(self) -> None:
        self._held = _UNKNOWN
        self._changed = 0
        """Minute of the last change."""
        self._entries = bytearray()

    def __len__(self) -> int:
        return len(self._entries) // _ENTRY.size

    @property
    def held(self) -> int | None:
        """The last number; None if it is unknown."""
        return None if self._held == _UNKNOWN else self._held

    def note(self, minute: int, viewers: int | None) -> None:
        """Note the number from now on. Minutes must not decrease."""
        count = _UNKNOWN if viewers is None else min(max(viewers, 0), _MAX_VIEWERS)
        if count == self._held:
            return
        entries, held, changed = self._entries, self._held, self._changed
        self._held, self._changed = count, minute
        if not entries:
            entries += _ENTRY.pack(minute, count)
            return
        last_minute, last = _ENTRY.unpack_from(entries, len(entries) - _ENTRY.size)
        if changed + 1 < minute and last != held:
            last_minute, last = changed + 1, held
            entries += _ENTRY.pack(last_minute, last)
        largest = _larger(held if changed < minute else last, count)
        if largest == last:
            return
        if last_minute == minute:
            del entries[-_ENTRY.size :]
        entries += _ENTRY.pack(minute, largest)

    def trim(self, oldest_minute: int, limit: int) -> None:
        """Drop what ended before ``oldest_minute``, and the oldest entries above the limit."""
        entries = self._entries
        dropped = max(0, len(self) - limit)
        while dropped + 1 < len(self) and _ENTRY.unpack_from(entries, (dropped + 1) * _ENTRY.size)[0] <= oldest_minute:
            dropped += 1
        if dropped:
            del entries[: dropped * _ENTRY.size]

    def spans(self, now: int) -> list[tuple[int, int, int]]:
        """Return (first minute, minute after the last, maximum) of all known numbers. ``now``: the current minute."""
        entries: list[tuple[int, int]] = list(_ENTRY.iter_unpack(self._entries))
        if not entries:
            return []
        if entries[-1][1] != self._held:
            entries.append((self._changed + 1, self._held))
        ends = [*(minute for minute, _ in entries[1:]), now + 1]
        return [
            (minute, end, viewers)
            for (minute, viewers), end in zip(entries, ends, strict=True)
            if viewers != _UNKNOWN and end > minute
        ]


def _larger(one: int, other: int) -> int:
    """Return the larger number; any number is larger than an unknown one."""
    if one == _UNKNOWN:
        return other
    return one if other == _UNKNOWN else max(one, other)
