"""``stream-exporter metrics``: prints the reference of the metric families, or how many series there will be."""

from __future__ import annotations

import argparse
from typing import Final

from exporter.cli.command import Commands, add_command, add_config_file, load_or_fail, whole_number

_ASSUMED_STREAMS: Final = 100
"""Streams that an upstream with discovery is taken to find."""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "metrics",
        run,
        summary="print the reference of every metric family; --estimate: how many series there will be",
        description="Print the reference of every metric family, as Markdown, or what a configuration makes.",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="print instead how many series and bytes the configuration makes at most",
    )
    add_config_file(parser)
    parser.add_argument(
        "--streams",
        type=whole_number(1),
        default=_ASSUMED_STREAMS,
        metavar="N",
        help=f"with --estimate: streams that an upstream finds by itself (default: {_ASSUMED_STREAMS})",
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
