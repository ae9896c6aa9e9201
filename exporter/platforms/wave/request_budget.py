"""Distribute a limited number of requests over sessions and optional endpoints."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence

import msgspec

from exporter.platforms.api import DEFAULT_WINDOW_SECONDS, Clock, Reason, Requests, UpstreamClient, UpstreamError


def was_not_sent(error: UpstreamError) -> bool:
    """Whether the request was held back by the rate limit, so that nothing has failed."""
    return error.reason is Reason.RATE_LIMITED and error.status is None


class RequestPace(msgspec.Struct, frozen=True):
    """The pace that a known request limit allows."""

    usable: int
    """Number of requests allowed per window."""
    window_seconds: float
    interval_seconds: float

    @property
    def per_poll(self) -> int:
        """Return the number of sessions per poll, so that the polls in a window share it evenly."""
        share = min(1.0, self.interval_seconds / self.window_seconds)
        return max(1, math.floor(self.usable * share))

    def remaining(self, sessions: int) -> int:
        """Return the number of requests per window that polls of this many sessions leave over."""
        polls = math.ceil(self.window_seconds / self.interval_seconds)
        return max(0, self.usable - polls * min(sessions, self.per_poll))

    def round_seconds(self, sessions: int) -> float | None:
        """Return the seconds it takes to request each session once; None if every poll requests all of them."""
        if sessions <= self.per_poll:
            return None
        by_window = sessions * self.window_seconds / max(1, self.usable)
        by_polls = math.ceil(sessions / self.per_poll) * self.interval_seconds
        return max(by_window, by_polls)


class SentRequests:
    """Counts requests within the last window."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, int]] = deque()

    def add(self, requests: int, now: float) -> None:
        """Count sent requests. ``now``: monotonic seconds."""
        if requests:
            self._sent.append((now, requests))

    def count_within(self, seconds: float, now: float) -> int:
        """Return the number of requests in the last ``seconds``, and forget older ones."""
        while self._sent and self._sent[0][0] <= now - seconds:
            self._sent.popleft()
        return sum(requests for _, requests in self._sent)


class SessionRotation:
    """Selects the sessions that have waited longest since their last request."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        """Sequence number of the last request, by session id."""
        self._requests = 0

    def select(self, session_ids: Sequence[str], budget: int | None) -> list[str]:
        """Return the sessions to request, at most ``budget`` (None: no limit). Forgets sessions not in the list."""
        self._last = {session_id: self._last.get(session_id, 0) for session_id in session_ids}
        selected = sorted(session_ids, key=self._last.__getitem__)[:budget]
        for session_id in selected:
            self._requests += 1
            self._last[session_id] = self._requests
        return selected

    def put_first(self, session_ids: Collection[str]) -> None:
        """Select these sessions first the next time, because their requests were not sent."""
        self._last.update(dict.fromkeys(session_ids, 0))


class RequestBudget:
    """Divides the allowed requests between sessions and optional endpoints."""

    def __init__(self, client: UpstreamClient, clock: Clock, interval: float) -> None:
        self._client = client
        self._clock = clock
        self._interval = interval
        self._optional = SentRequests()

    @property
    def window_seconds(self) -> float:
        """Return the length of the platform's window."""
        return self._client.rate_limit.window_seconds or DEFAULT_WINDOW_SECONDS

    def pace(self) -> RequestPace | None:
        """Return the current pace; None while no limit is known."""
        usable = self._client.rate_limit.usable
        return None if usable is None else RequestPace(usable, self.window_seconds, self._interval)

    def sessions_left(self, requests: Requests, *, requested: int) -> int | None:
        """Return how many sessions this poll may request after the first ``requested``; None for no limit."""
        pace = self.pace()
        if pace is None or self._client.rate_limit.pause(self._clock.monotonic()) > 0:
            # during a pause (Retry-After), each request either waits for its end or fails as not sent
            return None
        return min(requests.budget() or 0, max(0, pace.per_poll - requested))

    def optional_left(self, requests: Requests, *, sessions: int) -> int | None:
        """Return how many optional requests may be sent without using up requests of the next polls."""
        budget, pace = requests.budget(), self.pace()
        if budget is None or pace is None:
            return budget
        sent = self._optional.count_within(pace.window_seconds, self._clock.monotonic())
        return max(0, min(budget, pace.remaining(sessions) - sent))

    def count_optional(self, requests: int) -> None:
        """Count optional requests that were just sent."""
        self._optional.add(requests, self._clock.monotonic())
