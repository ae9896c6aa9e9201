"""Secrets from files, environment variables or the configuration itself; they are never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from exporter.config.validation import load_context, refuse, refuse_because, resolve
from exporter.runtime.files import (
    DEADLINE_SECONDS,
    KNOWN_FILE_SECONDS,
    File,
    FileError,
    NoAnswerError,
    call_within_async,
    read_file,
    read_file_within,
)
from exporter.runtime.redaction import HIDDEN, redactor

log = structlog.get_logger()

SOURCE_SUFFIXES = ("_file", "_env")
"""Suffixes of a secret's keys: ``X`` may be given as ``X``, ``X_file`` or ``X_env``."""

_MAX_BYTES = 65_536
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretError(Exception):
    """A secret that cannot be read. The message names its file or variable, never its content."""


class Secret:
    """A secret, or where to read it. Only ``get`` and ``refresh`` return its text; repr and str are ``<secret>``.

    Secrets are equal if they have the same file, the same variable and value, or the same inline text. New content of
    a file does not change the settings; ``refresh`` reads it.
    """

    __slots__ = ("_environ", "_is_answered", "_path", "_read", "_text", "_variable", "is_plain", "is_world_readable")

    def __init__(
        self,
        *,
        text: str | None = None,
        path: Path | None = None,
        variable: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Use ``inline``, ``from_file`` or ``from_env``."""
        self._text = text
        self._path = path
        self._variable = variable
        self._environ = environ
        self._read: str | None = None
        """Last good content of the file."""
        self._is_answered = True
        self.is_world_readable = False
        """Whether the file was readable by every user when it was last read."""
        self.is_plain = False
        """Whether the text holds no secret, so that there is nothing to redact and to warn about."""

    @classmethod
    def inline(cls, text: str) -> Secret:
        """Return a secret with this text."""
        redactor.add(text)
        return cls(text=text)

    @classmethod
    def plain(cls, text: str) -> Secret:
        """Return a text that could have held a secret, such as a URL without a token. It is not shown either."""
        secret = cls(text=text)
        secret.is_plain = True
        return secret

    @classmethod
    def from_file(cls, path: Path) -> Secret:
        """Return a secret that is the content of a file, without one newline at the end."""
        return cls(path=path)

    @classmethod
    def from_env(cls, variable: str, environ: Mapping[str, str] | None = None) -> Secret:
        """Return a secret that is the value of an environment variable."""
        return cls(variable=variable, environ=os.environ if environ is None else environ)

    def get(self) -> str:
        """Return the text; for a file, the content when it was last read. Raises ``SecretError``.

        Blocks only if the file has not been read before.
        """
        if self._path is not None:
            return self._read_now(self._path) if self._read is None else self._read
        if self._variable is not None:
            return self._get_from_variable(self._variable)
        return self._text or ""

    async def refresh(self) -> str:
        """Return the text; a file is read again. Raises ``SecretError``.

        While the file system does not answer, the last content is returned.
        """
        path = self._path
        if path is None:
            return self.get()
        seconds = DEADLINE_SECONDS if self._read is None else KNOWN_FILE_SECONDS
        try:
            file = await call_within_async(path, partial(read_file, path, _MAX_BYTES), seconds)
        except NoAnswerError as error:
            if self._read is None:
                raise _unreadable(path, error.strerror) from None
            if self._is_answered:
                log.warning("cannot read secrets file; using its last content", file=str(path), error=error.strerror)
            self._is_answered = False
            return self._read
        except FileError as error:
            raise _unreadable(path, error.strerror) from None
        self._is_answered = True
        return self._accept(path, file)

    @property
    def origin(self) -> str:
        """``inline``, ``file`` or ``environment``."""
        return "file" if self._path is not None else "environment" if self._variable is not None else "inline"

    @property
    def spelling(self) -> tuple[str, str]:
        """Suffix of its key in the configuration, and its value there (hidden if inline)."""
        if self._path is not None:
            return "_file", str(self._path)
        return ("", HIDDEN) if self._variable is None else ("_env", self._variable)

    def _read_now(self, path: Path) -> str:
        try:
            return self._accept(path, read_file_within(path, _MAX_BYTES))
        except FileError as error:
            raise _unreadable(path, error.strerror) from None

    def _accept(self, path: Path, file: File) -> str:
        """Store and return the content of the file. Raises ``SecretError``."""
        try:
            text = file.content.decode()
        except UnicodeDecodeError:
            raise _unreadable(path, "not UTF-8") from None
        self._read = _check_content(text.removesuffix("\n").removesuffix("\r"), f"secrets file {path}")
        self.is_world_readable = file.is_world_readable
        return self._read

    def _get_from_variable(self, variable: str) -> str:
        value = (self._environ or {}).get(variable)
        if value is None:
            raise SecretError(f"environment variable {variable} is not set")
        return _check_content(value, f"environment variable {variable}")

    def _identity(self) -> tuple[object, ...]:
        current = self._environ.get(self._variable) if self._environ is not None and self._variable else None
        return self._text, self._path, self._variable, current

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._path, self._variable))

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _validate_secret, serialization=core_schema.plain_serializer_function_ser_schema(lambda _: HIDDEN)
        )


def _unreadable(path: Path, cause: str | None) -> SecretError:
    return SecretError(f"cannot read secrets file {path}: {cause}")


def _check_content(text: str, where: str) -> str:
    if not text:
        raise SecretError(f"{where} is empty")
    if _CONTROL.search(text):
        raise SecretError(f"{where} contains a line break or another control character")
    redactor.add(text)
    return text


@dataclass(frozen=True)
class SecretSource:
    """A secret as given in a mapping: the suffix of its key, and the value."""

    suffix: str = ""
    value: Any = field(default=None, repr=False)
    several: tuple[str, ...] = ()
    """The keys, if more than one is given."""


def _validate_secret(given: Any) -> Secret:
    if isinstance(given, Secret):
        return given
    source = given if isinstance(given, SecretSource) else SecretSource(value=given)
    if source.several:
        raise refuse_because(f"give only one of {', '.join(source.several)}")
    if not isinstance(source.value, str):
        raise refuse("a string (put numbers in quotes)", found="another type")
    read = {"": _inline_secret, "_file": _file_secret, "_env": _variable_secret}[source.suffix]
    try:
        return read(source.value)
    except SecretError as error:
        raise refuse_because(str(error)) from None


def _inline_secret(text: str) -> Secret:
    context = load_context()
    if context.is_world_readable and _contains(context.layers[-1], text):
        context.warnings["the configuration file contains a secret and is readable by every user"] = None
    return Secret.inline(_check_content(text, "the secret"))


def _contains(data: Any, text: str) -> bool:
    """Return whether the document contains this value; if not, it came from the environment."""
    if isinstance(data, Mapping):
        return any(_contains(value, text) for value in data.values())
    if isinstance(data, list):
        return any(_contains(value, text) for value in data)
    return bool(data == text)


def _file_secret(text: str) -> Secret:
    if not text.isprintable():
        raise refuse_because("the path contains control characters")
    path = resolve(text)
    secret = Secret.from_file(path)
    secret.get()
    if secret.is_world_readable:
        load_context().warnings[f"secrets file {path} is readable by every user"] = None
    return secret


def _variable_secret(name: str) -> Secret:
    # a bad name is not shown, because it may be the secret itself under the wrong key
    if not _VARIABLE.fullmatch(name):
        raise refuse_because("not a valid name of an environment variable (it is not shown)")
    environ = load_context().environ
    if name not in environ:
        raise refuse_because("the environment variable named here is not set (the name is not shown)")
    secret = Secret.from_env(name, environ)
    secret.get()
    return secret
