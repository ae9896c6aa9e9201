"""A platform's request limit, from the headers of its responses, and the pauses that it asks for.

Headers: ``X-RateLimit-Limit``, ``-Remaining``, ``-Reset`` (unix seconds), ``-Window`` (seconds), as WAVE documents.
Other platforms send none, so their requests are not limited.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

RESERVE_RATIO = 0.05
"""Share of the limit left for other users of the same key, and for requests whose responses cross."""
DEFAULT_WINDOW_SECONDS = 60.0
LONGEST_WINDOW_SECONDS = 86_400.0
LONGEST_PAUSE_SECONDS = 900.0
"""Maximum pause; a platform that asks for a longer one gets a request earlier."""
LATER_SECONDS = 1.0
NOT_YET_SECONDS = 1.0
"""Minimum time left in a window: a response that counts the limit down shows that the window is not over."""
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


class Ticket:
    """A request that is under way."""

    __slots__ = ("alone", "number")

    def __init__(self, number: int, alone: bool) -> None:
        self.number = number
        self.alone = alone


class RateLimit:
    """The known limit, and how much may still be sent. All times are unix seconds on our clock."""

    def __init__(self) -> None:
        self.limit: float | None = None
        self.remaining: float | None = None
        """Requests left in the window, not counting those under way."""
        self.reset_at: float | None = None
        self.window_seconds: float | None = None
        self.paused_until: float | None = None
        self._sent = 0
        self._under_way = 0
        self._guessing = True
        self._finished = asyncio.Event()

    @property
    def is_unknown(self) -> bool:
        """Whether the platform has responded without mentioning a limit or asking for a pause."""
        return self.remaining is None and self.paused_until is None and not self._guessing

    def budget(self, now: float) -> int | None:
        """Return how many more requests the limit allows now; None if no limit is known."""
        if self.pause(now) > 0:
            return 0
        self._start_new_window(now)
        return None if self.remaining is None else max(0, int(self.remaining - self._reserved_requests()))

    @property
    def usable(self) -> int | None:
        """Requests of one window that may be used, without the reserve; None if no limit is known."""
        return None if self.limit is None else max(0, int(self.limit - self._reserved_requests()))

    def pause(self, now: float) -> float:
        """Return the seconds left of the pause that the platform asked for; 0 if there is none."""
        return 0.0 if self.paused_until is None else max(0.0, self.paused_until - now)

    def until_reset(self, now: float) -> float | None:
        """Return the seconds until the window ends, or None if that is not known."""
        return None if self.reset_at is None else max(0.0, self.reset_at - now)

    async def wait_for_turn(self) -> None:
        """Wait while the first request of all, or the first after a reset, is under way.

        It is sent alone, because the number of requests left is a guess until its response.
        """
        while self._guessing and self._under_way:
            self._finished.clear()
            await self._finished.wait()

    def start_request(self) -> Ticket:
        """Count a request that is being sent."""
        if self.remaining is not None:
            self.remaining -= 1
        self._sent += 1
        self._under_way += 1
        return Ticket(self._sent, self._under_way == 1)

    def finish_request(self) -> None:
        """Count a request as finished, whether it succeeded or not."""
        self._under_way -= 1
        self._guessing = False
        self._finished.set()

    def update(self, ticket: Ticket, headers: Mapping[str, str], now: float, skew: float) -> None:
        """Update the limit from a response's headers, except bad ones. ``skew``: the platform's clock ahead of ours."""
        remaining = _number(headers, "X-RateLimit-Remaining")
        if remaining is None:
            return
        self.limit = _number(headers, "X-RateLimit-Limit") or self.limit
        window = _number(headers, "X-RateLimit-Window")
        if window is not None and 0 < window <= LONGEST_WINDOW_SECONDS:
            self.window_seconds = window
        is_later_window = self._note_reset(_number(headers, "X-RateLimit-Reset"), now, skew)
        at_least = max(0.0, remaining - (self._sent - ticket.number))
        if self.remaining is None or ticket.alone:
            self.remaining = at_least
        elif is_later_window:
            self.remaining = min(remaining, max(self.remaining, at_least))
        else:
            # responses cross: one that reports more than is known left the platform earlier
            self.remaining = min(remaining, self.remaining)

    def pause_for(self, seconds: float, now: float) -> None:
        """Pause for the time that the platform asked for."""
        until = now + min(seconds, LONGEST_PAUSE_SECONDS)
        self.paused_until = until if self.paused_until is None else max(self.paused_until, until)

    def _note_reset(self, reset: float | None, now: float, skew: float) -> bool:
        """Update the end of the window; returns whether it is later than before."""
        before = self.reset_at
        window = self.window_seconds or DEFAULT_WINDOW_SECONDS
        if reset is None or not now - window <= reset - skew <= now + LONGEST_WINDOW_SECONDS:
            reset_at = now + window if before is None else before
        else:
            reset_at = reset - skew
        self.reset_at = max(reset_at, now + NOT_YET_SECONDS)
        return before is not None and reset_at >= before + LATER_SECONDS

    def _start_new_window(self, now: float) -> None:
        """Start a new window if the last one is over."""
        if self.reset_at is not None and now >= self.reset_at:
            self.reset_at = None
            self.remaining = self.limit
            self._guessing = True

    def _reserved_requests(self) -> float:
        if self.limit is None:
            return 1.0
        # no reserve for a limit of one, or nothing could ever be sent
        return min(max(1.0, RESERVE_RATIO * self.limit), self.limit - 1.0)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name)
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None
