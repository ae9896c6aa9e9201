"""The flags of ``stream-exporter session``."""

from __future__ import annotations

import argparse
from typing import Any

from exporter.cli.command import Commands, add_command, add_config_file

_STATUSES = ("idle", "live", "paused", "ended")
_EPILOG = """\
`show` works on livepeer (ID is a session's or a stream's), storm (ID is application/key) and wave, the others on wave
alone. ID may also be the name that the configuration gives. What changes something is printed and asked about first;
the platform's answer goes to standard output, everything else to standard error.

Exit codes: 0 done, 1 refused or failed, 2 bad usage.
"""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "session",
        _run,
        summary="show, update, end or delete one session of a platform by hand",
        description="Look at one session, or change it.",
        epilog=_EPILOG,
    )
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=argparse.ArgumentParser
    )
    for name, help_ in (
        ("show", "print what the platform says of it"),
        ("update", "change its settings (PATCH)"),
        ("end", "end the broadcast (PATCH with status ended); the session stays"),
        ("delete", "delete a session that is not live (DELETE)"),
    ):
        action = actions.add_parser(name, help=help_, description=help_, allow_abbrev=False)
        _add_common_flags(action)
        if name != "show":
            action.add_argument("--yes", action="store_true", help="send without asking")
        if name == "update":
            _add_settings_flags(action)


def _run(options: argparse.Namespace) -> int:
    from exporter.cli.session import run

    return run(options)


def _add_common_flags(action: argparse.ArgumentParser) -> None:
    action.add_argument("id", metavar="ID", help="the platform's id, or the name in the configuration")
    action.add_argument("--upstream", required=True, metavar="NAME", help="the upstream, by its name")
    add_config_file(action)


def _add_settings_flags(action: argparse.ArgumentParser) -> None:
    action.add_argument("--status", choices=_STATUSES, help="the status to have")
    for flag, what in (
        ("--metadata", "metadata"),
        ("--quality", "quality, as targetLatency=200"),
        ("--custom-property", "the custom properties"),
    ):
        action.add_argument(
            flag,
            type=_pair,
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"an entry of {what}; VALUE is JSON where it can be, else text; may be given several times",
        )


def _pair(text: str) -> tuple[str, Any]:
    import msgspec

    key, equals, value = text.partition("=")
    if not key or not equals or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r}: allowed: KEY=VALUE")
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return key, value
