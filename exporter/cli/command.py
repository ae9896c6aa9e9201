"""Shared code of the commands: parsers, common flags, settings and files.

All command modules are imported even for ``--help``, so they import aiohttp, pydantic and YAML inside functions. A test
enforces this.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from exporter.web.options import (
    DEFAULT_MAX_CONNECTIONS,
    DEFAULT_MAX_REQUESTS,
    DEFAULT_MAX_TLS_CONNECTIONS,
    DEFAULT_TELEMETRY_PATH,
    check_telemetry_path,
    external_origin,
    parse_listen_address,
)

if TYPE_CHECKING:
    from exporter.config.root import Settings

T = TypeVar("T")

PROGRAM: Final = "stream-exporter"
DEFAULT_CONFIG_FILE: Final = Path("config.yaml")
LOG_LEVELS: Final = ("debug", "info", "warn", "error")
LOG_FORMATS: Final = ("logfmt", "json")

Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"  # noqa: SLF001 - its only name


class CommandError(Exception):
    """Failure of a command: the lines are printed to standard error, and the exit code is 1."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class CommandParser(argparse.ArgumentParser):
    """Parser of a command. Flags that need slow imports are added only when the command is used."""

    add_late_flags: Callable[[argparse.ArgumentParser], None] | None = None

    def complete(self) -> None:
        """Add the late flags, once."""
        add_flags, self.add_late_flags = self.add_late_flags, None
        if add_flags is not None:
            add_flags(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Complete the parser and parse the arguments."""
        self.complete()
        return super().parse_known_args(args, namespace)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int] | None,
    *,
    summary: str,
    description: str,
    epilog: str | None = None,
) -> CommandParser:
    """Add a command and return its parser.

    ``run`` receives the parsed options and returns the exit code; None if the command has required actions.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


# -- settings and files ------------------------------------------------------------------------------------------------


def load_or_fail(file: Path) -> Settings:
    """Load the settings from a file and the environment. Raises ``CommandError`` with all configuration errors."""
    from exporter.cli.settings import load_settings
    from exporter.config.loading import ConfigError

    try:
        return load_settings(file, os.environ)
    except ConfigError as error:
        raise CommandError(*error.errors) from None


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write files, given by name, and print their paths. Raises ``CommandError``."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
            print(directory / name)
    except OSError as error:
        raise CommandError(f"cannot write to {directory}: {error.strerror}") from error


# -- common flags ------------------------------------------------------------------------------------------------------


def add_config_file(
    parser: argparse._ActionsContainer,
    default: Path | None = DEFAULT_CONFIG_FILE,
    help_: str = "configuration file (default: config.yaml in the current directory)",
) -> None:
    """Add ``--config.file``."""
    parser.add_argument("--config.file", dest="config_file", type=Path, default=default, metavar="FILE", help=help_)


def add_web_flags(parser: argparse.ArgumentParser, *, listen_default: str) -> None:
    """Add the ``--web.*`` flags."""
    web = parser.add_argument_group("web")
    web.add_argument(
        "--web.listen-address",
        dest="listen_addresses",
        type=typed(parse_listen_address),
        action="append",
        metavar="ADDRESS",
        help=f"address to listen on: :PORT, HOST:PORT or [IPV6]:PORT; port 0 selects a free port; may be given several "
        f"times (default: {listen_default})",
    )
    web.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        type=typed(check_telemetry_path),
        default=DEFAULT_TELEMETRY_PATH,
        metavar="PATH",
        help=f"path of the metrics (default: {DEFAULT_TELEMETRY_PATH})",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config_file",
        type=Path,
        metavar="FILE",
        help="web configuration file (TLS, users, rate limit) in the format of Prometheus' exporter-toolkit "
        "(default: none)",
    )
    web.add_argument(
        "--web.max-requests",
        dest="max_requests",
        type=whole_number(),
        default=DEFAULT_MAX_REQUESTS,
        metavar="N",
        help=f"maximum number of concurrent requests; 0 means no limit (default: {DEFAULT_MAX_REQUESTS})",
    )
    web.add_argument(
        "--web.max-connections",
        dest="max_connections",
        type=whole_number(1),
        metavar="N",
        help="maximum number of open connections; at the limit, a new one replaces the one that has been idle longest "
        f"(default: {DEFAULT_MAX_CONNECTIONS}, with TLS {DEFAULT_MAX_TLS_CONNECTIONS}; lower if the limit of open "
        "files is low)",
    )
    web.add_argument(
        "--web.external-url",
        dest="external",
        type=typed(external_origin),
        metavar="URL",
        help="URL at which this exporter is reached, for targets in /sd and links in alerts (default: in /sd the Host "
        "header of the request, in alerts this host)",
    )
    web.add_argument(
        "--web.enable-lifecycle",
        dest="enable_lifecycle",
        action="store_true",
        help="allow POST /-/reload, and starting and ending maintenance",
    )
    web.add_argument(
        "--web.health-without-auth",
        dest="health_without_auth",
        action="store_true",
        help="answer /-/healthy and /-/ready without authentication, for probes that cannot authenticate",
    )
    web.add_argument(
        "--web.disable-probe",
        dest="disable_probe",
        action="store_true",
        help="disable /probe (404), so that no request can trigger a poll",
    )


def add_log_flags(parser: argparse.ArgumentParser, *, level: str) -> None:
    """Add the ``--log.*`` flags."""
    logging = parser.add_argument_group("log")
    logging.add_argument(
        "--log.level", dest="log_level", choices=LOG_LEVELS, default=level, help=f"minimum level (default: {level})"
    )
    logging.add_argument(
        "--log.format",
        dest="log_format",
        choices=LOG_FORMATS,
        default="logfmt",
        help="output format (default: logfmt)",
    )


# -- argument types ----------------------------------------------------------------------------------------------------


def typed(convert: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap a converter so that argparse shows the text of its ``ValueError``."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error

    return converted


def whole_number(minimum: int = 0) -> Callable[[str], int]:
    """Return a converter to a whole number of at least ``minimum``."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise ValueError(f"expected a whole number of at least {minimum}")
        return int(text)

    return typed(convert)


def decimal_number(is_allowed: Callable[[float], bool], allowed: str) -> Callable[[str], float]:
    """Return a converter to a number; ``allowed`` describes it, for example ``a number above 0``."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not is_allowed(number):
            raise ValueError(f"expected {allowed}")
        return number

    return typed(convert)
