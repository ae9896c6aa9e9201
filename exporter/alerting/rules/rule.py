"""An alert rule and its condition, as data.

A condition compares a series with a threshold or with another series, and holds only where its guards hold. It has only
a few primitives, so that both evaluators give the same result: ``promql.py`` renders it as PromQL, and
``compiled_conditions.py`` evaluates it on the model.

A condition about streams neither starts nor advances while its upstream is not answering. Both evaluators ensure this,
so conditions do not mention it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

MINUTE = 60.0
SCRAPE_INTERVAL_SECONDS = MINUTE
"""Scrape interval that the rules assume by default. The rules also work with shorter intervals."""
BRIDGED_INTERVALS = 2.5
"""Number of scrape intervals for which failed scrapes are bridged, and after which a target counts as gone."""
GONE_AFTER_SECONDS = BRIDGED_INTERVALS * SCRAPE_INTERVAL_SECONDS

UPSTREAM_LABELS_OF = "0 * upstream:answering + on ({by_upstream}) group_left ()"
"""Template before a vector with one value per upstream: adds the labels of the upstream, such as configured ones."""

MINIMUM_STEPS = 3
"""Number of changes that the growth of one counter per growth of another needs."""
RESET_SECONDS = 3 * MINUTE
"""Time before a window in which a reset of a counter makes its growth unknown: the first sample may be that old."""

Operator = Literal["==", "<", "<=", ">", ">="]


class Series(msgspec.Struct, frozen=True):
    """A metric family with label matchers; a tuple gives several allowed values."""

    family: str
    labels: Mapping[str, str | tuple[str, ...]] = msgspec.field(default_factory=dict)
    rises_within: float | None = None
    """Window in seconds. If set, the value is the number of times the counter rose between two samples in the window.

    Unlike ``increase``, this is an integer and ignores resets, so both evaluators give the same result.
    """
    and_rises_of: tuple[str, ...] = ()
    """Further counters with the same labels, whose rises are added."""
    changes_within: float | None = None
    """Window in seconds. If set, the value is the number of changes between two samples in the window."""
    growth_within: float | None = None
    """Window in seconds. If set, the value is the growth per second of a stream's counter since the window's start.

    There is no value unless the stream was live and its counter existed at the start of the window, and the upstream
    was answering during all of it. A start or restart, of the stream or of the exporter, thus proves nothing. Neither
    does a window in which the server refused the exporter's requests (``stream_playback_forbidden``).
    """
    growth_per: str = ""
    """Counter with the same labels. If set, the value is the growth per growth of this counter, instead of per second.

    Needs ``MINIMUM_STEPS`` changes of this counter in the window.
    """
    scale: float = 1.0
    """Factor applied before the value is compared and shown: 8 converts bytes per second to bit/s."""

    @property
    def window_seconds(self) -> float | None:
        """Window over which the value is computed; None if the value itself is compared."""
        return next((w for w in (self.rises_within, self.changes_within, self.growth_within) if w is not None), None)


class StreamShare(msgspec.Struct, frozen=True):
    """Share (0-1) of an upstream's streams for which the guards hold; no sample if fewer than ``minimum`` do."""

    guards: tuple[Comparison | Present, ...]
    minimum: int = 1


class Threshold(msgspec.Struct, frozen=True):
    """The rule's configurable threshold, optionally multiplied by another series."""

    of: Series | None = None


class Comparison(msgspec.Struct, frozen=True):
    """``left operator right``; false if a series has no sample. Only a condition's measure has a threshold."""

    left: Series
    operator: Operator
    right: float | Threshold

    @property
    def constant(self) -> float:
        """The right side of a guard."""
        assert not isinstance(self.right, Threshold), "guards have no threshold"
        return self.right


class ShareComparison(msgspec.Struct, frozen=True):
    """``left operator right`` for a share of an upstream's streams. Only for upstream rules."""

    left: StreamShare
    operator: Operator
    right: float | Threshold


class Present(msgspec.Struct, frozen=True):
    """The series has a sample, whatever its value."""

    series: Series


class AnyStream(msgspec.Struct, frozen=True):
    """All guards hold for at least one stream of the upstream. Only for upstream rules."""

    guards: tuple[Comparison | Present, ...]


class AnyOf(msgspec.Struct, frozen=True):
    """At least one of the guards holds. Only for stream rules."""

    guards: tuple[Comparison | Present, ...]


class GroupGuard(msgspec.Struct, frozen=True):
    """A recording about groups has a sample (or none) for the alert's group or stream.

    The sidecar reads ``GroupState`` instead (``group_conditions``). For an alert about an upstream, the recording is
    one about its playback checks (``playback_coverage``).
    """

    record: str
    holds: bool = True
    """Whether it must have a sample."""


Guard = Comparison | Present | AnyStream | AnyOf | GroupGuard


class Condition(msgspec.Struct, frozen=True):
    """Holds if ``measure`` and all of ``also`` hold, and none of ``unless``. Its value is that of ``measure.left``."""

    measure: Comparison | ShareComparison
    also: tuple[Guard, ...] = ()
    unless: tuple[Guard, ...] = ()


class RecordingRule(msgspec.Struct, frozen=True):
    """A recording rule."""

    record: str
    promql: str
    """Template like ``Rule.promql``."""


class Scope(StrEnum):
    """Kind of object that an alert is about; the inhibit rules match on it."""

    EXPORTER = "exporter"
    UPSTREAM = "upstream"
    STREAM = "stream"
    GROUP = "group"


class Severity(StrEnum):
    """``critical`` pages now, ``warning`` opens a ticket, ``info`` is context, ``none`` never notifies anyone."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"
    NONE = "none"


class Owner(StrEnum):
    """Evaluators of a rule."""

    BOTH = "both"
    """The sidecar if it is enabled, otherwise Prometheus."""
    PROMETHEUS = "prometheus"
    """Needs data that the sidecar does not have: scrapes, long windows, other targets."""
    SIDECAR = "sidecar"
    """The sidecar's own watchdog."""


class Unit(StrEnum):
    """Unit of a value in annotations."""

    BITRATE = "bit/s"
    RATIO = "percent"
    SECONDS = "seconds"
    NUMBER = "number"
    COUNT = "count"
    FLAG = "flag"
    """0 or 1; not shown."""
    STATUS = "status"
    """0 or 1; the status of the stream is shown instead."""
    FAILURE = "failure"
    """0 or 1; the reason for the failure is shown instead."""
    UNPLAYABLE = "unplayable"
    """0 or 1; the reason why the stream cannot be played is shown instead."""
    TIME = "time"
    """Unix seconds, shown as a date and time; ``never`` if absent."""


class Critical(msgspec.Struct, frozen=True, kw_only=True):
    """The critical grade of a rule whose own severity is lower. While it fires, the lower grade does not."""

    for_seconds: float
    threshold: float | None = None
    """Threshold of this grade; None: the rule's own."""
    also: tuple[Guard, ...] = ()
    """Further guards that must hold."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """An alert rule, defined by ``condition``, ``group_guards`` or ``promql``.

    If it has none of them, the sidecar always sends it.
    """

    name: str
    scope: Scope
    severity: Severity
    summary: str
    """One sentence without measured values, with the placeholders of ``description``."""
    description: str
    """Template with {subject} (the stream, upstream or group), {value}, {threshold}, {expected}, {needed} (of a group's
    streams), and the alert's labels."""
    expected: str = ""
    """Template for the expected value, with {threshold}, and {reference} for the value of the series compared with."""
    critical: Critical | None = None
    rationale: str
    """Reasons for the condition and its defaults, as Markdown for the runbook."""
    condition: Condition | None = None
    group_guards: tuple[GroupGuard, ...] = ()
    """Condition of a group rule. It holds only for groups that must be up; its value is the number of live streams."""
    promql: str = ""
    """Template of a rule that only Prometheus evaluates; ``PromQL.fill_template`` lists the placeholders."""
    for_seconds: float = 0.0
    window_seconds: float = 0.0
    """Time that ``promql`` looks back before it can hold. Most rules have either a window or ``for``."""
    keep_firing_seconds: float = 0.0
    threshold: float | None = None
    """In the base unit of the metric, or as a factor of the series that the value is compared with."""
    threshold_max: float = math.inf
    """Maximum threshold that can be configured."""
    threshold_unit: Unit | None = None
    """Unit of the threshold if it differs from the unit of the value."""
    unit: Unit = Unit.NUMBER
    shown: Series | None = None
    """Series whose value {reference} shows, if the condition compares with none. It has all labels of the alert."""
    shown_unit: Unit | None = None
    """Unit of {reference} if it differs from the unit of the value."""
    labels: tuple[str, ...] = ()
    """Labels of the alert in addition to the labels of its scope."""
    is_downgraded_by_checks: bool = False
    """Whether its alerts are warnings, instead of critical, while playback checks show that all expected streams of
    the upstream play."""

    @property
    def owner(self) -> Owner:
        """Return the evaluators of the rule."""
        if self.condition is not None or self.group_guards:
            return Owner.BOTH
        return Owner.PROMETHEUS if self.promql else Owner.SIDECAR

    @property
    def static_labels(self) -> dict[str, str]:
        """Labels of all alerts of the rule's own severity."""
        return {"severity": self.severity.value, "scope": self.scope.value}

    @property
    def severities(self) -> tuple[Severity, ...]:
        """Severities that its alerts can have, worst first."""
        if self.is_downgraded_by_groups or self.is_downgraded_by_checks:
            return (Severity.CRITICAL, Severity.WARNING)
        return (self.severity,) if self.critical is None else (Severity.CRITICAL, self.severity)

    @property
    def is_downgraded_by_groups(self) -> bool:
        """Whether its alerts are warnings, instead of critical, while a group is up without their stream."""
        return self.scope is Scope.STREAM and self.severity is Severity.CRITICAL

    @property
    def reference(self) -> Series | None:
        """The series that the value is compared with, or that is shown with it."""
        right = self.condition.measure.right if self.condition is not None else None
        return right.of if isinstance(right, Threshold) and right.of is not None else self.shown

    @property
    def settling_seconds(self) -> float:
        """Window over which the condition looks back."""
        measured = self.condition.measure.left if self.condition is not None else None
        if isinstance(measured, Series):
            return measured.window_seconds or 0.0
        return self.window_seconds

    @property
    def scale(self) -> float:
        """Factor from the base unit of the threshold to the displayed unit."""
        measure = self.condition.measure if self.condition else None
        if measure is None or not isinstance(measure.left, Series):
            return 1.0
        return measure.left.scale if isinstance(measure.right, Threshold) and measure.right.of is None else 1.0
