"""Alert rules as data, and what is built from them: PromQL rule files, the sidecar, and the runbook."""

from typing import Final

DEFAULT_SELECTOR: Final = 'job="stream-exporter"'
"""Label matchers that select the exporter's series in the rules."""
DEFAULT_RUNBOOK_URL: Final = "https://github.com/stream-exporter/stream-exporter/blob/main/docs/runbook.md"
