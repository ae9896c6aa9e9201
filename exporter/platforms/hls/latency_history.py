"""The latency of a stream, as its program date times tell it, and whether it grows (H11)."""

from __future__ import annotations

from collections import deque
from typing import Final

from exporter.media.hls_playlist import MediaPlaylist

LARGEST_LATENCY, SMALLEST_LATENCY = 3600.0, -2.0
"""A latency outside of this range, in seconds, shows a wrong date, not the latency."""
LATENCY_SECONDS, LATENCY_TARGETS = 30.0, 6.0
_MEMORY_SECONDS = 600.0
_STEPS: Final = 10


class LatencyHistory:
    """The latency of the last version of a playlist, and the lowest ones of the last ten minutes."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        """Seconds between the newest media's end, as dated, and its arrival."""
        self.has_wrong_date = False
        self._lows: deque[tuple[float, float]] = deque(maxlen=_STEPS + 1)
        """Start of a period, and the lowest latency in it."""

    def observe(self, playlist: MediaPlaylist, *, now: float, server_wall: float) -> None:
        """Take a version. ``now``: steady seconds; ``server_wall``: unix seconds on the server's clock."""
        edge = playlist.edge_timestamp_seconds
        latency = None if edge is None else server_wall - edge
        self.has_wrong_date = latency is not None and not SMALLEST_LATENCY <= latency <= LARGEST_LATENCY
        self.seconds = None if self.has_wrong_date or latency is None else max(0.0, latency)
        if self.seconds is None:
            return
        lows = self._lows
        if not lows or now - lows[-1][0] >= _MEMORY_SECONDS / _STEPS:
            lows.append((now, self.seconds))
        elif self.seconds < lows[-1][1]:
            lows[-1] = (lows[-1][0], self.seconds)

    def is_growing(self, target: float) -> bool:
        """Return whether the latency is high, and higher than before. ``target``: target duration in seconds."""
        if self.seconds is None or not self._lows:
            return False
        lowest = min(latency for _, latency in self._lows)
        is_high = self.seconds > max(LATENCY_SECONDS, LATENCY_TARGETS * target)
        return is_high and self.seconds > lowest + max(LATENCY_SECONDS / 3, LATENCY_TARGETS * target / 2)
