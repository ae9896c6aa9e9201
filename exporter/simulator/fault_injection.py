"""Faults by command: what is wrong with which stream or platform, from when to when.

A fault that is cleared keeps its past: what it took from a byte counter never comes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.simulator.streams import Platform


class FaultKind(StrEnum):
    """What can be ordered."""

    UNHEALTHY = "unhealthy"
    STALL = "stall"
    BITRATE_LOW = "bitrate_low"
    END = "end"
    SLOW_TRANSCODE = "slow_transcode"
    FLAP = "flap"
    DOWN = "down"
    AUTH = "auth"
    SLOW = "slow"
    HTML = "html"
    TRUNCATED = "truncated"
    RATE_LIMIT = "rate_limit"


STREAM_FAULTS = frozenset(
    {
        FaultKind.UNHEALTHY,
        FaultKind.STALL,
        FaultKind.BITRATE_LOW,
        FaultKind.END,
        FaultKind.SLOW_TRANSCODE,
        FaultKind.FLAP,
    }
)
UPSTREAM_FAULTS = frozenset(FaultKind) - STREAM_FAULTS


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Times are unix seconds; ``end`` is infinite until somebody clears it."""

    number: int
    platform: Platform
    index: int | None
    """The stream's place in the fleet; None: the platform's whole API."""
    kind: FaultKind
    start: float
    end: float

    def active(self, now: float) -> bool:
        """Whether it acts at ``now``."""
        return self.start <= now < self.end


class FaultBook:
    """Every fault that was ever ordered, in the order of the orders."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._of_stream: dict[int, tuple[Fault, ...]] = {}
        self._upstream: dict[int, Fault] = {}
        self._ordered = 0
        self.touched: list[int | None] = []
        """The ``index`` of each order's and each end's fault: whoever remembers work knows by it what is outdated."""

    @property
    def changes(self) -> int:
        """How many orders and ends there were."""
        return len(self.touched)

    def order(
        self, platform: Platform, index: int | None, kind: FaultKind, now: float, seconds: float = math.inf
    ) -> Fault:
        """Begin a fault now, for so many seconds (default: until it is cleared)."""
        self._ordered += 1
        self.touched.append(index)
        fault = Fault(self._ordered, platform, index, kind, now, now + seconds)
        self._faults[fault.number] = fault
        if index is None:
            self._upstream = {number: old for number, old in self._upstream.items() if old.end > now}
            self._upstream[fault.number] = fault
        else:
            self._of_stream[index] = (*self._of_stream.get(index, ()), fault)
        return fault

    def of_stream(self, index: int) -> tuple[Fault, ...]:
        """All faults of a stream, past ones too; a new tuple whenever something changed."""
        return self._of_stream.get(index, ())

    def of_upstream(self, platform: Platform, now: float) -> FaultKind | None:
        """What is wrong with a platform's API now; the latest order wins."""
        latest = None
        for fault in self._upstream.values():
            if fault.platform is platform and fault.active(now):
                latest = fault.kind
        return latest

    def active(self, now: float) -> Iterator[Fault]:
        """What acts at ``now``, oldest order first."""
        return (fault for fault in self._faults.values() if fault.active(now))

    def clear(self, now: float, platform: Platform | None = None, index: int | None = None) -> int:
        """End what acts now (of one platform, of one stream); how many faults that were."""
        chosen = [
            fault for fault in self.active(now) if platform in (None, fault.platform) and index in (None, fault.index)
        ]
        for fault in chosen:
            self.end(fault, now)
        return len(chosen)

    def end(self, fault: Fault, now: float) -> None:
        """End one fault now, if it has not ended already."""
        current = self._faults[fault.number]
        if current.end <= now:
            return
        self.touched.append(fault.index)
        ended = replace(current, end=now)
        self._faults[fault.number] = ended
        if ended.index is None:
            self._upstream.pop(ended.number, None)
        else:
            of_stream = self._of_stream[ended.index]
            self._of_stream[ended.index] = tuple(ended if old.number == ended.number else old for old in of_stream)
