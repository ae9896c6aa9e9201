"""Rules with the thresholds and times in force: those of the configuration, otherwise the rule's own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from exporter.alerting.rules import RULES, Owner, Rule
from exporter.alerting.rules.common_guards import COVERED, NOT_COVERED, NOT_SEEN_PLAYING, SEEN_PLAYING
from exporter.alerting.rules.rule import Guard, Scope, Severity
from exporter.config.alerting import AlertingSettings, HealthSlo


@dataclass(frozen=True)
class Grade:
    """One severity of a rule. Each grade is a separate alert in the rule file."""

    severity: Severity
    for_seconds: float
    threshold: float | None = None
    """In the base unit of the metric, like ``Rule.threshold``."""
    also: tuple[Guard, ...] = ()
    """Guards in addition to those of the rule's condition."""
    least_threshold: float | None = None
    """Lowest threshold of this grade, whatever is configured."""
    is_downgraded: bool = False
    """Whether it replaces the critical grade while a group covers the stream, or playback checks show that the streams
    play; the two never hold together."""


@dataclass(frozen=True)
class ActiveRule:
    """A rule with the threshold and times in force. Times are in seconds, already divided by ``time_scale``."""

    rule: Rule
    threshold: float | None
    """In the base unit of the metric, like ``Rule.threshold``."""
    for_seconds: float
    keep_firing_seconds: float
    time_scale: float = 1.0
    slo: HealthSlo = field(default_factory=HealthSlo)

    @property
    def limit(self) -> float | None:
        """Threshold in the unit in which the value is compared and shown."""
        return self.limit_of(self.own_grades[-1])

    @property
    def grades(self) -> tuple[Grade, ...]:
        """Grades of the rule, worst first. A critical alert of a stream is a warning while its group covers it."""
        own = self.own_grades
        if self.rule.is_downgraded_by_checks:
            return _downgraded_by(own[0], SEEN_PLAYING, NOT_SEEN_PLAYING)
        if self.rule.scope is not Scope.STREAM or own[0].severity is not Severity.CRITICAL:
            return own
        if self.rule.is_downgraded_by_groups:
            return _downgraded_by(own[0], COVERED, NOT_COVERED)
        return replace(own[0], also=(*own[0].also, NOT_COVERED)), *own[1:]

    @property
    def own_grades(self) -> tuple[Grade, ...]:
        """Grades of the rule without regard to groups, worst first; the last one has the rule's own severity.

        The critical grade is never easier to reach than the lower one, whatever is configured for the lower one.
        """
        own = Grade(self.rule.severity, self.for_seconds, self.threshold)
        critical = self.rule.critical
        if critical is None:
            return (own,)
        threshold = self.threshold
        if threshold is not None and critical.threshold is not None:
            threshold = max(threshold, critical.threshold)
        for_seconds = max(self.for_seconds, critical.for_seconds / self.time_scale)
        return Grade(Severity.CRITICAL, for_seconds, threshold, critical.also, critical.threshold), own

    def limit_of(self, grade: Grade, override: float | None = None) -> float | None:
        """Return a grade's threshold in the unit in which the value is compared and shown.

        ``override``: a threshold for one stream or upstream, in the base unit of the metric.
        """
        threshold = grade.threshold if override is None else max(override, grade.least_threshold or override)
        return None if threshold is None else threshold * self.rule.scale


def _downgraded_by(critical: Grade, covered: Guard, not_covered: Guard) -> tuple[Grade, Grade]:
    """Return the critical grade, and the warning that replaces it while ``covered`` holds."""
    return (
        replace(critical, also=(*critical.also, not_covered)),
        replace(critical, severity=Severity.WARNING, also=(*critical.also, covered), is_downgraded=True),
    )


def rules_in_force(
    settings: AlertingSettings | None = None,
    *,
    owners: Collection[Owner] = tuple(Owner),
    time_scale: float = 1.0,
) -> tuple[ActiveRule, ...]:
    """Return the rules of these owners with the configured thresholds and times."""
    settings = settings or AlertingSettings()
    return tuple(_activate(rule, settings, time_scale) for rule in RULES if rule.owner in owners)


def _activate(rule: Rule, settings: AlertingSettings, time_scale: float) -> ActiveRule:
    configured = settings.thresholds.get(rule.name)
    threshold, for_seconds = rule.threshold, rule.for_seconds
    if configured is not None and configured.value is not None:
        threshold = configured.value
    if configured is not None and configured.for_ is not None:
        for_seconds = configured.for_
    return ActiveRule(
        rule=rule,
        threshold=threshold,
        for_seconds=for_seconds / time_scale,
        keep_firing_seconds=rule.keep_firing_seconds / time_scale,
        time_scale=time_scale,
        slo=settings.health_slo,
    )
