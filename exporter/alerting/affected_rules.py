"""What becomes of the rules when families are left out: Prometheus can't evaluate what it does not get."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from exporter.alerting.promql import PromQL
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.alerting.rules.rule import Owner
from exporter.alerting.rules.slo_rules import SLO_RULES
from exporter.config.alerting import AlertingSettings
from exporter.metrics.families.sampled_families import HEALTH_SCORE


def rules_that_read(families: Collection[str], alerting: AlertingSettings) -> Iterator[str]:
    """The alerts that Prometheus makes of these families. The sidecar reads the model, where nothing is left out."""
    owners = (Owner.PROMETHEUS,) if alerting.alertmanagers else (Owner.PROMETHEUS, Owner.BOTH)
    promql = PromQL()
    for active in rules_in_force(alerting, owners=owners):
        if any(_reads(active, promql, family) for family in families):
            yield active.rule.name


def _reads(active: ActiveRule, promql: PromQL, family: str) -> bool:
    if active.rule in SLO_RULES and family == HEALTH_SCORE.name:
        # by way of recording rules
        return True
    return re.search(rf"\b{family}(_bucket|_count|_sum)?\b", promql.expression(active)) is not None
