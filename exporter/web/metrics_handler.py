"""``/metrics``: render and compress in worker threads, so that the event loop can go on polling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final

from aiohttp import hdrs, web
from isal import igzip

from exporter.metrics.exposition import LEVEL
from exporter.model import UpstreamState
from exporter.web.protocols import Renderer
from exporter.web.server import SINGLE_WRITE_BYTES, send_response

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Sent whatever the client accepts: every Prometheus reads it, and version 3 fails a scrape without it."""
PARTS: Final = ("exporter", "upstreams", "streams")
"""Allowed values of ``collect[]``."""

_CHUNK_BYTES = 1 << 20
_WORKERS = 2

Parts = frozenset[str]
Body = Sequence[bytes]
"""A body in pieces: a body of many megabytes is never copied into one."""


class UnknownPartError(ValueError):
    """A value of ``collect[]`` that is not in ``PARTS``."""


class MetricsHandler:
    """Answer scrapes. Identical concurrent scrapes share one rendering."""

    def __init__(self, exposition: Renderer) -> None:
        self._exposition = exposition
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scrape")
        self._renderings: dict[tuple[Parts, bool], asyncio.Future[Body]] = {}
        self._closed = False

    def add_routes(self, app: web.Application, path: str) -> None:
        """Serve ``path``, and close when the application is cleaned up."""
        app.router.add_get(path, self.handle)
        app.on_cleanup.append(self._on_cleanup)

    async def _on_cleanup(self, _app: web.Application) -> None:
        self.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle GET and HEAD; 400 for an unknown ``collect[]``."""
        try:
            parts = wanted_parts(request.query.getall("collect[]", []))
        except UnknownPartError as error:
            return web.Response(status=400, text=f"{error}\n")
        compressed = takes_gzip(request)
        body = await self.body(parts, compressed=compressed)
        return await send(request, body, compressed=compressed)

    async def body(self, parts: Parts, *, compressed: bool) -> Body:
        """Return the encoded exposition of these parts."""
        key = (parts, compressed)
        rendering = self._renderings.get(key)
        if rendering is None:
            render = self._exposition.packed if compressed else self._exposition.pieces
            rendering = asyncio.get_running_loop().run_in_executor(self._workers, render, parts)
            self._renderings[key] = rendering
            rendering.add_done_callback(lambda _: self._renderings.pop(key))
        # A client that disconnects must not cancel the rendering for the others.
        return await asyncio.shield(rendering)

    def prepare(self, state: UpstreamState) -> None:
        """Prepare a state that was just published for the next scrape, in a worker thread."""
        if not self._closed:
            self._workers.submit(self._exposition.prepare, state)

    def close(self) -> None:
        """Accept no more scrapes; renderings in progress are left to finish."""
        self._closed = True
        self._workers.shutdown(wait=False, cancel_futures=True)


def wanted_parts(names: list[str]) -> Parts:
    """Return the parts that ``collect[]`` names, or all of them without it. Raises ``UnknownPartError``."""
    for name in names:
        if name not in PARTS:
            raise UnknownPartError(f"unknown collect[] {name[:64]!a}, allowed: {', '.join(PARTS)}")
    return frozenset(names or PARTS)


def takes_gzip(request: web.Request) -> bool:
    """Return whether the client accepts gzip."""
    return accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, [])))


@lru_cache(maxsize=64)
def accepts_gzip(header: str) -> bool:
    """Return whether this ``Accept-Encoding`` (RFC 9110, 12.5.3) accepts gzip; its own weight overrides that of ``*``.

    Cached, because the few clients that scrape send the same header each time.
    """
    weights: dict[str, float] = {}
    for item in header.split(","):
        coding, _, parameters = item.partition(";")
        weights[coding.strip().lower()] = _parse_weight(parameters)
    for coding in ("gzip", "x-gzip", "*"):
        if coding in weights:
            return weights[coding] > 0
    return False


def _parse_weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value.strip())
            except ValueError:
                # Treat an unreadable weight as a refusal: the plain body is always right.
                return 0.0
    return 1.0


def encode(body: bytes, *, compressed: bool) -> bytes:
    """Compress the body if the client accepts it; large bodies belong in a worker thread."""
    return igzip.compress(body, LEVEL, mtime=0) if compressed else body


async def send(request: web.Request, body: Body, *, compressed: bool) -> web.StreamResponse:
    """Send an encoded exposition. A small one is returned as a response that is yet to be sent."""
    size = sum(map(len, body))
    headers = {hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.VARY: hdrs.ACCEPT_ENCODING, hdrs.CONTENT_LENGTH: str(size)}
    if compressed:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    if size <= SINGLE_WRITE_BYTES:
        return web.Response(body=b"".join(body), headers=headers)
    response = web.StreamResponse(headers=headers)
    await send_response(request, response, () if request.method == hdrs.METH_HEAD else _chunks(body))
    return response


def _chunks(body: Body) -> Iterator[bytes | memoryview]:
    """Split or join the pieces into chunks of at most a megabyte.

    Handing a larger chunk to the kernel would block the event loop, and so would many small ones.
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
