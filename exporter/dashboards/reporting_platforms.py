"""Which platforms provide the data of a panel, from the families in its queries and the platforms' ``feeds``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from exporter.dashboards.panels import Panel
from exporter.metrics.families.family import Source
from exporter.metrics.families.playback_families import PLAYBACK_FAMILIES
from exporter.metrics.families.reference import PER_STREAM_FAMILIES, is_fed
from exporter.platforms.registry import shipped

_FAMILY = re.compile(r"\bstream_[a-z0-9_]+")


def reporting_platforms(panel: Panel) -> frozenset[str] | None:
    """Return the names of the shipped platforms that provide data for a panel.

    None: every platform does, because a value is not a platform's own, or all platforms report it.
    """
    queries = " ".join(str(target["expr"]) for target in panel.json.get("targets", ()))
    names = set(_FAMILY.findall(queries))
    by_family = _platforms_by_family()
    if not names or not names <= by_family.keys():
        return None
    found = frozenset[str]().union(*(by_family[name] for name in names))
    return None if found == {platform.name for platform in shipped()} else found


def is_for_all_platforms(panels: Iterable[Panel]) -> bool:
    """Return whether every platform provides data for at least one of these panels."""
    platforms = [reporting_platforms(panel) for panel in panels]
    known = frozenset[str]().union(*(found for found in platforms if found is not None))
    return None in platforms or known == {platform.name for platform in shipped()}


@cache
def _platforms_by_family() -> dict[str, frozenset[str]]:
    """Return, for each family that only platforms provide, the names of the platforms that do."""
    checks = frozenset(platform.name for platform in shipped() if platform.settings_class.has_playback_checks)
    return {family.name: checks for family in PLAYBACK_FAMILIES} | {
        family.name: frozenset(platform.name for platform in shipped() if is_fed(family, platform.feeds))
        for family in PER_STREAM_FAMILIES
        if family.source is Source.PLATFORM
    }
