"""The exporter's own network: whether a failure to reach servers is more likely ours than theirs.

All upstreams share one vantage point. Requests to platforms' APIs count as well, so that a single content delivery
network that is down is told apart from a network that is down.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from exporter.runtime.clock import Clock

MEMORY_SECONDS: Final = 30.0
"""How long the last outcome of a host counts if it was reached."""
FAILURE_MEMORY_SECONDS: Final = 150.0
"""The same if it was not reached: upstreams that fail are polled once a minute."""
DOWN_SHARE: Final = 0.5
ENOUGH_HOSTS: Final = 4
"""Number of hosts from which half of them failing is enough; with fewer, all must fail."""
MIN_HOSTS: Final = 2
"""A single host that is not reached shows nothing about the network."""
PARTIAL_SECONDS: Final = 120.0
"""A host that is not reached for longer, while others are, is at fault itself."""
_MAX_HOSTS = 1000


class _Outcome(NamedTuple):
    """The last outcome of a host."""

    at: float
    """Steady seconds."""
    failing_since: float | None
    """Time of the first failure in a row; None if the host was reached."""

    def counts(self, now: float) -> bool:
        return now - self.at <= (MEMORY_SECONDS if self.failing_since is None else FAILURE_MEMORY_SECONDS)


class Vantage:
    """The last outcome of each host."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outcomes: dict[str, _Outcome] = {}

    def note(self, host: str, *, is_reached: bool) -> None:
        """Note whether a host (or host and port) was reached. Any response shows that, even an error."""
        host = _without_default_port(host)
        now, before = self._clock.monotonic(), self._outcomes.pop(host, None)
        since = None
        if not is_reached:
            is_first = before is None or before.failing_since is None or not before.counts(now)
            since = now if is_first or before is None else before.failing_since
        self._outcomes[host] = _Outcome(now, since)
        if len(self._outcomes) > _MAX_HOSTS:
            self._outcomes.pop(next(iter(self._outcomes)))

    @property
    def is_down(self) -> bool:
        """Whether so many hosts were not reached that the exporter's own network must be the reason."""
        now = self._clock.monotonic()
        reached, failing = self._count()
        if not reached:
            return len(failing) >= MIN_HOSTS
        recent = sum(now - since <= PARTIAL_SECONDS for since in failing)
        hosts = reached + recent
        return hosts >= ENOUGH_HOSTS and recent >= DOWN_SHARE * hosts

    def may_be_fine(self, host: str) -> bool:
        """Return whether a host that was not reached may be fine: no other one was reached since."""
        host = _without_default_port(host)
        now, own = self._clock.monotonic(), self._outcomes.get(host)
        if own is None or own.failing_since is None:
            return False
        others = [outcome for name, outcome in self._outcomes.items() if name != host and outcome.counts(now)]
        return bool(others) and not any(
            outcome.failing_since is None and outcome.at >= own.failing_since for outcome in others
        )

    def describe(self) -> str:
        """Return how many hosts were not reached, in words."""
        reached, failing = self._count()
        return f"{len(failing)} of {reached + len(failing)} hosts"

    def _count(self) -> tuple[int, list[float]]:
        """Return how many hosts were reached, and since when each of the others is failing."""
        now = self._clock.monotonic()
        recent = [outcome for outcome in self._outcomes.values() if outcome.counts(now)]
        failing = [outcome.failing_since for outcome in recent if outcome.failing_since is not None]
        return len(recent) - len(failing), failing


def _without_default_port(host: str) -> str:
    return host.lower().removesuffix(":443").removesuffix(":80").replace("[", "").replace("]", "")
