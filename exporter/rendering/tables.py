"""The objects that an answer speaks of, beside their label text: what the families are read from, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import compress
from operator import attrgetter
from typing import Any, Generic, TypeVar

from exporter.catalogue.family import STREAM_LABELS, UPSTREAM_LABELS, Part, ViewFamily
from exporter.rendering.labels import KeptTexts, OwnTexts, opened
from exporter.rendering.lines import NONE, Lines, few_lines, labelled_lines, single_lines, word_lines
from exporter.rendering.text import Rendering

T = TypeVar("T")

FEW = 3
"""Rows that are read one by one."""


class Table(Generic[T]):
    """Objects, and the label text of each."""

    def __init__(
        self,
        name: str,
        labels: Sequence[bytes],
        items: Sequence[T],
        feeds: frozenset[str] | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> None:
        """``name``: whose label texts they are; ``feeds``: what the objects' platform can say, None: anything.

        ``excluded``: the names of families that are left out.
        """
        self.name = name
        self.labels = labels
        self.items = items
        self.feeds = feeds
        self.excluded = excluded
        self._parts: dict[str, Sequence[object]] = {"": items}

    def lines(self, family: ViewFamily[T], texts: KeptTexts) -> Lines:
        """The lines of a family."""
        if family.name in self.excluded or not family.is_fed(self.feeds):
            return NONE
        if family.value is not None:
            if len(self.items) <= FEW:
                return few_lines(family.name, self.labels, map(family.value, self.items))
            column = self.column(family.path) if family.path else list(map(family.value, self.items))
            return single_lines(family.name, self.labels, column)
        if family.values is None:
            return NONE
        having = self.having(family.has) if family.has else self
        if not having.items:
            return NONE
        common = len(STREAM_LABELS if family.part is Part.STREAMS else UPSTREAM_LABELS)
        own_texts = OwnTexts(texts, f"{self.name} {family.name}", family.labels[common:])
        if family.words:
            words = list(zip(*map(having.column, family.words), strict=True))
            return word_lines(family.name, having.opened, words, own_texts)
        return labelled_lines(family.name, having.opened, list(map(family.values, having.items)), own_texts)

    @cached_property
    def opened(self) -> list[bytes]:
        """The label texts of the objects, for more labels to follow."""
        return list(map(opened, self.labels))

    def column(self, path: str) -> list[Any]:
        """An attribute of all the objects; of those of their parts (``sample``) that are read again and again."""
        part, _, attribute = path.rpartition(".")
        if part not in self._parts:
            self._parts[part] = self.column(part)
        return list(map(attrgetter(attribute), self._parts[part]))

    def having(self, path: str) -> Table[T]:
        """The rows of the objects for which the attribute is not falsy."""
        wanted = self.column(path)
        if all(wanted):
            return self
        labels, items = list(compress(self.labels, wanted)), list(compress(self.items, wanted))
        return Table(self.name, labels, items, self.feeds, self.excluded)


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
        feeds: frozenset[str] | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> Table[T]:
        """A table of these objects, but for those whose label text an earlier one has."""
        new = set(labels)
        if len(new) == len(labels) and self._seen.isdisjoint(new):
            self._seen |= new
            return Table(name, labels, items, feeds, excluded)
        first: dict[bytes, Any] = {}
        for text, item in zip(labels, items, strict=True):
            if text not in self._seen:
                first.setdefault(text, item)
        self._seen |= new
        self._rendering.duplicates += len(labels) - len(first)
        return Table(name, list(first), list(first.values()), feeds, excluded)
