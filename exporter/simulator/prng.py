"""Randomness without state: the same keys always give the same number, in any order and on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


class Purpose(IntEnum):
    """What a number is for, so that two uses of the same stream never share one."""

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


def roll(*keys: int, since: int = 0) -> int:
    """64 evenly spread bits of the keys (the finaliser of splitmix64, once for each key).

    ``since``: the roll of the keys before these, where it is known: ``roll(a, b) == roll(b, since=roll(a))``.
    """
    state = since
    for key in keys:
        state = (state + (key & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def unit(*keys: int, since: int = 0) -> float:
    """A number from 0 up to, but not including, 1."""
    return (roll(*keys, since=since) >> 11) * 2.0**-53


def between(low: float, high: float, *keys: int, since: int = 0) -> float:
    """A number from ``low`` up to ``high``."""
    return low + (high - low) * unit(*keys, since=since)


def pick(options: Sequence[T], *keys: int, since: int = 0) -> T:
    """One of ``options``, each as likely as it is often in there."""
    return options[roll(*keys, since=since) % len(options)]


def letters(count: int, alphabet: str, *keys: int, since: int = 0) -> str:
    """A word of ``count`` characters of ``alphabet`` (of at most 40 characters)."""
    word = ""
    while len(word) < count:
        bits = roll(*keys, len(word), since=since)
        for _ in range(min(12, count - len(word))):
            bits, place = divmod(bits, len(alphabet))
            word += alphabet[place]
    return word
