"""``stream-exporter report``: show what happened to a group, an upstream or a stream, from a running exporter."""

from __future__ import annotations

import argparse
from typing import Final

from exporter.cli.command import CommandError, Commands, add_command
from exporter.cli.running_exporter import add_running_exporter, check_running_exporter, request_exporter

_ENDPOINT: Final = "GET /api/v1/report"
_TIMEOUT_SECONDS: Final = 60.0
"""A report on thousands of streams takes some seconds."""
_FIRST_KEYS: Final = ("group", "upstream")
_EPILOG = """\
Times are RFC 3339 with an offset (2026-12-06T20:00:00+01:00), Unix seconds, "now", or a duration before now (2h,
"90m ago"). The exporter keeps the data of at most the last 24 hours in memory, so a restart loses it.

Examples:
  stream-exporter report --group final --from 2026-12-06T20:00:00+01:00 --to 2026-12-06T22:00:00+01:00
  stream-exporter report --upstream edge --stream live/main-stage --from 2h --format json
"""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "report",
        run,
        summary="show what happened to a group, an upstream or a stream",
        description="Report on a group, an upstream or a stream: expected, live and unknown minutes, incidents, "
        "restarts, viewers.",
        epilog=_EPILOG,
    )
    parser.add_argument("--group", metavar="NAME", help="group to report on")
    parser.add_argument("--upstream", metavar="NAME", help="upstream to report on, or the upstream of --stream")
    parser.add_argument("--stream", metavar="LABEL", help="stream to report on, with --upstream")
    parser.add_argument("--from", dest="from_", type=_moment, metavar="TIME", help="start (default: 1h before --to)")
    parser.add_argument("--to", type=_moment, metavar="TIME", help="end (default: now)")
    parser.add_argument(
        "--format", choices=("markdown", "json"), default="markdown", help="output format (default: markdown)"
    )
    add_running_exporter(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    check_running_exporter(options)
    if (options.group is None) == (options.upstream is None):
        options.parser.error("either --group or --upstream is required")
    if options.stream is not None and options.upstream is None:
        options.parser.error("--stream needs --upstream")
    given = {
        "group": options.group,
        "upstream": options.upstream,
        "stream": options.stream,
        "from": options.from_,
        "to": options.to,
        "format": options.format,
    }
    params = {name: value for name, value in given.items() if value is not None}
    text = request_exporter(
        options, _ENDPOINT, what="get the report from", params=params, json=False, timeout=_TIMEOUT_SECONDS
    )
    print(_format_json(text, options.url) if options.format == "json" else _check_markdown(text, options.url), end="")
    return 0


def _moment(text: str) -> str:
    """Check a time and return it unchanged, because the exporter's clock decides what is now."""
    import time

    from exporter.reports.moments import MomentError, parse_moment

    try:
        parse_moment(text, time.time())
    except MomentError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return text


def _format_json(text: str, url: str) -> str:
    import msgspec

    try:
        data = msgspec.json.decode(text)
    except msgspec.DecodeError:
        data = None
    if not isinstance(data, dict) or not any(key in data for key in _FIRST_KEYS):
        raise _foreign_response(url)
    return f"{msgspec.json.format(text)}\n"


def _check_markdown(text: str, url: str) -> str:
    if not text.startswith("# Report on "):
        raise _foreign_response(url)
    return text


def _foreign_response(url: str) -> CommandError:
    return CommandError(f"cannot get the report from {url}: not a response of stream-exporter; check --url")
