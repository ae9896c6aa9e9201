"""What an alert rule is, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from exporter.alerting.conditions import Condition, Threshold

MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0


class Scope(StrEnum):
    """What an alert is about; every inhibit rule names it."""

    EXPORTER = "exporter"
    UPSTREAM = "upstream"
    STREAM = "stream"


class Severity(StrEnum):
    """``critical`` pages now, ``warning`` opens a ticket, ``info`` is context, ``none`` is the dead man's switch."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"
    NONE = "none"


class Owner(StrEnum):
    """Who can evaluate a rule."""

    BOTH = "both"
    """Prometheus, or the sidecar when it is on: one of them at a time."""
    PROMETHEUS = "prometheus"
    """Needs what the sidecar has not: scrapes, long windows, other targets."""
    SIDECAR = "sidecar"
    """The sidecar's own sign of life."""


class Unit(StrEnum):
    """How a value reads in a description."""

    BITRATE = "bit/s"
    RATIO = "percent"
    SECONDS = "seconds"
    NUMBER = "number"
    COUNT = "count"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One alert rule. ``condition`` or ``promql`` says when it holds; without either the sidecar just sends it."""

    name: str
    scope: Scope
    severity: Severity
    summary: str
    """One sentence without values."""
    description: str
    """Text with {value}, {threshold}, {reasons}, and {label} for a label of the alert; ``texts.py`` renders it."""
    why: str
    """Where the defaults come from."""
    condition: Condition | None = None
    promql: str = ""
    """For Prometheus only; ``promql.py`` says which places are filled in."""
    for_seconds: float = 0.0
    window_seconds: float = 0.0
    """How long ``promql`` looks back before it can hold. A rule has either this (or its condition has) or ``for``."""
    keep_firing_seconds: float = 0.0
    threshold: float | None = None
    """In the base unit of the measured family, or a factor of what the value is compared with."""
    threshold_max: float = math.inf
    """The highest threshold that makes sense."""
    threshold_unit: Unit | None = None
    """Where it is another than that of the value."""
    unit: Unit = Unit.NUMBER
    labels: tuple[str, ...] = ()
    """Further labels of the alert besides those of its scope."""

    @property
    def owner(self) -> Owner:
        """Who can evaluate it."""
        if self.condition is not None:
            return Owner.BOTH
        return Owner.PROMETHEUS if self.promql else Owner.SIDECAR

    @property
    def settling_seconds(self) -> float:
        """The window over which the condition itself looks back."""
        if self.condition is not None:
            return self.condition.measure.left.rises_within or 0.0
        return self.window_seconds

    @property
    def scale(self) -> float:
        """What turns a threshold of the base unit into one of the unit that is shown."""
        measure = self.condition.measure if self.condition else None
        if measure is None or not isinstance(measure.right, Threshold) or measure.right.of is not None:
            return 1.0
        return measure.left.scale
