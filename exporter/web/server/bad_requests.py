"""How connections are served, and what is logged and answered when what comes is no request."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError

log = structlog.get_logger()

REQUEST_WITHIN_SECONDS: Final = 75.0
"""For the head of a request, from the connection or the last answer on: longer than most scrape intervals."""
SERVER: Final = "stream-exporter"
"""The library's own name of the server names it and Python with their versions."""
_BARE_HEADERS: Final = {"Server": SERVER, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Connection(web.RequestHandler):
    """Answers what is no request without quoting it, as the library does: a password may stand in it."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Log and answer; a text of the library for a malformed request is left out."""
        response = super().handle_error(request, status, exc, message)
        if isinstance(exc, HttpProcessingError):
            response = web.Response(status=status, text="malformed request\n", headers=_BARE_HEADERS)
            response.force_close()
        return response


class Server(web.Server):
    """Makes a ``Connection`` of each client's."""

    def __init__(self, app_server: web.Server, **options: Any) -> None:
        """``app_server``: an application's own, whose handlers are taken over."""
        super().__init__(app_server.request_handler, request_factory=app_server.request_factory, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)


class Runner(web.AppRunner):
    """Runs an application as this process does it."""

    __slots__ = ()

    def __init__(self, app: web.Application, *, shutdown_timeout: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)

    async def _make_server(self) -> web.Server:
        return Server(
            await super()._make_server(),
            access_log=None,
            logger=_server_logger(),
            keepalive_timeout=REQUEST_WITHIN_SECONDS,
        )


def _server_logger() -> logging.Logger:
    """The HTTP server's logger, for which a malformed request is no error of ours."""
    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(_without_malformed_requests)
    return logger


def _without_malformed_requests(record: logging.LogRecord) -> bool:
    """Any port scan would fill the log, and the library's text quotes the request, credentials in its headers too."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        log.debug("malformed request", error=type(error).__name__)
        return False
    return True
