"""``stream-exporter maintenance``: start, end and list maintenance windows of a running exporter."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from exporter.cli.command import CommandError, CommandParser, Commands, add_command
from exporter.cli.running_exporter import (
    add_running_exporter,
    check_running_exporter,
    format_table,
    printable,
    request_exporter,
)

_PATH: Final = "/api/v1/maintenance"
_HEADINGS = ("ID", "UPSTREAM", "STREAM", "STATE", "FROM", "UNTIL", "SOURCE", "REASON")
_NOT_SAVED: Final = "warning: not saved; a restart of the exporter ends this maintenance (see its log)"
_END_NOT_SAVED: Final = "warning: not saved; it may be active again after a restart of the exporter (see its log)"
_EXIT_CODES = "Exit codes: 0 success, 1 refused or failed, 2 usage error."
_EPILOG = f"""\
While a window is active, Alertmanager (with the inhibit rules of alerts/alertmanager.example.yaml) and webhooks do not
notify about alerts of the stream, or of the upstream and all of its streams. Alerts that are still firing six minutes
after its end are sent then. Starting and ending need --web.enable-lifecycle on the exporter.

With several exporters (replicas, shards), run the command for each of them, or configure the windows.

{_EXIT_CODES}
"""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "maintenance",
        None,
        summary="start, end or list maintenance of upstreams and streams",
        description="Start, end or list maintenance of upstreams and streams.",
        epilog=_EPILOG,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=CommandParser)
    start = _add_action(actions, "start", _start, "start maintenance now", "Start maintenance now.")
    _add_target(start)
    start.add_argument(
        "--for",
        dest="duration",
        required=True,
        type=_duration,
        metavar="DURATION",
        help="how long it lasts, at most 30d, for example 2h",
    )
    start.add_argument("--reason", default="", metavar="TEXT", help="reason, shown on the page and in the alert")
    add_running_exporter(start)
    end = _add_action(
        actions,
        "end",
        _end,
        "end maintenance that was started by hand",
        "End one window by its id, or all manual windows of an upstream or stream.",
    )
    end.add_argument("target", metavar="ID|UPSTREAM", help="id of a window, or name of an upstream")
    end.add_argument("stream", nargs="?", default="", metavar="STREAM", help="stream (label) of the upstream")
    add_running_exporter(end)
    listing = _add_action(
        actions, "list", _list, "list current and planned maintenance", "List current and planned maintenance."
    )
    listing.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    add_running_exporter(listing)


def _add_action(
    actions: Commands, name: str, run: Callable[[argparse.Namespace], int], summary: str, description: str
) -> CommandParser:
    return add_command(actions, name, run, summary=summary, description=description, epilog=_EXIT_CODES)


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("upstream", metavar="UPSTREAM", help="name of the upstream")
    parser.add_argument(
        "stream", nargs="?", default="", metavar="STREAM", help="stream (label); without it, the whole upstream"
    )


def _duration(text: str) -> str:
    from exporter.config.types import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a duration such as 30m or 2h")
    return text


# -- actions -----------------------------------------------------------------------------------------------------------


def _start(options: argparse.Namespace) -> int:
    check_running_exporter(options)
    body = {"upstream": options.upstream, "for": options.duration}
    body |= {name: text for name, text in (("stream", options.stream), ("reason", options.reason)) if text}
    answer = request_exporter(options, f"POST {_PATH}", what="start maintenance at", body=body)
    window = answer.get("window") if isinstance(answer, dict) else None
    if not isinstance(window, dict):
        raise _not_an_exporter(options)
    print(f"{_target(window)} is under maintenance until {_time(window.get('end_timestamp_seconds'))}")
    print(f"id: {_text(window, 'id')}")
    if answer.get("saved") is False:
        print(_NOT_SAVED, file=sys.stderr)
    return 0


def _end(options: argparse.Namespace) -> int:
    check_running_exporter(options)
    windows = _windows(options)
    found = [] if options.stream else [window for window in windows if _text(window, "id") == options.target]
    if not found:
        place = (options.target, options.stream)
        found = [window for window in windows if (_text(window, "upstream"), _text(window, "stream")) == place]
        manual = [window for window in found if window.get("manual") is True]
        if not manual:
            raise CommandError(_not_found(options, is_configured=bool(found)))
        found = manual
    for window in found:
        id_ = _text(window, "id")
        answer = request_exporter(options, f"DELETE {_PATH}/{{id}}", what="end maintenance at", id_=id_)
        print(f"maintenance of {_target(window)} has ended (id {id_})")
        if isinstance(answer, dict) and answer.get("saved") is False:
            print(_END_NOT_SAVED, file=sys.stderr)
    return 0


def _not_found(options: argparse.Namespace, *, is_configured: bool) -> str:
    target = printable(f"{options.stream} on {options.target}" if options.stream else options.target)
    if is_configured:
        return f"{target}: its maintenance is configured; change the configuration and reload"
    return f"{target}: no maintenance with this id or of this upstream or stream"


def _list(options: argparse.Namespace) -> int:
    check_running_exporter(options)
    windows = _windows(options)
    if options.format == "json":
        import msgspec

        print(msgspec.json.format(msgspec.json.encode({"windows": windows})).decode())
    else:
        print(table(windows), end="")
    return 0


def _windows(options: argparse.Namespace) -> list[Mapping[str, Any]]:
    answer = request_exporter(options, f"GET {_PATH}", what="get maintenance from")
    windows = answer.get("windows") if isinstance(answer, dict) else None
    if not isinstance(windows, list) or not all(isinstance(window, dict) for window in windows):
        raise _not_an_exporter(options)
    return windows


def _not_an_exporter(options: argparse.Namespace) -> CommandError:
    return CommandError(f"{options.url}: not a response of stream-exporter; check --url")


# -- text --------------------------------------------------------------------------------------------------------------


def table(windows: Sequence[Mapping[str, Any]]) -> str:
    """Format windows as a table."""
    if not windows:
        return "No maintenance is active or planned.\n"
    return format_table([_HEADINGS, *map(_row, windows)])


def _row(window: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _text(window, "id"),
        _text(window, "upstream"),
        _text(window, "stream"),
        "active" if window.get("active") is True else "planned",
        _time(window.get("start_timestamp_seconds")),
        _time(window.get("end_timestamp_seconds")),
        "manual" if window.get("manual") is True else "configured",
        _text(window, "reason"),
    )


def _target(window: Mapping[str, Any]) -> str:
    stream, upstream = _text(window, "stream"), _text(window, "upstream")
    return f"{stream} on {upstream}" if stream else upstream


def _text(window: Mapping[str, Any], key: str) -> str:
    return printable(str(window.get(key, "")))


def _time(seconds: object) -> str:
    """Format Unix seconds in the local time zone, with its UTC offset."""
    from datetime import UTC, datetime

    if not isinstance(seconds, int | float):
        return "?"
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    except (OverflowError, ValueError, OSError):
        return "?"
