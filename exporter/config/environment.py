"""The environment as a layer over the file: ``STREAM_EXPORTER_DEFAULTS__INTERVAL=30s`` is ``defaults.interval``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.config import schema
from exporter.config.yaml_document import DocumentError, Path, read

PREFIX = "STREAM_EXPORTER_"
_NESTED = "__"

_SERVICE_LINK = re.compile(
    r"STREAM_EXPORTER_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes sets in each pod beside a Service named stream-exporter: no configuration."""


@dataclass
class EnvironmentLayer:
    """What the variables say, and which one says it."""

    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def layer(environ: Mapping[str, str], root: Any, referenced: Collection[str]) -> EnvironmentLayer:
    """The layer for settings of class ``root``.

    Values are text; one that begins with ``[`` or ``{`` is YAML, ``null`` takes the file's value away, an empty one
    counts as not set. ``referenced``: variables that the file names in an ``…_env`` key.
    """
    result = EnvironmentLayer()
    for variable in sorted(environ):
        is_ours = variable.startswith(PREFIX) and variable not in referenced
        if is_ours and not _SERVICE_LINK.fullmatch(variable):
            try:
                path = _path(variable, root)
                if environ[variable]:
                    _put(result, path, variable, _value(environ[variable]))
            except DocumentError as error:
                result.errors.append(f"{variable}: {error}")
    return result


def _path(variable: str, root: Any) -> tuple[str, ...]:
    path: tuple[str, ...] = ()
    annotation = root
    for part in variable.removeprefix(PREFIX).split(_NESTED):
        known = schema.keys(annotation)
        # names of labels and rules keep their case, keys have none in a variable
        key = part.lower() if known is not None else part
        below = schema.at(annotation, [key])
        if below is None or not key:
            raise _unknown(key, annotation, list(known or ()), path)
        path, annotation = (*path, key), below
    return path


def _unknown(key: str, annotation: Any, known: list[str], path: tuple[str, ...]) -> DocumentError:
    if schema.at(annotation, [0]) is not None:
        return DocumentError((1, 1), f"a place inside the list {'.'.join(path)}", "the whole list as YAML")
    close = difflib.get_close_matches(key, known, 1)
    variable = PREFIX + _NESTED.join((*path, close[0] if close else "")).upper()
    allowed = f"{variable} (did you mean that?)" if close else f"variables for {', '.join(known) or 'nothing'} here"
    return DocumentError((1, 1), "a variable for an unknown key", allowed)


def _value(text: str) -> Any:
    if text == "null":
        return None
    return read(text).data if text[0] in "[{" else text


def _put(result: EnvironmentLayer, path: tuple[str, ...], variable: str, value: Any) -> None:
    target = result.data
    for key in path[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise DocumentError((1, 1), "a key of a value that another variable sets", "one of the two variables")
    target[path[-1]] = value
    result.variables[path] = variable
