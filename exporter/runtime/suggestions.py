"""Suggestions for misspelt words."""

from __future__ import annotations

from collections.abc import Iterable


def similar_words(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return at most ``count`` similar words, the most similar first."""
    # imported only when needed, because it takes 0.2 MB
    import difflib

    return difflib.get_close_matches(word, [*known], n=count)
