"""Alert rules as data, and everything made from them: PromQL, the sidecar and the runbook."""

from typing import Final

DEFAULT_SELECTOR: Final = 'job="stream-exporter"'
"""Label matchers added to every series that the rules read."""
DEFAULT_RUNBOOK_URL: Final = "https://github.com/stream-exporter/stream-exporter/blob/main/docs/runbook.md"
