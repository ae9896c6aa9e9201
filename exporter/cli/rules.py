"""``stream-exporter rules``: lists the alert rules, or writes them for Prometheus."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter.alerting import DEFAULT_RUNBOOK_URL, DEFAULT_SELECTOR
from exporter.cli.command import (
    Commands,
    add_command,
    add_config_file,
    decimal_number,
    load_or_fail,
    write_files,
)

_EPILOG = """\
Without --output-dir it prints the table of the rules. With it, it writes
  stream-alerts.yaml       the alerts
  stream-recordings.yaml   the recording rules that some of them need
for the rule_files of Prometheus. Where the sidecar is on, load the ones of --evaluator=prometheus: what it
evaluates itself would be sent twice otherwise.
"""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "rules",
        run,
        summary="list the alert rules, or write them for Prometheus",
        description="List the alert rules, or write them.",
        epilog=_EPILOG,
    )
    add_config_file(
        parser,
        default=None,
        help_="a configuration whose alerting.thresholds and alerting.health_slo are used (default: none)",
    )
    parser.add_argument(
        "--evaluator",
        choices=("prometheus", "sidecar", "all"),
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
        type=decimal_number(lambda number: 0.001 <= number <= 3600, "a number from 0.001 to 3600"),
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


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
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
    from exporter.config.alerting import AlertingSettings

    owners = {
        "prometheus": (Owner.PROMETHEUS,),
        "sidecar": (Owner.BOTH, Owner.SIDECAR),
        "all": tuple(Owner),
    }[options.evaluator]
    alerting = load_or_fail(options.config_file).alerting if options.config_file else AlertingSettings()
    rules = rules_in_force(alerting, owners=owners, time_scale=options.time_scale)
    if options.output_dir is None:
        print(listing(rules), end="")
        return 0
    dialect = Dialect(options.selector, options.time_scale, options.runbook_url, alerting.health_slo)
    files = {ALERTS_FILE: alerts_file(rules, dialect)}
    if needs_recordings(rules):
        files[RECORDINGS_FILE] = recordings_file(dialect)
    write_files(options.output_dir, files)
    return 0
