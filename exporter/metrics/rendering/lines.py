"""Sample lines: label texts, columns of numbers as text, and joining both.

orjson formats a list of numbers 20 times as fast as a Python loop, in the shortest form that parses to the same number.
``text_format.number`` does the same for a single number.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain, compress, repeat
from operator import add
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from exporter.metrics.families.family import Labelled, Number
from exporter.metrics.text_format import label_text, number
from exporter.model import Labels

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ObjectLabels = tuple[tuple[str, ...], Labels]
"""Values of the labels that all objects of a kind have, such as ``upstream``, and the configured labels."""

CLOSING: Final = b"} "
"""End of a label text; the number follows."""
ABSENT: Final = b"null"
"""Text of a value that is missing or not finite."""

# -- label text --------------------------------------------------------------------------------------------------------


def closed_labels(names: Sequence[str], values: Sequence[str], configured: Labels = ()) -> bytes:
    """Return ``name="value",…} ``: everything between the opening brace and the number.

    ``configured`` are the labels configured for the upstream.
    """
    if configured:
        more_names, more_values = zip(*configured, strict=True)
        names, values = (*names, *more_names), (*values, *more_values)
    return label_text(names, values).encode() + CLOSING


def reopen_labels(text: bytes) -> bytes:
    """Replace the end of a label text with a comma, so that more labels can follow."""
    return text[: -len(CLOSING)] + b","


class LabelCache:
    """Label texts that are reused between scrapes. No lock is needed, because two threads would create equal texts."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Any, Any]] = {}

    def label_texts(self, owner: str, names: Sequence[str], values: Sequence[tuple[str, ...]]) -> list[bytes]:
        """Return the closed label text for each of the values; ``owner`` is the cache key of the group of texts."""
        return self.get_or_create(owner, values, lambda each: closed_labels(names, each))

    def object_texts(self, owner: str, names: Sequence[str], objects: Sequence[ObjectLabels]) -> list[bytes]:
        """Return the closed label text for each of the objects; ``names`` are the labels that all of them have."""
        return self.get_or_create(owner, objects, lambda each: closed_labels(names, *each))

    def get_or_create(self, owner: str, keys: Sequence[K], create: Callable[[K], V]) -> list[V]:
        """Return the text for each of the keys, created if it is new.

        Unused texts are dropped once they outnumber the used ones.
        """
        known = self._known.get(owner, {})
        if len(known) <= 2 * len(keys):
            try:
                return list(map(known.__getitem__, keys))
            except KeyError:
                pass
        known = {key: known[key] if key in known else create(key) for key in keys}
        self._known[owner] = known
        return list(map(known.__getitem__, keys))


# -- numbers -----------------------------------------------------------------------------------------------------------


class NumberTexts(NamedTuple):
    """The text of each value of a column; ``ABSENT`` for missing and non-finite values."""

    texts: list[bytes]
    gaps: int
    """Number of ``ABSENT`` texts."""


def number_texts(column: Sequence[Number | None]) -> NumberTexts | None:
    """Return the texts of a column; None if it is empty."""
    if not column:
        return None
    text = number_text(column)
    return NumberTexts(text.split(b","), text.count(ABSENT))


def number_text(column: Sequence[Number | None]) -> bytes:
    """Return the texts of a column joined by commas."""
    try:
        text = orjson.dumps(column)[1:-1]
    except TypeError:
        # orjson rejects integers beyond 64 bits.
        return b",".join(ABSENT if value is None else (number(value) or "null").encode() for value in column)
    if b"e" in text:
        text = text.replace(b"true", b"1").replace(b"false", b"0")
    return text


# -- lines -------------------------------------------------------------------------------------------------------------


class Lines(NamedTuple):
    """Sample lines."""

    text: bytes
    """Each line starts with the line feed of the previous one, so that a single join creates all lines."""
    series: int
    duplicates: int = 0
    """Number of lines dropped because an earlier one of the same object has the same labels."""


NO_LINES: Final = Lines(b"", 0)


def join_lines(name: str, *columns: Sequence[bytes]) -> Lines:
    """Join the columns row by row, each row after the family's name."""
    width, height = len(columns) + 1, len(columns[0])
    if not height:
        return NO_LINES
    pieces: list[bytes] = [f"\n{name}{{".encode()] * (width * height)
    for index, column in enumerate(columns, 1):
        pieces[index::width] = column
    return Lines(b"".join(pieces), height)


def join_labelled_lines(
    name: str,
    labels: Sequence[bytes],
    samples: Sequence[Sequence[Labelled]],
    create_texts: Callable[[Sequence[tuple[str, ...]]], list[bytes]],
) -> Lines:
    """Join any number of lines for each object.

    ``labels`` are the objects' reopened labels; ``create_texts`` returns the closed texts of the family's additional
    labels.
    """
    flat = list(chain.from_iterable(samples))
    numbers = number_texts([value for _, value in flat])
    if numbers is None:
        return NO_LINES
    starts = chain.from_iterable(map(repeat, labels, map(len, samples)))
    texts = [*map(add, starts, create_texts([values for values, _ in flat]))], numbers.texts
    if numbers.gaps:
        texts = _select(texts, list(map(ABSENT.__ne__, numbers.texts)))
    present = len(texts[0])
    if len(set(texts[0])) < present:
        seen: set[bytes] = set()
        is_first = [not (text in seen or seen.add(text)) for text in texts[0]]  # type: ignore[func-returns-value]
        texts = _select(texts, is_first)
    return join_lines(name, *texts)._replace(duplicates=present - len(texts[0]))


def _select(columns: Iterable[Sequence[bytes]], wanted: Sequence[bool]) -> tuple[list[bytes], list[bytes]]:
    labels, numbers = [list(compress(column, wanted)) for column in columns]
    return labels, numbers
