"""A platform's request limit, from the headers of its answers, and the pauses that it asks for.

Headers: ``X-RateLimit-Limit``, ``-Remaining``, ``-Reset`` (unix seconds), ``-Window`` (seconds), as WAVE documents.
Other platforms send none, and nothing is limited then.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

RESERVE_RATIO = 0.05
"""Of the limit: left for those who use the same key, and for requests whose answers cross."""
DEFAULT_WINDOW_SECONDS = 60.0
LONGEST_WINDOW_SECONDS = 86_400.0
LONGEST_PAUSE_SECONDS = 900.0
"""A platform that asks for a longer pause is asked again all the same."""
LATER_SECONDS = 1.0
NOT_YET_SECONDS = 1.0
"""An answer that counts a limit down shows that its window is not over, whatever the clocks say."""
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


class Ticket:
    """One request that is under way."""

    __slots__ = ("alone", "number")

    def __init__(self, number: int, alone: bool) -> None:
        self.number = number
        self.alone = alone


class RateLimit:
    """What is known of the limit, and what may still be sent. All times are unix seconds of our clock."""

    def __init__(self) -> None:
        self.limit: float | None = None
        self.remaining: float | None = None
        """Requests left in the window, those under way taken off."""
        self.reset_at: float | None = None
        self.window_seconds: float | None = None
        self.paused_until: float | None = None
        self._sent = 0
        self._under_way = 0
        self._guessing = True
        self._news = asyncio.Event()

    @property
    def is_unknown(self) -> bool:
        """Whether the platform has answered and said nothing of a limit, nor asked for a pause."""
        return self.remaining is None and self.paused_until is None and not self._guessing

    def budget(self, now: float) -> int | None:
        """How many more requests may be made now without meeting the limit; None: no limit is known."""
        if self.pause(now) > 0:
            return 0
        self._roll(now)
        return None if self.remaining is None else max(0, int(self.remaining - self._reserve()))

    @property
    def usable(self) -> int | None:
        """Requests of one window that may be used, the reserve taken off; None: no limit is known."""
        return None if self.limit is None else max(0, int(self.limit - self._reserve()))

    def pause(self, now: float) -> float:
        """Seconds left of the pause that the platform asked for; 0 when it did not."""
        return 0.0 if self.paused_until is None else max(0.0, self.paused_until - now)

    def until_reset(self, now: float) -> float | None:
        """Seconds until the window is over, when that is known."""
        return None if self.reset_at is None else max(0.0, self.reset_at - now)

    async def turn(self) -> None:
        """Wait while the first request after a reset, or ever, is under way.

        It goes alone: what is left is a guess until its answer says.
        """
        while self._guessing and self._under_way:
            self._news.clear()
            await self._news.wait()

    def begin(self) -> Ticket:
        """A request is being sent."""
        if self.remaining is not None:
            self.remaining -= 1
        self._sent += 1
        self._under_way += 1
        return Ticket(self._sent, self._under_way == 1)

    def end(self) -> None:
        """A request is over, whatever came of it."""
        self._under_way -= 1
        self._guessing = False
        self._news.set()

    def answered(self, ticket: Ticket, headers: Mapping[str, str], now: float, skew: float) -> None:
        """Take in an answer's headers; those that are bad are ignored. ``skew``: the platform's clock ahead of ours."""
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
            # answers cross: one that says more than is known left the platform earlier
            self.remaining = min(remaining, self.remaining)

    def pause_for(self, seconds: float, now: float) -> None:
        """The platform asked for a pause."""
        until = now + min(seconds, LONGEST_PAUSE_SECONDS)
        self.paused_until = until if self.paused_until is None else max(self.paused_until, until)

    def _note_reset(self, reset: float | None, now: float, skew: float) -> bool:
        """Take in when the window ends; returns whether that is later than it was known to."""
        before = self.reset_at
        window = self.window_seconds or DEFAULT_WINDOW_SECONDS
        if reset is None or not now - window <= reset - skew <= now + LONGEST_WINDOW_SECONDS:
            reset_at = now + window if before is None else before
        else:
            reset_at = reset - skew
        self.reset_at = max(reset_at, now + NOT_YET_SECONDS)
        return before is not None and reset_at >= before + LATER_SECONDS

    def _roll(self, now: float) -> None:
        """Begin a new window when the last one is over."""
        if self.reset_at is not None and now >= self.reset_at:
            self.reset_at = None
            self.remaining = self.limit
            self._guessing = True

    def _reserve(self) -> float:
        if self.limit is None:
            return 1.0
        # a limit of one leaves no reserve, or nothing could ever be asked
        return min(max(1.0, RESERVE_RATIO * self.limit), self.limit - 1.0)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name)
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None
