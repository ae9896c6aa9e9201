"""Due times of polls: at a steady interval, backed off after failures, or postponed by a rate limit."""

from __future__ import annotations

import random

FIRST_POLL_WITHIN_SECONDS = 2.0
BACK_OFF_CAP_SECONDS = 60.0
FAILURES_BEFORE_BACK_OFF = 2
"""Number of consecutive failures without back-off, so that an upstream recovers quickly from a short fault."""
RETRY_AFTER_CAP_SECONDS = 15 * 60.0
"""Maximum pause between polls, even if the platform asks for more."""


class Schedule:
    """The due times of one upstream's polls, on the monotonic clock."""

    def __init__(self, interval: float, random_: random.Random) -> None:
        self._interval = interval
        self._random = random_
        self._failures = 0
        self._phase_set = False
        self.effective_interval = interval
        """Current seconds between polls; longer than configured if the platform's rate limit requires it."""
        self.due = 0.0

    def start(self, now: float) -> None:
        """Schedule the first poll at a random time within two seconds, so that upstreams do not poll in step."""
        self.due = now + self._random.uniform(0.0, min(self._interval, FIRST_POLL_WITHIN_SECONDS))

    def record_success(self, now: float, round_seconds: float | None, pause: float | None) -> None:
        """Schedule the next poll after a success.

        ``round_seconds``: how long one round over all streams takes within the request limit, if longer than an
        interval. ``pause``: remaining seconds of a pause that the platform asked for.
        """
        self._failures = 0
        self.effective_interval = max(self._interval, round_seconds or 0.0)
        step = self._interval
        if not self._phase_set:
            # a random first step, so that several exporters restarted together do not poll in step
            self._phase_set = True
            step *= self._random.uniform(0.5, 1.0)
        self._advance_due(now, step)
        if pause is not None:
            self._postpone_due(now, pause)
            self.effective_interval = max(self.effective_interval, min(pause, RETRY_AFTER_CAP_SECONDS))

    def record_failure(self, now: float, retry_after: float | None) -> None:
        """Schedule the next poll after a failure.

        After the first two failures in a row it is due at the usual time, then after 2, 4, 8 … intervals, but at most a
        minute (or one interval, if that is longer). ``retry_after``: seconds to pause, if the platform asked for that.
        """
        self._failures += 1
        doublings = min(max(0, self._failures - FAILURES_BEFORE_BACK_OFF), 16)
        back_off = min(max(BACK_OFF_CAP_SECONDS, self._interval), self._interval * 2**doublings)
        # a pause after a failure does not count as an interval, so it does not delay ``answering`` becoming 0
        self.effective_interval = self._interval
        self._advance_due(now, back_off)
        if retry_after is not None:
            self._postpone_due(now, retry_after)

    def _advance_due(self, now: float, step: float) -> None:
        self.due += step
        if self.due <= now:
            # the poll took longer than its step: skip the missed polls, but keep the phase
            self.due += ((now - self.due) // step + 1) * step

    def _postpone_due(self, now: float, pause: float) -> None:
        self.due = max(self.due, now + min(pause, RETRY_AFTER_CAP_SECONDS))
