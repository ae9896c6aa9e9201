"""The sample lines of a family, joined in one go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, compress, repeat
from operator import add
from typing import NamedTuple

from exporter.catalogue.family import Labelled, Number
from exporter.rendering.labels import OwnTexts
from exporter.rendering.numbers import ABSENT, number_texts
from exporter.textformat import number


class Lines(NamedTuple):
    """Sample lines."""

    text: bytes
    """Each line begins with the line feed of the one before, which is how a single join can make them."""
    series: int
    duplicates: int = 0
    """Lines left out because an earlier one of the same object has the same labels."""


NONE = Lines(b"", 0)


def single_lines(name: str, labels: Sequence[bytes], column: Sequence[Number | None]) -> Lines:
    """One line for each value of the column that there is; ``labels`` are closed."""
    # A look at the first spares most columns the count.
    if column and column[0] is None and column.count(None) > len(column) / 2:
        present = [value is not None for value in column]
        labels, column = list(compress(labels, present)), list(compress(column, present))
    numbers = number_texts(column)
    if numbers is None:
        return NONE
    texts = numbers.texts
    if numbers.gaps:
        # A missing value is told from others in less time than its text.
        labels, texts = _compressed([labels, texts], [value is not None for value in column])
        if len(texts) > len(column) - numbers.gaps:
            labels, texts = _compressed([labels, texts], list(map(ABSENT.__ne__, texts)))
    return joined(name, labels, texts)


def few_lines(name: str, labels: Sequence[bytes], values: Iterable[Number | None]) -> Lines:
    """The same, one after the other: for a few values a column takes longer to set up than that."""
    head = f"\n{name}{{".encode()
    lines = []
    for label, value in zip(labels, values, strict=True):
        text = None if value is None else number(value)
        if text is not None:
            lines.append(b"%b%b%b" % (head, label, text.encode()))
    return Lines(b"".join(lines), len(lines)) if lines else NONE


def word_lines(name: str, labels: Sequence[bytes], words: Sequence[tuple[str, ...]], own_texts: OwnTexts) -> Lines:
    """A line of 1 for each object, whose own labels are ``words``; ``labels`` are opened."""
    return joined(name, labels, own_texts.of(words), [b"1"] * len(words))


def labelled_lines(
    name: str, labels: Sequence[bytes], samples: Sequence[Sequence[Labelled]], own_texts: OwnTexts
) -> Lines:
    """Any number of lines for each object, told apart by its own labels; ``labels`` are opened."""
    flat = list(chain.from_iterable(samples))
    if not flat:
        return NONE
    own, column = zip(*flat, strict=True)
    return _Several(name, labels, list(map(len, samples)), own_texts.of(own), column).each_once()


class _Several:
    """So many lines for each object."""

    def __init__(
        self,
        name: str,
        labels: Sequence[bytes],
        counts: Sequence[int],
        own: list[bytes],
        column: Sequence[Number | None],
    ) -> None:
        self._name = name
        numbers = number_texts(column)
        if numbers is None:
            self._columns: list[list[bytes]] = [[], [], []]
            return
        self._columns = [list(chain.from_iterable(map(repeat, labels, counts))), own, numbers.texts]
        if numbers.gaps:
            self._columns = _compressed(self._columns, list(map(ABSENT.__ne__, numbers.texts)))

    def all(self) -> Lines:
        """The lines, of which no two have the same labels."""
        return joined(self._name, *self._columns)

    def each_once(self) -> Lines:
        """The lines without those whose labels an earlier one has."""
        ahead, own, _ = self._columns
        labels = list(map(add, ahead, own))
        if len(set(labels)) == len(labels):
            return self.all()
        seen: set[bytes] = set()
        is_first = [not (label in seen or seen.add(label)) for label in labels]  # type: ignore[func-returns-value]
        lines = joined(self._name, *_compressed(self._columns, is_first))
        return lines._replace(duplicates=len(labels) - lines.series)


def _compressed(columns: Sequence[Sequence[bytes]], wanted: Sequence[bool]) -> list[list[bytes]]:
    return [list(compress(column, wanted)) for column in columns]


def joined(name: str, *columns: Sequence[bytes]) -> Lines:
    """The columns side by side, each row after the family's name."""
    width, height = len(columns) + 1, len(columns[0])
    if not height:
        return NONE
    pieces: list[bytes] = [f"\n{name}{{".encode()] * (width * height)
    for index, column in enumerate(columns, 1):
        pieces[index::width] = column
    return Lines(b"".join(pieces), height)
