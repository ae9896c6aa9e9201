"""Read configuration from environment variables: ``STREAM_EXPORTER_DEFAULTS__INTERVAL=30s`` sets ``defaults.interval``.

docs/adr/0001-environment-layer.md explains why this is not done by pydantic-settings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.config import introspection
from exporter.config.yaml_document import DocumentError, Path, read
from exporter.runtime.suggestions import similar_words

PREFIX = "STREAM_EXPORTER_"
_NESTED = "__"

_SERVICE_LINK = re.compile(
    r"STREAM_EXPORTER_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""Variables that Kubernetes sets in every pod if there is a Service named stream-exporter; they are ignored."""


@dataclass
class EnvironmentLayer:
    """Values from environment variables, and the variable that each came from."""

    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def environment_layer(environ: Mapping[str, str], root: Any, referenced: Collection[str]) -> EnvironmentLayer:
    """Read the variables that set keys of the class ``root``.

    Values are text, or YAML if they start with ``[`` or ``{``. ``null`` removes the file's value; an empty variable
    counts as unset. ``referenced`` are the variables that ``…_env`` keys in the file name; they are skipped.
    """
    result = EnvironmentLayer()
    for variable in sorted(environ):
        is_ours = variable.startswith(PREFIX) and variable not in referenced
        if is_ours and not _SERVICE_LINK.fullmatch(variable):
            try:
                path = _parse_name(variable, root)
                if environ[variable]:
                    _set_value(result, path, variable, _parse_value(environ[variable]))
            except DocumentError as error:
                result.errors.append(f"{variable}: {error}")
    return result


def _parse_name(variable: str, root: Any) -> tuple[str, ...]:
    path: tuple[str, ...] = ()
    annotation = root
    for part in variable.removeprefix(PREFIX).split(_NESTED):
        known = introspection.known_keys(annotation)
        # rule and label names keep their case; keys are written in capitals
        key = part.lower() if known is not None else part
        below = introspection.annotation_at(annotation, [key])
        if below is None or not key:
            raise _unknown_key(key, annotation, list(known or ()), path)
        path, annotation = (*path, key), below
    return path


def _unknown_key(key: str, annotation: Any, known: list[str], path: tuple[str, ...]) -> DocumentError:
    if introspection.annotation_at(annotation, [0]) is not None:
        variable = PREFIX + _NESTED.join(path).upper()
        return DocumentError((1, 1), f"items of a list cannot be set one by one; set {variable} to the list as YAML")
    close = similar_words(key, known)
    if close:
        variable = PREFIX + _NESTED.join((*path, close[0])).upper()
        return DocumentError((1, 1), f"unknown key; did you mean {variable}?")
    return DocumentError((1, 1), f"unknown key; known keys here: {', '.join(known) or 'none'}")


def _parse_value(text: str) -> Any:
    if text == "null":
        return None
    return read(text).data if text[0] in "[{" else text


def _set_value(result: EnvironmentLayer, path: tuple[str, ...], variable: str, value: Any) -> None:
    target = result.data
    for depth, key in enumerate(path[:-1], 1):
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            others = (result.variables.get(path[:length]) for length in range(depth, 0, -1))
            other = next(name for name in others if name is not None)
            raise DocumentError((1, 1), f"{other} sets the whole value already; remove one of the two variables")
    target[path[-1]] = value
    result.variables[path] = variable
