"""Alerts: the rules as data, and their readers: PromQL text, the sidecar's evaluator, the runbook."""

from typing import Final

DEFAULT_SELECTOR: Final = 'job="stream-exporter"'
"""Matchers that narrow every series of the rules to the exporter's."""
DEFAULT_RUNBOOK_URL: Final = "https://github.com/stream-exporter/stream-exporter/blob/main/docs/runbook.md"
