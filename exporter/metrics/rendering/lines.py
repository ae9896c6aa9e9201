"""The sample lines of a family, joined in one go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, compress, repeat
from operator import add
from typing import NamedTuple

from exporter.metrics.families.family import Labelled
from exporter.metrics.rendering.label_texts import OwnTexts
from exporter.metrics.rendering.numbers import ABSENT, number_texts


class Lines(NamedTuple):
    """Sample lines."""

    text: bytes
    """Each line begins with the line feed of the one before, which is how a single join can make them."""
    series: int
    duplicates: int = 0
    """Lines left out because an earlier one of the same object has the same labels."""


NONE = Lines(b"", 0)


def labelled_lines(
    name: str, labels: Sequence[bytes], samples: Sequence[Sequence[Labelled]], own_texts: OwnTexts
) -> Lines:
    """Any number of lines for each object, told apart by its own labels; ``labels`` are opened."""
    flat = list(chain.from_iterable(samples))
    numbers = number_texts([value for _, value in flat])
    if numbers is None:
        return NONE
    ahead = chain.from_iterable(map(repeat, labels, map(len, samples)))
    texts = [*map(add, ahead, own_texts.of([own for own, _ in flat]))], numbers.texts
    if numbers.gaps:
        texts = _compressed(texts, list(map(ABSENT.__ne__, numbers.texts)))
    present = len(texts[0])
    if len(set(texts[0])) < present:
        seen: set[bytes] = set()
        is_first = [not (text in seen or seen.add(text)) for text in texts[0]]  # type: ignore[func-returns-value]
        texts = _compressed(texts, is_first)
    return joined(name, *texts)._replace(duplicates=present - len(texts[0]))


def _compressed(columns: Iterable[Sequence[bytes]], wanted: Sequence[bool]) -> tuple[list[bytes], list[bytes]]:
    labels, numbers = [list(compress(column, wanted)) for column in columns]
    return labels, numbers


def joined(name: str, *columns: Sequence[bytes]) -> Lines:
    """The columns side by side, each row after the family's name."""
    width, height = len(columns) + 1, len(columns[0])
    if not height:
        return NONE
    pieces: list[bytes] = [f"\n{name}{{".encode()] * (width * height)
    for index, column in enumerate(columns, 1):
        pieces[index::width] = column
    return Lines(b"".join(pieces), height)
