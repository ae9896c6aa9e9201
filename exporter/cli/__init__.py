"""The command line. Exit codes: 0 done, 1 bad configuration or no place to listen, 2 bad usage."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from exporter import __version__
from exporter.cli import alerts as alerts_command
from exporter.cli import dashboards as dashboards_command
from exporter.cli import demo
from exporter.cli import rules as rules_command
from exporter.cli import session as session_command
from exporter.cli.check import check, open_keys
from exporter.cli.estimate import ASSUMED_STREAMS, estimate, table
from exporter.cli.process import ignore_hangups, serve
from exporter.cli.settings import load_settings
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.metrics.families.reference import reference
from exporter.runtime.logging import FORMATS, LEVELS, configure
from exporter.service import Service
from exporter.sharding import SINGLE, parse_shard
from exporter.web.app import make_app
from exporter.web.options import (
    DEFAULT_LISTEN_ADDRESS,
    DEFAULT_MAX_REQUESTS,
    DEFAULT_TELEMETRY_PATH,
    ListenError,
    Origin,
    WebOptions,
    bind,
    check_telemetry_path,
    external_origin,
    parse_listen_address,
    reachable_address,
)
from exporter.web.security import Security

log = structlog.get_logger()

T = TypeVar("T")

PROGRAM: Final = "stream-exporter"
_COMMANDS = """commands:
  demo                  run simulated platforms and the exporter on one port
  alerts                show what is pending and firing, or send a test alert
  dashboards            list the Grafana dashboards, or write them
  metrics               print the reference of every metric family; --estimate: how many series there will be
  rules                 list the alert rules, or write them for Prometheus
  session               show, update, end or delete one session of a platform by hand
  (none)                run the exporter

"stream-exporter COMMAND --help" tells of a command's own flags.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of the process) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "demo": _demo,
        "metrics": _metrics,
        "rules": _rules,
        "alerts": _alerts,
        "session": _session,
        "dashboards": _dashboards,
    }
    command = commands.get(arguments[0]) if arguments else None
    try:
        return _said(command(arguments[1:]) if command else _run(arguments))
    except BrokenPipeError:
        # who reads has seen enough: what is left in the buffer goes nowhere, and no traceback is said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ListenError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _said(code: int) -> int:
    sys.stdout.flush()
    return code


def _run(arguments: list[str]) -> int:
    options = _run_parser().parse_args(arguments)
    configure(options.log_level, options.log_format)

    def load_file() -> Settings:
        return load_settings(options.config_file, os.environ)

    def secure() -> Security:
        return Security(options.web_config_file, max_requests=options.max_requests)

    if options.config_check:
        return _check(options.config_file, load_file, secure)
    ignore_hangups()
    settings, security = _or_logged(load_file), _or_logged(secure)
    if settings is None or security is None:
        return 1
    sockets = bind(options.listen_addresses or [parse_listen_address(DEFAULT_LISTEN_ADDRESS)])
    keys = open_keys(settings)
    if keys and security.is_open:
        log.warning(
            "anybody who reaches the port can read stream names that may be publish keys",
            upstreams=keys,
            remedy="stream_label: hash, or users in --web.config.file",
        )

    async def run() -> None:
        ssl_context = security.ssl_context()
        origin = options.external or Origin(reachable_address(sockets[0]), is_tls=ssl_context is not None)
        service = Service(settings, load=load_file, page_url=origin.page_url, shard=options.shard)
        app = make_app(service, options=_web_options(options), security=security)
        if options.shard != SINGLE:
            log.info("polling one shard of the streams", shard=str(options.shard))
        await serve(service, app, sockets, ssl_context)

    return _live(run())


def _live(life: Coroutine[Any, Any, None]) -> int:
    """Run to the end. A traceback goes the way of the log, which knows what must not be said."""
    try:
        asyncio.run(life)
    except Exception:
        log.exception("ended by an error of its own")
        return 1
    return 0


def _check(file: Path, load_file: Callable[[], Settings], secure: Callable[[], Security]) -> int:
    code = check(file, load_file)
    try:
        secure()
    except ConfigError as error:
        print(*error.errors, sep="\n", file=sys.stderr)
        return 1
    return code


def _or_logged(load: Callable[[], T]) -> T | None:
    try:
        return load()
    except ConfigError as error:
        errors = error.errors
    for line in errors:
        log.error("configuration is not valid", error=line)
    return None


def _demo(arguments: list[str]) -> int:
    parser = _parser(f"{PROGRAM} demo", "Run simulated platforms and the exporter on one port, for trying out.")
    parser.add_argument(
        "--streams",
        type=_typed(_positive),
        default=60,
        metavar="N",
        help="streams in all, a third per platform (default: 60)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the fleet's seed (default: 0)")
    parser.add_argument(
        "--speed",
        type=_typed(_speed),
        default=1.0,
        metavar="X",
        help="how fast the fleet lives, never the polls (default: 1)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("stream-exporter-demo"),
        metavar="DIR",
        help="where the Prometheus configuration is written (default: ./stream-exporter-demo)",
    )
    _add_web_flags(parser, listen_default=demo.DEFAULT_LISTEN_ADDRESS)
    _add_log_flags(parser, level="warn")
    options = parser.parse_args(arguments)
    configure(options.log_level, options.log_format)
    ignore_hangups()
    security = _or_logged(lambda: Security(options.web_config_file, max_requests=options.max_requests))
    if security is None:
        return 1
    sockets = bind(options.listen_addresses or [parse_listen_address(demo.DEFAULT_LISTEN_ADDRESS)])
    plan = demo.Plan(
        streams=options.streams, seed=options.seed, speed=options.speed, output_directory=options.output_dir
    )
    return _live(demo.run(plan, sockets, web_options=_web_options(options), security=security))


def _metrics(arguments: list[str]) -> int:
    parser = _parser(
        f"{PROGRAM} metrics", "Print the reference of every metric family, as Markdown, or what a configuration makes."
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="print instead how many series and bytes the configuration makes at most",
    )
    _add_config_file(parser)
    parser.add_argument(
        "--streams",
        type=_typed(_positive),
        default=ASSUMED_STREAMS,
        metavar="N",
        help=f"with --estimate: streams that an upstream finds by itself (default: {ASSUMED_STREAMS})",
    )
    options = parser.parse_args(arguments)
    if not options.estimate:
        print(reference(), end="")
        return 0
    try:
        settings = load_settings(options.config_file, os.environ)
    except ConfigError as error:
        print(*error.errors, sep="\n", file=sys.stderr)
        return 1
    print(table(estimate(settings, options.streams)), end="")
    return 0


def _dashboards(arguments: list[str]) -> int:
    parser = _parser(f"{PROGRAM} dashboards", "List the Grafana dashboards, or write them.")
    return dashboards_command.run(parser, arguments)


def _rules(arguments: list[str]) -> int:
    return rules_command.run(_parser(f"{PROGRAM} rules", "List the alert rules, or write them."), arguments)


def _alerts(arguments: list[str]) -> int:
    parser = _parser(
        f"{PROGRAM} alerts", "Show the alerts of a running exporter, or send a test alert to every Alertmanager."
    )
    return alerts_command.run(parser, arguments)


def _session(arguments: list[str]) -> int:
    return session_command.run(_parser(f"{PROGRAM} session", "Look at one session, or change it."), arguments)


def _run_parser() -> argparse.ArgumentParser:
    parser = _parser(PROGRAM, "Poll streaming servers and answer Prometheus.", epilog=_COMMANDS)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _add_config_file(parser)
    parser.add_argument(
        "--config.check",
        dest="config_check",
        action="store_true",
        help="check the configuration, say what it costs in requests, and exit",
    )
    parser.add_argument(
        "--shard",
        type=_typed(lambda text: parse_shard(text, socket.gethostname())),
        default=SINGLE,
        metavar="N/M",
        help="poll only the streams of shard N, from 0 on, of M; each has one. auto/M: N is the number at the end "
        "of the host name, as StatefulSets give it (default: 0/1)",
    )
    _add_web_flags(parser, listen_default=DEFAULT_LISTEN_ADDRESS)
    _add_log_flags(parser, level="info")
    return parser


def _add_config_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        default=Path("config.yaml"),
        metavar="FILE",
        help="the configuration (default: config.yaml in the current directory)",
    )


def _parser(program: str, description: str, *, epilog: str | None = None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_web_flags(parser: argparse.ArgumentParser, *, listen_default: str) -> None:
    web = parser.add_argument_group("web")
    web.add_argument(
        "--web.listen-address",
        dest="listen_addresses",
        type=_typed(parse_listen_address),
        action="append",
        metavar="ADDRESS",
        help=f"where to listen: :PORT, HOST:PORT or [IPV6]:PORT, port 0 for any free one; may be given several times "
        f"(default: {listen_default})",
    )
    web.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        type=_typed(check_telemetry_path),
        default=DEFAULT_TELEMETRY_PATH,
        metavar="PATH",
        help=f"where the metrics are (default: {DEFAULT_TELEMETRY_PATH})",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config_file",
        type=Path,
        metavar="FILE",
        help="TLS, users and a rate limit, in the format of exporter-toolkit (default: none of them)",
    )
    web.add_argument(
        "--web.max-requests",
        dest="max_requests",
        type=_typed(_count),
        default=DEFAULT_MAX_REQUESTS,
        metavar="N",
        help=f"requests answered at one time, 0 for any number (default: {DEFAULT_MAX_REQUESTS})",
    )
    web.add_argument(
        "--web.external-url",
        dest="external",
        type=_typed(external_origin),
        metavar="URL",
        help="where this exporter is reached, for the targets of /sd and the links of alerts (default: where /sd was "
        "asked, and this host)",
    )
    web.add_argument(
        "--web.enable-lifecycle", dest="enable_lifecycle", action="store_true", help="allow POST /-/reload"
    )


def _add_log_flags(parser: argparse.ArgumentParser, *, level: str) -> None:
    logging = parser.add_argument_group("log")
    logging.add_argument(
        "--log.level", dest="log_level", choices=tuple(LEVELS), default=level, help=f"what is logged (default: {level})"
    )
    logging.add_argument(
        "--log.format", dest="log_format", choices=FORMATS, default="logfmt", help="how it is logged (default: logfmt)"
    )


def _web_options(options: argparse.Namespace) -> WebOptions:
    return WebOptions(
        telemetry_path=options.telemetry_path, enable_lifecycle=options.enable_lifecycle, external=options.external
    )


def _typed(convert: Callable[[str], T]) -> Callable[[str], T]:
    """A converter whose ValueError argparse shows in its own words, instead of the function's name."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error

    return converted


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("allowed: a whole number")
    return int(text)


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise ValueError("allowed: a whole number from 1 on")
    return number


def _speed(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise ValueError("allowed: a number above 0")
    return number
