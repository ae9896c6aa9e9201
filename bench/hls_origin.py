"""A fast local origin of live HLS streams, with playlists that advance with the clock."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

SEGMENTS = 10
"""Number of segments in a playlist."""
STEP_SECONDS = 0.617
"""Difference between the segment boundaries of two consecutive streams, so that they are spread."""
_REQUEST = re.compile(rb"GET /live/([0-9]+)/(?:(index\.m3u8)|segment-[0-9]+\.ts) HTTP/1\.1\r\n")
_RANGE = re.compile(rb"\r\nRange: bytes=([0-9]+)-([0-9]+)\r\n", re.IGNORECASE)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def playlist_path(number: int) -> str:
    """Return the path of a stream's playlist."""
    return f"/live/{number}/index.m3u8"


@asynccontextmanager
async def serving(segment: str, seconds: float) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Serve streams whose segments have this duration, and all have the content of the file ``segment``."""
    origin = _Origin(await asyncio.to_thread(Path(segment).read_bytes), seconds)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(origin), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], {}
    server.close()


class _Origin:
    """The responses, which are those of nginx with a packager behind it."""

    def __init__(self, segment: bytes, seconds: float) -> None:
        self._segment = segment
        self._seconds = seconds

    def respond(self, request: bytes) -> bytes:
        """Return the response to a request."""
        match = _REQUEST.match(request)
        if match is None:
            return _NOT_FOUND
        if match[2]:
            body = self._playlist(int(match[1])).encode()
            return self._head("200 OK", "application/vnd.apple.mpegurl", len(body), "Cache-Control: no-cache") + body
        part = _RANGE.search(request)
        size = len(self._segment)
        if part is None:
            return self._head("200 OK", "video/mp2t", size, "Accept-Ranges: bytes") + self._segment
        first, last = int(part[1]), min(int(part[2]), size - 1)
        body = self._segment[first : last + 1]
        content_range = f"Content-Range: bytes {first}-{last}/{size}"
        return self._head("206 Partial Content", "video/mp2t", len(body), content_range) + body

    def _head(self, status: str, content_type: str, size: int, header: str) -> bytes:
        date = formatdate(usegmt=True)
        return (
            f"HTTP/1.1 {status}\r\nServer: nginx/1.22.1\r\nDate: {date}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {size}\r\nLast-Modified: {date}\r\n"
            f'Connection: keep-alive\r\nETag: "6566f3a1-{size:x}"\r\nAccess-Control-Allow-Origin: *\r\n{header}\r\n\r\n'
        ).encode()

    def _playlist(self, number: int) -> str:
        offset, seconds = number * STEP_SECONDS, self._seconds
        end = int((time.time() + offset) / seconds)
        lines = [
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-INDEPENDENT-SEGMENTS\n",
            f"#EXT-X-TARGETDURATION:{seconds:.0f}\n#EXT-X-MEDIA-SEQUENCE:{end - SEGMENTS}\n",
        ]
        for sequence in range(end - SEGMENTS, end):
            start = datetime.fromtimestamp(sequence * seconds - offset, UTC)
            date = f"{start:%Y-%m-%dT%H:%M:%S}.{start.microsecond // 1000:03}+0000"
            lines.append(f"#EXTINF:{seconds:.6f},\n#EXT-X-PROGRAM-DATE-TIME:{date}\nsegment-{sequence}.ts\n")
        return "".join(lines)


class _Connection(asyncio.Protocol):
    """Answers the requests of a connection, which are not pipelined."""

    def __init__(self, origin: _Origin) -> None:
        self._origin = origin
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            request, self._received = self._received, b""
            self._transport.write(self._origin.respond(request))
            if b"\r\nConnection: close" in request:
                self._transport.close()
