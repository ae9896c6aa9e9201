"""``/metrics``: rendering and compression in worker threads, so that the event loop goes on polling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from aiohttp import hdrs, web
from isal import igzip

from exporter.metrics.gzip_stream import LEVEL
from exporter.model import UpstreamState
from exporter.web.negotiation import accepts_gzip
from exporter.web.server.slow_clients import AT_ONCE_BYTES, hand_over

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Sent whatever is asked for: every Prometheus reads it, and version 3 fails a scrape without it."""
PARTS: Final = ("exporter", "upstreams", "streams")
"""What ``collect[]`` may name."""

_CHUNK_BYTES = 1 << 20
_WORKERS = 2

Parts = frozenset[str]
Body = Sequence[bytes]
"""An answer in pieces: one of many megabytes is never copied into one."""


class Renders(Protocol):
    """What makes the answers, on a worker thread."""

    def prepare(self, view: UpstreamState) -> None:
        """Do beforehand what the answers need of a view."""

    def pieces(self, parts: Parts) -> Body:
        """The text of these parts."""

    def packed(self, parts: Parts) -> Body:
        """The same compressed by gzip."""


class UnknownPartError(ValueError):
    """``collect[]`` named something else than ``PARTS``."""


class MetricsHandler:
    """Answers scrapes; equal ones that are under way at the same time share one rendering."""

    def __init__(self, exposition: Renders) -> None:
        self._exposition = exposition
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scrape")
        self._under_way: dict[tuple[Parts, bool], asyncio.Future[Body]] = {}
        self._closed = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD; 400 for a ``collect[]`` that names nothing."""
        try:
            parts = wanted_parts(request.query.getall("collect[]", []))
        except UnknownPartError as error:
            return web.Response(status=400, text=f"{error}\n")
        compressed = takes_gzip(request)
        body = await self.body(parts, compressed=compressed)
        return await send(request, body, compressed=compressed)

    async def body(self, parts: Parts, *, compressed: bool) -> Body:
        """The exposition of these parts, as it goes over the wire."""
        key = (parts, compressed)
        rendering = self._under_way.get(key)
        if rendering is None:
            make = self._exposition.packed if compressed else self._exposition.pieces
            rendering = asyncio.get_running_loop().run_in_executor(self._workers, make, parts)
            self._under_way[key] = rendering
            rendering.add_done_callback(lambda _: self._under_way.pop(key))
        # One client that goes away must not take the rendering from the others.
        return await asyncio.shield(rendering)

    def prepare(self, view: UpstreamState) -> None:
        """Have done what the next scrape needs of a view that was just published."""
        if not self._closed:
            self._workers.submit(self._exposition.prepare, view)

    def close(self) -> None:
        """Take no more scrapes; what is being rendered is left to end by itself."""
        self._closed = True
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
    """A text as it goes over the wire; compressing takes a thread's time."""
    return igzip.compress(body, LEVEL, mtime=0) if compressed else body


async def send(request: web.Request, body: Body, *, compressed: bool) -> web.StreamResponse:
    """Answer with an exposition that is encoded already; a small one is handed over by who called the handler."""
    size = sum(map(len, body))
    headers = {hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.VARY: hdrs.ACCEPT_ENCODING, hdrs.CONTENT_LENGTH: str(size)}
    if compressed:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    if size <= AT_ONCE_BYTES:
        return web.Response(body=b"".join(body), headers=headers)
    response = web.StreamResponse(headers=headers)
    await hand_over(request, response, () if request.method == hdrs.METH_HEAD else _chunks(body))
    return response


def _chunks(body: Body) -> Iterator[bytes | memoryview]:
    """The body in pieces of no more than a megabyte, and few.

    More than that at once would hold the event loop while it is handed to the kernel, and so would each of many.
    """
    gathered: list[bytes] = []
    size = 0
    for piece in body:
        if gathered and size + len(piece) > _CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
        if len(piece) > _CHUNK_BYTES:
            view = memoryview(piece)
            yield from (view[start : start + _CHUNK_BYTES] for start in range(0, len(view), _CHUNK_BYTES))
        else:
            gathered.append(piece)
            size += len(piece)
    if gathered:
        yield b"".join(gathered)
