"""Whose turn it is, when the platform's request limit does not allow to ask for every session in every poll."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """What a known request limit allows."""

    usable: int
    """Requests that may be made in a window."""
    window_seconds: float
    interval_seconds: float

    @property
    def per_poll(self) -> int:
        """The sessions of one poll, so that polls share a window evenly instead of the first taking it all."""
        share = min(1.0, self.interval_seconds / self.window_seconds)
        return max(1, math.floor(self.usable * share))

    def besides(self, sessions: int) -> int:
        """Requests of one window that its polls do not need for sessions."""
        polls = math.ceil(self.window_seconds / self.interval_seconds)
        return max(0, self.usable - polls * min(sessions, self.per_poll))

    def round_seconds(self, sessions: int) -> float | None:
        """How long it takes to ask for each session once; None where every poll asks for all of them."""
        if sessions <= self.per_poll:
            return None
        by_window = sessions * self.window_seconds / max(1, self.usable)
        by_polls = math.ceil(sessions / self.per_poll) * self.interval_seconds
        return max(by_window, by_polls)


class Spending:
    """Counts what was asked for besides sessions, over the last window."""

    def __init__(self) -> None:
        self._spent: deque[tuple[float, int]] = deque()

    def note(self, requests: int, now: float) -> None:
        """So many requests were made; ``now``: monotonic seconds."""
        if requests:
            self._spent.append((now, requests))

    def within(self, seconds: float, now: float) -> int:
        """Requests made in the last ``seconds``; older ones are forgotten."""
        while self._spent and self._spent[0][0] <= now - seconds:
            self._spent.popleft()
        return sum(requests for _, requests in self._spent)


class Turns:
    """Remembers when each session was asked for last, and lets the one that has waited longest go first."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        """A number that grows with every question, so that equals keep their order from round to round."""
        self._questions = 0

    def choose(self, session_ids: Sequence[str], budget: int | None) -> list[str]:
        """The sessions to ask for within ``budget`` requests; None is no limit. It forgets those not in the list."""
        self._last = {session_id: self._last.get(session_id, 0) for session_id in session_ids}
        chosen = sorted(session_ids, key=self._last.__getitem__)[:budget]
        for session_id in chosen:
            self._questions += 1
            self._last[session_id] = self._questions
        return chosen

    def missed(self, session_ids: Collection[str]) -> None:
        """These were not asked for after all: they come first the next time."""
        self._last.update(dict.fromkeys(session_ids, 0))
