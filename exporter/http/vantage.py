"""The exporter's own network: whether a failure to reach servers is more likely ours than theirs.

All upstreams share one vantage point. Requests to platforms' APIs count as well, so that a single content delivery
network that is down is told apart from a network that is down.
"""

from __future__ import annotations

from typing import Final

from exporter.model import Reason
from exporter.runtime.clock import Clock

MEMORY_SECONDS: Final = 30.0
"""How long the last outcome of a host counts."""
DOWN_SHARE: Final = 0.5
ENOUGH_HOSTS: Final = 4
"""Number of hosts from which half of them failing is enough; with fewer, all must fail."""
MIN_HOSTS: Final = 2
"""A single host that is not reached shows nothing about the network."""
_MAX_HOSTS = 1000
UNREACHED: Final = frozenset({Reason.TIMEOUT.value, Reason.CONNECT.value})
"""Failure reasons that leave open whether the server or the exporter's network is at fault."""


class Vantage:
    """The last outcome of each host."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outcomes: dict[str, tuple[float, bool]] = {}

    def note(self, host: str, *, is_reached: bool) -> None:
        """Note whether a host was reached. A host that answers anything, even an error, was reached."""
        self._outcomes.pop(host, None)
        self._outcomes[host] = self._clock.monotonic(), is_reached
        if len(self._outcomes) > _MAX_HOSTS:
            self._outcomes.pop(next(iter(self._outcomes)))

    @property
    def is_down(self) -> bool:
        """Whether so many hosts were not reached that the exporter's own network must be the reason."""
        since = self._clock.monotonic() - MEMORY_SECONDS
        recent = [is_reached for at, is_reached in self._outcomes.values() if at >= since]
        failed = recent.count(False)
        if len(recent) >= ENOUGH_HOSTS:
            return failed >= DOWN_SHARE * len(recent)
        return len(recent) >= MIN_HOSTS and failed == len(recent)

    def describe(self) -> str:
        """Return how many hosts were not reached, in words."""
        since = self._clock.monotonic() - MEMORY_SECONDS
        recent = [is_reached for at, is_reached in self._outcomes.values() if at >= since]
        return f"{recent.count(False)} of {len(recent)} hosts"
