"""Finds the platforms: modules of this package, and entry points of other packages."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import TypeAdapter

import exporter.platforms
from exporter.config.upstream import UpstreamSettings
from exporter.platforms.base import Platform

GROUP = "stream_exporter.upstreams"


_FRAMEWORK = frozenset(
    {
        "api",
        "base",
        "cached_fetch",
        "capabilities",
        "documents",
        "heartbeats",
        "lists",
        "movement",
        "parsing",
        "rates",
        "records",
        "registry",
        "testing",
    }
)
"""Modules of the package that are no platforms; they need not be imported to look for one."""


class _UnusableError(Exception):
    """What an entry point names is no platform; the message is ours."""


class Registry(NamedTuple):
    """The platforms by name, and what was left out and why."""

    platforms: Mapping[str, type[Platform[Any]]]
    warnings: tuple[str, ...]


@cache
def registry() -> Registry:
    """What is installed, looked for once."""
    return find(shipped(), entry_points(group=GROUP))


def platforms() -> Mapping[str, type[Platform[Any]]]:
    """Every platform by its name, in the order of names."""
    return registry().platforms


def shipped() -> list[type[Platform[Any]]]:
    """The ``PLATFORM`` of each module of this package that has one."""
    names = sorted({module.name for module in pkgutil.iter_modules(exporter.platforms.__path__)} - _FRAMEWORK)
    modules = [importlib.import_module(f"{exporter.platforms.__name__}.{name}") for name in names]
    return [module.PLATFORM for module in modules if hasattr(module, "PLATFORM")]


def find(shipped_platforms: Iterable[type[Platform[Any]]], points: Iterable[EntryPoint]) -> Registry:
    """Own platforms and those of entry points; one that can't be used is left out with a warning."""
    found = {platform.name: platform for platform in shipped_platforms}
    warnings = []
    for point in points:
        try:
            platform = _check_platform(point.load())
            if platform.name in found:
                raise _UnusableError(f"platform {platform.name} exists already")  # noqa: TRY301 - one place for all
            found[platform.name] = platform
        except (Exception, SystemExit) as error:
            # whatever a foreign import does, the start goes on; its words are not ours to show
            cause = str(error) if isinstance(error, _UnusableError) else type(error).__name__
            warnings.append(f"entry point {point.name} of {GROUP} ({point.value}) is left out: {cause}")
    return Registry(MappingProxyType(dict(sorted(found.items()))), tuple(warnings))


def _check_platform(candidate: Any) -> type[Platform[Any]]:
    if not isinstance(candidate, type) or not issubclass(candidate, Platform):
        raise _UnusableError("it is no Platform")
    if not isinstance(getattr(candidate, "name", None), str) or not candidate.name:
        raise _UnusableError("it has no name")
    settings = getattr(candidate, "settings_class", None)
    if not isinstance(settings, type) or not issubclass(settings, UpstreamSettings):
        raise _UnusableError("its settings_class is no UpstreamSettings")
    TypeAdapter(settings)
    return candidate
