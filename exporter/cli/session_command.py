"""The command ``session``. Its actions come from the platforms, which are imported only when it is used."""

from __future__ import annotations

import argparse

from exporter.cli.command import Commands, add_command


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "session",
        _run,
        summary="show, update, end or delete one session or stream",
        description="Show or change one session or stream on its platform.",
    )
    parser.add_late_flags = _add_actions


def _add_actions(parser: argparse.ArgumentParser) -> None:
    from exporter.cli.session import add_actions

    add_actions(parser)


def _run(options: argparse.Namespace) -> int:
    from exporter.cli.session import run

    return run(options)
