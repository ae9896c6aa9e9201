"""An alert rule and its condition, as data.

Conditions consist of few primitives, so that two evaluators can agree on them: a condition compares one measured series
with a threshold or with another series, and holds only where its guards hold. ``promql.py`` writes it as PromQL,
``compiled_conditions.py`` evaluates it on the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

MINUTE = 60.0

Operator = Literal["==", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class Series:
    """A metric family, narrowed by label values; several allowed values of a label are given as a tuple."""

    family: str
    labels: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    rises_within: float | None = None
    """Window in seconds. If set, the value is how often the counter rose between two samples within the window.

    Unlike ``increase`` this is a whole number and ignores resets, so both evaluators agree.
    """
    scale: float = 1.0
    """Factor applied before the value is compared and shown: 8 turns bytes per second into bit/s."""


@dataclass(frozen=True)
class Threshold:
    """The rule's own threshold, which the configuration may change, optionally multiplied by another series."""

    of: Series | None = None


@dataclass(frozen=True)
class Comparison:
    """``left operator right``; false if a series has no sample."""

    left: Series
    operator: Operator
    right: float | Threshold


@dataclass(frozen=True)
class Present:
    """The series has a sample, whatever its value."""

    series: Series


Guard = Comparison | Present


@dataclass(frozen=True)
class Condition:
    """Holds if ``measure`` and all of ``also`` hold, and none of ``unless``. Its value is that of ``measure.left``."""

    measure: Comparison
    also: tuple[Guard, ...] = ()
    unless: tuple[Guard, ...] = ()


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
    """Prometheus, or the sidecar if it is on: one of them at a time."""
    PROMETHEUS = "prometheus"
    """Needs what the sidecar does not have: scrapes, long windows, other targets."""
    SIDECAR = "sidecar"
    """The sidecar's own sign of life."""


class Unit(StrEnum):
    """Unit in which a description shows a value."""

    BITRATE = "bit/s"
    RATIO = "percent"
    SECONDS = "seconds"
    NUMBER = "number"
    COUNT = "count"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One alert rule. ``condition`` or ``promql`` defines when it holds; without either the sidecar always sends it."""

    name: str
    scope: Scope
    severity: Severity
    summary: str
    """One sentence without values."""
    description: str
    """Template with {value}, {threshold}, {reasons}, and {label} for a label of the alert; see ``annotations.py``."""
    why: str
    """Where the defaults come from."""
    condition: Condition | None = None
    promql: str = ""
    """Template for Prometheus only; ``PromQL.fill_template`` lists its placeholders."""
    for_seconds: float = 0.0
    window_seconds: float = 0.0
    """How far ``promql`` looks back before it can hold. A rule has either a window or ``for``."""
    keep_firing_seconds: float = 0.0
    threshold: float | None = None
    """In the base unit of the measured family, or as a factor of what the value is compared with."""
    threshold_max: float = math.inf
    """Highest threshold that makes sense."""
    threshold_unit: Unit | None = None
    """Unit of the threshold if it differs from that of the value."""
    unit: Unit = Unit.NUMBER
    labels: tuple[str, ...] = ()
    """Labels of the alert besides those of its scope."""

    @property
    def owner(self) -> Owner:
        """Who can evaluate the rule."""
        if self.condition is not None:
            return Owner.BOTH
        return Owner.PROMETHEUS if self.promql else Owner.SIDECAR

    @property
    def static_labels(self) -> dict[str, str]:
        """Labels that all alerts of the rule share."""
        return {"severity": self.severity.value, "scope": self.scope.value}

    @property
    def settling_seconds(self) -> float:
        """Window over which the condition itself looks back."""
        if self.condition is not None:
            return self.condition.measure.left.rises_within or 0.0
        return self.window_seconds

    @property
    def scale(self) -> float:
        """Factor from the threshold's base unit to the unit that is shown."""
        measure = self.condition.measure if self.condition else None
        if measure is None or not isinstance(measure.right, Threshold) or measure.right.of is not None:
            return 1.0
        return measure.left.scale
