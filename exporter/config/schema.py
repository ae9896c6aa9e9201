"""What ``load`` is given by the layers above: the platforms' settings, and the rules and families that exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class RuleLimits:
    """What the configuration may change about an alert rule."""

    threshold: float | None
    """Default threshold; None if the rule has no threshold."""
    threshold_max: float
    has_for: bool
    """Whether the rule has a ``for`` time; otherwise it looks back over a window."""


@dataclass(frozen=True, eq=False)
class ConfigSchema:
    """Everything that names in a configuration may refer to. Compared by identity."""

    platforms: Mapping[str, type[BaseModel]]
    """Settings classes (subclasses of ``UpstreamSettings``) by platform name."""
    rules: Mapping[str, RuleLimits]
    families: tuple[str, ...]
    """Metric families that ``exclude_families`` can leave out."""
    health_histogram: str
    health_bounds: tuple[float, ...]
    """Name and bucket bounds of the health score histogram; ``alerting.health_slo.goal`` is one of the bounds."""
    warnings: tuple[str, ...] = ()
    """Warnings to add to those of the configuration, for example about a platform that can't be used."""
