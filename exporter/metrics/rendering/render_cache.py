"""What scrapes need of the streams of each upstream, prepared once for each poll and kept until the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, zip_longest
from operator import attrgetter
from typing import Final

from exporter.metrics.rendering.stream_renderer import Slice, reading
from exporter.model import UpstreamState
from exporter.store import Remembered

STREAMS_AT_ONCE: Final = 1_000
"""In one slice: few enough for the processor's cache, and for the event loop to get its turn between two steps."""
STREAMS_TOGETHER: Final = 50
"""Upstreams that have no more of them in all are prepared as one."""

_ALIKE: Final = attrgetter("feeds", "excluded")


class Prepared:
    """The streams of some upstreams, of which all the same is said. It keeps no view alive."""

    def __init__(self, views: Sequence[UpstreamState], seen: set[bytes], before: Prepared | None = None) -> None:
        """``seen``: the label texts that are taken; ``before``: what was prepared of the same upstreams earlier."""
        self.views = Remembered(*views)
        self.reading = reading(views[0].feeds, views[0].excluded)
        states = list(chain.from_iterable(view.streams for view in views))
        parts = [states[start : start + STREAMS_AT_ONCE] for start in range(0, len(states), STREAMS_AT_ONCE)]
        earlier: list[Slice] = before.slices[: len(parts)] if before else []
        self.slices: list[Slice] = [Slice(part, seen, self.reading, then) for part, then in zip_longest(parts, earlier)]
        self.owners = frozenset(chain.from_iterable(part.owners for part in self.slices))
        """The platforms and upstreams whose streams these are."""


class RenderCache:
    """The streams of all views. Safe to be asked by several threads: what one of them prepares the others wait for."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Prepared] = {}
        self._preparing = threading.Lock()

    def prepare(self, view: UpstreamState) -> None:
        """Do it now for an upstream with many streams; the few of others are left to those who ask."""
        if len(view.streams) > STREAMS_TOGETHER:
            with self._preparing:
                self._known |= [self._prepared([view])]

    def of(self, views: Sequence[UpstreamState]) -> list[Prepared]:
        """Those of these views, in their order; prepared now where it has not been done yet."""
        groups = [list(group) for alike in groupby(views, _ALIKE) for group in _together(alike[1])]
        with self._preparing:
            kept = self._known = dict(map(self._prepared, groups))
        found = list(kept.values())
        owners = [owner for prepared in found for owner in prepared.owners]
        if len(found) == len(groups) and len(set(owners)) == len(owners):
            return found
        # a stream of one view may stand in another too, and a series that stands twice would fail the scrape
        seen: set[bytes] = set()
        return [Prepared(group, seen) for group in groups]

    def _prepared(self, group: list[UpstreamState]) -> tuple[tuple[str, ...], Prepared]:
        names = tuple(view.upstream for view in group)
        known = self._known.get(names)
        return names, known if known and known.views.are_still(*group) else Prepared(group, set(), known)


def _together(views: Iterator[UpstreamState]) -> Iterator[list[UpstreamState]]:
    """Neighbours with few streams are together, those with many alone."""
    group: list[UpstreamState] = []
    streams = 0
    for view in views:
        streams += len(view.streams)
        if group and streams > STREAMS_TOGETHER:
            yield group
            group, streams = [], len(view.streams)
        group.append(view)
    yield group
