"""Detect stalled byte totals, and measure bitrates from moving ones (``docs/health.md``, "Frozen rates").

A rate is not trusted while its own total is not moving. Platforms update totals in steps, so time is measured between
polls in which the total moved. A total that falls starts a new measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

STALL_POLLS = 3
"""Minimum number of scheduled polls without movement before a total is stalled."""
STALL_PAUSES = 3.0
"""Stall time as a multiple of the longest pause between two moves."""
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
    """Whether the bitrate is measured from the total, with the platform's own bitrate served until the first
    measurement. Otherwise the platform's own bitrate is served while the total moves."""
    window_seconds: float | None = None
    """Minimum time over which a derived rate is measured; None for half the upstream's interval, so that two regular
    polls give a rate, but two polls in quick succession do not."""
    stall_seconds: float | None = None
    """Stall time of this platform; None for the common one."""


class ByteTotal(msgspec.Struct, gc=False):
    """Tracks one running total of bytes from poll to poll. Times are seconds on the steady clock.

    There may be tens of thousands of these, hence ``gc=False`` and few fields.
    """

    stall_seconds: float | None = None
    total: float = -1.0
    """The last total; negative before the first."""
    moved_at: float = 0.0
    """Time of the last poll in which the total moved, or of the first poll."""
    longest_pause: float = 0.0
    still_polls: int = 0
    has_moved: bool = False
    is_stalled: bool = False

    def update(self, total: float, at: float, *, is_scheduled: bool = True) -> bool:
        """Update the total and return whether it has moved.

        ``is_scheduled``: whether the poll counts as evidence (see ``EVIDENCE_SHARE``).
        """
        before, self.total = self.total, total
        if before < 0 or total < before:
            self.moved_at, self.still_polls = at, 0
            self.has_moved = self.is_stalled = False
            return False
        if total > before:
            if self.has_moved:
                self.longest_pause = max(self.longest_pause, at - self.moved_at)
            self.moved_at, self.still_polls = at, 0
            self.has_moved, self.is_stalled = True, False
            return True
        if is_scheduled:
            self.still_polls += 1
        still_for = at - self.moved_at
        if not self.has_moved:
            self.is_stalled = still_for >= NEVER_MOVED_SECONDS
        elif self.stall_seconds is not None:
            self.is_stalled = still_for >= self.stall_seconds
        elif self.still_polls >= STALL_POLLS:
            pauses = STALL_PAUSES * self.longest_pause
            self.is_stalled = still_for >= min(max(pauses, SHORTEST_STALL_SECONDS), LONGEST_STALL_SECONDS)
        return False


class MeasuredTotal(ByteTotal, gc=False):
    """A total from which a bitrate is measured, over at least ``window_seconds``."""

    window_seconds: float = 0.0
    rate: float | None = None
    """Bytes per second; 0 while stalled, None before there is a rate."""
    points: tuple[float, ...] = ()
    """Alternating times and totals; the rate is measured from the first pair to the last.

    A tuple because there are only a few points for each of thousands of streams, and a deque takes a kilobyte.
    """

    def update(self, total: float, at: float, *, is_scheduled: bool = True) -> bool:
        if self.points and total > self.points[-1] and at <= self.points[-2]:
            # no rate can be measured between two polls at the same time
            return False
        has_moved = ByteTotal.update(self, total, at, is_scheduled=is_scheduled)
        if has_moved:
            points = (*self.points, at, total)
            while len(points) > 4 and at - points[2] >= self.window_seconds:
                points = points[2:]
            self.points = points
            seconds = at - points[0]
            self.rate = (total - points[1]) / seconds if seconds >= self.window_seconds else None
        elif not self.points or total < self.points[-1]:
            self.points, self.rate = (at, total), None
        elif self.is_stalled:
            # restart at the last poll of the pause, so that the pause does not lower the next rate
            self.points, self.rate = (at, total), 0.0
        return has_moved
