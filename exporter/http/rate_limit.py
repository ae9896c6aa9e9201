"""A platform's request limit, from the headers of its responses, and the pauses that it asks for.

Headers: ``X-RateLimit-Limit``, ``-Remaining``, ``-Reset`` and ``-Window`` (seconds), as WAVE documents; the limit may
name its window (``2, 2;w=1``). A reset below 1e9 is a number of seconds from now; a larger one is unix time, in seconds
or (13 digits) milliseconds. Without such headers there is no limit. The IETF draft's headers, without ``X-``, are not
read: node-media-server 4 sends them about its login alone.
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
"""Maximum pause, and time to the end of a window; a platform that asks for a longer one gets a request earlier."""
LATER_SECONDS = 1.0
NOT_YET_SECONDS = 1.0
"""Minimum time left in a window: a response that counts the limit down shows that the window is not over."""
_FIRST_NUMBER = re.compile(r"\s*([0-9]{1,13}(?:\.[0-9]{1,6})?)\s*(?:[,;]|$)", re.ASCII)
_QUOTA = re.compile(r"(?:^|,)\s*([0-9]{1,13})\s*(?:;[^,;]*)*?;\s*w=([0-9]{1,6})\s*(?=[,;]|$)", re.ASCII)
_LEAST_UNIX_SECONDS = 1e9
_LEAST_UNIX_MILLISECONDS = 1e12


class Ticket:
    """A request that is under way."""

    __slots__ = ("alone", "number")

    def __init__(self, number: int, alone: bool) -> None:
        self.number = number
        self.alone = alone


class RateLimit:
    """The known limit, and how much may still be sent. All times are seconds on the steady clock."""

    def __init__(self) -> None:
        self.limit: float | None = None
        self.remaining: float | None = None
        """Requests left in the window, not counting those under way."""
        self.reset_at: float | None = None
        self.window_seconds: float | None = None
        self.paused_until: float | None = None
        self._assumed_end: float | None = None
        """End of a window that no response has described yet, so that failing requests do not use it up for good."""
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
        end = self._window_end
        return None if end is None else max(0.0, end - now)

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

    def update(self, ticket: Ticket, headers: Mapping[str, str], now: float, platform_time: float) -> None:
        """Update the limit from a response's headers, except bad ones.

        ``platform_time``: unix seconds now on the platform's clock.
        """
        remaining = _first_number(_header(headers, "Remaining"))
        if remaining is None:
            return
        quotas = _header(headers, "Limit")
        limit = _first_number(quotas)
        reset = _first_number(_header(headers, "Reset"))
        if limit == 0 or (limit is None and reset is None):
            # no limit of requests: nobody could use zero, and a remainder alone may count anything
            return
        self.limit = limit or self.limit
        window = _first_number(_header(headers, "Window")) or _window_of(quotas, limit)
        if window is not None and 0 < window <= LONGEST_WINDOW_SECONDS:
            self.window_seconds = window
        is_later_window = self._note_reset(reset, now, platform_time)
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

    @property
    def _window_end(self) -> float | None:
        return self._assumed_end if self.reset_at is None else self.reset_at

    def _note_reset(self, reset: float | None, now: float, platform_time: float) -> bool:
        """Update the end of the window; returns whether it is later than before."""
        before = self.reset_at
        window = self.window_seconds or DEFAULT_WINDOW_SECONDS
        left = None if reset is None else _seconds_until(reset, platform_time)
        if left is None or left < -window:
            reset_at = now + min(window, LONGEST_PAUSE_SECONDS) if before is None else before
        else:
            reset_at = now + min(left, LONGEST_PAUSE_SECONDS)
        self.reset_at = max(reset_at, now + NOT_YET_SECONDS)
        return before is not None and reset_at >= before + LATER_SECONDS

    def _start_new_window(self, now: float) -> None:
        """Start a new window if the last one is over."""
        end = self._window_end
        if end is not None and now >= end:
            self.reset_at = None
            self._assumed_end = now + min(self.window_seconds or DEFAULT_WINDOW_SECONDS, LONGEST_PAUSE_SECONDS)
            self.remaining = self.limit
            self._guessing = True

    def _reserved_requests(self) -> float:
        if self.limit is None:
            return 1.0
        # no reserve for a limit of one, or nothing could ever be sent
        return min(max(1.0, RESERVE_RATIO * self.limit), self.limit - 1.0)


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(f"X-RateLimit-{name}", "")


def _first_number(text: str) -> float | None:
    match = _FIRST_NUMBER.match(text)
    return float(match[1]) if match else None


def _window_of(quotas: str, limit: float | None) -> float | None:
    """Return the window of the quota that the limit is taken from (``10, 10;w=1, 1000;w=3600``: 1)."""
    return next((float(window) for quota, window in _QUOTA.findall(quotas) if float(quota) == limit), None)


def _seconds_until(reset: float, platform_time: float) -> float:
    if reset < _LEAST_UNIX_SECONDS:
        return reset
    return (reset / 1000 if reset >= _LEAST_UNIX_MILLISECONDS else reset) - platform_time
