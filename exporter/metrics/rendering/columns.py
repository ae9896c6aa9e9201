"""Text of metric families by column, for many objects. A scrape adds only the family's name and the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property, reduce
from itertools import chain, compress, repeat
from operator import attrgetter, iconcat, is_not
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

from msgspec import Struct
from msgspec.structs import astuple

from exporter.metrics.families.family import Number
from exporter.metrics.rendering.lines import ABSENT, Lines, closed_labels, join_lines, number_text, reopen_labels
from exporter.metrics.text_format import number

V = TypeVar("V")

Rows = bytes | None
"""1 for each row with a sample and 0 for the others; None if all rows have one."""

_GAP: Final = ABSENT[:1]
"""First letter of ``ABSENT``, because a single letter is found faster."""
_INVERTED: Final = bytes.maketrans(b"\0\1", b"\1\0")
_PROBED_ROWS: Final = 8
"""Number of rows to check first: if one has no value, the column cannot be rendered without selecting rows."""


class RowLabels:
    """The label texts of the rows, for one response."""

    def __init__(self, closed: Sequence[bytes]) -> None:
        self.closed = closed
        """Complete label texts; the number follows."""
        self._selected: dict[Rows, Sequence[bytes]] = {None: closed}

    @cached_property
    def reopened(self) -> Sequence[bytes]:
        """Label texts that end with a comma; more labels follow."""
        return list(map(reopen_labels, self.closed))

    def select_closed(self, rows: Rows) -> Sequence[bytes]:
        """Return the closed labels of these rows; cached, because many families have the same rows."""
        if rows not in self._selected:
            self._selected[rows] = select_rows(self.closed, rows)
        return self._selected[rows]


class Column(Protocol):
    """One family for the rows of a chunk."""

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """Return the lines, given the family's name."""


class RowTexts(NamedTuple, Generic[V]):
    """A text for each row, and the columns that it was created from."""

    columns: Sequence[Sequence[Any]]
    """Columns of hashable values, or of mappings of hashable values."""
    texts: Sequence[V]

    def update(self, columns: Sequence[Sequence[Any]], create: Callable[[Any], V]) -> RowTexts[V]:
        """Return the texts of other rows, reusing known ones; the same object if nothing changed.

        ``create`` is called with a row as a tuple, or with the value if there is only one column. Mappings are passed
        as tuples of their items.
        """
        if columns == self.columns:
            return self
        wanted, known = _row_keys(columns), dict(zip(_row_keys(self.columns), self.texts, strict=True))
        known |= {row: create(row) for row in set(wanted) - known.keys()}
        if len(columns) == 1:
            # Keep equal values only once, like their texts: thousands of objects share a few values.
            same = dict(zip(wanted, columns[0], strict=True))
            columns = [list(map(same.__getitem__, wanted))]
        return RowTexts(columns, list(map(known.__getitem__, wanted)))


class NumberColumn(NamedTuple):
    """At most one number for each row."""

    text: bytes
    """The numbers joined by commas."""
    rows: Rows

    @classmethod
    def from_values(cls, column: Sequence[Number | None], before: Column | None = None) -> NumberColumn | None:
        """Render the numbers; None if no row has one. The rows of ``before`` are tried first."""
        if isinstance(before, NumberColumn) and before.rows is not None and len(before.rows) == len(column):
            text = number_text(list(compress(column, before.rows)))
            if _GAP not in text and {None}.issuperset(compress(column, before.rows.translate(_INVERTED))):
                return cls(text, before.rows)
        if column and None not in column[:_PROBED_ROWS]:
            text = number_text(column)
            if _GAP not in text:
                return cls(text, None)
        rows = bytes(map(is_not, column, repeat(None)))
        if 1 not in rows:
            return None
        text = number_text(list(compress(column, rows)))
        if _GAP not in text:
            return cls(text, rows)
        # Some values are not finite.
        return cls.from_values([None if value is None or number(value) is None else value for value in column])

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """Return a line for each number."""
        return join_lines(name, labels.select_closed(self.rows), self.text.split(b","))


class WordColumn(NamedTuple):
    """At most one line with the value 1 for each row, with additional labels."""

    texts: Sequence[bytes]
    """The additional labels and the number."""
    rows: Rows

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """Return a line for each text."""
        return join_lines(name, select_rows(labels.reopened, self.rows), self.texts)


class EntryTexts(NamedTuple):
    """The lines of one row, which differ in one label."""

    texts: tuple[bytes, ...]
    """The label and the number."""
    duplicates: int
    """Number of lines dropped because an earlier one has the same label."""

    @classmethod
    def from_entries(cls, name: str, entries: Mapping[str, Number]) -> EntryTexts:
        """Render the entries; their keys are the values of the label ``name``."""
        texts: dict[bytes, bytes] = {}
        present = 0
        for key, value in entries.items():
            written = number(value)
            if written is not None:
                present += 1
                label = closed_labels((name,), (key,))
                texts.setdefault(label, label + written.encode())
        return cls(tuple(texts.values()), present - len(texts))


class EntryColumn(NamedTuple):
    """Any number of lines for each row."""

    source: RowTexts[EntryTexts]
    """Texts that the other fields were created from."""
    rows: Rows
    texts: Sequence[bytes]
    counts: Sequence[int]
    """Number of texts of each row."""
    duplicates: int

    @classmethod
    def from_texts(cls, source: RowTexts[EntryTexts], rows: Rows, before: Column | None) -> EntryColumn:
        """Flatten the lines of these rows; return ``before`` if it was created from the same texts."""
        if isinstance(before, EntryColumn) and before.source is source and before.rows == rows:
            return before
        texts, duplicates = zip(*source.texts, strict=True)
        return cls(source, rows, list(chain.from_iterable(texts)), list(map(len, texts)), sum(duplicates))

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """Return a line for each text."""
        starts = chain.from_iterable(map(repeat, select_rows(labels.reopened, self.rows), self.counts))
        return join_lines(name, list(starts), self.texts)._replace(duplicates=self.duplicates)


def _row_keys(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Return the rows as dictionary keys."""
    if len(columns) > 1:
        return list(zip(*columns, strict=True))
    (column,) = columns or [()]
    return [tuple(each.items()) for each in column] if column and isinstance(column[0], Mapping) else column


def select_rows(column: Sequence[V], rows: Rows) -> Sequence[V]:
    """Return the values of the column in these rows."""
    return column if rows is None else list(compress(column, rows))


def read_columns(items: Sequence[Struct], names: Set[str]) -> dict[str, Sequence[Any]]:
    """Read fields of many structs as columns; a name may also be an attribute of the struct's class.

    Most structs have the same type and are read whole, which takes a third of the time of reading field by field.
    """
    if not items:
        return dict.fromkeys(names, ())
    kinds = Counter(map(type, items))
    kind = cast("type[Struct]", max(kinds, key=kinds.__getitem__))
    fields = kind.__struct_fields__
    read = attrgetter(*fields)
    are_alike = len(kinds) == 1
    rows = map(astuple, items) if are_alike else (astuple(i) if type(i) is kind else read(i) for i in items)
    # Use a single list, because one tuple per row would trigger the garbage collector.
    flat: list[Any] = reduce(iconcat, rows, [])
    found: dict[str, Sequence[Any]] = {
        name: flat[index :: len(fields)] for index, name in enumerate(fields) if name in names
    }
    for name in names - found.keys():
        found[name] = [getattr(kind, name)] * len(items) if are_alike else list(map(attrgetter(name), items))
    return found
