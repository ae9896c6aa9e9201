"""Suggestions for words that were misspelt."""

from __future__ import annotations

from collections.abc import Iterable


def similar_words(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return at most ``count`` known words that are similar, the most similar one first."""
    # imported only for errors: it takes 0.2 MB
    import difflib

    return difflib.get_close_matches(word, [*known], n=count)
