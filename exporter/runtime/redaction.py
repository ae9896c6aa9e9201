"""Redaction of secrets in all texts that leave the process."""

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
"""Secrets shorter than this are not replaced, because they occur in too many ordinary words."""
MIN_TEXT_CHARACTERS: Final = 8
"""Secrets shorter than this are replaced in our own texts only, because a platform may use them as ordinary words."""
MIN_NAME_PART_CHARACTERS: Final = 16
"""Secrets shorter than this are replaced in a platform's names and ids only if they are the whole name."""


class _Replacements(NamedTuple):
    """Strings to replace. Longer strings come first, because they may contain shorter ones."""

    anywhere: re.Pattern[str] | None
    """Pattern for our own texts."""
    marks: tuple[str, ...]
    """Substrings by which to find out quickly whether a platform's text contains any secret."""
    in_texts: tuple[str, ...]
    names: frozenset[str]
    """Names to replace if the whole name is equal."""
    in_names: tuple[str, ...]


class Redactor:
    """Replaces known secrets in texts. Thread-safe."""

    def __init__(self) -> None:
        self._forms: dict[str, set[str]] = {}
        """Encoded forms of each secret."""
        self._replacements: _Replacements | None = None
        """Built when first needed, because every new secret changes them."""
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Start replacing a secret, also in its encoded forms in URLs, headers and JSON."""
        if len(text) < _MIN_CHARACTERS:
            return
        with self._lock:
            if text not in self._forms:
                self._forms[text] = _encoded_forms(text)
                self._replacements = None

    def forget(self, text: str) -> None:
        """Stop replacing a secret that has expired, such as a short-lived token."""
        with self._lock:
            if self._forms.pop(text, None) is not None:
                self._replacements = None

    def scrub(self, text: str) -> str:
        """Replace all known secrets in one of our own texts, such as a log line."""
        pattern = self._current().anywhere
        return pattern.sub(HIDDEN, text) if pattern else text

    def scrub_text(self, text: str) -> str:
        """Replace known secrets of 8 or more characters in a platform's text."""
        return _replace(text, self._current().in_texts) if self.occurs_in(text) else text

    def scrub_name(self, text: str) -> str:
        """Replace secrets of 16 or more characters in a platform's name or id, and a name that is itself a secret.

        Shorter secrets stay, so that the password ``live-events`` does not change ``live-events/final``.
        """
        if not self.occurs_in(text):
            return text
        replacements = self._current()
        return HIDDEN if text in replacements.names else _replace(text, replacements.in_names)

    def occurs_in(self, text: str) -> bool:
        """Return whether a text may contain a secret of 8 or more characters.

        This is fast (microseconds) even for all texts of a poll joined into one.
        """
        return any(mark in text for mark in self._current().marks)

    def _current(self) -> _Replacements:
        current = self._replacements
        if current is None:
            with self._lock:
                current = self._replacements = _replacements(self._forms)
                # re caches compiled patterns, and each of these contains all secrets
                re.purge()
        return current


redactor = Redactor()
"""The process-wide redactor, applied to log lines and poll results."""


def _replacements(forms_by_secret: dict[str, set[str]]) -> _Replacements:
    in_names = [forms for text, forms in forms_by_secret.items() if len(text) >= MIN_NAME_PART_CHARACTERS]
    named = [forms for text, forms in forms_by_secret.items() if len(text) >= MIN_TEXT_CHARACTERS]
    # some values of platforms are converted to lower case before they get here
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
    """Return the forms that do not contain another form."""
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
