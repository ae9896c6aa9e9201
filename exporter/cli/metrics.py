"""``stream-exporter metrics``: print the reference of the metric families, or estimate the number of series."""

from __future__ import annotations

import argparse
from typing import Final

from exporter.cli.command import Commands, add_command, add_config_file, load_or_fail, whole_number

_ASSUMED_STREAMS: Final = 100
"""Default number of streams of an upstream with discovery."""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "metrics",
        run,
        summary="print the metric reference, or estimate the number of series",
        description="Print the reference of all metric families as Markdown, or estimate the number of series.",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="estimate the series and bytes of /metrics for the configuration (an upper bound)",
    )
    add_config_file(parser)
    parser.add_argument(
        "--streams",
        type=whole_number(1),
        default=_ASSUMED_STREAMS,
        metavar="N",
        help=f"with --estimate: number of streams of an upstream with discovery (default: {_ASSUMED_STREAMS})",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    if options.estimate:
        from exporter.cli.estimate import estimate, table

        print(table(estimate(load_or_fail(options.config_file), options.streams)), end="")
    else:
        from exporter.metrics.families.reference import reference

        print(reference(), end="")
    return 0
