"""A platform's request limit, read from response headers, and the pauses that it asks for.

Headers: ``X-RateLimit-Limit``, ``-Remaining``, ``-Reset`` and ``-Window`` (seconds), as documented by WAVE. The limit
may include its window (``2, 2;w=1``). A reset below 1e9 is in seconds from now; a larger one is unix time, in seconds
or (13 digits) milliseconds. Without these headers there is no limit. The IETF draft's headers, without ``X-``, are
ignored, because node-media-server 4 uses them for the limit of its login only.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

RESERVE_RATIO = 0.05
"""Fraction of the limit left unused, for other users of the same key and for responses that arrive out of order."""
DEFAULT_WINDOW_SECONDS = 60.0
LONGEST_WINDOW_SECONDS = 86_400.0
LONGEST_PAUSE_SECONDS = 900.0
"""Maximum length of a pause, and of the wait for the end of a window, even if the platform asks for more."""
LONGEST_WAIT_FOR_WINDOW_SECONDS = 2.0
"""Maximum time to wait for a new window of the request limit. Without it, per-second limits would fail most polls."""
INTERVALS_REMEMBERED = 10
LATER_SECONDS = 1.0
"""Minimum difference between two reset times that belong to different windows."""
NOT_YET_SECONDS = 1.0
"""Minimum time assumed to be left in a window, because a response has just counted the limit down."""
_FIRST_NUMBER = re.compile(r"\s*([0-9]{1,13}(?:\.[0-9]{1,6})?)\s*(?:[,;]|$)", re.ASCII)
_QUOTA = re.compile(r"(?:^|,)\s*([0-9]{1,13})\s*(?:;[^,;]*)*?;\s*w=([0-9]{1,6})\s*(?=[,;]|$)", re.ASCII)
_LEAST_UNIX_SECONDS = 1e9
_LEAST_UNIX_MILLISECONDS = 1e12


class Ticket:
    """A request in flight."""

    __slots__ = ("alone", "number", "on_demand")

    def __init__(self, number: int, alone: bool, on_demand: bool) -> None:
        self.number = number
        self.alone = alone
        self.on_demand = on_demand


class OnDemandShare:
    """The part of a window that polls on demand may use.

    That is at most half of the requests, and none that the scheduled polls need before the window ends.
    """

    def __init__(self, interval: float) -> None:
        """``interval``: seconds between scheduled polls."""
        self._interval = interval
        self._reset_at = self._window_ends_at = self._interval_ends_at = -math.inf
        self._window = DEFAULT_WINDOW_SECONDS
        self._scheduled = 0
        self._on_demand = 0
        self._scheduled_before: deque[int] = deque([0], maxlen=INTERVALS_REMEMBERED)
        """Number of requests by scheduled polls in each of the last intervals; the current interval is last."""

    def count_request(self, *, on_demand: bool) -> None:
        """Count a request that is about to be sent."""
        if on_demand:
            self._on_demand += 1
        else:
            self._scheduled += 1
            self._scheduled_before[-1] += 1

    def advance(self, now: float) -> None:
        """Start new counts if the window or the interval has ended."""
        if now >= self._window_ends_at:
            self._scheduled = self._on_demand = 0
            self._window_ends_at = self._reset_at if self._reset_at > now else now + self._window
        if now >= self._interval_ends_at:
            self._scheduled_before.append(0)
            self._interval_ends_at = now + self._interval

    def note_reset(self, reset_at: float, window: float, now: float) -> None:
        """Store when the window, which is ``window`` seconds long, ends.

        Some platforms move the reset time a little with every response; only a jump starts a new window.
        """
        if self._reset_at <= now:
            self._window_ends_at = reset_at
        elif reset_at >= self._reset_at + window / 2:
            self._scheduled = self._on_demand = 0
            self._window_ends_at = reset_at
        self._reset_at, self._window = reset_at, window

    def available(self, left: int) -> int:
        """Return how many of the ``left`` requests may be used by polls on demand."""
        half = (left + self._scheduled + self._on_demand + 1) // 2
        needed = 0
        if self._window > LONGEST_WAIT_FOR_WINDOW_SECONDS:
            # in a shorter window, scheduled polls wait for its end and then go first
            needed = self._needed_until(max(self._reset_at, self._window_ends_at))
        return max(0, min(half - self._on_demand, left - needed))

    def _needed_until(self, reset_at: float) -> int:
        """Estimate how many more requests scheduled polls will send.

        The current interval is assumed to become as busy as the busiest recent one, later ones to be average.
        """
        sent = self._scheduled_before
        average = sum(sent) / (len(sent) - 1)
        later_intervals = math.ceil(max(0.0, reset_at - self._interval_ends_at) / self._interval)
        return max(0, max(sent) - sent[-1] + math.ceil(later_intervals * average))


class RateLimit:
    """A request limit and how much of it is left. All times are seconds on the steady clock."""

    def __init__(self, interval: float = DEFAULT_WINDOW_SECONDS) -> None:
        """``interval``: seconds between scheduled polls."""
        self.interval = interval
        self.limit: float | None = None
        self.remaining: float | None = None
        """Requests left in the window, not counting those in flight."""
        self.reset_at: float | None = None
        self.window_seconds: float | None = None
        self.paused_until: float | None = None
        self._assumed_end: float | None = None
        """Assumed end of a window that no response has described yet, so that failing requests cannot exhaust it
        forever."""
        self._on_demand_share = OnDemandShare(interval)
        self._scheduled_waiting = 0
        """Number of requests by scheduled polls that wait for the limit."""
        self._sent = 0
        self._under_way = 0
        self._guessing = True
        self._finished = asyncio.Event()

    @property
    def is_unknown(self) -> bool:
        """Whether the platform has responded without announcing a limit or asking for a pause."""
        return self.remaining is None and self.paused_until is None and not self._guessing

    def budget(self, now: float, *, on_demand: bool = False) -> int | None:
        """Return how many more requests the limit allows now; None if there is no known limit.

        ``on_demand``: for a poll on demand, which must leave enough requests for the scheduled polls.
        """
        if self.pause(now) > 0:
            return 0
        self._start_new_window(now)
        if self.remaining is None:
            return None
        self._on_demand_share.advance(now)
        left = max(0, int(self.remaining - self._reserved_requests()))
        if not on_demand:
            return left
        return 0 if self._scheduled_waiting else self._on_demand_share.available(left)

    @property
    def usable(self) -> int | None:
        """Number of requests per window without the reserve; None if there is no known limit."""
        return None if self.limit is None else max(0, int(self.limit - self._reserved_requests()))

    def pause(self, now: float) -> float:
        """Return the remaining seconds of the pause that the platform asked for; 0 if there is none."""
        return 0.0 if self.paused_until is None else max(0.0, self.paused_until - now)

    def until_reset(self, now: float) -> float | None:
        """Return the seconds until the window ends; None if unknown."""
        end = self._window_end
        return None if end is None else max(0.0, end - now)

    async def wait_for_turn(self) -> None:
        """Wait while the very first request, or the first one after a reset, is in flight.

        It is sent alone, because the number of requests left is a guess until its response arrives.
        """
        while self._guessing and self._under_way:
            self._finished.clear()
            await self._finished.wait()

    @contextmanager
    def waiting(self, *, on_demand: bool) -> Iterator[None]:
        """Count a waiting request; requests on demand are held back while one of a scheduled poll waits."""
        self._scheduled_waiting += not on_demand
        try:
            yield
        finally:
            self._scheduled_waiting -= not on_demand

    def start_request(self, *, on_demand: bool = False) -> Ticket:
        """Count a request that is about to be sent."""
        if self.remaining is not None:
            self.remaining -= 1
            self._on_demand_share.count_request(on_demand=on_demand)
        self._sent += 1
        self._under_way += 1
        return Ticket(self._sent, self._under_way == 1, on_demand)

    def finish_request(self) -> None:
        """Count a request as finished, whether it succeeded or not."""
        self._under_way -= 1
        self._guessing = False
        self._finished.set()

    def update(self, ticket: Ticket, headers: Mapping[str, str], now: float, platform_time: float) -> None:
        """Update the limit from a response's headers; ignore invalid ones.

        ``platform_time``: current unix seconds on the platform's clock.
        """
        remaining = _first_number(_header(headers, "Remaining"))
        if remaining is None:
            return
        quotas = _header(headers, "Limit")
        limit = _first_number(quotas)
        reset = _first_number(_header(headers, "Reset"))
        if limit == 0 or (limit is None and reset is None):
            # not a usable request limit: a limit of 0 is pointless, and a remainder alone may count anything
            return
        self.limit = limit or self.limit
        window = _first_number(_header(headers, "Window")) or _window_of(quotas, limit)
        if window is not None and 0 < window <= LONGEST_WINDOW_SECONDS:
            self.window_seconds = window
        is_later_window = self._note_reset(reset, now, platform_time)
        if self.remaining is None:
            self._on_demand_share.count_request(on_demand=ticket.on_demand)
        at_least = max(0.0, remaining - (self._sent - ticket.number))
        if self.remaining is None or ticket.alone:
            self.remaining = at_least
        elif is_later_window:
            self.remaining = min(remaining, max(self.remaining, at_least))
        else:
            # responses can arrive out of order: one that reports more left than we know of was sent earlier
            self.remaining = min(remaining, self.remaining)

    def pause_for(self, seconds: float, now: float) -> None:
        """Send nothing for the time that the platform asked for."""
        until = now + min(seconds, LONGEST_PAUSE_SECONDS)
        self.paused_until = until if self.paused_until is None else max(self.paused_until, until)

    @property
    def _window_end(self) -> float | None:
        return self._assumed_end if self.reset_at is None else self.reset_at

    def _note_reset(self, reset: float | None, now: float, platform_time: float) -> bool:
        """Update the end of the window; return whether it is later than before."""
        before = self.reset_at
        window = self.window_seconds or DEFAULT_WINDOW_SECONDS
        left = None if reset is None else _seconds_until(reset, platform_time)
        if left is None or left < -window:
            reset_at = now + min(window, LONGEST_PAUSE_SECONDS) if before is None else before
        else:
            reset_at = now + min(left, LONGEST_PAUSE_SECONDS)
        self.reset_at = max(reset_at, now + NOT_YET_SECONDS)
        # the requests of a long window must last until its real end
        far_reset = self.reset_at if left is None else max(self.reset_at, now + min(left, LONGEST_WINDOW_SECONDS))
        self._on_demand_share.note_reset(far_reset, window, now)
        return before is not None and reset_at >= before + LATER_SECONDS

    def _start_new_window(self, now: float) -> None:
        """Start a new window if the last one has ended."""
        end = self._window_end
        if end is not None and now >= end:
            self.reset_at = None
            self._assumed_end = now + min(self.window_seconds or DEFAULT_WINDOW_SECONDS, LONGEST_PAUSE_SECONDS)
            self.remaining = self.limit
            self._guessing = True

    def _reserved_requests(self) -> float:
        if self.limit is None:
            return 1.0
        # no reserve for a limit of 1, or nothing could ever be sent
        return min(max(1.0, RESERVE_RATIO * self.limit), self.limit - 1.0)


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(f"X-RateLimit-{name}", "")


def _first_number(text: str) -> float | None:
    match = _FIRST_NUMBER.match(text)
    return float(match[1]) if match else None


def _window_of(quotas: str, limit: float | None) -> float | None:
    """Return the window of the quota that equals the limit (for ``10, 10;w=1, 1000;w=3600``: 1)."""
    return next((float(window) for quota, window in _QUOTA.findall(quotas) if float(quota) == limit), None)


def _seconds_until(reset: float, platform_time: float) -> float:
    if reset < _LEAST_UNIX_SECONDS:
        return reset
    return (reset / 1000 if reset >= _LEAST_UNIX_MILLISECONDS else reset) - platform_time
