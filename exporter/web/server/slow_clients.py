"""Handing answers to clients that may not want them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from aiohttp import web

log = structlog.get_logger()

SEND_WITHIN_SECONDS: Final = 60.0
"""What has not been taken by then is not taken any more: no scrape lasts so long."""
AT_ONCE_BYTES: Final = 1 << 15
"""A body that goes to the kernel together with its headers; a transport keeps twice as much before anybody waits."""


async def hand_over(
    request: web.Request, response: web.StreamResponse, chunks: Iterable[bytes | memoryview] = ()
) -> None:
    """Send a whole answer, and then ``chunks``.

    A client that does not take it in time is cut off, so that it holds no place that others need; one that leaves is no
    error of ours. In both cases the response counts as sent.
    """
    try:
        if _is_taken_at_once(request, response):
            await _send(request, response, chunks)
        else:
            async with asyncio.timeout(SEND_WITHIN_SECONDS):
                await _send(request, response, chunks)
    except (TimeoutError, ConnectionError) as error:
        log.debug("answer not taken", path=request.path, error=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()


async def _send(request: web.Request, response: web.StreamResponse, chunks: Iterable[bytes | memoryview]) -> None:
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
        # a kernel that takes one after the other at once would hold the event loop for all of them
        await asyncio.sleep(0)
    await response.write_eof()


def _is_taken_at_once(request: web.Request, response: web.StreamResponse) -> bool:
    """Whether nothing can make the answer wait: all before it was taken, and what is left of it the transport keeps."""
    if not isinstance(response, web.Response) or request.transport is None:
        return False
    length = response.content_length
    return length is not None and length <= AT_ONCE_BYTES and not request.transport.get_write_buffer_size()
