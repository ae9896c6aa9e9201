"""The command line.

Exit codes: 0 success, 1 failure (invalid configuration, address in use, …), 2 usage error, 130 after Ctrl-C, 141 if
standard output was closed.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections.abc import Sequence
from typing import Any

from exporter import __version__
from exporter.cli import alerts, dashboards, demo, maintenance, metrics, report, rules, run, session_command
from exporter.cli.command import PROGRAM, CommandError, CommandParser
from exporter.runtime.lean_imports import without_modules
from exporter.runtime.revision import revision
from exporter.runtime.suggestions import similar_words

with without_modules("bz2", "lzma"):
    # argparse imports it, and with it the compression of archives
    import shutil  # noqa: F401


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (default: the process's own) and return the exit code."""
    options = _parse(list(sys.argv[1:] if argv is None else argv))
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Discard what is left in the buffer; flushing it at exit would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except CommandError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; without a command, it runs the exporter."""
    parser = _Parser(
        prog=PROGRAM,
        description="Prometheus exporter and alerting sidecar for streaming servers.",
        epilog=f'Without a command, the exporter runs. Run "{PROGRAM} COMMAND --help" for a command\'s options.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version())
    run.add_flags(parser)
    commands = parser.add_subparsers(title="commands", metavar="[COMMAND]", dest="command", parser_class=CommandParser)
    for command in (demo, alerts, maintenance, dashboards, metrics, report, rules, session_command):
        command.add_parser(commands)
    return parser


def version() -> str:
    """Return the line that ``--version`` prints."""
    return f"{PROGRAM} {__version__} (revision {revision()}, Python {platform.python_version()})"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command is not None and options.command != arguments[0]:
        parser.error(f"options must follow the command: {PROGRAM} {options.command} …")
    return options


class _Parser(argparse.ArgumentParser):
    """A parser that suggests a similar command for an unknown one."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        commands = [*action.choices] if action.dest == "command" and action.choices is not None else [value]
        if value not in commands:
            similar = similar_words(value, commands)
            hint = f'did you mean "{similar[0]}"?' if similar else f"the commands are {', '.join(commands)}"
            self.error(f'unknown command "{value}"; {hint}')
        super()._check_value(action, value)
