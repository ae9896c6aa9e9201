"""Which thresholds and times are in force: those of the rules, or what the configuration says instead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from exporter.alerting.rules import RULES, Owner, Rule
from exporter.config.alerting import AlertingSettings, HealthSlo, Threshold


@dataclass(frozen=True)
class ActiveRule:
    """A rule with the thresholds and times that are in force. Times are seconds, already divided by ``time_scale``."""

    rule: Rule
    threshold: float | None
    """In the base unit of the rule's metric, as ``Rule.threshold``."""
    for_seconds: float
    keep_firing_seconds: float
    time_scale: float = 1.0
    slo: HealthSlo = field(default_factory=HealthSlo)

    @property
    def limit(self) -> float | None:
        """The threshold in the unit in which the value is compared and shown."""
        return None if self.threshold is None else self.threshold * self.rule.scale


def rules_in_force(
    alerting: AlertingSettings | None = None,
    *,
    owners: Collection[Owner] = tuple(Owner),
    time_scale: float = 1.0,
) -> tuple[ActiveRule, ...]:
    """The rules that these owners evaluate, with the thresholds of the configuration."""
    settings = alerting or AlertingSettings()
    return tuple(_in_force(owners, settings.thresholds, settings.health_slo, time_scale))


def _in_force(
    owners: Collection[Owner], thresholds: Mapping[str, Threshold], slo: HealthSlo, time_scale: float
) -> Iterator[ActiveRule]:
    for rule in RULES:
        if rule.owner not in owners:
            continue
        own = thresholds.get(rule.name)
        value = own.value if own is not None and own.value is not None else rule.threshold
        for_seconds = own.for_ if own is not None and own.for_ is not None else rule.for_seconds
        yield ActiveRule(
            rule=rule,
            threshold=value,
            for_seconds=for_seconds / time_scale,
            keep_firing_seconds=rule.keep_firing_seconds / time_scale,
            time_scale=time_scale,
            slo=slo,
        )
