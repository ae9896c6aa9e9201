"""Format configuration errors as lines with location and message. No line contains a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from exporter.config import introspection
from exporter.config.environment import EnvironmentLayer
from exporter.config.secrets import Secret
from exporter.config.validation import REFUSED
from exporter.config.yaml_document import Document, Path
from exporter.runtime.redaction import redactor
from exporter.runtime.suggestions import similar_words

MAX_LINES = 50
"""Maximum number of errors to describe."""
_HIDDEN_UNDER = frozenset({"auth", "url", "headers"})
_SECRET_WORDS = re.compile(r"passw|token|secret|api_?key|hash_key|credential", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/]*@")
_STREAM_LISTS, _STREAM_IDS = frozenset({"streams", "sessions"}), frozenset({"id", "key"})
"""On some platforms, anyone who knows a stream's id can publish to it."""
_MISSING_VALUE, _HIDDEN_VALUE = "nothing", "a hidden value"
"""Descriptions of a missing value, and of a value that is not shown because it may be a secret."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HARMLESS_KEY = re.compile(r"[a-z_]{1,40}")
_MAX_SHOWN = 60

_CONSEQUENCE = "default_factory_not_called"
"""Type of an error that is only a consequence of another error."""
_KEY_MARK = "[key]"
"""Last part of pydantic's location of an error about a key."""
_WRONG_TYPE = re.compile(r"missing|literal_error|.*_(type|parsing|parsing_size|from_float)")
_MESSAGE_START = re.compile(
    r"^(Value error, |Assertion failed, |Input should be |\w+ should have |String should match )"
)
_MESSAGE_END = re.compile(r"( after validation)?(, not \d+)?$")


class _Missing:
    """Type of ``_MISSING``, which marks the absence of a value."""


_MISSING = _Missing()


@dataclass(frozen=True, order=True)
class Finding:
    """One error. Findings sort by location, with those of the environment last."""

    in_environment: bool
    place: tuple[int, int]
    line: str


@dataclass(frozen=True)
class _Spot:
    """Location of an error, with value and type."""

    path: Path
    value: Any
    annotation: Any
    parent: Any
    """Type of the surrounding mapping or list."""
    about_key: bool


class Reporter:
    """Locates validation errors in the file or environment and describes them."""

    def __init__(self, file: str, document: Document, environment: EnvironmentLayer, root: type) -> None:
        self._file = file
        self._document = document
        self._environment = environment
        self._root = root
        self._data = _merge_layers(document.data, environment.data)

    def lines(self, errors: Iterable[ErrorDetails] = ()) -> list[str]:
        """Return a line for each of pydantic's errors and each duplicate key, in file order.

        After ``MAX_LINES`` errors, a last line gives the number of further errors.
        """
        invalid, left_out = self._findings(errors)
        findings = sorted([*self._repeated_keys(), *invalid])
        lines = [*(finding.line for finding in findings), *self._environment.errors]
        left_out += max(0, len(self._document.repeated) - MAX_LINES) + max(0, len(lines) - MAX_LINES)
        if left_out:
            lines[MAX_LINES:] = [f"{self._file}: {left_out} more error{'s' if left_out > 1 else ''}"]
        return lines

    def _findings(self, errors: Iterable[ErrorDetails]) -> tuple[list[Finding], int]:
        """Return a finding for each of the first values with errors, and the number of errors left out.

        For a union that is not discriminated, pydantic reports an error for each member; these are combined.
        """
        joined: dict[tuple[Path, bool, str | None], dict[str, None]] = {}
        left_out = 0
        for error in errors:
            if error["type"] == _CONSEQUENCE:
                continue
            if len(joined) == MAX_LINES:
                # describing 100,000 errors would take seconds
                left_out += 1
                continue
            spot = self._find_spot(error["loc"])
            found, allowed = _describe_error(error, spot)
            about_key = spot.about_key or error["type"] == "extra_forbidden"
            joined.setdefault((spot.path, about_key, found), {})[allowed] = None
        findings = [
            self._make_finding(path, _format_message(found, [*allowed]), about_key=about_key)
            for (path, about_key, found), allowed in joined.items()
        ]
        return findings, left_out

    def _repeated_keys(self) -> list[Finding]:
        return [
            Finding(
                in_environment=False,
                place=place,
                line=_format_line(f"{self._file}:{place[0]}:{place[1]}", path, "duplicate key"),
            )
            for path, place in self._document.repeated[:MAX_LINES]
        ]

    def _make_finding(self, path: Path, message: str, *, about_key: bool) -> Finding:
        variable, place = self._locate(path, about_key=about_key)
        source = variable or f"{self._file}:{place[0]}:{place[1]}"
        return Finding(in_environment=variable is not None, place=place, line=_format_line(source, path, message))

    def _locate(self, path: Path, *, about_key: bool) -> tuple[str | None, tuple[int, int]]:
        """Return the variable, or line and column, of the value or its nearest ancestor."""
        for length in range(len(path), 0, -1):
            part = path[:length]
            if not isinstance(_value_at(self._environment.data, part), _Missing):
                for upto in range(length, 0, -1):
                    if part[:upto] in self._environment.variables:
                        return self._environment.variables[part[:upto]], (0, 0)
            places = self._document.keys if about_key and length == len(path) else self._document.values
            if part in places:
                return None, places[part]
        return None, self._document.values.get((), (1, 1))

    def _find_spot(self, location: tuple[str | int, ...]) -> _Spot:
        """Follow an error's location, skipping the parts that pydantic adds for members of unions."""
        path: Path = ()
        value, annotation, parent = self._data, self._root, None
        for part in location:
            if part == _KEY_MARK:
                return _Spot(path, path[-1], annotation, parent, about_key=True)
            below = introspection.annotation_below(annotation, part)
            if isinstance(part, str) and part.startswith(introspection.TAG_PREFIX):
                annotation = below
                continue
            written = _written_key(part, value)
            child = _value_at(value, (written,))
            if isinstance(child, _Missing) and below is None and not isinstance(value, _Missing):
                continue
            path, value, annotation, parent = (*path, written), child, below, annotation
        return _Spot(path, value, annotation, parent, about_key=False)


def _merge_layers(weak: Any, strong: Any) -> Any:
    if not isinstance(weak, dict) or not isinstance(strong, dict):
        return strong
    return weak | {key: _merge_layers(weak[key], value) if key in weak else value for key, value in strong.items()}


def _value_at(data: Any, path: Path) -> Any:
    part: Any
    for part in path:
        try:
            data = data[part] if isinstance(data, dict | list) else _MISSING
        except (LookupError, TypeError):
            return _MISSING
    return data


def _written_key(part: str | int, value: Any) -> str | int:
    """Return the key as written in the file; a secret has three spellings."""
    if isinstance(part, int) or not isinstance(value, dict):
        return part
    return next((key for key in introspection.spellings(part) if key in value), part)


def _format_message(found: str | None, allowed: list[str]) -> str:
    """Return the message of an error; without ``found``, ``allowed`` contains whole messages."""
    if found is None:
        return "; ".join(allowed)
    expected = f"expected {' or '.join(allowed)}"
    if found == _MISSING_VALUE:
        return f"missing; {expected}"
    if found == _HIDDEN_VALUE:
        return f"{expected} (the value is not shown)"
    return f"{expected}, got {found}"


def _format_line(source: str, path: Path, message: str) -> str:
    line = redactor.scrub(f"{source}: {show_path(path)}: {message}")
    return "".join(char if char.isprintable() else "�" for char in line)


def show_path(path: Path) -> str:
    """Format a path as ``upstreams[0].auth.bearer_token_file``; an unusual key is hidden, as it may be a secret."""
    shown = ""
    for index, part in enumerate(path):
        if isinstance(part, int):
            shown += f"[{part}]"
            continue
        usual = (_HARMLESS_KEY if "auth" in path[:index] else _PLAIN_KEY).fullmatch(part)
        shown += ("." if shown else "") + (part if usual else "…")
    return shown or "configuration"


def _describe_error(error: ErrorDetails, spot: _Spot) -> tuple[str | None, str]:
    """Return what was found and what is allowed; or None and the whole message."""
    context: Mapping[str, Any] = error.get("ctx") or {}
    kind = error["type"]
    if kind == "extra_forbidden":
        return None, _describe_unknown_key(spot)
    if kind == REFUSED and "message" in context:
        return None, context["message"]
    if kind == REFUSED:
        return context.get("found") or describe(spot.value, spot), context["allowed"]
    if kind in ("value_error", "assertion_error"):
        return None, _trimmed_message(error)
    if _WRONG_TYPE.fullmatch(kind):
        return describe(spot.value, spot), introspection.phrase_type(spot.annotation)
    return describe(spot.value, spot), _trimmed_message(error)


def _trimmed_message(error: ErrorDetails) -> str:
    return _MESSAGE_END.sub("", _MESSAGE_START.sub("", error["msg"]))


def _describe_unknown_key(spot: _Spot) -> str:
    known = sorted(introspection.known_keys(spot.parent) or ())
    close = similar_words(str(spot.path[-1]), known)
    hint = f'did you mean "{close[0]}"?' if close else f"known keys here: {', '.join(known)}"
    return f"unknown key; {hint}"


def describe(value: Any, spot: _Spot) -> str:
    """Describe a value in a few words, without showing a possible secret."""
    if value is None or isinstance(value, _Missing):
        return _MISSING_VALUE
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if _is_hidden(value, spot):
        return _HIDDEN_VALUE
    if introspection.describe_type(spot.annotation).startswith(("mapping", "list of")):
        return "a string" if isinstance(value, str) else "a single value"
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"


def _is_hidden(value: Any, spot: _Spot) -> bool:
    parts = [part for part in spot.path if isinstance(part, str)]
    return (
        Secret in introspection.union_members(spot.annotation)
        or not _HIDDEN_UNDER.isdisjoint(parts)
        or any(_SECRET_WORDS.search(part) for part in parts)
        or (not _STREAM_LISTS.isdisjoint(parts) and parts[-1] in _STREAM_IDS)
        or (isinstance(value, str) and _CREDENTIALS.search(value) is not None)
    )
