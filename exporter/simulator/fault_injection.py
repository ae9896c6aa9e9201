"""Injected faults of streams and platforms, with their start and end.

A cleared fault stays in the log because its effect on byte counters is permanent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.simulator.simulated_streams import Platform


class FaultKind(StrEnum):
    """Kind of an injected fault."""

    UNHEALTHY = "unhealthy"
    STALL = "stall"
    BITRATE_LOW = "bitrate_low"
    END = "end"
    SLOW_TRANSCODE = "slow_transcode"
    FLAP = "flap"
    ERROR = "error"
    DOWN = "down"
    AUTH = "auth"
    SLOW = "slow"
    HTML = "html"
    TRUNCATED = "truncated"
    RATE_LIMIT = "rate_limit"
    FLAKY = "flaky"
    FROZEN = "frozen"
    DOUBTFUL_LIST = "doubtful_list"
    NOT_FOUND = "not_found"
    MALFORMED = "malformed"
    UNKNOWN_STATE = "unknown_state"
    PLAYLIST_FROZEN = "playlist_frozen"
    SEGMENTS_MISSING = "segments_missing"
    CDN_STALE = "cdn_stale"
    AUDIO_MISSING = "audio_missing"
    SLOW_EDGE = "slow_edge"


STREAM_FAULTS = frozenset(
    {
        FaultKind.UNHEALTHY,
        FaultKind.STALL,
        FaultKind.BITRATE_LOW,
        FaultKind.END,
        FaultKind.SLOW_TRANSCODE,
        FaultKind.FLAP,
        FaultKind.ERROR,
        FaultKind.NOT_FOUND,
        FaultKind.MALFORMED,
        FaultKind.UNKNOWN_STATE,
    }
)
UPSTREAM_FAULTS = frozenset(
    {
        FaultKind.DOWN,
        FaultKind.AUTH,
        FaultKind.SLOW,
        FaultKind.HTML,
        FaultKind.TRUNCATED,
        FaultKind.RATE_LIMIT,
        FaultKind.FLAKY,
        FaultKind.FROZEN,
        FaultKind.DOUBTFUL_LIST,
        FaultKind.NOT_FOUND,
        FaultKind.MALFORMED,
        FaultKind.UNKNOWN_STATE,
    }
)
PLAYBACK_FAULTS = frozenset(
    {
        FaultKind.PLAYLIST_FROZEN,
        FaultKind.SEGMENTS_MISSING,
        FaultKind.CDN_STALE,
        FaultKind.AUDIO_MISSING,
        FaultKind.SLOW_EDGE,
    }
)
"""Faults of the HLS origin, of one stream or of all."""
_RESPONSE_FAULTS = frozenset({FaultKind.NOT_FOUND, FaultKind.MALFORMED})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Times are Unix seconds; ``end`` is infinite if the fault lasts until it is cleared."""

    number: int
    platform: Platform
    index: int | None
    """The stream's position in the fleet; None for the platform's whole API."""
    kind: FaultKind
    start: float
    end: float

    def is_active(self, now: float) -> bool:
        """Return whether the fault is active at ``now``."""
        return self.start <= now < self.end


class FaultLog:
    """All injected faults, oldest first."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._stream_faults: dict[int, tuple[Fault, ...]] = {}
        self._upstream: dict[int, Fault] = {}
        self._playback: dict[int, Fault] = {}
        """Faults of the HLS origin. They have no effect on the fleet."""
        self._injected = 0
        self.changed_indexes: list[int | None] = []
        """Stream index of each injected and each ended fault; caches use it to see what is outdated."""

    @property
    def change_count(self) -> int:
        """Number of injected and ended faults."""
        return len(self.changed_indexes)

    def inject(
        self, platform: Platform, index: int | None, kind: FaultKind, now: float, seconds: float = math.inf
    ) -> Fault:
        """Start a fault now, for ``seconds`` (by default until it is cleared)."""
        self._injected += 1
        fault = Fault(self._injected, platform, index, kind, now, now + seconds)
        self._faults[fault.number] = fault
        if platform is Platform.HLS:
            self._playback = {number: old for number, old in self._playback.items() if old.end > now}
            self._playback[fault.number] = fault
            return fault
        self.changed_indexes.append(index)
        if index is None:
            self._upstream = {number: old for number, old in self._upstream.items() if old.end > now}
            self._upstream[fault.number] = fault
        else:
            self._stream_faults[index] = (*self._stream_faults.get(index, ()), fault)
        return fault

    def stream_faults(self, index: int) -> tuple[Fault, ...]:
        """Return all faults of a stream, past ones too; a new tuple whenever one changes."""
        return self._stream_faults.get(index, ())

    def upstream_fault(self, platform: Platform, now: float) -> FaultKind | None:
        """Return the active fault of a platform's API; the latest one takes precedence."""
        fault = self._latest_upstream_fault(platform, now)
        return None if fault is None else fault.kind

    def _latest_upstream_fault(self, platform: Platform, now: float) -> Fault | None:
        latest = None
        for fault in self._upstream.values():
            if fault.platform is platform and fault.is_active(now):
                latest = fault
        return latest

    def response_fault(self, index: int, now: float) -> FaultKind | None:
        """Return the active fault of the responses about one stream; the latest one takes precedence."""
        latest = None
        for fault in self.stream_faults(index):
            if fault.kind in _RESPONSE_FAULTS and fault.is_active(now):
                latest = fault.kind
        return latest

    def has_stream_fault(self, index: int, kind: FaultKind, now: float) -> bool:
        """Return whether a stream has an active fault of this kind."""
        return any(fault.kind is kind and fault.is_active(now) for fault in self.stream_faults(index))

    def has_unknown_state(self, platform: Platform, index: int, now: float) -> bool:
        """Return whether the state of this stream, or of all its platform's streams, has an unknown format."""
        if self.upstream_fault(platform, now) is FaultKind.UNKNOWN_STATE:
            return True
        return self.has_stream_fault(index, FaultKind.UNKNOWN_STATE, now)

    def measured_at(self, platform: Platform, now: float) -> float:
        """Return the time of the platform's statistics: ``now``, or the time when they were frozen."""
        fault = self._latest_upstream_fault(platform, now)
        return fault.start if fault is not None and fault.kind is FaultKind.FROZEN else now

    def playback_fault_start(self, index: int, kind: FaultKind, now: float) -> float | None:
        """Return when the active playback fault of this kind began, for this stream or all; the earliest if several."""
        return min(
            (
                fault.start
                for fault in self._playback.values()
                if fault.kind is kind and fault.index in (None, index) and fault.is_active(now)
            ),
            default=None,
        )

    def active_faults(self, now: float) -> Iterator[Fault]:
        """Yield the faults that are active at ``now``, oldest first."""
        return (fault for fault in self._faults.values() if fault.is_active(now))

    def clear(self, now: float, platform: Platform | None = None, index: int | None = None) -> int:
        """End the active faults (of one platform or stream) and return how many there were."""
        chosen = [
            fault
            for fault in self.active_faults(now)
            if platform in (None, fault.platform) and index in (None, fault.index)
        ]
        for fault in chosen:
            self.end(fault, now)
        return len(chosen)

    def end(self, fault: Fault, now: float) -> None:
        """End a fault now, unless it has already ended."""
        current = self._faults[fault.number]
        if current.end <= now:
            return
        ended = replace(current, end=now)
        self._faults[fault.number] = ended
        if ended.platform is Platform.HLS:
            self._playback.pop(ended.number, None)
            return
        self.changed_indexes.append(fault.index)
        if ended.index is None:
            self._upstream.pop(ended.number, None)
        else:
            faults = self._stream_faults[ended.index]
            self._stream_faults[ended.index] = tuple(ended if old.number == ended.number else old for old in faults)
