"""The order of Livepeer's list of streams: newest sign of life first."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from exporter.simulator.fleet import Fleet
from exporter.simulator.incremental_list import IncrementalList
from exporter.simulator.livepeer_records import broadcast_of
from exporter.simulator.streams import Platform, Stream


class Row(NamedTuple):
    """A stream's place in the list: rows sort as the list is ordered."""

    age: int
    """Less for a later sign of life."""
    number: int
    """The stream's index, so that no two rows are equal."""
    active: bool
    stream: Stream


class Listing:
    """The rows in order; what did not change since the last question is neither asked nor sorted again."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._rows: list[Row] = []
        self._active: list[Row] = []

    @cached_property
    def looks(self) -> IncrementalList[Row]:
        """Every stream's row."""
        return IncrementalList(self._fleet.of(Platform.LIVEPEER), self._fleet.faults, self._row)

    def at(self, now: float, *, only_active: bool) -> list[Row]:
        """All rows, or those of the streams that the platform believes to be active."""
        places = self.looks.look(now)
        if places:
            moved = {self.looks.answers[place].number for place in places}
            rows = [row for row in self._rows if row.number not in moved]
            rows += [self.looks.answers[place] for place in places]
            # Two runs in order, nearly: quick to sort.
            rows.sort()
            self._rows = rows
            self._active = [row for row in rows if row.active]
        return self._active if only_active else self._rows

    def _row(self, stream: Stream, now: float) -> tuple[Row, float]:
        broadcast = broadcast_of(self._fleet, stream, now)
        return Row(-broadcast.last_seen, stream.index, broadcast.active, stream), broadcast.unchanged_until
