"""Collect the text of a response, and render the objects that are not cached.

These are few: upstreams, analytics, platform metrics and histograms. ``render_cache`` renders the streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Final, Generic, NamedTuple, TypeVar

from exporter.metrics.families.family import STREAM_LABELS, Family, ModelFamily
from exporter.metrics.families.stream_families import SampledFamily
from exporter.metrics.rendering.columns import NumberColumn, RowLabels
from exporter.metrics.rendering.lines import (
    NO_LINES,
    LabelCache,
    Lines,
    ObjectLabels,
    join_labelled_lines,
    reopen_labels,
)
from exporter.metrics.text_format import bound, heading, number
from exporter.model import SampledHistogram, UpstreamState

T = TypeVar("T")


class Counts(NamedTuple):
    """Number of series and of duplicates in a response."""

    series: int = 0
    duplicates: int = 0
    """Objects, or label sets of one object, dropped because an earlier one has the same labels."""


NOTHING: Final = Counts()


class Rendering:
    """Collects the text of families and counts their series."""

    def __init__(self, write: Callable[[bytes], object] | None = None, after: Counts = NOTHING) -> None:
        """``write`` takes the text, by default into ``chunks``; ``after`` counts the preceding text of the response."""
        self.chunks: list[bytes] = []
        self.series, self.duplicates = after
        self._write = write or self.chunks.append

    @property
    def counts(self) -> Counts:
        """Counts so far."""
        return Counts(self.series, self.duplicates)

    @property
    def text(self) -> bytes:
        """The text in ``chunks``."""
        return b"".join(self.chunks)

    def add(self, family: Family, lines: Sequence[str]) -> None:
        """Add a family unless it has no lines."""
        self.add_block(family.name, family.kind, family.help, lines)

    def add_block(self, name: str, kind: str, help_: str, lines: Sequence[str]) -> None:
        """Add a family by name, type and HELP text unless it has no lines."""
        if lines:
            self.series += len(lines)
            self._write((heading(name, kind, help_) + "".join(lines)).encode())

    def add_lines(self, family: Family, blocks: Sequence[Lines]) -> None:
        """Add a family with joined lines unless it has none."""
        blocks = [lines for lines in blocks if lines.series]
        if blocks:
            # Each line starts with the line feed of the previous one.
            self._write(_heading(family.name, family.kind, family.help))
            for text, series, duplicates in blocks:
                self.series += series
                self.duplicates += duplicates
                self._write(text)
            self._write(b"\n")

    def add_text(self, text: bytes) -> None:
        """Add text that was rendered elsewhere."""
        self.series += text.count(b"\n") - text.count(b"\n#") - text.startswith(b"#")
        self._write(text)


@cache
def _heading(name: str, kind: str, help_: str) -> bytes:
    """Return the heading of a family without its last line feed."""
    return heading(name, kind, help_)[:-1].encode()


class Table(Generic[T]):
    """Objects and their label texts."""

    def __init__(
        self, name: str, labels: Sequence[bytes], items: Sequence[T], excluded: frozenset[str] = frozenset()
    ) -> None:
        """``name`` is the cache key of the label texts; ``excluded`` are the names of families to leave out."""
        self.name = name
        self.labels = RowLabels(labels)
        self.items = items
        self.excluded = excluded

    def lines(self, family: ModelFamily[T], cache: LabelCache) -> Lines:
        """Return the lines of a family."""
        if family.name in self.excluded:
            return NO_LINES
        if family.value is not None:
            numbers = NumberColumn.from_values(list(map(family.value, self.items)))
            return NO_LINES if numbers is None else numbers.lines(family.name, self.labels)
        if family.values is None:
            return NO_LINES
        names = family.additional_labels
        return join_labelled_lines(
            family.name,
            self.labels.reopened,
            list(map(family.values, self.items)),
            lambda values: cache.label_texts(f"{self.name} {family.name}", names, values),
        )


class UniqueTables:
    """Creates tables of one type of object without duplicate labels, which would fail the scrape."""

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering
        self._seen: set[bytes] = set()

    def table(
        self,
        name: str,
        labels: Sequence[bytes],
        items: Sequence[T],
        excluded: frozenset[str] = frozenset(),
    ) -> Table[T]:
        """Create a table of these objects, except those with the label text of an earlier one."""
        new = set(labels)
        if len(new) == len(labels) and self._seen.isdisjoint(new):
            self._seen |= new
            return Table(name, labels, items, excluded)
        first: dict[bytes, Any] = {}
        for text, item in zip(labels, items, strict=True):
            if text not in self._seen:
                first.setdefault(text, item)
        self._seen |= new
        self._rendering.duplicates += len(labels) - len(first)
        return Table(name, list(first), list(first.values()), excluded)


def render_histogram(
    rendering: Rendering, family: SampledFamily, upstreams: Sequence[UpstreamState], cache: LabelCache
) -> None:
    """Render a family of sampled histograms: first of upstreams, then of single streams."""
    shared: list[tuple[ObjectLabels, SampledHistogram]] = []
    single: list[tuple[ObjectLabels, SampledHistogram]] = []
    for state in upstreams:
        for histogram in state.sampled if family.name not in state.excluded else ():
            if histogram.family != family.name:
                continue
            if histogram.stream is None:
                values: tuple[str, ...] = (state.platform, state.upstream, histogram.protocol)
                shared.append(((values, state.labels), histogram))
            else:
                values = (state.platform, state.upstream, histogram.stream, histogram.protocol)
                single.append(((values, state.labels), histogram))
    if not shared and not single:
        return
    labels = [
        *cache.object_texts(family.name, family.labels, [key for key, _ in shared]),
        *cache.object_texts(f"{family.name} of streams", (*STREAM_LABELS, "protocol"), [key for key, _ in single]),
    ]
    histograms = [histogram for _, histogram in (*shared, *single)]
    table = UniqueTables(rendering).table(family.name, labels, histograms)
    rendering.add(family, list(_histogram_lines(family, table.labels.closed, table.items)))


def _histogram_lines(
    family: SampledFamily, labels: Sequence[bytes], histograms: Sequence[SampledHistogram]
) -> Iterator[str]:
    bounds = [bound(upper) for upper in (*family.bounds, math.inf)]
    for closed, histogram in zip(labels, histograms, strict=True):
        text = closed.decode()
        start = f"{family.name}_bucket{{{reopen_labels(closed).decode()}"
        cumulated = list(accumulate(histogram.counts))
        for upper, count in zip(bounds, cumulated, strict=True):
            yield f'{start}le="{upper}"}} {count}\n'
        yield f"{family.name}_count{{{text}{cumulated[-1]}\n"
        yield f"{family.name}_sum{{{text}{number(histogram.sum)}\n"
