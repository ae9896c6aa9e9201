"""The JSON API of the streams (``/api/v1/streams``, ``stream``, ``history``) and the service discovery (``/sd``).

A missing key means that the fact is not known. ``docs/page.md`` describes the keys; a test pins them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from exporter.config.types import format_duration
from exporter.config.upstream import UpstreamSettings
from exporter.model import UpstreamState
from exporter.store import StateReferences
from exporter.web.history import STEP_SECONDS, History, Points
from exporter.web.metrics_handler import encode, takes_gzip
from exporter.web.options import PROBE_PATH, Origin, WebOptions
from exporter.web.probe_handler import OFFSET_SECONDS
from exporter.web.protocols import ServedState
from exporter.web.serializers import stream_entry, stream_facts, stream_label, upstream_entry

MAX_HISTORIES: Final = 200
"""Maximum number of streams whose history one request may ask for."""

_CACHED_BODIES = 4
_JSON = "application/json"


class StreamsApi:
    """Handlers of the streams. Lists are rendered in a worker thread, once for identical concurrent requests."""

    def __init__(self, served: ServedState) -> None:
        self._served = served
        self._history = History(served.store, served.clock)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="streams")
        self._versions = _Versions(served)
        self._bodies: dict[tuple[frozenset[str], bool], tuple[str, asyncio.Future[bytes]]] = {}
        self._encoded: dict[str, tuple[StateReferences, bytes]] = {}
        """The encoded streams of each upstream, with the state they were encoded from."""

    def add_routes(self, app: web.Application) -> None:
        """Add the handlers to an application, and stop the worker when it is cleaned up."""
        app.router.add_get("/api/v1/streams", self.streams)
        app.router.add_get("/api/v1/stream", self.stream)
        app.router.add_get("/api/v1/history", self.history)
        app.on_cleanup.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    # -- all streams ---------------------------------------------------------------------------------------------------

    async def streams(self, request: web.Request) -> web.Response:
        """Return all streams, or those of each given ``upstream`` (repeatable); 304 while nothing has changed."""
        configured = [upstream.name for upstream in self._served.settings.upstreams]
        wanted = frozenset(request.query.getall("upstream", configured))
        unknown = wanted.difference(configured)
        if unknown:
            return _error_response(404, f"unknown upstream {min(unknown)[:64]!a}")
        etag = self._versions.etag(wanted)
        headers = {hdrs.ETAG: f'W/"{etag}"', hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        compressed = takes_gzip(request)
        if compressed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        body = await self._streams_body(wanted, etag, compressed=compressed)
        return web.Response(body=body, content_type=_JSON, headers=headers)

    async def _streams_body(self, wanted: frozenset[str], etag: str, *, compressed: bool) -> bytes:
        key = (wanted, compressed)
        cached = self._bodies.pop(key, None)
        if cached is None or cached[0] != etag:
            upstreams = [
                (upstream, self._served.store.get(upstream.name))
                for upstream in self._served.settings.upstreams
                if upstream.name in wanted
            ]
            now = self._served.clock.now()
            rendering = asyncio.get_running_loop().run_in_executor(
                self._worker, self._render_streams, now, upstreams, compressed
            )
            cached = (etag, rendering)
        self._bodies[key] = cached
        if len(self._bodies) > _CACHED_BODIES:
            del self._bodies[next(iter(self._bodies))]
        # A client that disconnects must not cancel the rendering for the others.
        return await asyncio.shield(cached[1])

    def _render_streams(
        self, now: float, upstreams: Sequence[tuple[UpstreamSettings, UpstreamState | None]], compressed: bool
    ) -> bytes:
        """Render the body. Runs in the worker thread."""
        listed = msgspec.json.encode([upstream_entry(upstream, state) for upstream, state in upstreams])
        streams = b",".join(filter(None, (self._encode_streams(state) for _, state in upstreams if state is not None)))
        body = b'{"generated_at":%s,"upstreams":%s,"streams":[%s]}' % (msgspec.json.encode(now), listed, streams)
        return encode(body, compressed=compressed)

    def _encode_streams(self, state: UpstreamState) -> bytes:
        """Return an upstream's streams separated by commas, encoded again only if its state was replaced."""
        cached = self._encoded.get(state.upstream)
        if cached is not None and cached[0].refer_to(state):
            return cached[1]
        encoded = msgspec.json.encode([stream_entry(stream) for stream in state.streams])[1:-1]
        self._encoded[state.upstream] = (StateReferences(state), encoded)
        return encoded

    # -- single streams ------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.Response:
        """Return all facts of the stream that ``upstream`` and ``stream`` name, or 404."""
        try:
            upstream, stream = request.query["upstream"], request.query["stream"]
        except KeyError as missing:
            return _error_response(400, f"{missing.args[0]} is missing")
        upstream_state = self._served.store.get(upstream)
        streams = () if upstream_state is None else upstream_state.streams
        state = next((state for state in streams if stream_label(state) == stream), None)
        if state is None:
            return _error_response(404, "there is no such stream now")
        points = self._history.points(upstream, stream)
        history = {"step_seconds": STEP_SECONDS, **(_columns(points) if points else {})}
        return json_response(
            {"generated_at": self._served.clock.now(), "stream": stream_facts(state), "history": history}
        )

    async def history(self, request: web.Request) -> web.Response:
        """Return the history of each ``stream=UPSTREAM/STREAM`` (repeatable), without unknown streams."""
        names = request.query.getall("stream", [])
        if len(names) > MAX_HISTORIES:
            return _error_response(400, f"at most {MAX_HISTORIES} streams at a time")
        found = []
        for name in names:
            upstream, _, stream = name.partition("/")
            points = self._history.points(upstream, stream)
            if points is not None:
                found.append({"upstream": upstream, "stream": stream, **_columns(points)})
        return json_response({"generated_at": self._served.clock.now(), "step_seconds": STEP_SECONDS, "streams": found})


class _Versions:
    """Detect changes without comparing content: an upstream's state is replaced as a whole."""

    def __init__(self, served: ServedState) -> None:
        self._served = served
        self._started = secrets.token_hex(4)
        self._count = 0
        self._seen: dict[str, tuple[StateReferences, int]] = {}
        self._settings: tuple[object, int] = (None, 0)

    def etag(self, upstreams: frozenset[str]) -> str:
        """Return a tag that differs after any change of these upstreams or the configuration, and after a restart."""
        if self._settings[0] is not self._served.settings:
            self._count += 1
            self._settings = (self._served.settings, self._count)
            self._seen.clear()
        newest = max(map(self._upstream_version, upstreams), default=0)
        return f"{self._started}-{self._settings[1]}-{newest}"

    def _upstream_version(self, upstream: str) -> int:
        state = self._served.store.get(upstream)
        states = () if state is None else (state,)
        seen = self._seen.get(upstream)
        if seen is None or not seen[0].refer_to(*states):
            self._count += 1
            seen = self._seen[upstream] = (StateReferences(*states), self._count)
        return seen[1]


def _columns(points: Points) -> Mapping[str, Any]:
    return msgspec.structs.asdict(points)


def json_response(data: Mapping[str, Any], status: int = 200) -> web.Response:
    """Return a response with the data as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(data), content_type=_JSON)


def _error_response(status: int, error: str) -> web.Response:
    return json_response({"error": error}, status)


class DiscoveryHandler:
    """Handle service discovery. Without probes, the only target is the exporter itself."""

    def __init__(self, served: ServedState, options: WebOptions) -> None:
        self._served = served
        self._options = options

    async def handle(self, request: web.Request) -> web.Response:
        """Return the target groups, or 400 if they depend on a ``Host`` header that is missing or malformed."""
        options = self._options
        origin = options.external or Origin.from_host_header(request.headers.get(hdrs.HOST, ""), is_tls=request.secure)
        if origin is None:
            return web.Response(status=400, text="a Host header of the form HOST[:PORT] is needed\n")
        if options.disable_probe:
            groups = [_group(origin, origin.path + options.telemetry_path, {})]
        else:
            groups = target_groups(self._served.settings.upstreams, origin)
        return web.Response(body=msgspec.json.encode(groups), content_type="application/json")


def target_groups(upstreams: Iterable[UpstreamSettings], origin: Origin) -> list[dict[str, Any]]:
    """Return a target group for each upstream, ready for ``/probe`` without relabelling."""
    return [_group(origin, origin.path + PROBE_PATH, _probe_labels(upstream, origin)) for upstream in upstreams]


def _group(origin: Origin, path: str, labels: dict[str, str]) -> dict[str, Any]:
    scheme = {"__scheme__": "https"} if origin.is_tls else {}
    return {"targets": [origin.address], "labels": {**scheme, "__metrics_path__": path, **labels}}


def _probe_labels(upstream: UpstreamSettings, origin: Origin) -> dict[str, str]:
    return {
        "__param_upstream": upstream.name,
        # A probe polls, so it has the upstream's own interval and timeout.
        "__scrape_interval__": format_duration(upstream.interval),
        "__scrape_timeout__": format_duration(min(upstream.interval, upstream.timeout + OFFSET_SECONDS)),
        # All upstreams have the same address: without this label they would share one `up` series.
        "instance": f"{origin.address}/{upstream.name}",
    }
