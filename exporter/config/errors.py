"""Errors of a configuration as lines: the place, what was found and what is allowed. No line contains a secret."""

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
"""Maximum number of errors that are described."""
_HIDDEN_UNDER = frozenset({"auth", "url", "headers"})
_SECRET_WORDS = re.compile(r"passw|token|secret|api_?key|hash_key|credential", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/]*@")
_STREAM_LISTS, _STREAM_IDS = frozenset({"streams", "sessions"}), frozenset({"id", "key"})
"""On some platforms, anyone who knows a stream's id can publish to it."""
_NOT_SHOWN = "a value that is not shown"

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HARMLESS_KEY = re.compile(r"[a-z_]{1,40}")
_MAX_SHOWN = 60

_CONSEQUENCE = "default_factory_not_called"
"""Type of an error that only follows from another one."""
_KEY_MARK = "[key]"
"""Last part of the location of an error about a key."""
_WRONG_TYPE = re.compile(r"missing|literal_error|.*_(type|parsing|parsing_size|from_float)")
_MESSAGE_START = re.compile(
    r"^(Value error, |Assertion failed, |Input should be |\w+ should have |String should match )"
)
_MESSAGE_END = re.compile(r"( after validation)?(, not \d+)?$")


class _Missing:
    """Stands for a value where there is none."""


_MISSING = _Missing()


@dataclass(frozen=True, order=True)
class Finding:
    """One error. They sort by place, those of the environment last."""

    in_environment: bool
    place: tuple[int, int]
    line: str


@dataclass(frozen=True)
class _Spot:
    """The place of an error, and what is known about it."""

    path: Path
    value: Any
    annotation: Any
    parent: Any
    """Type of the mapping or list that contains the place."""
    about_key: bool


class Reporter:
    """Turns validation errors into findings with places in the file or environment."""

    def __init__(self, file: str, document: Document, environment: EnvironmentLayer, root: type) -> None:
        self._file = file
        self._document = document
        self._environment = environment
        self._root = root
        self._data = _merge_layers(document.data, environment.data)

    def lines(self, errors: Iterable[ErrorDetails] = ()) -> list[str]:
        """Return a line for each of pydantic's errors and each repeated key, in the order of the file.

        At most ``MAX_LINES`` errors are described; the last line gives the number of the others.
        """
        invalid, left_out = self._findings(errors)
        findings = sorted([*self._repeated_keys(), *invalid])
        lines = [*(finding.line for finding in findings), *self._environment.errors]
        left_out += max(0, len(self._document.repeated) - MAX_LINES) + max(0, len(lines) - MAX_LINES)
        if left_out:
            lines[MAX_LINES:] = [f"{self._file}: {left_out} more error{'s' if left_out > 1 else ''}"]
        return lines

    def _findings(self, errors: Iterable[ErrorDetails]) -> tuple[list[Finding], int]:
        """Return a finding for each of the first values with errors, and the number of errors after them.

        Pydantic reports one error for each type of a union, except for the settings' own, which are discriminated.
        """
        joined: dict[tuple[Path, bool, str], dict[str, None]] = {}
        left_out = 0
        for error in errors:
            if error["type"] == _CONSEQUENCE:
                continue
            if len(joined) == MAX_LINES:
                # Describing 100,000 errors would take seconds.
                left_out += 1
                continue
            spot = self._find_spot(error["loc"])
            found, allowed = _describe_error(error, spot)
            about_key = spot.about_key or error["type"] == "extra_forbidden"
            joined.setdefault((spot.path, about_key, found), {})[allowed] = None
        findings = [
            self._make_finding(path, found, " or ".join(allowed), about_key=about_key)
            for (path, about_key, found), allowed in joined.items()
        ]
        return findings, left_out

    def _repeated_keys(self) -> list[Finding]:
        """Return a finding for each of the first repeated keys."""
        return [
            Finding(
                in_environment=False,
                place=place,
                line=_format_line(f"{self._file}:{place[0]}:{place[1]}", path, "a repeated key", "each key once"),
            )
            for path, place in self._document.repeated[:MAX_LINES]
        ]

    def _make_finding(self, path: Path, found: str, allowed: str, *, about_key: bool) -> Finding:
        variable, place = self._locate(path, about_key=about_key)
        source = variable or f"{self._file}:{place[0]}:{place[1]}"
        return Finding(
            in_environment=variable is not None, place=place, line=_format_line(source, path, found, allowed)
        )

    def _locate(self, path: Path, *, about_key: bool) -> tuple[str | None, tuple[int, int]]:
        """The variable or the line and column of the value, or of the nearest thing around it."""
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
        """Follow an error's location; what pydantic adds to it for members of unions is no part of the path."""
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
    """Return the key as it is written: a secret has three spellings."""
    if isinstance(part, int) or not isinstance(value, dict):
        return part
    return next((key for key in introspection.spellings(part) if key in value), part)


def _format_line(source: str, path: Path, found: str, allowed: str) -> str:
    line = redactor.scrub(f"{source}: {show_path(path)}: found {found}, allowed {allowed}")
    return "".join(char if char.isprintable() else "�" for char in line)


def show_path(path: Path) -> str:
    """``upstreams[0].auth.bearer_token_file``. A key that may be a value in the wrong place is not shown."""
    shown = ""
    for index, part in enumerate(path):
        if isinstance(part, int):
            shown += f"[{part}]"
            continue
        usual = (_HARMLESS_KEY if "auth" in path[:index] else _PLAIN_KEY).fullmatch(part)
        shown += ("." if shown else "") + (part if usual else "…")
    return shown or "configuration"


def _describe_error(error: ErrorDetails, spot: _Spot) -> tuple[str, str]:
    """What was found and what is allowed."""
    context: Mapping[str, Any] = error.get("ctx") or {}
    kind = error["type"]
    if kind == "extra_forbidden":
        return "an unknown key", _describe_keys(spot)
    if kind == REFUSED:
        return context.get("found") or describe(spot.value, spot), context["allowed"]
    if kind == "value_error" and isinstance(spot.value, dict):
        return "settings that do not fit together", _trimmed_message(error)
    if _WRONG_TYPE.fullmatch(kind):
        return describe(spot.value, spot), introspection.phrase_type(spot.annotation)
    return describe(spot.value, spot), _trimmed_message(error)


def _trimmed_message(error: ErrorDetails) -> str:
    return _MESSAGE_END.sub("", _MESSAGE_START.sub("", error["msg"]))


def _describe_keys(spot: _Spot) -> str:
    known = sorted(introspection.known_keys(spot.parent) or ())
    close = similar_words(str(spot.path[-1]), known)
    if close:
        return f"{close[0]} (did you mean that?)"
    return introspection.join_or(known)


def describe(value: Any, spot: _Spot) -> str:
    """What was found, in few words; nothing of it where it may be a secret."""
    if value is None or isinstance(value, _Missing):
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if _is_hidden(value, spot):
        return _NOT_SHOWN
    if introspection.describe_type(spot.annotation).startswith(("mapping", "list of")):
        return "text" if isinstance(value, str) else "a single value"
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
