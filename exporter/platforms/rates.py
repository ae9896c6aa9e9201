"""Whether a stream's byte totals move, and the bitrates that follow from it (``docs/health.md``, "Frozen rates").

A rate is not trusted while its own total is not moving. Totals move in steps, so time is measured between polls that
saw the total move. A total that falls starts a new measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

STALL_POLLS = 3
"""Scheduled polls without movement after which a total can be stalled."""
STALL_PAUSES = 3.0
"""Multiple of the longest pause between two moves after which a total can be stalled."""
SHORTEST_STALL_SECONDS, LONGEST_STALL_SECONDS = 45.0, 180.0
NEVER_MOVED_SECONDS = 180.0
"""Seconds after which a total that never moved is stalled."""


@dataclass(frozen=True)
class Rate:
    """A bitrate field of ``StreamReport`` and the byte total of the same stream that it must agree with."""

    total: str
    """The field with the byte total."""
    rate: str
    """The field with the bitrate."""
    is_derived: bool = False
    """Whether the bitrate is measured from the total; until there is one, the platform's own figure counts. Otherwise
    the platform's own figure is served while the total moves."""
    window_seconds: float | None = None
    """Time over which a derived rate is measured at least; None: half the upstream's interval, so that two polls give
    one, but not two that follow each other at once."""
    stall_seconds: float | None = None
    """The platform's own stall time; None: the common one."""


class ByteTotal:
    """One running total of bytes, from poll to poll. Times are seconds on the steady clock."""

    __slots__ = ("_longest_pause", "_points", "_rate", "_stall_seconds", "_still_polls", "_window", "has_moved",
                 "is_stalled", "moved_at")  # fmt: skip

    def __init__(self, window_seconds: float = 0.0, stall_seconds: float | None = None) -> None:
        self._window = window_seconds
        self._stall_seconds = stall_seconds
        self._points: tuple[float, ...] = ()
        """Each time and the total then, one after the other: the rate is measured from the first to the last.

        A tuple because thousands of streams have few points each, and a deque takes a kilobyte.
        """
        self.moved_at = 0.0
        """The last poll that saw the total move, or the first poll of all."""
        self.has_moved = False
        self.is_stalled = False
        self._still_polls = 0
        self._longest_pause = 0.0
        self._rate: float | None = None

    @property
    def rate(self) -> float | None:
        """Bytes per second over at least the window; 0 while stalled, None before there is a rate."""
        return self._rate

    def update(self, total: float, at: float, *, is_scheduled: bool = True) -> bool:
        """Take the total of a poll, and return whether it has moved.

        ``is_scheduled``: whether the poll is one of those that count, and not one that follows another too soon.
        """
        points = self._points
        if not points or total < points[-1]:
            self._start(at, total)
            self.moved_at, self._still_polls, self._rate = at, 0, None
            self.has_moved = self.is_stalled = False
            return False
        if total > points[-1] and at > points[-2]:
            self._record_move(at, total)
            return True
        self._record_standstill(at, points[-1], is_scheduled=is_scheduled)
        return False

    def _start(self, at: float, total: float) -> None:
        self._points = (at, total)

    def _record_move(self, at: float, total: float) -> None:
        points = (*self._points, at, total)
        while len(points) > 4 and at - points[2] >= self._window:
            points = points[2:]
        self._points = points
        if self.has_moved:
            self._longest_pause = max(self._longest_pause, at - self.moved_at)
        self.moved_at, self._still_polls = at, 0
        self.has_moved, self.is_stalled = True, False
        seconds = at - points[0]
        self._rate = (total - points[1]) / seconds if seconds >= self._window else None

    def _record_standstill(self, at: float, total: float, *, is_scheduled: bool) -> None:
        self._still_polls += is_scheduled
        still_for = at - self.moved_at
        if not self.has_moved:
            self.is_stalled = still_for >= NEVER_MOVED_SECONDS
        elif self._stall_seconds is not None:
            self.is_stalled = still_for >= self._stall_seconds
        else:
            pauses = STALL_PAUSES * self._longest_pause
            stall_time = min(max(pauses, SHORTEST_STALL_SECONDS), LONGEST_STALL_SECONDS)
            self.is_stalled = self._still_polls >= STALL_POLLS and still_for >= stall_time
        if self.is_stalled:
            # the pause does not count towards the rate after it: that one starts at the last poll of the pause
            self._start(at, total)
            self._rate = 0.0
