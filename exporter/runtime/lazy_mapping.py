"""A mapping whose keys are known and whose values are loaded when they are first read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

V = TypeVar("V")


class LazyMapping(Mapping[str, V]):
    """Values by name. ``load`` is called once for each name that is read."""

    def __init__(self, names: Iterable[str], load: Callable[[str], V]) -> None:
        self._names = dict.fromkeys(names)
        self._load = load
        self._values: dict[str, V] = {}

    def __getitem__(self, name: str) -> V:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._values:
            self._values[name] = self._load(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
