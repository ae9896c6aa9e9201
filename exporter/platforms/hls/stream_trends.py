"""How a stream did over the last minutes: whether media is short, and whether its numbering is unsteady."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from exporter.platforms.hls.totals import Totals

SHORTAGE_WINDOW_SECONDS: Final = 120.0
SHORTAGE_TARGETS: Final = 10.0
"""Minimum window, in target durations."""
SHORTAGE_POLLS: Final = 3
SHORTAGE_COVERED: Final = 0.9
"""Share of the window that must have been seen."""
SHORTAGE_SHARE: Final = 0.75
UNSTEADY_WINDOW_SECONDS: Final = 600.0
UNSTEADY_EVENTS: Final = 3


class StreamTrends:
    """Media and sequence faults of the last minutes."""

    def __init__(self) -> None:
        self._media: deque[tuple[float, float]] = deque()
        """Times of polls, and the total seconds of media at each."""
        self._faults: deque[tuple[float, int]] = deque()
        """Times of polls, and the total of sequence faults at each."""
        self._window = SHORTAGE_WINDOW_SECONDS
        self._off_since: float | None = None

    def add(self, totals: Totals, now: float, *, live: bool | None, can_see: bool, target: float) -> None:
        """Take the totals of a poll.

        ``can_see``: whether media would be seen if there was any. ``target``: target duration in seconds.
        """
        self._window = max(SHORTAGE_WINDOW_SECONDS, SHORTAGE_TARGETS * target)
        _remember(self._media, now, totals.seconds, self._window)
        if live is not False:
            self._off_since = None
        elif self._off_since is None:
            self._off_since = now
        is_long_off = self._off_since is not None and now - self._off_since > self._window / 2
        if not can_see or is_long_off:
            # a stream that starts again is not short of media; one that stops again and again is
            self._media.clear()
        faults = totals.missed + totals.resets + totals.regressions + totals.conflicts
        _remember(self._faults, now, faults, UNSTEADY_WINDOW_SECONDS)

    @property
    def media_ratio(self) -> float | None:
        """Seconds of new media per second; None until the stream has been live for a whole window."""
        if len(self._media) < SHORTAGE_POLLS:
            return None
        (start, before), (end, after) = self._media[0], self._media[-1]
        elapsed = end - start
        return (after - before) / elapsed if elapsed >= SHORTAGE_COVERED * self._window else None

    @property
    def is_short_of_media(self) -> bool:
        """Whether clearly less media arrives than time passes."""
        ratio = self.media_ratio
        return ratio is not None and ratio < SHORTAGE_SHARE

    @property
    def is_unsteady(self) -> bool:
        """Whether segments are missed, or their numbers change, again and again."""
        return bool(self._faults) and self._faults[-1][1] - self._faults[0][1] > UNSTEADY_EVENTS


def _remember(memory: deque[Any], now: float, value: float, seconds: float) -> None:
    """Append a value, and forget those that are older than ``seconds``."""
    memory.append((now, value))
    while now - memory[0][0] > seconds:
        memory.popleft()
