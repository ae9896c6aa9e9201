"""How a value of the configuration is read: its surroundings, and how it is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Place = tuple[str | int, ...]
T = TypeVar("T")

REFUSED = "refused"
"""The type of the errors that this package makes; their context says what was found and what is allowed."""


@dataclass(frozen=True)
class LoadContext:
    """What reading a configuration needs besides its text. Models made without a file get those of the process."""

    folder: Path = Path()
    """Relative paths begin here: the folder of the configuration file."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    warnings: dict[str, None] = field(default_factory=dict)
    """What is allowed and yet worth a word: each once, in order."""
    layers: tuple[Mapping[str, Any], ...] = ()
    """The mappings that the settings are made from, strongest first; the last is the file's."""
    is_open: bool = False
    """Whether every user of the machine may read the file."""


_load_context: ContextVar[LoadContext | None] = ContextVar("load_context", default=None)


def load_context() -> LoadContext:
    """Those of the load that is going on."""
    return _load_context.get() or LoadContext()


@contextmanager
def within(current: LoadContext) -> Iterator[None]:
    """Read with these surroundings: the constructor of pydantic-settings has no way to hand a context through."""
    token = _load_context.set(current)
    try:
        yield
    finally:
        _load_context.reset(token)


def refuse(allowed: str, *, found: str | None = None) -> PydanticCustomError:
    """The error for a value that is not allowed. ``found`` replaces the value in the report; neither holds a secret."""
    context: dict[str, Any] = {"allowed": allowed}
    if found is not None:
        context["found"] = found
    return PydanticCustomError(REFUSED, "allowed: {allowed}", context)


def refuse_all(title: str, errors: Mapping[Place, PydanticCustomError]) -> ValidationError:
    """Several refusals at once, by their place below the model that raises this."""
    return ValidationError.from_exception_data(title, _lines(errors), hide_input=True)


def validate_besides(title: str, validate: Callable[[], T], errors: Mapping[Place, PydanticCustomError]) -> T:
    """What ``validate`` returns; its errors and ``errors`` are reported together."""
    try:
        result = validate()
    except ValidationError as error:
        lines = [
            InitErrorDetails(
                # the types of pydantic's own errors want their contexts back in full; ours take any
                type=PydanticCustomError(_literal(line["type"]), _literal(line["msg"]), line.get("ctx")),
                loc=line["loc"],
                input=None,
            )
            for line in error.errors(include_url=False, include_input=False)
        ]
        raise ValidationError.from_exception_data(title, [*lines, *_lines(errors)], hide_input=True) from None
    if errors:
        raise refuse_all(title, errors)
    return result


def _lines(errors: Mapping[Place, PydanticCustomError]) -> list[InitErrorDetails]:
    return [InitErrorDetails(type=error, loc=place, input=None) for place, error in errors.items()]


def _literal(text: str) -> Any:
    """A text where pydantic's types ask for a literal one."""
    return text


def resolve(path: str) -> Path:
    """A path as written, relative to the configuration file; ``~`` is not expanded."""
    return load_context().folder / path
