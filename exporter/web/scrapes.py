"""``/metrics``: rendering and compression in worker threads, so that the event loop goes on polling."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp import hdrs, web

from exporter.web.negotiation import accepts_gzip

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Sent whatever is asked for: every Prometheus reads it, and version 3 fails a scrape without it."""
PARTS: Final = ("exporter", "upstreams", "streams")
"""What ``collect[]`` may name."""

_CHUNK_BYTES = 1 << 20
_WORKERS = 2

Parts = frozenset[str]
Render = Callable[[Parts], bytes]


class UnknownPartError(ValueError):
    """``collect[]`` named something else than ``PARTS``."""


class Scrapes:
    """Answers scrapes; equal ones that are under way at the same time share one rendering."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scrape")
        self._under_way: dict[tuple[Parts, bool], asyncio.Future[bytes]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD; 400 for a ``collect[]`` that names nothing."""
        try:
            parts = wanted_parts(request.query.getall("collect[]", []))
        except UnknownPartError as error:
            return web.Response(status=400, text=f"{error}\n")
        compressed = takes_gzip(request)
        body = await self.body(parts, compressed=compressed)
        return await send(request, body, compressed=compressed)

    async def body(self, parts: Parts, *, compressed: bool) -> bytes:
        """The exposition of these parts, as it goes over the wire."""
        key = (parts, compressed)
        rendering = self._under_way.get(key)
        if rendering is None:
            rendering = asyncio.get_running_loop().run_in_executor(self._workers, self._make, parts, compressed)
            self._under_way[key] = rendering
            rendering.add_done_callback(lambda _: self._under_way.pop(key))
        # One client that goes away must not take the rendering from the others.
        return await asyncio.shield(rendering)

    def _make(self, parts: Parts, compressed: bool) -> bytes:
        return encode(self._render(parts), compressed=compressed)

    def close(self) -> None:
        """Take no more scrapes; what is being rendered is left to end by itself."""
        self._workers.shutdown(wait=False, cancel_futures=True)


def wanted_parts(named: list[str]) -> Parts:
    """The parts that ``collect[]`` names, all without one."""
    for name in named:
        if name not in PARTS:
            raise UnknownPartError(f"unknown collect[] {name[:64]!a}, allowed: {', '.join(PARTS)}")
    return frozenset(named or PARTS)


def takes_gzip(request: web.Request) -> bool:
    """Whether the client wants the exposition compressed."""
    return accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, [])))


def encode(body: bytes, *, compressed: bool) -> bytes:
    """The exposition as it goes over the wire; compressing takes a thread's time."""
    # Level 6 takes three times as long for a tenth less; mtime 0: the same content, the same bytes.
    return gzip.compress(body, compresslevel=1, mtime=0) if compressed else body


async def send(request: web.Request, body: bytes, *, compressed: bool) -> web.StreamResponse:
    """Answer with an exposition that is encoded already."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.VARY: hdrs.ACCEPT_ENCODING})
    if compressed:
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    response.content_length = len(body)
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        # Written whole, a body of many megabytes would hold the event loop while it is handed to the kernel.
        view = memoryview(body)
        for start in range(0, len(view), _CHUNK_BYTES):
            await response.write(view[start : start + _CHUNK_BYTES])
    await response.write_eof()
    return response
