"""What the three platforms share: the fleet, the time, and how the simulator was set up."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.runtime.clock import Clock
from exporter.simulator.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Options:
    """What differs between deployments of the real platforms."""

    storm_list: bool = True
    """Whether ``GET /streams`` exists: the documents of Storm show no page for it."""
    storm_cluster: bool = False
    """Whether the server is a cluster manager and answers ``GET /cluster/streams``."""
    wave_rate_limit: int = 1_000_000
    """Requests in a sliding minute and key; WAVE's free tier has 60."""

    def __post_init__(self) -> None:
        """Raises ValueError for a limit that lets nothing through."""
        if self.wave_rate_limit < 1:
            raise ValueError("the rate limit of WAVE is at least 1")


@dataclass(frozen=True, slots=True)
class Context:
    """One simulated world."""

    fleet: Fleet
    clock: Clock
    options: Options = field(default_factory=Options)

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.now()
