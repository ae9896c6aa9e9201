"""A value for every stream in a list, evaluated again only if it may have changed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from exporter.simulator.fault_injection import FaultLog
from exporter.simulator.simulated_streams import Stream

T = TypeVar("T")


class IncrementalList(Generic[T]):
    """The current value of every stream, in the order of the streams."""

    def __init__(
        self, streams: Sequence[Stream], faults: FaultLog, evaluate: Callable[[Stream, float], tuple[T, float]]
    ) -> None:
        """``evaluate`` returns a stream's value and until when it is valid, unless a fault of the stream changes."""
        self.values: list[T] = []
        self._streams = streams
        self._faults = faults
        self._evaluate = evaluate
        self._refreshed_at = math.inf
        self._changes = 0
        self._valid_until: list[float] = []
        self._due: list[tuple[float, int]] = []
        """Heap of (valid until, place). Entries that differ from ``_valid_until`` are outdated and skipped."""

    def refresh(self, now: float) -> set[int]:
        """Update ``values`` to ``now`` and return the places that were evaluated again."""
        if now < self._refreshed_at:
            return self._rebuild(now)
        places = self._changed_places()
        while self._due and self._due[0][0] <= now:
            valid_until, place = heapq.heappop(self._due)
            if valid_until == self._valid_until[place]:
                places.add(place)
        if places:
            self._refreshed_at = now
        for place in places:
            self.values[place], valid_until = self._evaluate_at(place, now)
            heapq.heappush(self._due, (valid_until, place))
        return places

    def _rebuild(self, now: float) -> set[int]:
        """Evaluate every stream: on the first call, and after the clock went back."""
        self._refreshed_at, self._changes = now, self._faults.change_count
        self._valid_until = [0.0] * len(self._streams)
        results = [self._evaluate_at(place, now) for place in range(len(self._streams))]
        self.values = [value for value, _ in results]
        self._due = [(valid_until, place) for place, (_, valid_until) in enumerate(results)]
        heapq.heapify(self._due)
        return set(range(len(self._streams)))

    def _evaluate_at(self, place: int, now: float) -> tuple[T, float]:
        value, valid_until = self._evaluate(self._streams[place], now)
        self._valid_until[place] = valid_until
        return value, valid_until

    def _changed_places(self) -> set[int]:
        """Return the places of the streams whose faults have changed."""
        if self._changes == self._faults.change_count:
            return set()
        indexes = set(self._faults.changed_indexes[self._changes :])
        self._changes = self._faults.change_count
        return {place for place, stream in enumerate(self._streams) if stream.index in indexes}
