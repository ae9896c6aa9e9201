"""Recorded responses of a platform that echoes what it was sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from exporter.platforms.testing import RecordedResponse
from tests.platforms.recordings import PlatformRecording

EVERYTHING = ""
"""Instead of a field name: all fields, including their names."""
NAMES = "names of fields"
"""Instead of a field name: only the names of all fields."""
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_XML_TEXT = re.compile(r"<(\w+)>([^<]*)<")


def echoed(response: RecordedResponse, field: str, echo: str) -> bytes:
    """Return the response's body with ``echo`` appended to every text of a field."""
    if response.content_type == "application/json":
        data = json.loads(response.body or b"null")
        return json.dumps(_echoed_json(data, field, echo)).encode()
    text = response.body.decode()
    if response.content_type == "text/xml":
        return _XML_TEXT.sub(
            lambda m: m[0] if field not in (EVERYTHING, m[1]) else f"<{m[1]}>{m[2]} {echo}<", text
        ).encode()
    text = _LABEL.sub(lambda m: m[0] if field not in (EVERYTHING, m[1]) else f'{m[1]}="{m[2]} {echo}"', text)
    return re.sub(r"(?m)^(# HELP .*)$", rf"\1 {echo}", text).encode() if field == EVERYTHING else text.encode()


def _echoed_json(data: Any, field: str, echo: str, name: str = "") -> Any:
    if isinstance(data, dict):
        shown = {key: _echoed_json(value, field, echo, key) for key, value in data.items()}
        more = {f"{key} {echo}": value for key, value in shown.items()} if field in (EVERYTHING, NAMES) else {}
        return shown | more
    if isinstance(data, list):
        return [_echoed_json(item, field, echo, name) for item in data]
    return f"{data} {echo}" if isinstance(data, str) and field in (EVERYTHING, name) else data


def text_fields(recording: PlatformRecording) -> list[str]:
    """Return the names of the fields that contain a text in any of the responses."""
    found: set[str] = set()
    for request in recording.recording.responses:
        response = recording.response(request)
        if response.content_type == "application/json":
            found.update(_text_fields(json.loads(response.body or b"null"), ""))
        else:
            pattern = _XML_TEXT if response.content_type == "text/xml" else _LABEL
            found.update(match[1] for match in pattern.finditer(response.body.decode()))
    return sorted(found - {""})


def _text_fields(data: Any, name: str) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _text_fields(value, key)
    elif isinstance(data, list):
        for item in data:
            yield from _text_fields(item, name)
    elif isinstance(data, str):
        yield name


def with_secrets(settings: Any, secret: str) -> Any:
    """Return an upstream's settings with this secret instead of its own."""
    if not isinstance(settings, Mapping):
        return settings
    keys = ("password", "bearer_token", "api_key")
    return {key: secret if key in keys else with_secrets(value, secret) for key, value in settings.items()}
