"""What the log says of requests that are none."""

from __future__ import annotations

import logging

import structlog
from aiohttp.http import HttpProcessingError

log = structlog.get_logger()


def server_logger() -> logging.Logger:
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
