"""``stream-exporter dashboards``: lists the Grafana dashboards, or writes them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from exporter.alerting.rules.active_rules import rules_in_force
from exporter.cli.settings import load_settings
from exporter.config.loading import ConfigError
from exporter.dashboards import RuleThresholds, all_dashboards, render_files

_EPILOG = """\
Without --output-dir it lists the dashboards. With it, it writes their JSON, for Grafana 10.4 or later: to import by
hand, or to provision from a folder.
"""


def run(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Run the sub-command with its arguments; ``parser`` brings the program's name and style."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        metavar="FILE",
        help="take the thresholds from alerting.thresholds of this configuration (default: those of the rules)",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="write the files into this folder")
    options = parser.parse_args(arguments)
    try:
        alerting = load_settings(options.config_file, os.environ).alerting if options.config_file else None
    except ConfigError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return 1
    thresholds = RuleThresholds(rules_in_force(alerting))
    if options.output_dir is not None:
        return _write(options.output_dir, thresholds)
    for dashboard in all_dashboards(thresholds):
        print(f"{dashboard.title:33} {dashboard.uid:27} {dashboard.description}")
    return 0


def _write(directory: Path, thresholds: RuleThresholds) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in render_files(thresholds).items():
            (directory / name).write_text(text, encoding="utf-8")
            print(directory / name)
    except OSError as error:
        print(f"can't write to {directory}: {error.strerror}", file=sys.stderr)
        return 1
    return 0
