"""What the log says when connections can't be accepted for want of descriptors or memory."""

from __future__ import annotations

import asyncio
import errno
import math
from typing import Any, Final

import structlog

log = structlog.get_logger()

TOLD_EVERY_SECONDS: Final = 60.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What asyncio waits a second after, before it accepts again."""


def throttle_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """asyncio itself tells of each attempt with a traceback, a hundred times a second."""
    told_at = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told_at
        error = context.get("exception")
        if "socket" not in context or not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
        elif loop.time() >= told_at + TOLD_EVERY_SECONDS:
            told_at = loop.time()
            log.error("no new connection can be accepted", error=error.strerror)

    loop.set_exception_handler(handle)
