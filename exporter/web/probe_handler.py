"""``/probe``: poll one upstream, unless it has just been polled for a probe, and return only its metrics."""

from __future__ import annotations

import asyncio
import math

import msgspec
from aiohttp import web
from multidict import MultiMapping

from exporter.metrics.exposition import is_quick_to_render, render_upstream
from exporter.model import UpstreamState
from exporter.polling.on_demand import UnknownUpstreamError
from exporter.web.metrics_handler import encode, send, takes_gzip
from exporter.web.options import PROBE_PATH
from exporter.web.protocols import Prober

SCRAPE_TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
OFFSET_SECONDS = 0.5
"""Part of the scrape timeout that is left for rendering and sending the response."""

_SHOWN_CHARACTERS = 64


class BadProbeError(ValueError):
    """A request with a missing, repeated or malformed parameter. The message is shown."""


class ProbeHandler:
    """Answer probes. Names in the query are only looked up in the configuration."""

    def __init__(self, probes: Prober) -> None:
        self._probes = probes

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle GET and HEAD: 200 whether the poll succeeds or not, 400 for a bad request, 404 for an unknown name."""
        try:
            upstream, stream = parse_target(request.query)
            seconds = parse_time_limit(request.headers.get(SCRAPE_TIMEOUT_HEADER))
        except BadProbeError as error:
            return web.Response(status=400, text=f"{error}\n")
        try:
            view = await self._probes.poll(upstream, seconds)
        except UnknownUpstreamError:
            return web.Response(status=404, text=f"unknown upstream {_shown(upstream)}\n")
        compressed = takes_gzip(request)
        if is_quick_to_render(view):
            body = self._rendered(view, stream, compressed)
        else:
            body = await asyncio.to_thread(self._rendered, view, stream, compressed)
        if body is None:
            return web.Response(status=404, text=f"unknown stream {_shown(stream or '')} of upstream {upstream}\n")
        return await send(request, [body], compressed=compressed)

    def _rendered(self, view: UpstreamState, stream: str | None, compressed: bool) -> bytes | None:
        """The text, empty where other shards poll the upstream; None when it is up and has no such stream."""
        if view.not_owned:
            return encode(b"", compressed=compressed)
        states = [state for state in view.streams if stream is None or state.identity.stream == stream]
        analytics = tuple(figures for figures in view.analytics if stream is None or figures.stream == stream)
        if stream is not None and not states and not analytics and view.up:
            return None
        # Polls that somebody asks for are no measure of how often a stream began again, nor of how its values spread.
        uncounted = tuple(msgspec.structs.replace(state, restarts=None) for state in states)
        # Only the platform knows which of its pass-through metrics belong to which stream.
        text = render_upstream(view, uncounted, analytics, passthrough=stream is None)
        return encode(text, compressed=compressed)


def parse_target(query: MultiMapping[str]) -> tuple[str, str | None]:
    """Return the names of the upstream and, if given, of one of its streams. Raises ``BadProbeError``."""
    upstreams, streams = query.getall("upstream", []), query.getall("stream", [])
    if len(upstreams) > 1 or len(streams) > 1:
        raise BadProbeError("upstream and stream may be given once each")
    if not upstreams or not upstreams[0]:
        raise BadProbeError(f"the parameter upstream is missing: {PROBE_PATH}?upstream=NAME")
    return upstreams[0], streams[0] if streams else None


def parse_time_limit(header: str | None) -> float | None:
    """Return the seconds that a poll may take, or None without the scrape's header. Raises ``BadProbeError``."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadProbeError(f"{SCRAPE_TIMEOUT_HEADER} is not a number of seconds")
    return max(seconds - OFFSET_SECONDS, seconds / 2)


def _shown(name: str) -> str:
    return ascii(name[:_SHOWN_CHARACTERS])
