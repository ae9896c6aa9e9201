"""Run the exporter: start it from the command line, serve and poll, handle signals, and stop in time."""

from __future__ import annotations

import argparse
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from exporter import __version__
from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.cli.command import (
    PROGRAM,
    CommandError,
    add_config_file,
    add_log_flags,
    add_web_flags,
    typed,
)
from exporter.web.options import (
    DEFAULT_LISTEN_ADDRESS,
    DEFAULT_MAX_CONNECTIONS,
    DEFAULT_MAX_TLS_CONNECTIONS,
    RUNBOOK_PATH,
    ListenError,
    Origin,
    WebOptions,
    address_of,
    bind,
    parse_listen_address,
    reachable_address,
)

if TYPE_CHECKING:
    import asyncio
    import ssl
    from types import FrameType

    from aiohttp import web

    from exporter.config.root import Settings
    from exporter.service import Service
    from exporter.sharding import Shard
    from exporter.web.security import Security

T = TypeVar("T")

EXIT_WITHIN_SECONDS: Final = 5.0
_SCRAPES_END_WITHIN_SECONDS = 1.8
"""Shutdown timeout for running scrapes. aiohttp applies it twice: before and after it cancels a handler."""
_FORCED_EXIT_SECONDS = 4.7
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the exporter itself."""
    parser.set_defaults(run=run, parser=parser)
    add_config_file(parser)
    parser.add_argument(
        "--config.check",
        dest="config_check",
        action="store_true",
        help="validate the configuration, estimate its requests per minute, and exit",
    )
    parser.add_argument(
        "--shard",
        type=typed(_shard),
        default="0/1",
        metavar="N/M",
        help="poll only shard N of M (counted from 0); each stream belongs to exactly one shard. With auto/M, N is the "
        "number at the end of the host name, as in a StatefulSet (default: 0/1)",
    )
    add_web_flags(parser, listen_default=DEFAULT_LISTEN_ADDRESS)
    add_log_flags(parser, level="info")


def run(options: argparse.Namespace) -> int:
    """Run the exporter until a signal arrives, or check its configuration, and return the exit code."""
    from exporter.cli.check import check, upstreams_that_show_keys
    from exporter.cli.settings import load_settings
    from exporter.service import Service
    from exporter.sharding import SINGLE
    from exporter.web.app import make_app

    def load_file() -> Settings:
        return load_settings(options.config_file, os.environ)

    if options.config_check:
        code = check(options.config_file, load_file)
        _check_web_config(options)
        return code
    start_logging(options)
    settings, security = _load_or_log(load_file), load_security(options)
    if settings is None or security is None:
        return 1
    sockets = open_sockets(options, DEFAULT_LISTEN_ADDRESS)
    names = upstreams_that_show_keys(settings)
    if names and security.is_open:
        _log().warning(
            "stream names may be publish keys, and anyone who can reach the port can read them",
            upstreams=names,
            remedy="set stream_label: hash, or add users to --web.config.file",
        )

    async def serve_exporter() -> None:
        ssl_context = security.ssl_context()
        origin = options.external or Origin(reachable_address(sockets[0]), is_tls=ssl_context is not None)
        runbook = f"{options.external.page_url}{RUNBOOK_PATH[1:]}" if options.external else DEFAULT_RUNBOOK_URL
        service = Service(settings, load=load_file, page_url=origin.page_url, runbook_url=runbook, shard=options.shard)
        app = make_app(service, options=web_options(options), security=security)
        if options.shard != SINGLE:
            _log().info("polling one shard of the streams", shard=str(options.shard))
        await serve(service, app, sockets, ssl_context, max_connections=options.max_connections)

    return run_to_end(serve_exporter())


# -- startup, shared with the demo -------------------------------------------------------------------------------------


def start_logging(options: argparse.Namespace) -> None:
    """Configure logging from the ``--log.*`` flags, and ignore SIGHUP until the exporter can reload."""
    from exporter.runtime.logging import configure

    configure(options.log_level, options.log_format)
    _ignore_hangups()


def load_security(options: argparse.Namespace) -> Security | None:
    """Load and log the web configuration; None if it is invalid."""
    security = _load_or_log(lambda: _security(options))
    if security is not None:
        security.log_warnings()
    return security


def open_sockets(options: argparse.Namespace, default: str) -> list[socket.socket]:
    """Raise the limit of file descriptors and bind the addresses of ``--web.listen-address``.

    Raises ``CommandError``.
    """
    from exporter.runtime.descriptors import raise_descriptor_limit

    raise_descriptor_limit()
    try:
        return bind(options.listen_addresses or [parse_listen_address(default)])
    except ListenError as error:
        raise CommandError(f"{PROGRAM}: {error}") from error


def web_options(options: argparse.Namespace) -> WebOptions:
    """Return the options of the web layer."""
    return WebOptions(
        telemetry_path=options.telemetry_path,
        enable_lifecycle=options.enable_lifecycle,
        external=options.external,
        disable_probe=options.disable_probe,
    )


def run_to_end(main: Coroutine[Any, Any, None]) -> int:
    """Run to the end and return the exit code. A traceback is logged, so that secrets in it are redacted."""
    import asyncio

    try:
        asyncio.run(main)
    except Exception:
        _log().exception("stopped by an internal error")
        return 1
    return 0


# -- process life cycle ------------------------------------------------------------------------------------------------


async def serve(
    service: Service,
    app: web.Application,
    sockets: Sequence[socket.socket],
    ssl_context: ssl.SSLContext | None = None,
    *,
    max_connections: int | None = None,
) -> None:
    """Serve and poll until SIGTERM or SIGINT; reload on SIGHUP. Running scrapes are finished before it returns."""
    import asyncio

    from exporter.runtime.descriptors import descriptor_limit
    from exporter.runtime.memory_tuning import freeze_startup_objects, trim_periodically, tune_allocator
    from exporter.web.connections import ConnectionBudget, OpenConnections
    from exporter.web.server import Runner, Site

    tune_allocator()
    stopping = asyncio.Event()
    reloads: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    def start_reload() -> None:
        task = loop.create_task(_reload(service))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, start_reload)
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, _begin_stop, loop, stopping, number)
    budget = ConnectionBudget(
        lambda: service.settings,
        descriptors=descriptor_limit(),
        maximum=max_connections or (DEFAULT_MAX_TLS_CONNECTIONS if ssl_context else DEFAULT_MAX_CONNECTIONS),
    )
    open_connections = OpenConnections(budget, registry=service.metrics.exporter, clock=service.clock)
    runner = Runner(app, shutdown_timeout=_SCRAPES_END_WITHIN_SECONDS, open_connections=open_connections)
    await runner.setup()
    trimming = loop.create_task(trim_periodically(service.clock), name="trim memory")
    try:
        for bound in sockets:
            await Site(runner, bound, ssl_context=ssl_context).start()
            _log().info(
                "listening",
                address=address_of(bound),
                tls=ssl_context is not None,
                max_connections=budget(),
                version=__version__,
            )
        await service.start()
        freeze_startup_objects()
        await stopping.wait()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        _ignore_hangups()
        for task in (trimming, *reloads):
            task.cancel()
        for site in list(runner.sites):
            await site.stop()
        await service.stop()
        await runner.cleanup()
    _log().info("stopped")


def _ignore_hangups() -> None:
    """Ignore SIGHUP, whose default action would end the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _begin_stop(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event, number: signal.Signals) -> None:
    import threading

    for each in _STOP_SIGNALS:
        loop.remove_signal_handler(each)
        # Process 1 of a container has no default action for signals.
        signal.signal(each, _exit_at_once)
    # Exit in time even if something hangs, such as name resolution in a thread.
    forced_exit = threading.Timer(_FORCED_EXIT_SECONDS, os._exit, (0,))
    forced_exit.daemon = True
    forced_exit.start()
    _log().info("stopping", signal=number.name)
    stopping.set()


def _exit_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


async def _reload(service: Service) -> None:
    from exporter.config.loading import ConfigError
    from exporter.runtime.logging import describe_exception

    try:
        await service.reload()
    except ConfigError:
        # logged by the service
        pass
    except Exception as error:
        _log().error("configuration not reloaded", error=describe_exception(error))


# -- helpers -----------------------------------------------------------------------------------------------------------


def _security(options: argparse.Namespace) -> Security:
    from exporter.web.security import Security

    return Security(
        options.web_config_file, max_requests=options.max_requests, health_without_auth=options.health_without_auth
    )


def _check_web_config(options: argparse.Namespace) -> None:
    from exporter.config.loading import ConfigError

    try:
        security = _security(options)
    except ConfigError as error:
        raise CommandError(*error.errors) from None
    for warning in security.warnings:
        print(f"warning: {warning}")


def _load_or_log(load: Callable[[], T]) -> T | None:
    from exporter.config.loading import ConfigError

    try:
        return load()
    except ConfigError as error:
        for line in error.errors:
            _log().error("invalid configuration", error=line)
    return None


def _shard(text: str) -> Shard:
    from exporter.sharding import parse_shard

    return parse_shard(text, socket.gethostname())


def _log() -> Any:
    import structlog

    return structlog.get_logger()
