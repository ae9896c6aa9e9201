"""``/metrics``: rendered and compressed in worker threads, so that polling is not delayed."""

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
"""Sent regardless of ``Accept``: every Prometheus reads it, and version 3 rejects a scrape without it."""
PARTS: Final = ("exporter", "upstreams", "streams")
"""Allowed values of ``collect[]``."""

_CHUNK_BYTES = 1 << 20
_WORKERS = 2

Parts = frozenset[str]
Body = Sequence[bytes]
"""A body in pieces, because joining many megabytes would copy them."""


class UnknownPartError(ValueError):
    """Unknown value of ``collect[]``."""


class MetricsHandler:
    """Handle scrapes. Identical concurrent scrapes share one rendering."""

    def __init__(self, exposition: Renderer) -> None:
        self._exposition = exposition
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="scrape")
        self._renderings: dict[tuple[Parts, bool], asyncio.Future[Body]] = {}
        self._closed = False

    def add_routes(self, app: web.Application, path: str) -> None:
        """Add the route, and close when the application is cleaned up."""
        app.router.add_get(path, self.handle)
        app.on_cleanup.append(self._on_cleanup)

    async def _on_cleanup(self, _app: web.Application) -> None:
        self.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Return the metrics, or 400 for an unknown ``collect[]``."""
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
        # A client that disconnects must not cancel the rendering for other clients.
        return await asyncio.shield(rendering)

    def prepare(self, state: UpstreamState) -> None:
        """Prepare a published state for the next scrape, in a worker thread."""
        if not self._closed:
            self._workers.submit(self._exposition.prepare, state)

    def close(self) -> None:
        """Accept no more scrapes. Renderings in progress are completed."""
        self._closed = True
        self._workers.shutdown(wait=False, cancel_futures=True)


def wanted_parts(names: list[str]) -> Parts:
    """Return the parts given by ``collect[]``; all parts without it. Raises ``UnknownPartError``."""
    for name in names:
        if name not in PARTS:
            raise UnknownPartError(f"unknown collect[] {name[:64]!a}; allowed: {', '.join(PARTS)}")
    return frozenset(names or PARTS)


def takes_gzip(request: web.Request) -> bool:
    """Return whether the client accepts gzip."""
    return accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, [])))


@lru_cache(maxsize=64)
def accepts_gzip(header: str) -> bool:
    """Return whether an ``Accept-Encoding`` (RFC 9110, 12.5.3) accepts gzip, whose own weight overrides that of ``*``.

    Cached, because every scraper always sends the same header.
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
                # An unreadable weight counts as a refusal, because an uncompressed body is always acceptable.
                return 0.0
    return 1.0


def encode(body: bytes, *, compressed: bool) -> bytes:
    """Compress the body if requested. Call it in a worker thread for large bodies."""
    return igzip.compress(body, LEVEL, mtime=0) if compressed else body


async def send(request: web.Request, body: Body, *, compressed: bool) -> web.StreamResponse:
    """Send an encoded exposition. A small one is returned as a response for aiohttp to send."""
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
    """Split or join the pieces into chunks of up to 1 MiB. Larger writes, or many small ones, block the event loop."""
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
