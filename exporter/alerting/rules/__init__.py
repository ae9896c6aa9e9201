"""All alert rules as data: the source of the files in ``alerts/``, of the sidecar's alerts and of the runbook.

There is no rule for the keyframe interval, because no supported platform reports it.
"""

from __future__ import annotations

from exporter.alerting.rules.exporter_rules import EXPORTER_RULES
from exporter.alerting.rules.group_rules import GROUP_RULES
from exporter.alerting.rules.playback_rules import PLAYBACK_RULES
from exporter.alerting.rules.rule import Owner, Rule, Scope, Severity, Unit
from exporter.alerting.rules.slo_rules import SLO_RULES
from exporter.alerting.rules.stream_quality_rules import STREAM_QUALITY_RULES
from exporter.alerting.rules.stream_rules import STREAM_RULES
from exporter.alerting.rules.upstream_rules import UPSTREAM_RULES

__all__ = ["RULES", "RULES_BY_NAME", "Owner", "Rule", "Scope", "Severity", "Unit"]

RULES: tuple[Rule, ...] = (
    EXPORTER_RULES + UPSTREAM_RULES + GROUP_RULES + STREAM_RULES + PLAYBACK_RULES + STREAM_QUALITY_RULES + SLO_RULES
)
RULES_BY_NAME = {rule.name: rule for rule in RULES}
