"""The alert rules as a PrometheusRule for the Prometheus operator."""

from __future__ import annotations

from textwrap import indent

from exporter.alerting.promql import Dialect
from exporter.alerting.rule_files import alerts_file, recordings_file
from exporter.alerting.rules.active_rules import rules_in_force

_HEAD = """\
# Generated from the exporter's rules by `make generate`; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: stream-exporter
  labels: {app.kubernetes.io/name: stream-exporter}
spec:
  groups:
"""


def manifest() -> str:
    """Return the manifest with all rules, recording rules first."""
    dialect = Dialect()
    files = (recordings_file(dialect), alerts_file(rules_in_force(), dialect))
    return _HEAD + "".join(indent(_groups(file), "  ") for file in files)


def _groups(file: str) -> str:
    """Return the text below ``groups:``."""
    return file.partition("\ngroups:\n")[2]
