"""Find the platforms: modules of this package, and entry points of other packages."""

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
"""Modules of this package that are not platforms, so that they are not imported to look for one."""


class _UnusableError(Exception):
    """An entry point does not name a valid platform; the message contains no foreign text."""


class Registry(NamedTuple):
    """The platforms by name, and a warning for each entry point that was ignored."""

    platforms: Mapping[str, type[Platform[Any]]]
    warnings: tuple[str, ...]


@cache
def registry() -> Registry:
    """Return the installed platforms; they are looked up once."""
    return find(shipped(), entry_points(group=GROUP))


def platforms() -> Mapping[str, type[Platform[Any]]]:
    """Return every platform by name, sorted."""
    return registry().platforms


def shipped() -> list[type[Platform[Any]]]:
    """Return the ``PLATFORM`` of each module of this package that has one."""
    names = sorted({module.name for module in pkgutil.iter_modules(exporter.platforms.__path__)} - _FRAMEWORK)
    modules = [importlib.import_module(f"{exporter.platforms.__name__}.{name}") for name in names]
    return [module.PLATFORM for module in modules if hasattr(module, "PLATFORM")]


def find(shipped_platforms: Iterable[type[Platform[Any]]], points: Iterable[EntryPoint]) -> Registry:
    """Combine shipped platforms and those of entry points; unusable entry points are ignored with a warning."""
    found = {platform.name: platform for platform in shipped_platforms}
    warnings = []
    for point in points:
        try:
            platform = _check_platform(point.load())
            if platform.name in found:
                raise _UnusableError(f"platform {platform.name} already exists")  # noqa: TRY301 - handled in one place
            found[platform.name] = platform
        except (Exception, SystemExit) as error:
            # a foreign package must not prevent the start, and its messages might contain secrets
            cause = str(error) if isinstance(error, _UnusableError) else type(error).__name__
            warnings.append(f"entry point {point.name} of {GROUP} ({point.value}) is ignored: {cause}")
    return Registry(MappingProxyType(dict(sorted(found.items()))), tuple(warnings))


def _check_platform(candidate: Any) -> type[Platform[Any]]:
    if not isinstance(candidate, type) or not issubclass(candidate, Platform):
        raise _UnusableError("it is not a subclass of Platform")
    if not isinstance(getattr(candidate, "name", None), str) or not candidate.name:
        raise _UnusableError("it has no name")
    settings = getattr(candidate, "settings_class", None)
    if not isinstance(settings, type) or not issubclass(settings, UpstreamSettings):
        raise _UnusableError("its settings_class is not a subclass of UpstreamSettings")
    TypeAdapter(settings)
    return candidate
