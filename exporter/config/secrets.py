"""Secrets: read from files, variables or the configuration itself, and never shown."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from exporter.config.validation import load_context, refuse, resolve
from exporter.runtime.redaction import HIDDEN, redactor

SOURCE_SUFFIXES = ("_file", "_env")
"""A secret ``X`` is given as ``X``, ``X_file`` or ``X_env``."""

_MAX_BYTES = 65_536
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretError(Exception):
    """A secret that can't be had. The message names its file or variable, never its content."""


class Secret:
    """A secret, or the place to read it from. Its text comes from ``get`` alone; repr and str are ``<secret>``.

    Two secrets are equal when they come from the same file, the same value of a variable, or are the same inline
    text: a file's new content is read again by ``get``, and changes no settings.
    """

    __slots__ = ("_environ", "_path", "_read", "_seen", "_text", "_variable")

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
        self._seen: tuple[int, ...] | None = None
        self._read = ""

    @classmethod
    def inline(cls, text: str) -> Secret:
        """The secret itself."""
        redactor.add(text)
        return cls(text=text)

    @classmethod
    def from_file(cls, path: Path) -> Secret:
        """The content of a file, without one newline at its end; read again when the file changes."""
        return cls(path=path)

    @classmethod
    def from_env(cls, variable: str, environ: Mapping[str, str] | None = None) -> Secret:
        """The value of an environment variable."""
        return cls(variable=variable, environ=os.environ if environ is None else environ)

    def get(self) -> str:
        """The text now. Raises ``SecretError``."""
        if self._path is not None:
            return self._get_from_file(self._path)
        if self._variable is not None:
            return self._get_from_variable(self._variable)
        return self._text or ""

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

    def _get_from_file(self, path: Path) -> str:
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size, status.st_dev)
            if seen != self._seen:
                self._read = _check_content(_read_file(path, status), f"the secrets file {path}")
                self._seen = seen
        except (OSError, ValueError) as error:
            self._seen = None
            raise SecretError(f"the secrets file {path} can't be read: {_describe_cause(error)}") from None
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


def _read_file(path: Path, status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > _MAX_BYTES:
        raise ValueError(f"it is longer than {_MAX_BYTES} bytes")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _describe_cause(error: OSError | ValueError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


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
    if path.stat().st_mode & stat.S_IROTH:
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
