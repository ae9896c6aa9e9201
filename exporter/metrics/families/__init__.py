"""All metric families as data, used by the renderer, the reference page, and the checks of dashboards and rules."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.metrics.families.exporter_families import EXPORTER_FAMILIES, SIDECAR_FAMILIES
from exporter.metrics.families.family import Family, ModelFamily
from exporter.metrics.families.group_families import GROUP_FAMILIES
from exporter.metrics.families.stream_families import (
    ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    SAMPLED_FAMILIES,
    STREAM_FAMILIES,
)
from exporter.metrics.families.upstream_families import PASSTHROUGH_SERIES_DROPPED, POLLING_FAMILIES, UPSTREAM_FAMILIES

_PER_STREAM: tuple[Family, ...] = (*STREAM_FAMILIES, *ANALYTICS_FAMILIES, PLATFORM_METRIC, *SAMPLED_FAMILIES)
EXCLUDABLE: tuple[str, ...] = tuple(family.name for family in _PER_STREAM)
"""Names allowed in ``exclude_families``: families whose number of series grows with the number of streams."""
FAMILIES: tuple[Family, ...] = (
    *_PER_STREAM,
    *UPSTREAM_FAMILIES,
    PASSTHROUGH_SERIES_DROPPED,
    *POLLING_FAMILIES,
    *GROUP_FAMILIES,
    *EXPORTER_FAMILIES,
    *SIDECAR_FAMILIES,
)


def provided_families(names: Iterable[str], feeds: frozenset[str]) -> frozenset[str]:
    """Return which of these families a platform that fills these fields provides."""
    names = frozenset(names)
    families = (family for family in _PER_STREAM if family.name in names)
    return frozenset(f.name for f in families if not isinstance(f, ModelFamily) or f.is_fed(feeds))
