"""Upstreams, figures and numbers, beside their label text: there are few of them, read anew for every answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, Part, ViewFamily
from exporter.metrics.rendering.columns import Numbers, RowLabels
from exporter.metrics.rendering.label_texts import KeptTexts, OwnTexts
from exporter.metrics.rendering.lines import NONE, Lines, labelled_lines
from exporter.metrics.rendering.text_assembly import Rendering

T = TypeVar("T")


class Table(Generic[T]):
    """Objects, and the label text of each."""

    def __init__(
        self, name: str, labels: Sequence[bytes], items: Sequence[T], excluded: frozenset[str] = frozenset()
    ) -> None:
        """``name``: whose label texts they are; ``excluded``: the names of families that are left out."""
        self.name = name
        self.labels = RowLabels(labels)
        self.items = items
        self.excluded = excluded

    def lines(self, family: ViewFamily[T], texts: KeptTexts) -> Lines:
        """The lines of a family."""
        if family.name in self.excluded:
            return NONE
        if family.value is not None:
            numbers = Numbers.of(list(map(family.value, self.items)))
            return NONE if numbers is None else numbers.lines(family.name, self.labels)
        if family.values is None:
            return NONE
        common = len(STREAM_LABELS if family.part is Part.STREAMS else UPSTREAM_LABELS)
        own_texts = OwnTexts(texts, f"{self.name} {family.name}", family.labels[common:])
        return labelled_lines(family.name, self.labels.opened, list(map(family.values, self.items)), own_texts)


class Seen:
    """The label texts of all tables of one kind: a series that stood twice would fail the scrape."""

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
        """A table of these objects, but for those whose label text an earlier one has."""
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
