"""A low-latency HLS origin: ffmpeg's fragmented MP4, served in parts, with blocking reload and delta updates.

Run as ``python ll_hls_server.py FFMPEG PORT``; no low-latency server is among the packages of the tests. ``POST /kill``
kills its ffmpeg; it continues to serve what it has.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from aiohttp import web

PART_SECONDS = 0.5
SEGMENT_SECONDS = 2
PARTS = round(SEGMENT_SECONDS / PART_SECONDS)
WINDOW = 6
HOLD_BACK_SECONDS = 3 * PART_SECONDS
SKIP_SECONDS = 6 * SEGMENT_SECONDS
FRAMES_PER_SECOND = 10
MPEGURL = "application/vnd.apple.mpegurl"
_COMMAND = (
    "-hide_banner -loglevel error -nostdin -re -f lavfi -i testsrc2=s=320x180:r={rate} -re -f lavfi -i sine=440 "
    "-c:v libx264 -preset ultrafast -tune zerolatency -g {group} -keyint_min {group} -sc_threshold 0 -pix_fmt yuv420p "
    "-threads 1 -c:a aac -b:a 48k -f mp4 -movflags empty_moov+default_base_moof -frag_duration {fragment} pipe:1"
).format(rate=FRAMES_PER_SECOND, group=FRAMES_PER_SECOND * SEGMENT_SECONDS, fragment=round(PART_SECONDS * 1e6))


class Origin:
    """The stream: an initialization section, complete segments, and the parts of the one that is being made."""

    def __init__(self, ffmpeg: str) -> None:
        self._ffmpeg = ffmpeg
        self.init = b""
        self.segments: deque[tuple[int, list[bytes]]] = deque(maxlen=WINDOW)
        self.sequence = 0
        """Number of the segment that is being made."""
        self.parts: list[bytes] = []
        self._started_at: float | None = None
        self.changed = asyncio.Condition()
        self.kill: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Read fragments until ffmpeg ends."""
        process = await asyncio.create_subprocess_exec(self._ffmpeg, *_COMMAND.split(), stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        self.kill = process.kill
        head = b""
        async for kind, box in _boxes(process.stdout):
            if kind in (b"ftyp", b"moov"):
                self.init += box
            elif kind == b"moof":
                head = box
            elif kind == b"mdat":
                await self._add_part(head + box)
        await process.wait()

    async def _add_part(self, part: bytes) -> None:
        if self._started_at is None:
            self._started_at = time.time() - PART_SECONDS
        async with self.changed:
            self.parts.append(part)
            if len(self.parts) == PARTS:
                self.segments.append((self.sequence, self.parts))
                self.sequence, self.parts = self.sequence + 1, []
            self.changed.notify_all()

    def part(self, segment: int, number: int) -> bytes | None:
        """Return a part; None if it does not exist (yet)."""
        parts = self.parts if segment == self.sequence else dict(self.segments).get(segment, [])
        return parts[number] if number < len(parts) else None

    def playlist(self, *, is_delta: bool = False) -> str:
        assert self._started_at is not None
        first = self.segments[0][0] if self.segments else self.sequence
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:9",
            f"#EXT-X-TARGETDURATION:{SEGMENT_SECONDS}",
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={HOLD_BACK_SECONDS},CAN-SKIP-UNTIL={SKIP_SECONDS}",
            f"#EXT-X-PART-INF:PART-TARGET={PART_SECONDS}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
        ]
        skipped = max(0, len(self.segments) - 4) if is_delta else 0
        lines += [f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"] if skipped else []
        lines.append('#EXT-X-MAP:URI="init.mp4"')
        for sequence, parts in list(self.segments)[skipped:]:
            start = datetime.fromtimestamp(self._started_at + sequence * SEGMENT_SECONDS, UTC)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{start.isoformat(timespec='milliseconds')}")
            if sequence >= self.sequence - 2:
                lines += _part_lines(sequence, len(parts))
            lines += [f"#EXTINF:{SEGMENT_SECONDS:.3f},", f"s{sequence}.m4s"]
        lines += _part_lines(self.sequence, len(self.parts))
        lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p{self.sequence}_{len(self.parts)}.m4s"')
        return "\n".join(lines) + "\n"


def _part_lines(sequence: int, count: int) -> list[str]:
    return [
        f'#EXT-X-PART:DURATION={PART_SECONDS},URI="p{sequence}_{number}.m4s"{"" if number else ",INDEPENDENT=YES"}'
        for number in range(count)
    ]


async def _boxes(stream: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield the type and all bytes of each MP4 box."""
    while True:
        try:
            head = await stream.readexactly(8)
            yield head[4:], head + await stream.readexactly(int.from_bytes(head[:4], "big") - 8)
        except asyncio.IncompleteReadError:
            return


class Handlers:
    """Responses to the requests of players."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    async def _has(self, segment: int, part: int | None) -> bool:
        """Wait until a segment or part exists; return whether it does."""
        origin = self._origin

        def is_there() -> bool:
            has_part = part is not None and origin.sequence == segment and len(origin.parts) > part
            return origin.sequence > segment or has_part

        try:
            async with asyncio.timeout(3 * SEGMENT_SECONDS), origin.changed:
                await origin.changed.wait_for(is_there)
        except TimeoutError:
            return False
        return True

    async def playlist(self, request: web.Request) -> web.Response:
        origin, query = self._origin, request.query
        if "_HLS_msn" in query:
            segment = int(query["_HLS_msn"])
            if segment > origin.sequence + 2:
                return web.Response(status=400)
            if not await self._has(segment, int(query["_HLS_part"]) if "_HLS_part" in query else None):
                return web.Response(status=503)
        if not origin.segments:
            return web.Response(status=404)
        return web.Response(text=origin.playlist(is_delta=query.get("_HLS_skip") == "YES"), content_type=MPEGURL)

    async def segment(self, request: web.Request) -> web.Response:
        parts = dict(self._origin.segments).get(int(request.match_info["segment"]))
        return _media(b"".join(parts) if parts else None, request)

    async def part(self, request: web.Request) -> web.Response:
        sequence, number = int(request.match_info["segment"]), int(request.match_info["part"])
        await self._has(sequence, number)
        return _media(self._origin.part(sequence, number), request)

    async def init(self, request: web.Request) -> web.Response:
        return _media(self._origin.init, request)

    async def kill(self, _: web.Request) -> web.Response:
        self._origin.kill()
        return web.Response()


def make_app(ffmpeg: str) -> web.Application:
    origin = Origin(ffmpeg)
    handlers = Handlers(origin)

    async def run(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(origin.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = web.Application()
    app.add_routes(
        [
            web.get("/index.m3u8", handlers.playlist),
            web.get("/init.mp4", handlers.init),
            web.get(r"/s{segment:\d+}.m4s", handlers.segment),
            web.get(r"/p{segment:\d+}_{part:\d+}.m4s", handlers.part),
            web.post("/kill", handlers.kill),
        ]
    )
    app.cleanup_ctx.append(run)
    return app


def _media(body: bytes | None, request: web.Request) -> web.Response:
    """Return an object, or the range of it that the request asks for."""
    if body is None:
        return web.Response(status=404)
    part = request.http_range
    if part.start is None or part.stop is None:
        return web.Response(body=body, content_type="video/mp4")
    last = min(part.stop, len(body)) - 1
    headers = {"Content-Range": f"bytes {part.start}-{last}/{len(body)}"}
    return web.Response(body=body[part.start : last + 1], status=206, content_type="video/mp4", headers=headers)


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), print=None)
