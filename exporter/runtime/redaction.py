"""Keeping secrets out of every text that leaves the process."""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import Final
from urllib.parse import quote, quote_plus

HIDDEN: Final = "<secret>"
_MIN_CHARACTERS = 4
"""Shorter secrets are not replaced, because they are part of too many ordinary words."""


class Redactor:
    """Replaces the secrets that were read so far, in any text. Thread-safe."""

    def __init__(self) -> None:
        self._forms: dict[str, set[str]] = {}
        """The encoded forms of each secret."""
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Replace this text from now on, and its encoded forms in URLs, headers and JSON."""
        if len(text) < _MIN_CHARACTERS:
            return
        with self._lock:
            if text not in self._forms:
                self._forms[text] = _encoded_forms(text)
                self._compile()

    def forget(self, text: str) -> None:
        """Stop replacing an expired secret: tokens change every few minutes, and each makes the pattern longer."""
        with self._lock:
            if self._forms.pop(text, None) is not None:
                self._compile()

    def _compile(self) -> None:
        longest_first = sorted({form for forms in self._forms.values() for form in forms}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        # re caches the last 512 compiled patterns, and each contains every secret
        re.purge()

    def scrub(self, text: str) -> str:
        """Return the text with ``<secret>`` in place of every known secret."""
        pattern = self._pattern
        return pattern.sub(HIDDEN, text) if pattern else text


def _encoded_forms(text: str) -> set[str]:
    encoded = text.encode("utf-8", "surrogatepass")
    plain = base64.b64encode(encoded).decode()
    urlsafe = base64.urlsafe_b64encode(encoded).decode()
    quoted = {quote(encoded), quote(encoded, safe=""), quote_plus(encoded)}
    return {text, json.dumps(text)[1:-1], plain, plain.rstrip("="), urlsafe, urlsafe.rstrip("="), *quoted}


redactor = Redactor()
"""The process-wide redactor; every log line passes through it."""
