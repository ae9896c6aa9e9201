"""The sample lines of a family, joined in one go."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, compress, repeat
from typing import NamedTuple

from exporter.catalogue.family import Labelled, Number
from exporter.rendering.labels import OwnTexts
from exporter.rendering.numbers import ABSENT, number_texts


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
    numbers = number_texts(column)
    if numbers is None:
        return NONE
    texts = numbers.texts
    if numbers.has_gaps:
        present = list(map(ABSENT.__ne__, texts))
        labels, texts = _compressed([labels, texts], present)
    return _join(name, labels, texts)


def word_lines(name: str, labels: Sequence[bytes], words: Sequence[tuple[str, ...]], own_texts: OwnTexts) -> Lines:
    """A line of 1 for each object, whose own labels are ``words``; ``labels`` are opened."""
    return _join(name, labels, own_texts.of(words), [b"1"] * len(words))


def labelled_lines(
    name: str, labels: Sequence[bytes], samples: Sequence[Sequence[Labelled]], own_texts: OwnTexts
) -> Lines:
    """Any number of lines for each object, told apart by its own labels; ``labels`` are opened."""
    flat = list(chain.from_iterable(samples))
    if not flat:
        return NONE
    own, column = zip(*flat, strict=True)
    numbers = number_texts(column)
    if numbers is None:
        return NONE
    ahead = chain.from_iterable(map(repeat, labels, map(len, samples)))
    columns = [list(ahead), own_texts.of(own), numbers.texts]
    if numbers.has_gaps:
        columns = _compressed(columns, list(map(ABSENT.__ne__, numbers.texts)))
    total = len(columns[0])
    columns = _without_duplicates(columns)
    return _join(name, *columns)._replace(duplicates=total - len(columns[0]))


def _compressed(columns: Sequence[Sequence[bytes]], wanted: Sequence[bool]) -> list[list[bytes]]:
    return [list(compress(column, wanted)) for column in columns]


def _without_duplicates(columns: list[list[bytes]]) -> list[list[bytes]]:
    """The columns without the rows whose labels (all columns but the last) an earlier row has."""
    labels = list(zip(*columns[:-1], strict=True))
    seen: set[tuple[bytes, ...]] = set(labels)
    if len(seen) == len(labels):
        return columns
    seen.clear()
    is_first = [not (label in seen or seen.add(label)) for label in labels]  # type: ignore[func-returns-value]
    return _compressed(columns, is_first)


def _join(name: str, *columns: Sequence[bytes]) -> Lines:
    """The columns side by side, each row after the family's name."""
    width, height = len(columns) + 1, len(columns[0])
    pieces: list[bytes] = [f"\n{name}{{".encode()] * (width * height)
    for index, column in enumerate(columns, 1):
        pieces[index::width] = column
    return Lines(b"".join(pieces), height)
