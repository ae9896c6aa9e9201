"""Find the platforms: modules of this package, and entry points of other packages."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from pydantic import TypeAdapter

import exporter.platforms
from exporter.config.upstream import UpstreamSettings
from exporter.platforms.base import Platform
from exporter.runtime.lazy_mapping import LazyMapping

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
        "playback",
        "rates",
        "records",
        "registry",
        "start_times",
        "testing",
    }
)
"""Modules of this package that are not platforms; each other module or folder is the platform of the same name."""


class _UnusableError(Exception):
    """An entry point does not name a valid platform; the message contains no foreign text."""


class Registry(NamedTuple):
    """The platforms by name, sorted, and a warning for each entry point that was ignored.

    A shipped platform is imported when it is first read, to save memory.
    """

    platforms: Mapping[str, type[Platform[Any]]]
    warnings: tuple[str, ...]


@cache
def registry() -> Registry:
    """Return the installed platforms; they are looked up once."""
    return find(shipped_names(), entry_points(group=GROUP))


def platforms() -> Mapping[str, type[Platform[Any]]]:
    """Return every platform by name, sorted."""
    return registry().platforms


def shipped() -> list[type[Platform[Any]]]:
    """Import and return the platforms of this package."""
    return [_import_shipped(name) for name in shipped_names()]


def shipped_names() -> list[str]:
    """Return the names of the platforms of this package, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(exporter.platforms.__path__)} - _FRAMEWORK)


def _import_shipped(name: str) -> type[Platform[Any]]:
    platform: type[Platform[Any]] = importlib.import_module(f"{exporter.platforms.__name__}.{name}").PLATFORM
    return platform


def find(shipped: Collection[str], points: Iterable[EntryPoint]) -> Registry:
    """Combine shipped platforms and those of entry points; unusable entry points are ignored with a warning."""
    found: dict[str, type[Platform[Any]]] = {}
    warnings = []
    for point in points:
        try:
            platform = _check_platform(point.load())
            if platform.name in found or platform.name in shipped:
                raise _UnusableError(f"platform {platform.name} already exists")  # noqa: TRY301 - handled in one place
            found[platform.name] = platform
        except (Exception, SystemExit) as error:
            # a foreign package must not prevent the start, and its messages might contain secrets
            cause = str(error) if isinstance(error, _UnusableError) else type(error).__name__
            warnings.append(f"entry point {point.name} of {GROUP} ({point.value}) is ignored: {cause}")
    names = sorted({*shipped, *found})
    return Registry(LazyMapping(names, lambda name: found.get(name) or _import_shipped(name)), tuple(warnings))


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
