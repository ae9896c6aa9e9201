"""The runbook: one section per rule, rendered to ``docs/runbook.md``."""
