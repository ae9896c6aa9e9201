"""The life of the process: listen, poll, obey signals, end in time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Final

import structlog
from aiohttp import web

from exporter import __version__
from exporter.config.loading import ConfigError
from exporter.runtime.garbage_collection import freeze_startup_objects
from exporter.runtime.memory_tuning import trim_periodically, tune_allocator
from exporter.runtime.tracebacks import describe
from exporter.service import Service
from exporter.web.options import address_of
from exporter.web.server import Runner, throttle_accept_errors

log = structlog.get_logger()

EXIT_WITHIN_SECONDS: Final = 5.0
_SCRAPES_END_WITHIN_SECONDS = 1.8
"""Given twice by aiohttp: to a running handler, and to it again once its request is cancelled."""
_LAST_WORD_SECONDS = 4.7
_STOPS = (signal.SIGTERM, signal.SIGINT)


def ignore_hangups() -> None:
    """Let no SIGHUP end the process while there is nothing to reload yet, or any more."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def serve(
    service: Service,
    app: web.Application,
    sockets: Sequence[socket.socket],
    ssl_context: ssl.SSLContext | None = None,
) -> None:
    """Serve and poll until SIGTERM or SIGINT, reload on SIGHUP; running scrapes are finished before it returns."""
    tune_allocator()
    stopping = asyncio.Event()
    reloads: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    def reload() -> None:
        task = loop.create_task(_reload(service))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    for number in _STOPS:
        loop.add_signal_handler(number, _stop, loop, stopping, number)
    throttle_accept_errors(loop)
    runner = Runner(app, shutdown_timeout=_SCRAPES_END_WITHIN_SECONDS)
    await runner.setup()
    giving_back = loop.create_task(trim_periodically(service.clock), name="give memory back")
    try:
        for bound in sockets:
            await web.SockSite(runner, bound, ssl_context=ssl_context).start()
            log.info("listening", address=address_of(bound), tls=ssl_context is not None, version=__version__)
        await service.start()
        freeze_startup_objects()
        await stopping.wait()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        ignore_hangups()
        for task in (giving_back, *reloads):
            task.cancel()
        for site in list(runner.sites):
            await site.stop()
        await service.stop()
        await runner.cleanup()
    log.info("stopped")


def _stop(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event, number: signal.Signals) -> None:
    for each in _STOPS:
        loop.remove_signal_handler(each)
        # Not the default action: process 1 of a container has none.
        signal.signal(each, _exit_at_once)
    # Whatever hangs (a name resolution in its thread, say), the process ends in time.
    last_word = threading.Timer(_LAST_WORD_SECONDS, os._exit, (0,))
    last_word.daemon = True
    last_word.start()
    log.info("stopping", signal=number.name)
    stopping.set()


def _exit_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


async def _reload(service: Service) -> None:
    try:
        await service.reload()
    except ConfigError:
        # The service has logged it.
        pass
    except Exception as error:
        log.error("configuration not reloaded", error=describe(error))
