"""Output of ``stream-exporter session``: responses without secrets, and failures in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.capabilities import ManualRequest
from exporter.runtime.redaction import HIDDEN, Redactor, redactor

MAX_MESSAGE_CHARACTERS = 500
_SECRET_KEY = re.compile(
    r"stream_?key|token|passw|secret|authorization|api_?key|credential|ingest_?url|^pull$", re.IGNORECASE
)
"""Keys whose values are hidden. ``pull`` contains a URL and headers, which may have credentials."""
_MEANINGS = {
    Reason.TIMEOUT: "the platform did not respond in time",
    Reason.CONNECT: "cannot connect to the platform",
    Reason.TLS: "cannot establish a trusted TLS connection to the platform",
    Reason.AUTH: "the platform rejected the credentials",
    Reason.FORBIDDEN: "the credentials do not permit this",
    Reason.NOT_FOUND: "no such session or stream",
    Reason.RATE_LIMITED: "too many requests; try again later",
    Reason.SERVER_ERROR: "the platform had an internal error",
    Reason.BAD_RESPONSE: "the platform's response is invalid",
    Reason.TOO_LARGE: "the platform's response is too large",
    Reason.VANTAGE: "the exporter's own network seems to be down",
    Reason.INTERNAL: "internal error",
}
_OUTCOME_UNKNOWN = frozenset({Reason.TIMEOUT, Reason.CONNECT})
"""Failures after which a change may have been made."""


def shown_answer(data: Any, request: ManualRequest) -> str:
    """Return the response as indented JSON. Secrets in it are hidden, except those given in the request."""
    hidden = Redactor()
    known = frozenset(map(str, request.path.values()))
    for text in _secret_texts(data):
        if text not in known:
            hidden.add(text)
    shown = json.dumps(_without_secrets(data, known), indent=2, ensure_ascii=True)
    return redactor.scrub(hidden.scrub(shown))


def failure(error: UpstreamError, request: ManualRequest) -> list[str]:
    """Describe a failure in lines: its meaning, the technical error, and the platform's own message."""
    lines = [_meaning(error, request), str(error)]
    message = platform_message(error.refusal)
    if message:
        lines.append(f"message of the platform: {message}")
    if request.changes_something and error.status is None and error.reason in _OUTCOME_UNKNOWN:
        lines.append("the change may have been made; check with `session show`")
    return [redactor.scrub(line) for line in lines]


def platform_message(body: bytes) -> str:
    """Return the message in an error response of any common format; empty if there is none."""
    try:
        texts = list(dict.fromkeys(_messages(json.loads(body))))
    except (ValueError, RecursionError):
        return ""
    text = "; ".join(texts)
    return "".join(character if character.isprintable() else "?" for character in text)[:MAX_MESSAGE_CHARACTERS]


def _meaning(error: UpstreamError, request: ManualRequest) -> str:
    if error.status is None or error.reason is not Reason.BAD_RESPONSE or not 400 <= error.status < 500:
        return _MEANINGS[error.reason]
    return request.refusal_meaning


def _messages(data: Any) -> Iterator[str]:
    """Yield ``message``, ``detail`` and ``title``, also inside ``error``, and the entries of error lists."""
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
            if isinstance(value, str) and _SECRET_KEY.search(key):
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
    if not _SECRET_KEY.search(key):
        return _without_secrets(value, known)
    is_harmless = value in ("", None, True, False) or (isinstance(value, str) and value in known)
    return value if is_harmless else HIDDEN
