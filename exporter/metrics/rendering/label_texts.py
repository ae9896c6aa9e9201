"""Label text, made once for each object and kept while that is served."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

from exporter.metrics.text_format import label_text

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CLOSING: Final = b"} "
"""Ends every label text: what follows is the number."""


class KeptTexts:
    """The label texts that renderings have in common. Threads need no lock: a text that two make is the same."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Any, Any]] = {}

    def of(self, user: str, names: Sequence[str], values: Sequence[tuple[str, ...]]) -> list[bytes]:
        """The text of each of the values, closed; ``user`` is whose texts are kept together."""
        return self.kept(user, values, lambda own: closed(names, own))

    def kept(self, user: str, keys: Sequence[K], make: Callable[[K], V]) -> list[V]:
        """The text of each of the keys, made when it is new.

        What is not asked for any more is forgotten as soon as it is more than what is.
        """
        known = self._known.get(user, {})
        if len(known) <= 2 * len(keys):
            try:
                return list(map(known.__getitem__, keys))
            except KeyError:
                pass
        known = {key: known[key] if key in known else make(key) for key in keys}
        self._known[user] = known
        return list(map(known.__getitem__, keys))


class OwnTexts:
    """The texts of the labels that a family has of its own, after those of its objects."""

    def __init__(self, texts: KeptTexts, user: str, names: Sequence[str]) -> None:
        self._texts = texts
        self._user = user
        self._names = names

    def of(self, values: Sequence[tuple[str, ...]]) -> list[bytes]:
        """The text of each of the values, closed."""
        return self._texts.kept(self._user, values, self._closed)

    def _closed(self, values: tuple[str, ...]) -> bytes:
        return closed(self._names, values)


def closed(names: Sequence[str], values: Sequence[str]) -> bytes:
    """``name="value",…} ``: labels as they stand between the opening brace and the number."""
    return label_text(names, values).encode() + CLOSING


def opened(text: bytes) -> bytes:
    """The same with a comma in place of its end, for more labels to follow."""
    return text[: -len(CLOSING)] + b","
