"""Secrets: read from files, variables or the configuration itself, and never shown."""

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

from exporter.config.validation import load_context, refuse, resolve
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
"""A secret ``X`` is given as ``X``, ``X_file`` or ``X_env``."""

_MAX_BYTES = 65_536
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretError(Exception):
    """A secret that can't be had. The message names its file or variable, never its content."""


class Secret:
    """A secret, or the place to read it from. Its text comes from its methods alone; repr and str are ``<secret>``.

    Two secrets are equal when they come from the same file, the same value of a variable, or are the same inline
    text: a file's new content is read by ``refresh``, and changes no settings.
    """

    __slots__ = ("_environ", "_is_answered", "_path", "_read", "_text", "_variable", "is_open")

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
        self.is_open = False
        """Whether every user of the machine could read the file when it was last read."""

    @classmethod
    def inline(cls, text: str) -> Secret:
        """The secret itself."""
        redactor.add(text)
        return cls(text=text)

    @classmethod
    def from_file(cls, path: Path) -> Secret:
        """The content of a file, without one newline at its end; ``refresh`` reads it again."""
        return cls(path=path)

    @classmethod
    def from_env(cls, variable: str, environ: Mapping[str, str] | None = None) -> Secret:
        """The value of an environment variable."""
        return cls(variable=variable, environ=os.environ if environ is None else environ)

    def get(self) -> str:
        """The text; of a file, its content when it was last read. Raises ``SecretError``.

        Blocks only for a file that was never read.
        """
        if self._path is not None:
            return self._read_now(self._path) if self._read is None else self._read
        if self._variable is not None:
            return self._get_from_variable(self._variable)
        return self._text or ""

    async def refresh(self) -> str:
        """Read a file again, and return the text. Raises ``SecretError``.

        The last content is returned while the file system does not answer, because nothing is known of a new one.
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
                log.warning(
                    "secrets file can't be read; its last content is used", file=str(path), error=error.strerror
                )
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
        """The suffix of its key in the configuration, and what may be shown of its value."""
        if self._path is not None:
            return "_file", str(self._path)
        return ("", HIDDEN) if self._variable is None else ("_env", self._variable)

    def _read_now(self, path: Path) -> str:
        try:
            return self._accept(path, read_file_within(path, _MAX_BYTES))
        except FileError as error:
            raise _unreadable(path, error.strerror) from None

    def _accept(self, path: Path, file: File) -> str:
        """Keep the content of the file, and return it. Raises ``SecretError``."""
        try:
            text = file.content.decode()
        except UnicodeDecodeError:
            raise _unreadable(path, "it is not UTF-8") from None
        self._read = _check_content(text.removesuffix("\n").removesuffix("\r"), f"the secrets file {path}")
        self.is_open = file.is_open
        return self._read

    def _get_from_variable(self, variable: str) -> str:
        value = (self._environ or {}).get(variable)
        if value is None:
            raise SecretError(f"the environment variable {variable} is not set")
        return _check_content(value, f"the environment variable {variable}")

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
    return SecretError(f"the secrets file {path} can't be read: {cause}")


def _check_content(text: str, where: str) -> str:
    if not text:
        raise SecretError(f"{where} is empty")
    if _CONTROL.search(text):
        raise SecretError(f"{where} holds more than one line, or a control character")
    redactor.add(text)
    return text


@dataclass(frozen=True)
class SecretSource:
    """One secret as a mapping spells it: the suffix of its key and the value there."""

    suffix: str = ""
    value: Any = field(default=None, repr=False)
    several: tuple[str, ...] = ()
    """The keys, where more than one is given."""


def _validate_secret(given: Any) -> Secret:
    if isinstance(given, Secret):
        return given
    source = given if isinstance(given, SecretSource) else SecretSource(value=given)
    if source.several:
        raise refuse(f"one of {', '.join(source.several)}", found="more than one of them")
    if not isinstance(source.value, str):
        raise refuse("text (a number is put in quotes)", found="a value that is not text")
    read = {"": _inline_secret, "_file": _file_secret, "_env": _variable_secret}[source.suffix]
    try:
        return read(source.value)
    except SecretError as error:
        raise refuse("a secret of one line that can be read", found=str(error)) from None


def _inline_secret(text: str) -> Secret:
    context = load_context()
    if context.is_open and _contains(context.layers[-1], text):
        context.warnings["a secret stands in the configuration file, which every user of the machine can read"] = None
    return Secret.inline(_check_content(text, "the text"))


def _contains(data: Any, text: str) -> bool:
    """Whether the document contains this value; otherwise it came from the environment."""
    if isinstance(data, Mapping):
        return any(_contains(value, text) for value in data.values())
    if isinstance(data, list):
        return any(_contains(value, text) for value in data)
    return bool(data == text)


def _file_secret(text: str) -> Secret:
    if not text.isprintable():
        raise refuse("the path of a file", found="text with control characters")
    path = resolve(text)
    secret = Secret.from_file(path)
    secret.get()
    if secret.is_open:
        load_context().warnings[f"secrets file {path} can be read by every user of the machine"] = None
    return secret


def _variable_secret(name: str) -> Secret:
    # a name that is none, or that is not set, may be the secret itself at the wrong key: it is not shown
    if not _VARIABLE.fullmatch(name):
        raise refuse("the name of an environment variable", found="text that is no such name")
    environ = load_context().environ
    if name not in environ:
        raise refuse("the name of an environment variable that is set", found="one that is not set")
    secret = Secret.from_env(name, environ)
    secret.get()
    return secret
