"""When the next poll is due: steady, backed off after failures, or held back by a rate limit."""

from __future__ import annotations

import random

FIRST_POLL_WITHIN_SECONDS = 2.0
BACK_OFF_CAP_SECONDS = 60.0
RETRY_AFTER_CAP_SECONDS = 15 * 60.0
"""A platform that asks for a longer pause than this is asked again all the same."""


class Schedule:
    """The due times of one upstream, on the monotonic clock."""

    def __init__(self, interval: float, random_: random.Random) -> None:
        self._interval = interval
        self._random = random_
        self._failures = 0
        self._phase_set = False
        self.effective_interval = interval
        """Seconds between polls as they are now: longer than configured where the platform's limit asks for it."""
        self.due = 0.0

    def start(self, now: float) -> None:
        """The first poll comes soon, at a random moment, so that many upstreams do not start as one."""
        self.due = now + self._random.uniform(0.0, min(self._interval, FIRST_POLL_WITHIN_SECONDS))

    def succeeded(self, now: float, round_seconds: float | None, pause: float | None) -> None:
        """A poll came through; ``round_seconds`` and ``pause`` are what the platform's request budget asks for."""
        self._failures = 0
        self.effective_interval = max(self._interval, round_seconds or 0.0)
        step = self._interval
        if not self._phase_set:
            # once, so that exporters started together drift apart; from then on the beat is steady
            self._phase_set = True
            step *= self._random.uniform(0.5, 1.0)
        self._advance(now, step)
        if pause is not None:
            self._hold(now, pause)

    def failed(self, now: float, retry_after: float | None) -> None:
        """A poll failed: the next comes at the usual time, then later and later, at most a minute apart."""
        self._failures += 1
        back_off = min(max(BACK_OFF_CAP_SECONDS, self._interval), self._interval * 2 ** min(self._failures - 1, 16))
        self.effective_interval = self._interval
        self._advance(now, back_off)
        if retry_after is not None:
            self._hold(now, retry_after)

    def _advance(self, now: float, step: float) -> None:
        self.due += step
        if self.due <= now:
            # a poll that took longer than its step: skip what was missed, keep the beat
            self.due += ((now - self.due) // step + 1) * step

    def _hold(self, now: float, pause: float) -> None:
        pause = min(pause, RETRY_AFTER_CAP_SECONDS)
        if now + pause > self.due:
            self.due = now + pause
        self.effective_interval = max(self.effective_interval, pause)
