"""Context shared by the simulated platforms: fleet, clock, options and credentials."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.runtime.clock import Clock
from exporter.simulator.fleet import Fleet

TOKEN = "simulated-token"  # noqa: S105 - a fixed token for every platform, not a secret
USERNAME = "demo"
PASSWORD = "simulated-password"  # noqa: S105 - as above
API_KEY = "demo-key"
"""Storm requires at least eight characters."""


@dataclass(frozen=True, slots=True)
class Options:
    """Differences between deployments of the real platforms."""

    storm_list: bool = True
    """Whether ``GET /streams`` exists, which Storm does not document."""
    storm_cluster: bool = False
    """Whether the server is a cluster manager and answers ``GET /cluster/streams``."""
    wave_rate_limit: int = 1_000_000
    """Requests per key in a sliding minute; WAVE's free tier allows 60."""

    def __post_init__(self) -> None:
        """Raise ValueError for a limit that allows no requests."""
        if self.wave_rate_limit < 1:
            raise ValueError("the rate limit of WAVE must be at least 1")


@dataclass(frozen=True, slots=True)
class Context:
    """One simulation: the fleet, its clock and its options."""

    fleet: Fleet
    clock: Clock
    options: Options = field(default_factory=Options)

    def now(self) -> float:
        """Return the simulated time in Unix seconds."""
        return self.clock.now()
