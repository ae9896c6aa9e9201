"""The runbook: one section per rule, rendered to ``docs/runbook.md``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance for the person on call, as Markdown. The page removes the indentation and links the names of alerts."""

    impact: str
    """Impact on viewers, or on the monitoring of their streams."""
    diagnosis: str
    """What to check, in this order."""
    mitigation: str
    """What to do, for each cause."""
    tuning: str
    """How to tune the rule, in addition to its threshold and ``for``."""
