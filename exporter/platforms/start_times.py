"""Start times of ingest sessions on platforms that report only how long a session has lasted."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE_SECONDS = 3.0
"""Maximum difference between two start times of the same session, caused by rounding and by the network."""
KEPT_UNSEEN = 100


@dataclass(slots=True)
class _Start:
    steady: float
    """On the exporter's steady clock."""
    unix: float
    """On the platform's clock."""
    age: float
    """The last age. If it does not change, the platform serves an old copy of its data."""
    is_seen: bool = True


class StartTimes:
    """Keeps start times constant that are computed from ages and would change slightly with every poll."""

    def __init__(self) -> None:
        self._starts: dict[str, _Start] = {}

    def observe(self, key: str, age: float | None, *, now: float, platform_now: float) -> float | None:
        """Return the start in unix seconds on the platform's clock; None if ``age`` is None.

        ``key``: the stream or session. ``age``: seconds since the start. ``now``: steady seconds.
        ``platform_now``: unix seconds on the platform's clock.
        """
        if age is None:
            return None
        start = self._starts.get(key)
        if start is None or (age != start.age and abs(now - age - start.steady) > TOLERANCE_SECONDS):
            start = self._starts[key] = _Start(now - age, platform_now - age, age)
        start.age, start.is_seen = age, True
        return start.unix

    def end_poll(self) -> None:
        """Forget starts that are no longer reported, once there are many of them."""
        seen = sum(start.is_seen for start in self._starts.values())
        if len(self._starts) > 2 * seen + KEPT_UNSEEN:
            self._starts = {key: start for key, start in self._starts.items() if start.is_seen}
        for start in self._starts.values():
            start.is_seen = False
