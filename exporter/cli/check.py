"""``--config.check``: validate the configuration, and estimate the requests and bytes of each upstream."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from exporter.alerting.affected_rules import excluded_family_warnings
from exporter.cli.estimate import size
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings
from exporter.platforms.registry import platforms

MAX_BITS_PER_SECOND: Final = 100e6
"""Estimated bitrate of all upstreams together above which a warning is printed."""


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
    for warning in (*settings.warnings, *_bandwidth_warnings(settings), *excluded_family_warnings(settings)):
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
    bytes_ = platform.bytes_per_minute(settings)
    volume = "" if bytes_ is None else f", about {size(60 * bytes_)} per hour"
    yield f"upstream {settings.name} ({settings.platform}, {settings.host}): {requests:.4g} requests per minute{volume}"
    limit = platform.requests_per_minute_limit
    if limit is not None and requests > limit:
        yield (
            f"warning: upstream {settings.name}: {requests:.4g} requests per minute exceed the platform's known limit "
            f"of {limit}; increase interval or watch fewer streams"
        )


def _bandwidth_warnings(settings: Settings) -> Iterator[str]:
    """Yield a warning if all upstreams together are estimated to need much bandwidth."""
    bits = {
        upstream.name: 8 * (platforms()[upstream.platform].bytes_per_minute(upstream) or 0.0) / 60
        for upstream in settings.upstreams
    }
    total = sum(bits.values())
    if total > MAX_BITS_PER_SECOND:
        largest = max(bits, key=lambda name: bits[name])
        yield (
            f"the upstreams need about {total / 1e6:.0f} Mbit/s, of which {largest} needs {bits[largest] / 1e6:.0f}; "
            "fetch only the starts of segments (segments: head), or check fewer renditions or streams"
        )
