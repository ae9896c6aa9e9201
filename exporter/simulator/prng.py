"""Stateless pseudorandom numbers: the same keys always give the same number, in any order and on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


class Purpose(IntEnum):
    """Key for the use of a number, so that two uses for the same stream never share one."""

    ORDER = 1
    IDENTITY = 2
    SECRET = 3
    NATURE = 4
    AUDIENCE = 5
    GAP = 6
    INCIDENT = 7
    CRASH = 8
    NOISE = 9
    TOKEN = 10
    CANDIDATE = 11


def random_bits(*keys: int, seed: int = 0) -> int:
    """Hash the keys to 64 evenly distributed bits (the finalizer of splitmix64, once for each key).

    ``seed`` is the result for preceding keys: ``random_bits(a, b) == random_bits(b, seed=random_bits(a))``.
    """
    state = seed
    for key in keys:
        state = (state + (key & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def random_unit(*keys: int, seed: int = 0) -> float:
    """Return a number from 0 up to, but not including, 1."""
    return (random_bits(*keys, seed=seed) >> 11) * 2.0**-53


def random_between(low: float, high: float, *keys: int, seed: int = 0) -> float:
    """Return a number between ``low`` and ``high``."""
    return low + (high - low) * random_unit(*keys, seed=seed)


def random_choice(options: Sequence[T], *keys: int, seed: int = 0) -> T:
    """Return one of ``options``; repeat an option to make it more likely."""
    return options[random_bits(*keys, seed=seed) % len(options)]


def random_letters(count: int, alphabet: str, *keys: int, seed: int = 0) -> str:
    """Return a word of ``count`` characters from ``alphabet`` (at most 40 characters)."""
    word = ""
    while len(word) < count:
        bits = random_bits(*keys, len(word), seed=seed)
        for _ in range(min(12, count - len(word))):
            bits, place = divmod(bits, len(alphabet))
            word += alphabet[place]
    return word
