"""The runbook: one section per rule, rendered to ``docs/runbook.md``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Runbook text of a rule, as indented Markdown. Names of alerts become links."""

    impact: str
    """Impact on viewers, or on the monitoring of their streams."""
    diagnosis: str
    """Checks, in order."""
    mitigation: str
    """Actions, for each cause."""
    tuning: str
    """Settings that affect the rule, besides its threshold and ``for``."""
