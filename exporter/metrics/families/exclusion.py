"""The families that ``exclude_families`` can leave out of ``/metrics``: those with series for every stream.

The families of upstreams and of the exporter have the same number of series for any number of streams.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.metrics.families.analytics_families import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.metrics.families.family import Family, ViewFamily
from exporter.metrics.families.sampled_families import SAMPLED_FAMILIES
from exporter.metrics.families.stream_families import STREAM_FAMILIES

_FAMILIES: tuple[Family, ...] = (*STREAM_FAMILIES, *ANALYTICS_FAMILIES, PLATFORM_METRIC, *SAMPLED_FAMILIES)
EXCLUDABLE: tuple[str, ...] = tuple(family.name for family in _FAMILIES)


def provided_families(names: Iterable[str], feeds: frozenset[str]) -> frozenset[str]:
    """Return which of these families a platform that feeds these fields would have."""
    names = frozenset(names)
    families = (family for family in _FAMILIES if family.name in names)
    return frozenset(f.name for f in families if not isinstance(f, ViewFamily) or f.is_fed(feeds))
