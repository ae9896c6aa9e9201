"""An alert rule and its condition, as data.

Conditions consist of few primitives, so that two evaluators can agree on them: a condition compares one measured series
with a threshold or with another series, and holds only where its guards hold. ``promql.py`` writes it as PromQL,
``compiled_conditions.py`` evaluates it on the model.

A condition that reads facts about streams neither starts nor advances while its upstream is not answering: both
evaluators check that, so conditions need not mention it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

MINUTE = 60.0
SCRAPE_INTERVAL_SECONDS = MINUTE
"""Scrape interval that the rules assume if none is given; shorter ones suit it too."""
BRIDGED_INTERVALS = 2.5
"""Scrape intervals for which the last value counts when a scrape fails, and after which a target is gone."""
GONE_AFTER_SECONDS = BRIDGED_INTERVALS * SCRAPE_INTERVAL_SECONDS

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
    changes_within: float | None = None
    """Window in seconds. If set, the value is how often the series changed between two samples within the window."""
    scale: float = 1.0
    """Factor applied before the value is compared and shown: 8 turns bytes per second into bit/s."""

    @property
    def window_seconds(self) -> float | None:
        """The window over which changes or rises are counted; None if the value itself is compared."""
        return self.changes_within if self.rises_within is None else self.rises_within


@dataclass(frozen=True)
class StreamShare:
    """Share (0-1) of an upstream's streams for which the guards hold; no sample if fewer than ``minimum`` do."""

    guards: tuple[Comparison | Present, ...]
    minimum: int = 1


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
class ShareComparison:
    """``left operator right`` for the share of an upstream's streams. For rules about upstreams only."""

    left: StreamShare
    operator: Operator
    right: float | Threshold


@dataclass(frozen=True)
class Present:
    """The series has a sample, whatever its value."""

    series: Series


@dataclass(frozen=True)
class AnyStream:
    """At least one stream of the upstream meets all guards. For rules about upstreams only."""

    guards: tuple[Comparison | Present, ...]


Guard = Comparison | Present | AnyStream


@dataclass(frozen=True)
class Condition:
    """Holds if ``measure`` and all of ``also`` hold, and none of ``unless``. Its value is that of ``measure.left``."""

    measure: Comparison | ShareComparison
    also: tuple[Guard, ...] = ()
    unless: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class RecordingRule:
    """A recording rule."""

    record: str
    promql: str
    """Template, as ``Rule.promql``."""


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
    FLAG = "flag"
    """0 or 1, which is not shown."""
    STATUS = "status"
    """0 or 1; the status of the stream is shown instead."""
    FAILURE = "failure"
    """0 or 1; why the upstream fails is shown instead."""


@dataclass(frozen=True, kw_only=True)
class Critical:
    """The critical grade of a rule whose own severity is lower.

    While it fires it takes the place of the lower grade: both never hold for the same reason.
    """

    for_seconds: float
    threshold: float | None = None
    """Replaces the rule's own threshold; None: the same."""
    also: tuple[Guard, ...] = ()
    """Further guards that must hold."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One alert rule. ``condition`` or ``promql`` defines when it holds; without either the sidecar always sends it."""

    name: str
    scope: Scope
    severity: Severity
    summary: str
    """One sentence without values; {subject} is the stream or upstream, see ``annotations.py``."""
    description: str
    """Template with {subject}, {value}, {threshold}, {expected}, and {label} for a label of the alert."""
    expected: str = ""
    """Template for what was expected: {threshold}, and {reference} for the series that the value is compared with."""
    critical: Critical | None = None
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
        """Labels that all alerts of the rule's own severity share."""
        return {"severity": self.severity.value, "scope": self.scope.value}

    @property
    def severities(self) -> tuple[Severity, ...]:
        """The severities that its alerts can have, the worst first."""
        return (self.severity,) if self.critical is None else (Severity.CRITICAL, self.severity)

    @property
    def reference(self) -> Series | None:
        """The series that the value is compared with."""
        right = self.condition.measure.right if self.condition is not None else None
        return right.of if isinstance(right, Threshold) else None

    @property
    def settling_seconds(self) -> float:
        """Window over which the condition itself looks back."""
        measured = self.condition.measure.left if self.condition is not None else None
        if isinstance(measured, Series):
            return measured.window_seconds or 0.0
        return self.window_seconds

    @property
    def scale(self) -> float:
        """Factor from the threshold's base unit to the unit that is shown."""
        measure = self.condition.measure if self.condition else None
        if measure is None or not isinstance(measure.left, Series):
            return 1.0
        return measure.left.scale if isinstance(measure.right, Threshold) and measure.right.of is None else 1.0
