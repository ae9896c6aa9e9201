"""A simulated HLS origin: what viewers of the Storm streams get, with faults that the Storm API does not show.

Playlists and segments are computed from the clock. They depend on the fleet only in whether a stream is on air, and
never on the faults of a platform's API.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from aiohttp import hdrs, web

from exporter.simulator.context import Context
from exporter.simulator.elementary_streams import AUDIO_CODEC, VIDEO_CODEC
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.hls_timeline import HlsSegment, find_segment, playlist_segments
from exporter.simulator.platform_app import DelayedResponses
from exporter.simulator.simulated_streams import PLAYBACK_PLATFORM, Stream
from exporter.simulator.transport_stream import FRAME_RATE, RENDITIONS, SEGMENT_SECONDS, Rendition, make_segment

CACHE_SECONDS: Final = 25.0
"""How long a content delivery network with the fault ``cdn_stale`` serves the same playlist."""
SLOW_SECONDS: Final = 6.0
"""Duration of the download of a whole segment with the fault ``slow_edge``: 3 times its own duration."""
_SLOW_STEPS = 24
_PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_SEGMENT_TYPE = "video/mp2t"
_RENDITIONS = {rendition.name: rendition for rendition in RENDITIONS}
_NOT_FOUND = """\
<html>
<head><title>404 Not Found</title></head>
<body>
<center><h1>404 Not Found</h1></center>
<hr><center>nginx/1.22.1</center>
</body>
</html>
"""


def hls_app(context: Context) -> web.Application:
    """Make the application for ``/hls``."""
    origin = _HlsOrigin(context)
    app = web.Application()
    app.add_routes(
        [
            web.get("/{application}/{key}/master.m3u8", origin.master),
            web.get("/{application}/{key}/{rendition}.m3u8", origin.media),
            web.get(r"/{application}/{key}/{rendition}/{sequence:\d{1,18}}.ts", origin.segment),
        ]
    )
    app.on_shutdown.append(origin.release_all)
    return app


def master_path(stream: Stream) -> str:
    """Return the path of a stream's master playlist below ``/hls``."""
    return f"/{stream.id}/master.m3u8"


class _HlsOrigin:
    """Handlers of the playlists and segments."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fleet = context.fleet
        self._delays = DelayedResponses(context)

    async def release_all(self, app: web.Application) -> None:
        """Send what is left of slow segments at once."""
        await self._delays.release_all(app)

    def _fault_start(self, stream: Stream, kind: FaultKind) -> float | None:
        """Return the start of the stream's active fault of this kind."""
        return self._fleet.faults.playback_fault_start(stream.index, kind, self._context.now())

    def _packaged_at(self, stream: Stream) -> float:
        """Return the time of the newest files on the server: now, or when its packager froze."""
        frozen = self._fault_start(stream, FaultKind.PLAYLIST_FROZEN)
        return self._context.now() if frozen is None else frozen

    def _playlist_segments(self, stream: Stream) -> list[HlsSegment]:
        """Return the segments of the stream's playlist as it is served."""
        at = self._packaged_at(stream)
        stale = self._fault_start(stream, FaultKind.CDN_STALE)
        if stale is not None:
            now = self._context.now()
            at = min(at, now - (now - stale) % CACHE_SECONDS)
        return playlist_segments(self._fleet, stream, at)

    def _stream(self, request: web.Request) -> Stream | None:
        info = request.match_info
        return self._fleet.by_id(PLAYBACK_PLATFORM, f"{info['application']}/{info['key']}")

    async def master(self, request: web.Request) -> web.Response:
        """``GET /hls/{application}/{key}/master.m3u8``: the renditions."""
        stream = self._stream(request)
        if stream is None or not self._playlist_segments(stream):
            return _not_found()
        lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS"]
        for rendition in RENDITIONS:
            attributes = (
                f"BANDWIDTH={rendition.bitrate}",
                f"AVERAGE-BANDWIDTH={rendition.bitrate}",
                f"RESOLUTION={rendition.width}x{rendition.height}",
                f"FRAME-RATE={FRAME_RATE}.000",
                f'CODECS="{VIDEO_CODEC},{AUDIO_CODEC}"',
            )
            lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", f"{rendition.name}.m3u8"]
        return _playlist(lines)

    async def media(self, request: web.Request) -> web.Response:
        """``GET /hls/{application}/{key}/{rendition}.m3u8``: the last segments."""
        stream, rendition = self._stream(request), _RENDITIONS.get(request.match_info["rendition"])
        segments = [] if stream is None or rendition is None else self._playlist_segments(stream)
        if rendition is None or not segments:
            return _not_found()
        first = segments[0]
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            f"#EXT-X-TARGETDURATION:{SEGMENT_SECONDS}",
            f"#EXT-X-MEDIA-SEQUENCE:{first.sequence}",
            # counts the discontinuities before this playlist, and the first segment may have one
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{first.discontinuity_sequence - first.is_first}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        for segment in segments:
            if segment.is_first:
                lines.append("#EXT-X-DISCONTINUITY")
            start = datetime.fromtimestamp(segment.start, UTC).isoformat(timespec="milliseconds")
            lines += [
                f"#EXT-X-PROGRAM-DATE-TIME:{start}",
                f"#EXTINF:{SEGMENT_SECONDS:.3f},",
                f"{rendition.name}/{segment.sequence}.ts",
            ]
        return _playlist(lines)

    async def segment(self, request: web.Request) -> web.StreamResponse:
        """``GET /hls/{application}/{key}/{rendition}/{sequence}.ts``: a segment, or a range of it."""
        stream, rendition = self._stream(request), _RENDITIONS.get(request.match_info["rendition"])
        if stream is None or rendition is None or self._fault_start(stream, FaultKind.SEGMENTS_MISSING) is not None:
            return _not_found()
        sequence = int(request.match_info["sequence"])
        segment = find_segment(self._fleet, stream, sequence, self._packaged_at(stream))
        if segment is None:
            return _not_found()
        with_audio = self._fault_start(stream, FaultKind.AUDIO_MISSING) is None
        whole = make_segment(rendition, segment.number, with_audio=with_audio)
        response = _ranged_response(request, whole)
        is_slow = self._fault_start(stream, FaultKind.SLOW_EDGE) is not None
        if is_slow and request.method == hdrs.METH_GET and isinstance(response.body, bytes):
            return await self._send_slowly(request, response, response.body, rendition)
        return response

    async def _send_slowly(
        self, request: web.Request, response: web.Response, body: bytes, rendition: Rendition
    ) -> web.StreamResponse:
        """Send a response in small steps. This ends with an error when the client disconnects."""
        slow = web.StreamResponse(status=response.status, headers=response.headers)
        slow.content_length = len(body)
        await slow.prepare(request)
        step = rendition.size // _SLOW_STEPS
        for position in range(0, len(body), step):
            await self._delays.hold(SLOW_SECONDS / _SLOW_STEPS)
            await slow.write(body[position : position + step])
        await slow.write_eof()
        return slow


def _playlist(lines: list[str]) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"}
    return web.Response(text="\n".join(lines) + "\n", content_type=_PLAYLIST_TYPE, headers=headers)


def _ranged_response(request: web.Request, whole: bytes) -> web.Response:
    """Return the requested range of a segment."""
    headers = {
        hdrs.CONTENT_TYPE: _SEGMENT_TYPE,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    }
    try:
        start, stop, _ = request.http_range.indices(len(whole))
    except ValueError:
        start, stop = 0, 0
    if start >= stop:
        return web.Response(status=416, headers=headers | {hdrs.CONTENT_RANGE: f"bytes */{len(whole)}"})
    if hdrs.RANGE not in request.headers:
        return web.Response(body=whole, headers=headers)
    headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{len(whole)}"
    return web.Response(status=206, body=whole[start:stop], headers=headers)


def _not_found() -> web.Response:
    """Return nginx's page."""
    return web.Response(text=_NOT_FOUND.replace("\n", "\r\n"), status=404, content_type="text/html")
