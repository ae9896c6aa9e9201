"""Keeping secrets out of every text that leaves the process."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus

HIDDEN: Final = "<secret>"
_MIN_CHARACTERS = 4
"""Shorter secrets are not replaced, because they are part of too many ordinary words."""
MIN_TEXT_CHARACTERS: Final = 8
"""Shorter secrets are replaced in logs and our own messages only, because a platform's texts may contain such words."""
MIN_NAME_PART_CHARACTERS: Final = 16
"""Shorter secrets are replaced in a platform's names and ids only if they are the whole name."""


class _Replacements(NamedTuple):
    """Search patterns for all forms of all secrets."""

    anywhere: re.Pattern[str] | None
    marks: tuple[str, ...]
    """Parts that every form of a secret contains, of those that are replaced in a platform's texts."""
    in_texts: tuple[str, ...]
    """Longest first, as in all of these."""
    names: frozenset[str]
    """Names that are replaced as a whole."""
    in_names: tuple[str, ...]


class Redactor:
    """Replaces the secrets that were read so far, in any text. Thread-safe."""

    def __init__(self) -> None:
        self._forms: dict[str, set[str]] = {}
        """The encoded forms of each secret."""
        self._replacements: _Replacements | None = None
        """None until they are needed: each secret changes them, and a configuration may have hundreds."""
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Replace this text from now on, and its encoded forms in URLs, headers and JSON."""
        if len(text) < _MIN_CHARACTERS:
            return
        with self._lock:
            if text not in self._forms:
                self._forms[text] = _encoded_forms(text)
                self._replacements = None

    def forget(self, text: str) -> None:
        """Stop replacing an expired secret: tokens change every few minutes, and each makes the pattern longer."""
        with self._lock:
            if self._forms.pop(text, None) is not None:
                self._replacements = None

    def scrub(self, text: str) -> str:
        """Return one of our own texts, such as a log line, with ``<secret>`` in place of every known secret."""
        pattern = self._current().anywhere
        return pattern.sub(HIDDEN, text) if pattern else text

    def scrub_text(self, text: str) -> str:
        """Return a platform's text with ``<secret>`` in place of every known secret of 8 or more characters."""
        return _replace(text, self._current().in_texts) if self.occurs_in(text) else text

    def scrub_name(self, text: str) -> str:
        """Return a platform's name or id: one that is a secret is replaced, and secrets of 16 or more characters in it.

        Others stay, so that the password ``live-events`` does not rewrite ``live-events/final``.
        """
        if not self.occurs_in(text):
            return text
        replacements = self._current()
        return HIDDEN if text in replacements.names else _replace(text, replacements.in_names)

    def occurs_in(self, text: str) -> bool:
        """Return whether a text, or one of many that are joined, may contain a secret of 8 or more characters.

        It takes microseconds for the texts of a whole poll.
        """
        return any(mark in text for mark in self._current().marks)

    def _current(self) -> _Replacements:
        current = self._replacements
        if current is None:
            with self._lock:
                current = self._replacements = _replacements(self._forms)
                # re caches the last 512 compiled patterns, and each contains every secret
                re.purge()
        return current


redactor = Redactor()
"""The process-wide redactor; every log line, and every result of a poll, passes through it."""


def _replacements(forms_by_secret: dict[str, set[str]]) -> _Replacements:
    in_names = [forms for text, forms in forms_by_secret.items() if len(text) >= MIN_NAME_PART_CHARACTERS]
    named = [forms for text, forms in forms_by_secret.items() if len(text) >= MIN_TEXT_CHARACTERS]
    # some platforms' words are read in lower case
    in_texts = [forms | {form.lower() for form in forms} for forms in named]
    all_forms = _longest_first(forms_by_secret.values())
    return _Replacements(
        anywhere=re.compile("|".join(map(re.escape, all_forms))) if all_forms else None,
        marks=_longest_first(map(_without_longer, in_texts)),
        in_texts=_longest_first(in_texts),
        names=frozenset().union(*named),
        in_names=_longest_first(in_names),
    )


def _longest_first(sets: Iterable[set[str]]) -> tuple[str, ...]:
    return tuple(sorted(set[str]().union(*sets), key=len, reverse=True))


def _without_longer(forms: set[str]) -> set[str]:
    """Return the forms without those that contain another one."""
    return {form for form in forms if not any(other in form for other in forms if other != form)}


def _replace(text: str, forms: Iterable[str]) -> str:
    for form in forms:
        text = text.replace(form, HIDDEN)
    return text


def _encoded_forms(text: str) -> set[str]:
    encoded = text.encode("utf-8", "surrogatepass")
    plain = base64.b64encode(encoded).decode()
    urlsafe = base64.urlsafe_b64encode(encoded).decode()
    quoted = {quote(encoded), quote(encoded, safe=""), quote_plus(encoded)}
    escaped = {json.dumps(text, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    return {text, *escaped, plain, plain.rstrip("="), urlsafe, urlsafe.rstrip("="), *quoted}
