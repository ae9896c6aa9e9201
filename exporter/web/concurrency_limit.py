"""How much is answered: so many requests at one time, so many in a time."""

from __future__ import annotations

from exporter.runtime.clock import Clock


class ConcurrencyLimit:
    """Counts what is under way, up to a limit; 0 is none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._under_way = 0

    def enter(self) -> bool:
        """Whether there is room for one more; then ``leave`` must follow."""
        if self.limit and self._under_way >= self.limit:
            return False
        self._under_way += 1
        return True

    def leave(self) -> None:
        """One is over."""
        self._under_way -= 1


class TokenBucket:
    """One request per ``interval`` seconds in the long run, ``burst`` of them at once."""

    def __init__(self, interval: float, burst: int, clock: Clock) -> None:
        self.interval = interval
        self.burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock.monotonic()

    def take(self) -> float:
        """Take a token: 0, or the seconds until there is one."""
        now = self._clock.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) / self.interval)
        self._filled_at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) * self.interval
        self._tokens -= 1.0
        return 0.0
