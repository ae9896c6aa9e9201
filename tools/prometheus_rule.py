"""The alert rules as a PrometheusRule of the Prometheus operator."""

from __future__ import annotations

from textwrap import indent

from exporter.alerting.promql import Dialect
from exporter.alerting.rule_files import alerts_file, recordings_file
from exporter.alerting.rules.active_rules import rules_in_force

_HEAD = """\
# Made from the exporter's table of rules by `make generate`; make it again rather than edit it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: stream-exporter
  labels: {app.kubernetes.io/name: stream-exporter}
spec:
  groups:
"""


def manifest() -> str:
    """Return the manifest with all rules of the rule files, recordings first."""
    dialect = Dialect()
    files = (recordings_file(dialect), alerts_file(rules_in_force(), dialect))
    return _HEAD + "".join(indent(_groups(file), "  ") for file in files)


def _groups(file: str) -> str:
    """The text below ``groups:``."""
    return file.partition("\ngroups:\n")[2]
