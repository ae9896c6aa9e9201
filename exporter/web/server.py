"""The HTTP server: exhausted descriptors, malformed requests, and clients that do not read their response."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
from collections.abc import Iterable
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError

log = structlog.get_logger()

REQUEST_TIMEOUT_SECONDS: Final = 75.0
"""Seconds to wait for a request's head, from the connection or the last response: longer than most scrape intervals."""
SEND_TIMEOUT_SECONDS: Final = 60.0
"""Seconds a client has to read a response: no scrape takes this long."""
SINGLE_WRITE_BYTES: Final = 1 << 15
"""Maximum size of a body sent in one write with its headers; a transport buffers twice as much before a write waits."""
ACCEPT_ERROR_LOG_INTERVAL_SECONDS: Final = 60.0
SERVER_HEADER: Final = "stream-exporter"
"""Replaces aiohttp's own value, which names aiohttp and Python with their versions."""

_BARE_HEADERS: Final = {"Server": SERVER_HEADER, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors after which asyncio waits a second before it accepts again."""


class Runner(web.AppRunner):
    """Run an application with this module's ``Server``."""

    __slots__ = ()

    def __init__(self, app: web.Application, *, shutdown_timeout: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)

    async def _make_server(self) -> web.Server:
        return Server(
            await super()._make_server(),
            access_log=None,
            logger=_server_logger(),
            keepalive_timeout=REQUEST_TIMEOUT_SECONDS,
        )


class Server(web.Server):
    """Create a ``Connection`` for each client."""

    def __init__(self, app_server: web.Server, **options: Any) -> None:
        """``app_server``: the application's own server, whose handlers are reused."""
        super().__init__(app_server.request_handler, request_factory=app_server.request_factory, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)


class Connection(web.RequestHandler):
    """Answer malformed requests without quoting them as aiohttp does: they may contain a password."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Log the error and return the response, without aiohttp's text for a malformed request."""
        response = super().handle_error(request, status, exc, message)
        if isinstance(exc, HttpProcessingError):
            response = web.Response(status=status, text="malformed request\n", headers=_BARE_HEADERS)
            response.force_close()
        return response


def _server_logger() -> logging.Logger:
    """Return aiohttp's server logger, without errors about malformed requests."""
    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(_drop_malformed_requests)
    return logger


def _drop_malformed_requests(record: logging.LogRecord) -> bool:
    """Drop them because any port scan would fill the log, and aiohttp's text quotes the request and its credentials."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        log.debug("malformed request", error=type(error).__name__)
        return False
    return True


def throttle_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log at most once a minute that no connection can be accepted.

    asyncio itself logs every attempt with a traceback, a hundred times a second.
    """
    logged_at = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal logged_at
        error = context.get("exception")
        if "socket" not in context or not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
        elif loop.time() >= logged_at + ACCEPT_ERROR_LOG_INTERVAL_SECONDS:
            logged_at = loop.time()
            log.error("no new connection can be accepted", error=error.strerror)

    loop.set_exception_handler(handle)


async def send_response(
    request: web.Request, response: web.StreamResponse, chunks: Iterable[bytes | memoryview] = ()
) -> None:
    """Send a whole response, followed by ``chunks``.

    A client that does not read it in time is disconnected, so that it does not occupy a place that others need. A
    client that disconnects is not an error. In both cases the response counts as sent.
    """
    try:
        if _fits_in_buffer(request, response):
            await _write_response(request, response, chunks)
        else:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await _write_response(request, response, chunks)
    except (TimeoutError, ConnectionError) as error:
        log.debug("answer not taken", path=request.path, error=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()


async def _write_response(
    request: web.Request, response: web.StreamResponse, chunks: Iterable[bytes | memoryview]
) -> None:
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
        # A kernel that accepts every chunk immediately would block the event loop until the last one.
        await asyncio.sleep(0)
    await response.write_eof()


def _fits_in_buffer(request: web.Request, response: web.StreamResponse) -> bool:
    """Return whether the write can't wait: everything before it was read, and the transport can buffer the rest."""
    if not isinstance(response, web.Response) or request.transport is None:
        return False
    length = response.content_length
    return length is not None and length <= SINGLE_WRITE_BYTES and not request.transport.get_write_buffer_size()
