"""The small grammar of text format 0.0.4: label text, numbers, the two lines that open a family.

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
    """A value as it is exposed: valid Unicode, and no longer than 256 characters.

    Lone surrogates, which UTF-8 can't carry, become U+FFFD. What is too long is cut to 240 characters, ``#`` and eight
    hex digits of its SHA-256, so that it stays distinct.
    """
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if len(text) <= MAX_LABEL_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[:_KEPT_CHARACTERS]}#{digest[:_HASH_DIGITS]}"


def label_text(names: Iterable[str], values: Iterable[str]) -> str:
    """``name="value",…``, without braces."""
    return ",".join(
        f'{name}="{label_value(value).translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True)
    )


def number(value: float) -> str | None:
    """The text of a sample's value; None for what has none: NaN, an infinite number.

    Integers stand as they are, floats as the shortest text that reads back as the same number.
    """
    if type(value) is bool:
        return "1" if value else "0"
    try:
        text = orjson.dumps(value)
    except TypeError:
        # An integer beyond 64 bits is a float to every reader, and one beyond a float's range would fail the scrape.
        return number(float(value)) if abs(value) <= sys.float_info.max else None
    return None if text == b"null" else text.decode()


def bound(value: float) -> str:
    """The text of ``le``: always a float, as Go and prometheus_client write it (``1.0``, ``312500.0``, ``1e+06``).

    Prometheus 3 stores every ``le`` in this form, Prometheus 2 as it comes; with this text both have the same series.
    """
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def heading(name: str, kind: str, help_: str) -> str:
    """The HELP and TYPE lines of a family."""
    return f"# HELP {name} {help_.translate(_HELP_ESCAPES)}\n# TYPE {name} {kind}\n"
