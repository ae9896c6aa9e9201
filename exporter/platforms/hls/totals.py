"""Running totals of the media in a playlist, or in all playlists of a stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Totals:
    """Running totals since the check started."""

    segments: int = 0
    seconds: float = 0.0
    missed: int = 0
    resets: int = 0
    regressions: int = 0
    conflicts: int = 0
    discontinuities: int = 0
    gaps: int = 0

    def add_growth(self, before: Totals, after: Totals) -> None:
        """Add what other totals have grown by."""
        self.segments += after.segments - before.segments
        self.seconds += after.seconds - before.seconds
        self.missed += after.missed - before.missed
        self.resets += after.resets - before.resets
        self.regressions += after.regressions - before.regressions
        self.conflicts += after.conflicts - before.conflicts
        self.discontinuities += after.discontinuities - before.discontinuities
        self.gaps += after.gaps - before.gaps
