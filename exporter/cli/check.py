"""``--config.check``: validate the configuration and estimate requests per upstream."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter.alerting.affected_rules import excluded_family_warnings
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings
from exporter.platforms.registry import platforms


def check(file: Path, load: Callable[[], Settings]) -> int:
    """Print the result (errors to stderr) and return the exit code: 0 if valid, even with warnings; otherwise 1."""
    try:
        settings = load()
    except ConfigError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return 1
    print(f"{file}: configuration is valid")
    for upstream in settings.upstreams:
        for line in _cost(upstream):
            print(line)
    for warning in (*settings.warnings, *excluded_family_warnings(settings)):
        print(f"warning: {warning}")
    return 0


def upstreams_that_show_keys(settings: Settings) -> list[str]:
    """Return the names of the upstreams whose label ``stream`` may contain publish keys."""
    return [
        upstream.name
        for upstream in settings.upstreams
        if platforms()[upstream.platform].ids_are_keys and upstream.stream_label != "hash"
    ]


def _cost(settings: UpstreamSettings) -> Iterator[str]:
    platform = platforms()[settings.platform]
    requests = platform.requests_per_minute(settings)
    yield f"upstream {settings.name} ({settings.platform}, {settings.host}): {requests:.4g} requests per minute"
    limit = platform.requests_per_minute_limit
    if limit is not None and requests > limit:
        yield (
            f"warning: upstream {settings.name}: {requests:.4g} requests per minute exceed the platform's known limit "
            f"of {limit}; increase interval or watch fewer streams"
        )
