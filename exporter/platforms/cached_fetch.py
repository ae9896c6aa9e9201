"""Data that is requested less often than the poll, at its own interval."""

from __future__ import annotations

from typing import Generic, TypeVar

from exporter.runtime.clock import Clock

T = TypeVar("T")

STALE_AFTER_INTERVALS = 3
EARLY_RATIO = 0.05
"""Fraction of the interval by which a request may be early, so that a poll just before the due time need not skip it.
"""


class CachedFetch(Generic[T]):
    """One value, when it was requested, and whether it is stale."""

    __slots__ = ("_clock", "_interval", "_previously_requested_at", "_requested_at", "_stored_at", "_value")

    def __init__(self, interval: float, clock: Clock) -> None:
        """``interval``: seconds between two requests."""
        self._interval = interval
        self._clock = clock
        self._requested_at: float | None = None
        self._previously_requested_at: float | None = None
        self._stored_at = 0.0
        self._value: T | None = None

    @property
    def is_due(self) -> bool:
        """Whether a request is due."""
        if self._requested_at is None:
            return True
        return self._clock.monotonic() - self._requested_at >= self._interval * (1.0 - EARLY_RATIO)

    @property
    def requested_at(self) -> float | None:
        """Return the monotonic seconds of the last request, for sorting by waiting time."""
        return self._requested_at

    @property
    def value(self) -> T | None:
        """Return the last value; None if there is none yet or it is older than three intervals."""
        if self._value is None or self._clock.monotonic() - self._stored_at >= STALE_AFTER_INTERVALS * self._interval:
            return None
        return self._value

    def mark_requested(self) -> None:
        """Record that a request is being sent; even if it fails, the next one is due an interval later."""
        self._previously_requested_at = self._requested_at
        self._requested_at = self._clock.monotonic()

    def undo_request(self) -> None:
        """Record that the request was not sent after all, so that it is due as before."""
        self._requested_at = self._previously_requested_at

    def store(self, value: T) -> None:
        """Store the value that the request returned."""
        self._value = value
        self._stored_at = self._clock.monotonic()
