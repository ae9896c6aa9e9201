"""One question about every stream of a list, asked again only of those whose answer may have changed since."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from exporter.simulator.fault_injection import FaultBook
from exporter.simulator.streams import Stream

T = TypeVar("T")


class IncrementalList(Generic[T]):
    """The present answer of every stream, in the order of the streams."""

    def __init__(
        self, streams: Sequence[Stream], faults: FaultBook, ask: Callable[[Stream, float], tuple[T, float]]
    ) -> None:
        """``ask``: a stream's answer at a moment, and until when it holds if no fault of the stream changes."""
        self.answers: list[T] = []
        self.asked = 0
        """How often a stream was asked, in all looks together."""
        self._streams = streams
        self._faults = faults
        self._ask = ask
        self._since = math.inf
        self._changes = 0
        self._until: list[float] = []
        self._due: list[tuple[float, int]] = []
        """A heap of (until, place). What is not a stream's last ``until`` any more is passed over."""

    def look(self, now: float) -> set[int]:
        """Bring ``answers`` up to ``now``; the places of those that were asked again."""
        if now < self._since:
            return self._look_round(now)
        places = self._touched()
        while self._due and self._due[0][0] <= now:
            until, place = heapq.heappop(self._due)
            if until == self._until[place]:
                places.add(place)
        if places:
            self._since = now
        for place in places:
            self.answers[place], until = self._put(place, now)
            heapq.heappush(self._due, (until, place))
        return places

    def _look_round(self, now: float) -> set[int]:
        """Ask everyone, as at first: time went back, and what held then is not known any more."""
        self._since, self._changes = now, self._faults.changes
        self._until = [0.0] * len(self._streams)
        found = [self._put(place, now) for place in range(len(self._streams))]
        self.answers = [answer for answer, _ in found]
        self._due = [(until, place) for place, (_, until) in enumerate(found)]
        heapq.heapify(self._due)
        return set(range(len(self._streams)))

    def _put(self, place: int, now: float) -> tuple[T, float]:
        self.asked += 1
        answer, until = self._ask(self._streams[place], now)
        self._until[place] = until
        return answer, until

    def _touched(self) -> set[int]:
        """The places of the streams whose faults have changed."""
        if self._changes == self._faults.changes:
            return set()
        indexes = set(self._faults.touched[self._changes :])
        self._changes = self._faults.changes
        return {place for place, stream in enumerate(self._streams) if stream.index in indexes}
