"""Bitrates from byte totals, for platforms whose own figure keeps its last value while a stream is stalled.

Totals move in steps, so time is measured between polls that saw the total move: between steps the rate stays, and a
total that stands still for too long is a stall. A total that falls began anew, and so does its rate.
"""

from __future__ import annotations

STILL_POLLS = 3


class ByteRate:
    """The bytes per second of one total, over at least ``window_seconds``.

    Without a window: between the last two polls that saw the total move. 0 once it stood still for ``stall_seconds``,
    or, where none are given, for three polls. None before there is a rate: the caller has the platform's own figure.
    """

    __slots__ = ("_moved_at", "_points", "_rate", "_stall", "_still_polls", "_window")

    def __init__(self, window_seconds: float = 0.0, stall_seconds: float | None = None) -> None:
        self._window = window_seconds
        self._stall = stall_seconds
        self._points: tuple[float, ...] = ()
        """Each time and the total then, one after the other: the rate is measured from the first to the last.

        A tuple, as they are few, of each of thousands of streams: a deque takes a kilobyte.
        """
        self._moved_at = 0.0
        self._still_polls = 0
        self._rate: float | None = None

    def update(self, total: float, at: float) -> float | None:
        """The rate, now that a poll at ``at`` (monotonic seconds) saw ``total``. Only while the stream is live."""
        points = self._points
        if not points or total < points[-1]:
            self._begin(at, total)
            self._moved_at, self._still_polls, self._rate = at, 0, None
        elif total > points[-1]:
            if at > points[-2]:
                self._move(at, total)
        else:
            self._stand(at, total)
        return self._rate

    def _begin(self, at: float, total: float) -> None:
        self._points = (at, total)

    def _move(self, at: float, total: float) -> None:
        points = (*self._points, at, total)
        while len(points) > 4 and at - points[2] >= self._window:
            points = points[2:]
        self._points = points
        self._moved_at, self._still_polls = at, 0
        seconds = at - points[0]
        self._rate = (total - points[1]) / seconds if seconds >= self._window else None

    def _stand(self, at: float, total: float) -> None:
        self._still_polls += 1
        stalled = self._still_polls >= STILL_POLLS if self._stall is None else at - self._moved_at >= self._stall
        if stalled:
            # the pause is no part of the rate that may follow it: that begins with the last poll that saw it
            self._begin(at, total)
            self._rate = 0.0
