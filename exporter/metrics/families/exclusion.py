"""Which families of streams are left out of what is served, by patterns of their names.

Only these: each comes once per stream. The families of upstreams and of the exporter cost the same for any fleet.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from exporter.metrics.families.analytics_families import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.metrics.families.family import Family, ModelFamily
from exporter.metrics.families.sampled_families import SAMPLED_FAMILIES
from exporter.metrics.families.stream_families import STREAM_FAMILIES

_FAMILIES: tuple[Family, ...] = (*STREAM_FAMILIES, *ANALYTICS_FAMILIES, PLATFORM_METRIC, *SAMPLED_FAMILIES)
EXCLUDABLE: tuple[str, ...] = tuple(family.name for family in _FAMILIES)
_NEAR_MISSES = 3


def excluded(patterns: Iterable[str]) -> frozenset[str]:
    """The names of the families that one of these globs matches."""
    patterns = tuple(patterns)
    return frozenset(name for name in EXCLUDABLE if any(fnmatchcase(name, pattern) for pattern in patterns))


def said(names: Iterable[str], feeds: frozenset[str]) -> frozenset[str]:
    """Those of these families that there would be on a platform that feeds these fields."""
    names = frozenset(names)
    families = (family for family in _FAMILIES if family.name in names)
    return frozenset(f.name for f in families if not isinstance(f, ModelFamily) or f.is_fed(feeds))


def near_misses(pattern: str) -> list[str]:
    """Names that somebody may have meant by a pattern that matches none."""
    bare = pattern.strip("*")
    containing = [name for name in EXCLUDABLE if bare and bare.removesuffix("s") in name]
    return (difflib.get_close_matches(bare, EXCLUDABLE, n=_NEAR_MISSES) or containing)[:_NEAR_MISSES]
