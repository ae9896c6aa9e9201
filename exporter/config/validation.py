"""Context and errors of configuration validation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Place = tuple[str | int, ...]
T = TypeVar("T")

REFUSED = "refused"
"""Type of the errors that this package raises. Their context has either ``allowed`` and ``found``, or ``message``."""


@dataclass(frozen=True)
class RuleLimits:
    """The parts of an alert rule that the configuration may change."""

    threshold: float | None
    """Default threshold; None if the rule has no threshold."""
    threshold_max: float
    has_for: bool
    """Whether the rule has a ``for`` time; otherwise it evaluates a window."""
    scope: str = "stream"
    """What the rule is about: ``stream``, ``upstream``, ``group`` or ``exporter``."""


@dataclass(frozen=True, eq=False)
class ConfigSchema:
    """Platforms, rules and metric families that a configuration may refer to. Compared by identity."""

    platforms: Mapping[str, type[BaseModel]]
    """Settings classes (subclasses of ``UpstreamSettings``) by platform name."""
    rules: Mapping[str, RuleLimits]
    families: tuple[str, ...]
    """Metric families that ``exclude_families`` can exclude."""
    health_histogram: str
    health_bounds: tuple[float, ...]
    """Name and bucket bounds of the health score histogram; ``alerting.health_slo.goal`` is one of the bounds."""
    labels: frozenset[str] = frozenset()
    """Label names of the exporter's own metrics."""
    warnings: tuple[str, ...] = ()
    """Warnings to add to those of the configuration, for example about a platform that can't be used."""


@dataclass(frozen=True)
class LoadContext:
    """Inputs of validators in addition to the value. Settings created in code get the default context."""

    folder: Path = Path()
    """Folder of the configuration file; relative paths are resolved against it."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    schema: ConfigSchema | None = None
    """None for settings created in code; rule and family names are then not checked."""
    warnings: dict[str, None] = field(default_factory=dict)
    """Warnings found during validation, without duplicates and in order."""
    layers: tuple[Mapping[str, Any], ...] = ()
    """Mappings to merge, highest precedence first; the last one comes from the file."""
    is_world_readable: bool = False
    """Whether the file is readable by every user."""
    calendar_errors: dict[Path, str] = field(default_factory=dict)
    """Results of checking calendar files, which many streams may share: why a file cannot be used, or an empty text."""


_load_context: ContextVar[LoadContext | None] = ContextVar("load_context", default=None)


def load_context() -> LoadContext:
    """Return the context of the current load."""
    return _load_context.get() or LoadContext()


@contextmanager
def using_load_context(context: LoadContext) -> Iterator[None]:
    """Validate in this context. A context variable is needed because pydantic-settings accepts no context."""
    token = _load_context.set(context)
    try:
        yield
    finally:
        _load_context.reset(token)


def resolve(path: str) -> Path:
    """Resolve a path against the folder of the configuration file; ``~`` is not expanded."""
    return load_context().folder / path


def refuse(allowed: str, *, found: str | None = None) -> PydanticCustomError:
    """Return the error ``expected {allowed}, got {found}``; ``found`` defaults to the value.

    ``found="nothing"`` means that a key is missing. Neither text may contain a secret.
    """
    context: dict[str, Any] = {"allowed": allowed}
    if found is not None:
        context["found"] = found
    return PydanticCustomError(REFUSED, "expected {allowed}", context)


def refuse_because(message: str) -> PydanticCustomError:
    """Return an error with this text, which must not contain a secret."""
    return PydanticCustomError(REFUSED, "{message}", {"message": message})


def refuse_all(title: str, errors: Mapping[Place, PydanticCustomError]) -> ValidationError:
    """Combine errors into one. The keys are locations relative to the model that raises it."""
    return ValidationError.from_exception_data(title, _error_lines(errors), hide_input=True)


def validate_with_errors(title: str, validate: Callable[[], T], errors: Mapping[Place, PydanticCustomError]) -> T:
    """Return the result of ``validate``, or raise its errors together with ``errors``."""
    try:
        result = validate()
    except ValidationError as error:
        lines = [
            InitErrorDetails(
                # pydantic's own error types require their complete context; a custom error accepts any
                type=PydanticCustomError(_as_literal(line["type"]), _as_literal(line["msg"]), line.get("ctx")),
                loc=line["loc"],
                input=None,
            )
            for line in error.errors(include_url=False, include_input=False)
        ]
        raise ValidationError.from_exception_data(title, [*lines, *_error_lines(errors)], hide_input=True) from None
    if errors:
        raise refuse_all(title, errors)
    return result


def _error_lines(errors: Mapping[Place, PydanticCustomError]) -> list[InitErrorDetails]:
    return [InitErrorDetails(type=error, loc=place, input=None) for place, error in errors.items()]


def _as_literal(text: str) -> Any:
    """Return the text as ``Any``, because pydantic's type stubs require a string literal."""
    return text
