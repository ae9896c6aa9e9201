"""What is asked for at an interval of its own, more rarely than the poll."""

from __future__ import annotations

from typing import Generic, TypeVar

from exporter.runtime.clock import Clock

T = TypeVar("T")

STALE_AFTER_INTERVALS = 3
EARLY_RATIO = 0.05
"""How early it may be asked again: a poll that comes a moment too soon must not leave it to the next."""


class CachedFetch(Generic[T]):
    """One value, when it was asked for, and for how long it counts."""

    __slots__ = ("_asked_at", "_asked_before", "_clock", "_interval", "_stored_at", "_value")

    def __init__(self, interval: float, clock: Clock) -> None:
        """``interval``: seconds between two questions."""
        self._interval = interval
        self._clock = clock
        self._asked_at: float | None = None
        self._asked_before: float | None = None
        self._stored_at = 0.0
        self._value: T | None = None

    @property
    def due(self) -> bool:
        """Whether it is time to ask (again)."""
        if self._asked_at is None:
            return True
        return self._clock.monotonic() - self._asked_at >= self._interval * (1.0 - EARLY_RATIO)

    @property
    def asked_at(self) -> float | None:
        """When it was last asked for, on the monotonic clock; the one that waits longest has the smallest."""
        return self._asked_at

    @property
    def value(self) -> T | None:
        """The last answer; None before the first, and once it is older than three intervals."""
        if self._value is None or self._clock.monotonic() - self._stored_at >= STALE_AFTER_INTERVALS * self._interval:
            return None
        return self._value

    def asked(self) -> None:
        """It was asked for now, whatever comes of it: a question that fails is not repeated before its time."""
        self._asked_before = self._asked_at
        self._asked_at = self._clock.monotonic()

    def not_asked(self) -> None:
        """The question was not sent after all: it is as due as it was before."""
        self._asked_at = self._asked_before

    def store(self, value: T) -> None:
        """The answer."""
        self._value = value
        self._stored_at = self._clock.monotonic()
