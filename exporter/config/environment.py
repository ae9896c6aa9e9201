"""The environment as a layer over the file: ``STREAM_EXPORTER_DEFAULTS__INTERVAL=30s`` is ``defaults.interval``.

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
"""Variables that Kubernetes sets in every pod for a Service named stream-exporter; they are not configuration."""


@dataclass
class EnvironmentLayer:
    """The values of the variables, and the variable of each."""

    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def environment_layer(environ: Mapping[str, str], root: Any, referenced: Collection[str]) -> EnvironmentLayer:
    """Return the layer for settings of class ``root``.

    Values are text, or YAML if they begin with ``[`` or ``{``. ``null`` removes the file's value, and an empty
    variable counts as not set. ``referenced``: variables that the file names in ``…_env`` keys.
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
        # names of labels and rules keep their case; keys are written in capitals
        key = part.lower() if known is not None else part
        below = introspection.annotation_at(annotation, [key])
        if below is None or not key:
            raise _unknown_key(key, annotation, list(known or ()), path)
        path, annotation = (*path, key), below
    return path


def _unknown_key(key: str, annotation: Any, known: list[str], path: tuple[str, ...]) -> DocumentError:
    if introspection.annotation_at(annotation, [0]) is not None:
        return DocumentError((1, 1), f"a place inside the list {'.'.join(path)}", "the whole list as YAML")
    close = similar_words(key, known)
    variable = PREFIX + _NESTED.join((*path, close[0] if close else "")).upper()
    allowed = f"{variable} (did you mean that?)" if close else f"variables for {', '.join(known) or 'nothing'} here"
    return DocumentError((1, 1), "a variable for an unknown key", allowed)


def _parse_value(text: str) -> Any:
    if text == "null":
        return None
    return read(text).data if text[0] in "[{" else text


def _set_value(result: EnvironmentLayer, path: tuple[str, ...], variable: str, value: Any) -> None:
    target = result.data
    for key in path[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise DocumentError((1, 1), "a key of a value that another variable sets", "one of the two variables")
    target[path[-1]] = value
    result.variables[path] = variable
