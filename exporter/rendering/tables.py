"""The objects that an answer speaks of, beside their label text: what the families are read from, as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from exporter.catalogue.family import STREAM_LABELS, UPSTREAM_LABELS, Part, ViewFamily
from exporter.rendering.labels import KeptTexts, OwnTexts
from exporter.rendering.lines import NONE, Lines, labelled_lines, single_lines, word_lines
from exporter.rendering.text import Rendering

T = TypeVar("T")


class Table(NamedTuple, Generic[T]):
    """Objects, and the label text of each."""

    name: str
    """Whose label texts they are."""
    labels: Sequence[bytes]
    items: Sequence[T]
    feeds: frozenset[str] | None = None
    """What the platform of these objects can say of them; None: anything."""

    def lines(self, family: ViewFamily[T], texts: KeptTexts) -> Lines:
        """The lines of a family."""
        if self.feeds is not None and family.fields and family.fields.isdisjoint(self.feeds):
            return NONE
        if family.value is not None:
            return single_lines(family.name, self.labels, list(map(family.value, self.items)))
        if family.values is None:
            return NONE
        having = self if family.has is None else self.having(family.has)
        if not having.items:
            return NONE
        common = len(STREAM_LABELS if family.part is Part.STREAMS else UPSTREAM_LABELS)
        own_texts = OwnTexts(texts, f"{self.name} {family.name}", family.labels[common:])
        if family.words:
            return word_lines(family.name, having.labels, _words(having.items, family.words), own_texts)
        return labelled_lines(family.name, having.labels, list(map(family.values, having.items)), own_texts)

    def having(self, has: Callable[[T], object]) -> Table[T]:
        """The rows of the objects for which ``has`` is not falsy."""
        wanted = list(map(has, self.items))
        if all(wanted):
            return self
        return self._replace(labels=list(compress(self.labels, wanted)), items=list(compress(self.items, wanted)))


def _words(items: Sequence[object], attributes: Sequence[str]) -> list[tuple[str, ...]]:
    read: Iterator[Any] = map(attrgetter(*attributes), items)
    return list(read) if len(attributes) > 1 else [(word,) for word in read]


class Seen:
    """The label texts of all tables of one kind: a series that stood twice would fail the scrape."""

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering
        self._seen: set[bytes] = set()

    def table(
        self, name: str, labels: Sequence[bytes], items: Sequence[T], feeds: frozenset[str] | None = None
    ) -> Table[T]:
        """A table of these objects, but for those whose label text an earlier one has."""
        new = set(labels)
        if len(new) == len(labels) and self._seen.isdisjoint(new):
            self._seen |= new
            return Table(name, labels, items, feeds)
        first: dict[bytes, Any] = {}
        for text, item in zip(labels, items, strict=True):
            if text not in self._seen:
                first.setdefault(text, item)
        self._seen |= new
        self._rendering.duplicates += len(labels) - len(first)
        return Table(name, list(first), list(first.values()), feeds)
