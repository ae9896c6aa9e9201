"""What a family says of many objects, kept as text by columns: a scrape has but to put names and labels to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain, compress, repeat
from operator import is_not
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from exporter.metrics.families.family import Number
from exporter.metrics.rendering.label_texts import closed, opened
from exporter.metrics.rendering.lines import Lines, joined
from exporter.metrics.rendering.numbers import ABSENT, number_text
from exporter.metrics.text_format import number

V = TypeVar("V")

Rows = bytes | None
"""1 for each row that has something to say, 0 for the others; None: all have."""


_GAP: Final = ABSENT[:1]
"""A letter is found in less time than the word."""
_THE_OTHERS: Final = bytes.maketrans(b"\0\1", b"\1\0")
_FEW: Final = 8
"""Where one of the first rows is missing, the column is not tried as a whole."""


class RowLabels:
    """The label texts of the rows, for one answer."""

    def __init__(self, closed: Sequence[bytes]) -> None:
        self.closed = closed
        """With their end: what follows is the number."""
        self._chosen: dict[Rows, Sequence[bytes]] = {None: closed}

    @cached_property
    def opened(self) -> Sequence[bytes]:
        """With a comma, for more labels to follow."""
        return list(map(opened, self.closed))

    def closed_of(self, rows: Rows) -> Sequence[bytes]:
        """Those of these rows, found once: many families have the same ones."""
        if rows not in self._chosen:
            self._chosen[rows] = chosen(self.closed, rows)
        return self._chosen[rows]


class Column(Protocol):
    """What a family says of the rows of a slice."""

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """Its lines, by the family's name."""


class Texts(NamedTuple, Generic[V]):
    """A text for each row, and the columns of what it is made of."""

    columns: Sequence[Sequence[Any]]
    """Of values that are hashable, or are mappings of such."""
    texts: Sequence[V]

    def of(self, columns: Sequence[Sequence[Any]], make: Callable[[Any], V]) -> Texts[V]:
        """The texts of other rows: those that were there are used again, and all as they are when nothing changed.

        ``make``: gets a row as a tuple, or what stands in it where there is one column; a mapping as its items.
        """
        if columns == self.columns:
            return self
        wanted, known = _rows(columns), dict(zip(_rows(self.columns), self.texts, strict=True))
        known |= {row: make(row) for row in set(wanted) - known.keys()}
        if len(columns) == 1:
            # equal ones are kept once, as their texts are: of thousands of objects most say the same
            same = dict(zip(wanted, columns[0], strict=True))
            columns = [list(map(same.__getitem__, wanted))]
        return Texts(columns, list(map(known.__getitem__, wanted)))


class Numbers(NamedTuple):
    """At most one number for each row."""

    text: bytes
    """The numbers, with commas between them."""
    rows: Rows

    @classmethod
    def of(cls, column: Sequence[Number | None], before: Column | None = None) -> Numbers | None:
        """The numbers of the rows; None where no row has any. ``before``: its rows are tried first."""
        if isinstance(before, Numbers) and before.rows is not None and len(before.rows) == len(column):
            text = number_text(list(compress(column, before.rows)))
            if _GAP not in text and {None}.issuperset(compress(column, before.rows.translate(_THE_OTHERS))):
                return cls(text, before.rows)
        if column and None not in column[:_FEW]:
            text = number_text(column)
            if _GAP not in text:
                return cls(text, None)
        rows = bytes(map(is_not, column, repeat(None)))
        if 1 not in rows:
            return None
        text = number_text(list(compress(column, rows)))
        if _GAP not in text:
            return cls(text, rows)
        # some of what is there is not finite
        return cls.of([None if value is None or number(value) is None else value for value in column])

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """A line for each number."""
        return joined(name, labels.closed_of(self.rows), self.text.split(b","))


class Words(NamedTuple):
    """At most one line for each row, told apart by labels of its own."""

    texts: Sequence[bytes]
    """These labels, and the number."""
    rows: Rows

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """A line for each text."""
        return joined(name, chosen(labels.opened, self.rows), self.texts)


class EntryTexts(NamedTuple):
    """The lines of one row, told apart by a label of their own."""

    texts: tuple[bytes, ...]
    """This label, and the number."""
    duplicates: int
    """Lines left out because an earlier one has the same label."""

    @classmethod
    def of(cls, name: str, entries: Mapping[str, Number]) -> EntryTexts:
        """``name``: of the label whose values the keys are."""
        texts: dict[bytes, bytes] = {}
        present = 0
        for key, value in entries.items():
            written = number(value)
            if written is not None:
                present += 1
                label = closed((name,), (key,))
                texts.setdefault(label, label + written.encode())
        return cls(tuple(texts.values()), present - len(texts))


class Entries(NamedTuple):
    """Any number of lines for each row."""

    source: Texts[EntryTexts]
    """What the rest is made of."""
    rows: Rows
    texts: Sequence[bytes]
    counts: Sequence[int]
    """How many of the texts each of these rows has."""
    duplicates: int

    @classmethod
    def of(cls, source: Texts[EntryTexts], rows: Rows, before: Column | None) -> Entries:
        """The lines of these rows; those of ``before`` where it is made of the same."""
        if isinstance(before, Entries) and before.source is source and before.rows == rows:
            return before
        texts, duplicates = zip(*source.texts, strict=True)
        return cls(source, rows, list(chain.from_iterable(texts)), list(map(len, texts)), sum(duplicates))

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """A line for each text."""
        ahead = chain.from_iterable(map(repeat, chosen(labels.opened, self.rows), self.counts))
        return joined(name, list(ahead), self.texts)._replace(duplicates=self.duplicates)


def _rows(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """What the columns say, row by row, such that it can be looked up."""
    if len(columns) > 1:
        return list(zip(*columns, strict=True))
    (column,) = columns or [()]
    return [tuple(each.items()) for each in column] if column and isinstance(column[0], Mapping) else column


def chosen(column: Sequence[V], rows: Rows) -> Sequence[V]:
    """The column's values in these rows."""
    return column if rows is None else list(compress(column, rows))
