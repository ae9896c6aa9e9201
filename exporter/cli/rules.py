"""``stream-exporter rules``: lists the alert rules, or writes them for Prometheus."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from exporter.alerting.annotations import DEFAULT_RUNBOOK_URL
from exporter.alerting.promql import DEFAULT_SELECTOR
from exporter.alerting.rule_files import (
    ALERTS_FILE,
    RECORDINGS_FILE,
    Dialect,
    alerts_file,
    listing,
    needs_recordings,
    recordings_file,
)
from exporter.alerting.rules import Owner
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.cli.settings import load_settings
from exporter.config.alerting import AlertingSettings
from exporter.config.loading import ConfigError

_EVALUATORS: Mapping[str, Collection[Owner]] = {
    "prometheus": (Owner.PROMETHEUS,),
    "sidecar": (Owner.BOTH, Owner.SIDECAR),
    "all": tuple(Owner),
}
_EPILOG = """\
Without --output-dir it prints the table of the rules. With it, it writes
  stream-alerts.yaml       the alerts
  stream-recordings.yaml   the recording rules that some of them need
for the rule_files of Prometheus. Where the sidecar is on, load the ones of --evaluator=prometheus: what it
evaluates itself would be sent twice otherwise.
"""


def run(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Run the sub-command with its arguments; ``parser`` brings the program's name and style."""
    _add_flags(parser)
    options = parser.parse_args(arguments)
    try:
        alerting = (
            load_settings(options.config_file, os.environ).alerting if options.config_file else AlertingSettings()
        )
    except ConfigError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return 1
    rules = rules_in_force(alerting, owners=_EVALUATORS[options.evaluator], time_scale=options.time_scale)
    if options.output_dir is None:
        print(listing(rules), end="")
        return 0
    dialect = Dialect(options.selector, options.time_scale, options.runbook_url, alerting.health_slo)
    files = {ALERTS_FILE: alerts_file(rules, dialect)}
    if needs_recordings(rules):
        files[RECORDINGS_FILE] = recordings_file(dialect)
    return _write(options.output_dir, files)


def _write(directory: Path, files: Mapping[str, str]) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
            print(directory / name)
    except OSError as error:
        print(f"can't write to {directory}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        metavar="FILE",
        help="a configuration whose alerting.thresholds and alerting.health_slo are used (default: none)",
    )
    parser.add_argument(
        "--evaluator",
        choices=tuple(_EVALUATORS),
        default="all",
        help="the rules that Prometheus evaluates beside a sidecar, those that the sidecar evaluates, or all "
        "(default: all)",
    )
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="write rule files there instead of a table to the terminal"
    )
    parser.add_argument(
        "--selector",
        default=DEFAULT_SELECTOR,
        metavar="MATCHERS",
        help=f"what narrows every series to those of the exporter (default: {DEFAULT_SELECTOR})",
    )
    parser.add_argument(
        "--time-scale",
        type=_scale,
        default=1.0,
        metavar="X",
        help="divide every duration by this, for tests and demos (default: 1)",
    )
    parser.add_argument(
        "--runbook-url",
        default=DEFAULT_RUNBOOK_URL,
        metavar="URL",
        help=f"where docs/runbook.md is published (default: {DEFAULT_RUNBOOK_URL})",
    )


def _scale(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.001 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed: a number from 0.001 to 3600")
    return number
