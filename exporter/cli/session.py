"""``stream-exporter session``: show or change one session or stream of an upstream manually.

The platforms provide the actions and their requests (``Platform.session_commands``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from exporter.cli.command import add_config_file
from exporter.cli.session_text import failure, shown_answer
from exporter.cli.settings import load_settings
from exporter.config.loading import ConfigError
from exporter.config.upstream import UpstreamSettings
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.platforms.capabilities import (
    CommandOption,
    InvalidCommandError,
    ManualRequest,
    SessionAction,
    SessionCommand,
    SessionCommands,
)
from exporter.platforms.registry import platforms
from exporter.runtime.clock import Clock
from exporter.runtime.logging import configure
from exporter.runtime.redaction import redactor

DONE, FAILED, USAGE = 0, 1, 2
HELP_WIDTH = 119
_HELP = {
    SessionAction.SHOW: "print what the platform reports about it",
    SessionAction.UPDATE: "change its settings",
    SessionAction.END: "end the broadcast",
    SessionAction.DELETE: "delete it",
}
_EXIT_CODES = "Exit codes: 0 success, 1 refused or failed, 2 usage error."

Supported = Mapping[str, SessionCommands]
"""Session commands by platform, for the platforms that have any."""


class _UsageError(Exception):
    """Invalid arguments."""


class _Target:
    """The upstream given by ``--upstream``, and its client, which connects only for the first request."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.settings = settings
        self.client = UpstreamClient.from_settings(settings, Clock(), _ignore_request)
        # creating the platform lets it set its own credentials and add sessions to the configured ones
        self._streams = platforms()[settings.platform](settings, self.client, self.client.clock).configured_streams()

    def identity(self, given: str) -> str:
        """Return the platform's id for an id, or for a name in the configuration."""
        if given in {stream.id for stream in self._streams}:
            return given
        return next((stream.id for stream in self._streams if stream.name == given), given)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    configure("warn")
    try:
        target = _target(options)
        requests = _requests(options, target, _supported())
        for request in requests:
            if request.changes_something and not _confirm(request, target, is_confirmed=options.yes):
                return FAILED
        return asyncio.run(_send(requests, target))
    except ConfigError as error:
        for line in error.errors:
            _print_to_stderr(line)
        return FAILED
    except (_UsageError, InvalidCommandError) as error:
        _print_to_stderr(f"{options.parser.prog}: {error}")
        return USAGE


def _supported() -> Supported:
    return {name: commands for name, platform in platforms().items() if (commands := platform.session_commands())}


# -- what to send ------------------------------------------------------------------------------------------------------


def _target(options: argparse.Namespace) -> _Target:
    upstreams = {upstream.name: upstream for upstream in load_settings(options.config_file, os.environ).upstreams}
    if options.upstream not in upstreams:
        raise _UsageError(
            f"no upstream {options.upstream!r} in {options.config_file}; its upstreams are {', '.join(upstreams)}"
        )
    return _Target(upstreams[options.upstream])


def _requests(options: argparse.Namespace, target: _Target, supported: Supported) -> Sequence[ManualRequest]:
    """Return the requests to send in order, until one of them finds the session or stream."""
    action, settings = SessionAction(options.action), target.settings
    commands = _commands(supported, action)
    if settings.platform not in commands:
        known = ", ".join(commands)
        raise _UsageError(f"{action} works only on {known}, but {settings.name} is on platform {settings.platform}")
    command = commands[settings.platform]
    values = {option.name: _value(option, options) for option in _options(commands)}
    own = {option.flag for option in command.options}
    for option in _options(commands):
        if values[option.name] and option.flag not in own:
            raise _UsageError(f"{option.flag} does not work on {settings.platform}")
    requests = command.requests(target.identity(options.id), values)
    try:
        for request in requests:
            request.url(target.client)
    except UpstreamError:
        raise _UsageError(f"{options.id!r} is not a valid id") from None
    return requests


def _commands(supported: Supported, action: SessionAction) -> dict[str, SessionCommand]:
    """Return the commands of the platforms that support the action."""
    return {name: known.commands[action] for name, known in supported.items() if action in known.commands}


def _options(commands: Mapping[str, SessionCommand]) -> list[CommandOption]:
    """Return the options of all commands, without duplicate flags."""
    return list({option.flag: option for command in commands.values() for option in command.options}.values())


def _value(option: CommandOption, options: argparse.Namespace) -> Any:
    value = getattr(options, option.name)
    return value if option.choices else dict(value)


# -- sending -----------------------------------------------------------------------------------------------------------


def _confirm(request: ManualRequest, target: _Target, *, is_confirmed: bool) -> bool:
    """Print the request, and ask whether to send it."""
    _print_to_stderr(_describe_request(request, target))
    if request.notice:
        _print_to_stderr(request.notice)
    if is_confirmed:
        return True
    if not sys.stdin.isatty():
        raise _UsageError("standard input is not a terminal; use --yes to send without confirmation")
    print(f"Send it to upstream {target.settings.name}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    _print_to_stderr("nothing was sent")
    return False


async def _send(requests: Sequence[ManualRequest], target: _Target) -> int:
    sender = target.client.requests(target.settings.timeout)
    try:
        for request, left in zip(requests, range(len(requests) - 1, -1, -1), strict=True):
            if not request.changes_something:
                _print_to_stderr(_describe_request(request, target))
            try:
                answer = await request.send(sender)
            except UpstreamError as error:
                if error.means_absent and left:
                    continue
                for line in failure(error, request):
                    _print_to_stderr(line)
                return FAILED
            if answer.data is None:
                _print_to_stderr(f"done (status {answer.status})")
            else:
                print(shown_answer(answer.data, request))
            break
    finally:
        await target.client.close()
    return DONE


def _describe_request(request: ManualRequest, target: _Target) -> str:
    body = "" if request.body is None else "\n" + json.dumps(request.body, ensure_ascii=True)
    return f"{request.method} {request.url(target.client)}{body}"


def _print_to_stderr(line: str) -> None:
    """Print to standard error, without secrets."""
    print(redactor.scrub(line), file=sys.stderr)


def _ignore_request(_endpoint: str, _code: str, _seconds: float) -> None:
    """Observe nothing: there are no request metrics here."""


# -- the command line --------------------------------------------------------------------------------------------------


def add_actions(parser: argparse.ArgumentParser) -> None:
    """Add the actions that the platforms support."""
    supported = _supported()
    parser.epilog = _epilog(supported)
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=argparse.ArgumentParser
    )
    for action in SessionAction:
        commands = _commands(supported, action)
        help_ = next((command.help for command in commands.values() if command.help), _HELP[action])
        subparser = actions.add_parser(action.value, help=help_, description=help_, allow_abbrev=False)
        _add_common_flags(subparser)
        if action is not SessionAction.SHOW:
            subparser.add_argument("--yes", action="store_true", help="send without confirmation")
        for option in _options(commands):
            _add_option(subparser, option)


def _epilog(supported: Supported) -> str:
    """Return which actions work on which platforms, and where the output goes."""
    groups = groupby(SessionAction, key=lambda action: _platform_list(action, supported))
    works = [_works_on(list(actions), platform_list) for platform_list, actions in groups if platform_list]
    text = (
        f"{'; '.join(works)}. ID may also be a name from the configuration. A request that changes something is "
        "printed and must be confirmed. The platform's response is written to standard output, everything else to "
        "standard error."
    )
    return f"{textwrap.fill(text, HELP_WIDTH)}\n\n{_EXIT_CODES}\n"


def _works_on(actions: Sequence[SessionAction], platform_list: str) -> str:
    verb = "works" if len(actions) == 1 else "work"
    return f"{_join([f'`{action}`' for action in actions])} {verb} on {platform_list}"


def _platform_list(action: SessionAction, supported: Supported) -> str:
    ids = {name: supported[name].id_help for name in _commands(supported, action)}
    return _join([f"{name} (ID is {id_})" if id_ else name for name, id_ in ids.items()])


def _join(words: Sequence[str]) -> str:
    """Join words as in "a, b and c"."""
    return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), *words[-1:]])


def _add_common_flags(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument("id", metavar="ID", help="id on the platform, or name in the configuration")
    subparser.add_argument("--upstream", required=True, metavar="NAME", help="name of the upstream")
    add_config_file(subparser)


def _add_option(subparser: argparse.ArgumentParser, option: CommandOption) -> None:
    if option.choices:
        subparser.add_argument(option.flag, dest=option.name, choices=option.choices, help=option.help)
        return
    subparser.add_argument(
        option.flag,
        dest=option.name,
        type=_pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"{option.help}; VALUE is JSON, or text if it is not valid JSON; may be given several times",
    )


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return key, value
