"""Load the configuration from a file and environment variables, and report all errors at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.environment import PREFIX, environment_layer
from exporter.config.errors import Reporter
from exporter.config.root import Settings, settings_class
from exporter.config.validation import ConfigSchema, LoadContext, using_load_context
from exporter.config.yaml_document import Document, DocumentError, read
from exporter.runtime.files import File, FileError, read_file_within, shared_deadline
from exporter.runtime.redaction import redactor

_MAX_BYTES = 64 * 2**20
_FILES_SECONDS = 10.0
"""Maximum time to wait for a file system that does not answer, for the configuration and all files it names."""
_VARIABLE_KEY = "_env"


class ConfigError(Exception):
    """An invalid configuration. No line contains a secret."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors
        """Lines of the form ``FILE:LINE:COL: path.to.key: message``, or ``VARIABLE: path.to.key: message``."""


def load(path: Path, environ: Mapping[str, str], schema: ConfigSchema) -> Settings:
    """Load the settings from the file; environment variables take precedence. Raises ``ConfigError``."""
    with shared_deadline(_FILES_SECONDS):
        return _load(path, environ, schema)


def _load(path: Path, environ: Mapping[str, str], schema: ConfigSchema) -> Settings:
    try:
        file = read_file_within(path, _MAX_BYTES)
    except FileError as error:
        raise ConfigError([f"{path}: cannot read the file: {error.strerror}"]) from None
    document = _read_document(path, file)
    root = settings_class(schema, frozenset(_used_platforms(schema.platforms, document.data, environ)))
    environment = environment_layer(environ, root, set(_referenced_variables(document.data)))
    reporter = Reporter(str(path), document, environment, root)
    context = LoadContext(
        path.parent,
        environ,
        schema,
        layers=(environment.data, document.data),
        is_world_readable=file.is_world_readable,
    )
    errors: list[ErrorDetails] = []
    try:
        with using_load_context(context):
            settings = root()  # takes its values from the layers in the context
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    lines = reporter.lines(errors)
    if lines:
        raise ConfigError(lines)
    return settings


def _read_document(path: Path, file: File) -> Document:
    try:
        document = read(_decode(file.content))
        _require_mapping(document.data)
    except DocumentError as error:
        line, column = error.place
        raise ConfigError([redactor.scrub(f"{path}:{line}:{column}: {error}")]) from None
    return document


def _require_mapping(data: Any) -> None:
    if not isinstance(data, dict):
        kind = "an empty file" if data is None else "a list" if isinstance(data, list) else "a single value"
        raise DocumentError((1, 1), f"expected a mapping with the key upstreams, got {kind}")


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise DocumentError((line, column), "invalid UTF-8") from None


def _used_platforms(names: Iterable[str], data: Any, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the platforms that an upstream may have; the settings classes of the others are not needed."""
    upstreams = data.get("upstreams")
    items = upstreams if isinstance(upstreams, list) else []
    in_file = [item.get("platform") for item in items if isinstance(item, dict)]
    in_environment = [value for variable, value in environ.items() if variable.startswith(PREFIX)]
    for name in names:
        if name in in_file or any(name in value for value in in_environment):
            yield name


def _referenced_variables(data: Any) -> Iterator[str]:
    """Yield the variables that ``…_env`` keys name. Such a name may start with our prefix."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key.endswith(_VARIABLE_KEY) and isinstance(value, str):
                yield value
            yield from _referenced_variables(value)
    elif isinstance(data, list):
        for item in data:
            yield from _referenced_variables(item)
