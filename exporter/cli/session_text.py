"""The output of ``stream-exporter session``: answers without their secrets, and failures in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.capabilities import ManualRequest
from exporter.runtime.redaction import HIDDEN, Redactor, redactor

MAX_WORDS = 500
_TELLING_KEY = re.compile(
    r"stream_?key|token|passw|secret|authorization|api_?key|credential|ingest_?url|^pull$", re.IGNORECASE
)
"""``pull`` holds a URL and headers to fetch from."""
_MEANINGS = {
    Reason.TIMEOUT: "the platform did not answer in time",
    Reason.CONNECT: "the platform can't be reached",
    Reason.TLS: "no trusted connection to the platform",
    Reason.AUTH: "the platform does not accept the credentials",
    Reason.FORBIDDEN: "the credentials do not allow it",
    Reason.NOT_FOUND: "there is no such session or stream",
    Reason.RATE_LIMITED: "too many requests: try again later",
    Reason.SERVER_ERROR: "the platform has a fault of its own",
    Reason.BAD_RESPONSE: "the answer can't be used",
    Reason.TOO_LARGE: "the answer is too large",
    Reason.INTERNAL: "an internal error",
}
_LEFT_OPEN = frozenset({Reason.TIMEOUT, Reason.CONNECT})


def shown_answer(data: Any, request: ManualRequest) -> str:
    """Return the answer as indented JSON. Keys and tokens in it are hidden, except those given in the request."""
    hidden = Redactor()
    known = frozenset(map(str, request.path.values()))
    for text in _secret_texts(data):
        if text not in known:
            hidden.add(text)
    shown = json.dumps(_without_secrets(data, known), indent=2, ensure_ascii=True)
    return redactor.scrub(hidden.scrub(shown))


def failure(error: UpstreamError, request: ManualRequest) -> list[str]:
    """Return why it failed, one line each: what it means, what happened, what the platform says."""
    lines = [_meaning(error, request), str(error)]
    words = platform_words(error.refusal)
    if words:
        lines.append(f"the platform says: {words}")
    if request.changes_something and error.status is None and error.reason in _LEFT_OPEN:
        lines.append("it may have been done all the same: look with `session show`")
    return [redactor.scrub(line) for line in lines]


def platform_words(body: bytes) -> str:
    """Return the message in a refusal, in any of the usual shapes; empty if there is none."""
    try:
        texts = list(dict.fromkeys(_messages(json.loads(body))))
    except (ValueError, RecursionError):
        return ""
    text = "; ".join(texts)
    return "".join(character if character.isprintable() else "?" for character in text)[:MAX_WORDS]


def _meaning(error: UpstreamError, request: ManualRequest) -> str:
    if error.status is None or error.reason is not Reason.BAD_RESPONSE or not 400 <= error.status < 500:
        return _MEANINGS[error.reason]
    return request.refusal_meaning


def _messages(data: Any) -> Iterator[str]:
    """The texts of ``message``, ``detail`` or ``title``, also inside ``error``, and those of lists of single errors."""
    if isinstance(data, str):
        yield data
    if not isinstance(data, dict):
        return
    yield from _messages(data.get("error"))
    yield from (data[name] for name in ("message", "detail", "title") if isinstance(data.get(name), str))
    for name in ("errors", "details"):
        items = data.get(name)
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict):
                words = [
                    item[key] for key in ("field", "issue", "expected", "message") if isinstance(item.get(key), str)
                ]
                yield from [": ".join(words)] if words else _messages(item)
            else:
                yield from _messages(item)


def _secret_texts(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, str) and _TELLING_KEY.search(key):
                yield value
            else:
                yield from _secret_texts(value)
    elif isinstance(data, list):
        for item in data:
            yield from _secret_texts(item)


def _without_secrets(data: Any, known: frozenset[str]) -> Any:
    if isinstance(data, dict):
        return {key: _unless_secret(key, value, known) for key, value in data.items()}
    return [_without_secrets(item, known) for item in data] if isinstance(data, list) else data


def _unless_secret(key: str, value: Any, known: frozenset[str]) -> Any:
    if not _TELLING_KEY.search(key):
        return _without_secrets(value, known)
    is_harmless = value in ("", None, True, False) or (isinstance(value, str) and value in known)
    return value if is_harmless else HIDDEN
