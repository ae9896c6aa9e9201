"""JSON API of the streams (``/api/v1/streams``, ``stream``, ``history``) and service discovery (``/sd``).

Unknown values have no key. ``docs/page.md`` describes the keys.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from exporter.alerting.rules.active_rules import rules_in_force
from exporter.config.alerting import AlertingSettings
from exporter.config.types import format_duration
from exporter.config.upstream import UpstreamSettings
from exporter.model import UpstreamState
from exporter.store import StateReferences
from exporter.web.history import STEP_SECONDS, History, Points
from exporter.web.metrics_handler import encode, takes_gzip
from exporter.web.options import PROBE_PATH, Origin, WebOptions
from exporter.web.probe_handler import OFFSET_SECONDS
from exporter.web.protocols import ServedState
from exporter.web.serializers import HEALTH_RULES, stream_entry, stream_facts, stream_label, upstream_entry

MAX_HISTORIES: Final = 200
"""Maximum number of streams in one request for histories."""

_CACHED_BODIES = 4
_JSON = "application/json"


class StreamsApi:
    """Handlers of the streams. A worker thread renders lists, once for identical concurrent requests."""

    def __init__(self, served: ServedState) -> None:
        self._served = served
        self._history = History(served.store, served.clock)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="streams")
        self._versions = _Versions(served)
        self._bodies: dict[tuple[frozenset[str], bool], tuple[str, asyncio.Future[bytes]]] = {}
        self._encoded: dict[str, tuple[StateReferences, bytes]] = {}
        """The encoded streams of each upstream, with the state they were encoded from."""

    def add_routes(self, app: web.Application) -> None:
        """Add the routes, and stop the worker when the application is cleaned up."""
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
            return error_response(404, f"unknown upstream {min(unknown)[:64]!a}")
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
            head = {
                "generated_at": self._served.clock.now(),
                "thresholds": health_thresholds(self._served.settings.alerting),
            }
            rendering = asyncio.get_running_loop().run_in_executor(
                self._worker, self._render_streams, head, upstreams, compressed
            )
            cached = (etag, rendering)
        self._bodies[key] = cached
        if len(self._bodies) > _CACHED_BODIES:
            del self._bodies[next(iter(self._bodies))]
        # A client that disconnects must not cancel the rendering for other clients.
        return await asyncio.shield(cached[1])

    def _render_streams(
        self,
        head: Mapping[str, Any],
        upstreams: Sequence[tuple[UpstreamSettings, UpstreamState | None]],
        compressed: bool,
    ) -> bytes:
        """Render the body. Runs in the worker thread."""
        listed = [upstream_entry(upstream, state) for upstream, state in upstreams]
        start = msgspec.json.encode({**head, "upstreams": listed})[:-1]
        streams = b",".join(filter(None, (self._encode_streams(state) for _, state in upstreams if state is not None)))
        return encode(b'%s,"streams":[%s]}' % (start, streams), compressed=compressed)

    def _encode_streams(self, state: UpstreamState) -> bytes:
        """Return an upstream's streams, separated by commas. Cached until its state is replaced."""
        cached = self._encoded.get(state.upstream)
        if cached is not None and cached[0].refer_to(state):
            return cached[1]
        encoded = msgspec.json.encode([stream_entry(stream) for stream in state.streams])[1:-1]
        self._encoded[state.upstream] = (StateReferences(state), encoded)
        return encoded

    # -- single streams ------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.Response:
        """Return all facts of the stream given by ``upstream`` and ``stream``, or 404."""
        try:
            upstream, stream = request.query["upstream"], request.query["stream"]
        except KeyError as missing:
            return error_response(400, f"missing parameter: {missing.args[0]}")
        upstream_state = self._served.store.get(upstream)
        streams = () if upstream_state is None else upstream_state.streams
        state = next((state for state in streams if stream_label(state) == stream), None)
        if state is None:
            return error_response(404, "stream not found")
        points = self._history.points(upstream, stream)
        history = {"step_seconds": STEP_SECONDS, **(_columns(points) if points else {})}
        return json_response(
            {"generated_at": self._served.clock.now(), "stream": stream_facts(state), "history": history}
        )

    async def history(self, request: web.Request) -> web.Response:
        """Return the history of each ``stream=UPSTREAM/STREAM`` (repeatable). Unknown streams are left out."""
        names = request.query.getall("stream", [])
        if len(names) > MAX_HISTORIES:
            return error_response(400, f"at most {MAX_HISTORIES} streams per request")
        found = []
        for name in names:
            upstream, _, stream = name.partition("/")
            points = self._history.points(upstream, stream)
            if points is not None:
                found.append({"upstream": upstream, "stream": stream, **_columns(points)})
        return json_response({"generated_at": self._served.clock.now(), "step_seconds": STEP_SECONDS, "streams": found})


class _Versions:
    """Detect changes by identity instead of content, because states are replaced as a whole."""

    def __init__(self, served: ServedState) -> None:
        self._served = served
        self._started = secrets.token_hex(4)
        self._count = 0
        self._seen: dict[str, tuple[StateReferences, int]] = {}
        self._settings: tuple[object, int] = (None, 0)

    def etag(self, upstreams: frozenset[str]) -> str:
        """Return a tag that changes with these upstreams, with the configuration, and with a restart."""
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


def health_thresholds(settings: AlertingSettings) -> dict[str, float]:
    """Return the thresholds in force of the rules about the health score, by the name of the rule."""
    return {
        active.rule.name: active.threshold
        for active in rules_in_force(settings)
        if active.rule.name in HEALTH_RULES and active.threshold is not None
    }


def _columns(points: Points) -> Mapping[str, Any]:
    return msgspec.structs.asdict(points)


def json_response(data: Mapping[str, Any], status: int = 200) -> web.Response:
    """Return a response with the data as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(data), content_type=_JSON)


def error_response(status: int, error: str) -> web.Response:
    """Return an error as JSON."""
    return json_response({"error": error}, status)


class DiscoveryHandler:
    """Handle service discovery. With probes disabled, the only target is the exporter's own metrics."""

    def __init__(self, served: ServedState, options: WebOptions) -> None:
        self._served = served
        self._options = options

    async def handle(self, request: web.Request) -> web.Response:
        """Return the target groups, or 400 if they need a ``Host`` header that is missing or malformed."""
        options = self._options
        origin = options.external or Origin.from_host_header(request.headers.get(hdrs.HOST, ""), is_tls=request.secure)
        if origin is None:
            return web.Response(status=400, text="the Host header must have the form HOST[:PORT]\n")
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
        # A probe polls the upstream, so it uses the upstream's interval and timeout.
        "__scrape_interval__": format_duration(upstream.interval),
        "__scrape_timeout__": format_duration(min(upstream.interval, upstream.timeout + OFFSET_SECONDS)),
        # All targets have the same address; without this label they would share one `up` series.
        "instance": f"{origin.address}/{upstream.name}",
    }
