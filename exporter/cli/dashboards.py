"""``stream-exporter dashboards``: list or write the Grafana dashboards."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter.cli.command import Commands, add_command, add_config_file, load_or_fail, write_files

_EPILOG = """\
Without --output-dir, lists the dashboards. With it, writes them as JSON files for Grafana 10.4 or later, for import or
for provisioning from a folder.
"""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "dashboards",
        run,
        summary="list or write the Grafana dashboards",
        description="List or write the Grafana dashboards.",
        epilog=_EPILOG,
    )
    add_config_file(
        parser,
        default=None,
        help_="configuration file whose alerting.thresholds to use (default: the rules' default thresholds)",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="folder to write the files to")


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    from exporter.alerting.rules.active_rules import rules_in_force
    from exporter.dashboards import RuleThresholds, all_dashboards, render_files

    alerting = load_or_fail(options.config_file).alerting if options.config_file else None
    thresholds = RuleThresholds(rules_in_force(alerting))
    if options.output_dir is not None:
        write_files(options.output_dir, render_files(thresholds))
        return 0
    for dashboard in all_dashboards(thresholds):
        print(f"{dashboard.title:33} {dashboard.uid:27} {dashboard.description}")
    return 0
