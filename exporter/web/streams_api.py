"""``/api/v1/streams``, ``/api/v1/stream`` and ``/api/v1/history``: what the page shows, as JSON.

A key that is not there is a fact that is not known. ``docs/page.md`` describes the keys; a test holds them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from exporter.config.upstream import UpstreamSettings
from exporter.model import UpstreamState
from exporter.service import Service
from exporter.store import Remembered
from exporter.web.history import STEP_SECONDS, History, Points
from exporter.web.metrics_handler import encode, takes_gzip
from exporter.web.serializers import label_of, stream_entry, stream_facts, upstream_entry

MAX_HISTORIES: Final = 200
"""Of how many streams one request may ask the history."""

_KEPT_BODIES = 4
_JSON = "application/json"


class StreamsApi:
    """The handlers. Lists are rendered in a worker thread, once for all who ask for the same at the same time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._history = History(service.store, service.clock)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="streams")
        self._versions = _Versions(service)
        self._bodies: dict[tuple[frozenset[str], bool], tuple[str, asyncio.Future[bytes]]] = {}
        self._encoded: dict[str, tuple[Remembered, bytes]] = {}
        """By upstream, with the view that it is of."""

    def add_routes(self, app: web.Application) -> None:
        """Take the handlers' places in an application, and end with it."""
        app.router.add_get("/api/v1/streams", self.streams)
        app.router.add_get("/api/v1/stream", self.stream)
        app.router.add_get("/api/v1/history", self.history)
        app.on_cleanup.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    # -- every stream --------------------------------------------------------------------------------------------------

    async def streams(self, request: web.Request) -> web.Response:
        """All streams, or those of the upstreams that ``upstream`` (repeatable) names; 304 while nothing changed."""
        known = [settings.name for settings in self._service.settings.upstreams]
        wanted = frozenset(request.query.getall("upstream", known))
        unknown = wanted.difference(known)
        if unknown:
            return _refused(404, f"unknown upstream {min(unknown)[:64]!a}")
        etag = self._versions.etag(wanted)
        headers = {hdrs.ETAG: f'W/"{etag}"', hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        compressed = takes_gzip(request)
        if compressed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(
            body=await self._body(wanted, etag, compressed=compressed), content_type=_JSON, headers=headers
        )

    async def _body(self, wanted: frozenset[str], etag: str, *, compressed: bool) -> bytes:
        key = (wanted, compressed)
        kept = self._bodies.pop(key, None)
        if kept is None or kept[0] != etag:
            upstreams = [
                (settings, self._service.store.get(settings.name))
                for settings in self._service.settings.upstreams
                if settings.name in wanted
            ]
            now = self._service.clock.now()
            rendering = asyncio.get_running_loop().run_in_executor(
                self._worker, self._render, now, upstreams, compressed
            )
            kept = (etag, rendering)
        self._bodies[key] = kept
        if len(self._bodies) > _KEPT_BODIES:
            del self._bodies[next(iter(self._bodies))]
        # One client that goes away must not take the rendering from the others.
        return await asyncio.shield(kept[1])

    def _render(
        self, now: float, upstreams: Sequence[tuple[UpstreamSettings, UpstreamState | None]], compressed: bool
    ) -> bytes:
        """In the worker thread."""
        listed = msgspec.json.encode([upstream_entry(settings, view) for settings, view in upstreams])
        streams = b",".join(filter(None, (self._streams_of(view) for _, view in upstreams if view is not None)))
        body = b'{"generated_at":%s,"upstreams":%s,"streams":[%s]}' % (msgspec.json.encode(now), listed, streams)
        return encode(body, compressed=compressed)

    def _streams_of(self, view: UpstreamState) -> bytes:
        """An upstream's streams, separated by commas; rendered again only when its view is another one."""
        kept = self._encoded.get(view.upstream)
        if kept is not None and kept[0].are_still(view):
            return kept[1]
        encoded = msgspec.json.encode([stream_entry(state) for state in view.streams])[1:-1]
        self._encoded[view.upstream] = (Remembered(view), encoded)
        return encoded

    # -- few streams ---------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.Response:
        """All that is known of the one that ``upstream`` and ``stream`` name; 404 when there is none."""
        try:
            upstream, stream = request.query["upstream"], request.query["stream"]
        except KeyError as missing:
            return _refused(400, f"{missing.args[0]} is missing")
        view = self._service.store.get(upstream)
        state = next((s for s in view.streams if label_of(s) == stream), None) if view is not None else None
        if view is None or state is None:
            return _refused(404, "there is no such stream now")
        facts = stream_facts(state)
        points = self._history.points(upstream, stream)
        return _answered({"generated_at": self._service.clock.now(), "stream": facts, "history": _history(points)})

    async def history(self, request: web.Request) -> web.Response:
        """The last quarter of an hour of each ``stream=UPSTREAM/STREAM`` (repeatable); unknown ones are left out."""
        asked = request.query.getall("stream", [])
        if len(asked) > MAX_HISTORIES:
            return _refused(400, f"at most {MAX_HISTORIES} streams at a time")
        found = []
        for name in asked:
            upstream, _, stream = name.partition("/")
            points = self._history.points(upstream, stream)
            if points is not None:
                found.append({"upstream": upstream, "stream": stream, **_columns(points)})
        return _answered({"generated_at": self._service.clock.now(), "step_seconds": STEP_SECONDS, "streams": found})


class _Versions:
    """Tells whether what is served has changed, without looking into it: a view is replaced as a whole."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._started = secrets.token_hex(4)
        self._count = 0
        self._seen: dict[str, tuple[Remembered, int]] = {}
        self._settings: tuple[object, int] = (None, 0)

    def etag(self, upstreams: frozenset[str]) -> str:
        """Another one after every change of these upstreams, of the configuration, and of the process."""
        if self._settings[0] is not self._service.settings:
            self._count += 1
            self._settings = (self._service.settings, self._count)
            self._seen.clear()
        newest = max(map(self._version, upstreams), default=0)
        return f"{self._started}-{self._settings[1]}-{newest}"

    def _version(self, upstream: str) -> int:
        view = self._service.store.get(upstream)
        views = () if view is None else (view,)
        seen = self._seen.get(upstream)
        if seen is None or not seen[0].are_still(*views):
            self._count += 1
            seen = self._seen[upstream] = (Remembered(*views), self._count)
        return seen[1]


def _history(points: Points | None) -> Mapping[str, Any]:
    return {"step_seconds": STEP_SECONDS, **(_columns(points) if points else {})}


def _columns(points: Points) -> Mapping[str, Any]:
    return msgspec.structs.asdict(points)


def _answered(data: Mapping[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), content_type=_JSON)


def _refused(status: int, error: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode({"error": error}), content_type=_JSON)
