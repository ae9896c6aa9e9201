"""Finds rules that Prometheus cannot evaluate because metric families are excluded."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from exporter.alerting.promql import PromQL
from exporter.alerting.recordings import families_of
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.alerting.rules.rule import Owner
from exporter.alerting.rules.slo_rules import SLO_RULES
from exporter.config.alerting import AlertingSettings
from exporter.config.root import Settings
from exporter.metrics.families import provided_families
from exporter.metrics.families.stream_families import HEALTH_SCORE
from exporter.platforms.registry import platforms


def excluded_family_warnings(settings: Settings) -> Iterator[str]:
    """Yield a warning for each upstream that excludes metric families that rules need."""
    for upstream in settings.upstreams:
        platform = platforms().get(upstream.platform)
        if platform is None:
            # only in tests, which build settings without validation
            continue
        families = provided_families(upstream.excluded_families, platform.feeds)
        rules = list(rules_that_read(families, settings.alerting)) if families else []
        if rules:
            names = ", ".join(rules)
            yield f"upstream {upstream.name}: exclude_families removes metrics that Prometheus rules need: {names}"


def rules_that_read(families: Collection[str], alerting: AlertingSettings) -> Iterator[str]:
    """Yield the rules in Prometheus that read these families. The sidecar is not affected: it reads the model."""
    owners = (Owner.PROMETHEUS,) if alerting.alertmanagers else (Owner.PROMETHEUS, Owner.BOTH)
    for active in rules_in_force(alerting, owners=owners):
        if not _families_read(active).isdisjoint(families):
            yield active.rule.name


def _families_read(active: ActiveRule) -> frozenset[str]:
    families = families_of(*(PromQL().expression(active, grade) for grade in active.grades))
    # the budget rules read the histogram through recordings in a separate file
    return families | {HEALTH_SCORE.name} if active.rule in SLO_RULES else families
