"""What a family says of many objects, kept as text by columns: a scrape has but to put names and labels to it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, compress, repeat
from typing import Generic, NamedTuple, Protocol, TypeVar

from exporter.catalogue.family import Number
from exporter.rendering.labels import closed, opened
from exporter.rendering.lines import Lines, joined
from exporter.rendering.numbers import ABSENT, number_text
from exporter.textformat import number

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Rows = bytes | None
"""1 for each row that has something to say, 0 for the others; None: all have."""


class RowLabels:
    """The label texts of the rows."""

    def __init__(self, closed: Sequence[bytes]) -> None:
        self.closed = closed
        """With their end: what follows is the number."""

    @cached_property
    def opened(self) -> Sequence[bytes]:
        """With a comma, for more labels to follow."""
        return list(map(opened, self.closed))


class Column(Protocol):
    """What a family says of the rows of a slice."""

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """Its lines, by the family's name."""


class Texts(NamedTuple, Generic[K, V]):
    """A text for each key, in their order."""

    keys: list[K]
    texts: list[V]

    def of(self, keys: list[K], make: Callable[[K], V]) -> Texts[K, V]:
        """The texts of other keys: those that were there are used again, and these altogether when nothing changed."""
        if keys == self.keys:
            return self
        known = dict(zip(self.keys, self.texts, strict=True))
        same = {key: key for key in known}
        # equal keys are kept once: of thousands of objects most say the same
        keys = [same.setdefault(key, key) for key in keys]
        for key in same.keys() - known.keys():
            known[key] = make(key)
        return Texts(keys, list(map(known.__getitem__, keys)))


class Numbers(NamedTuple):
    """At most one number for each row."""

    text: bytes
    """The numbers, with commas between them."""
    rows: Rows

    @classmethod
    def of(cls, chunks: Iterable[Sequence[Number | None]]) -> Numbers | None:
        """The numbers of the rows, which come in chunks; None where no row has any."""
        texts, present = zip(*map(_numbers, chunks), strict=True)
        if not any(texts):
            return None
        rows = b"".join(present)
        return cls(b",".join(filter(None, texts)), rows if 0 in rows else None)

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """A line for each number."""
        return joined(name, chosen(labels.closed, self.rows), self.text.split(b","))


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

    texts: Sequence[EntryTexts]
    rows: Rows

    def lines(self, name: str, labels: RowLabels) -> Lines:
        """A line for each text."""
        texts, duplicates = zip(*self.texts, strict=True)
        ahead = chain.from_iterable(map(repeat, chosen(labels.opened, self.rows), map(len, texts)))
        lines = joined(name, list(ahead), list(chain.from_iterable(texts)))
        return lines._replace(duplicates=sum(duplicates))


def _numbers(column: Sequence[Number | None]) -> tuple[bytes, bytes]:
    """The numbers of a column, with commas between them, and 1 for each row that has one, 0 for the others."""
    gaps = column.count(None)
    if gaps == len(column):
        return b"", bytes(gaps)
    text = number_text([value for value in column if value is not None] if gaps else column)
    # a letter is found in less time than the word
    if ABSENT[:1] in text:
        return _numbers([None if value is None or number(value) is None else value for value in column])
    return text, bytes([value is not None for value in column]) if gaps else b"\x01" * len(column)


def chosen(column: Sequence[V], rows: Rows) -> Sequence[V]:
    """The column's values in these rows."""
    return column if rows is None else list(compress(column, rows))
