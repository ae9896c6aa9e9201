"""Elements of text format 0.0.4: labels, numbers, and HELP and TYPE lines.

https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from typing import Final

import orjson
from prometheus_client.utils import floatToGoString

MAX_LABEL_CHARACTERS: Final = 256
_KEPT_CHARACTERS: Final = 240
_HASH_DIGITS: Final = 8

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def label_value(text: str) -> str:
    """Return a label value as valid Unicode of at most 256 characters.

    Lone surrogates, which UTF-8 cannot encode, become U+FFFD. A longer value is cut to 240 characters, followed by
    ``#`` and eight hex digits of its SHA-256, so that different values stay different.
    """
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if len(text) <= MAX_LABEL_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[:_KEPT_CHARACTERS]}#{digest[:_HASH_DIGITS]}"


def label_text(names: Iterable[str], values: Iterable[str]) -> str:
    """Return ``name="value",…``, without braces."""
    return ",".join(
        f'{name}="{label_value(value).translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True)
    )


def number(value: float) -> str | None:
    """Return a sample's value as text; None for NaN and infinite numbers.

    Floats become the shortest text that parses to the same number.
    """
    if type(value) is bool:
        return "1" if value else "0"
    try:
        text = orjson.dumps(value)
    except TypeError:
        # Parsers read an integer beyond 64 bits as a float; one beyond a float's range would fail the scrape.
        return number(float(value)) if abs(value) <= sys.float_info.max else None
    return None if text == b"null" else text.decode()


def bound(value: float) -> str:
    """Return the text of ``le``: a float in Go's notation (``1.0``, ``312500.0``, ``1e+06``).

    Prometheus 3 normalizes ``le`` to this form, Prometheus 2 does not; this way both store the same series.
    """
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def heading(name: str, kind: str, help_: str) -> str:
    """Return the HELP and TYPE lines of a family."""
    return f"# HELP {name} {help_.translate(_HELP_ESCAPES)}\n# TYPE {name} {kind}\n"
