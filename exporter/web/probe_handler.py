"""``/probe``: poll one upstream, unless a probe has just polled it, and return its metrics."""

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
"""Part of the scrape timeout that is reserved for rendering and sending the response."""

_SHOWN_CHARACTERS = 64


class BadProbeError(ValueError):
    """A parameter is missing, repeated or malformed. The message is sent to the client."""


class ProbeHandler:
    """Handle probes. Only configured upstreams can be probed."""

    def __init__(self, probes: Prober) -> None:
        self._probes = probes

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Return the metrics, even if the poll fails; 400 for a bad request, 404 for an unknown name."""
        try:
            upstream, stream = parse_target(request.query)
            seconds = parse_time_limit(request.headers.get(SCRAPE_TIMEOUT_HEADER))
        except BadProbeError as error:
            return web.Response(status=400, text=f"{error}\n")
        try:
            state = await self._probes.poll(upstream, seconds)
        except UnknownUpstreamError:
            return web.Response(status=404, text=f"unknown upstream {_quote(upstream)}\n")
        compressed = takes_gzip(request)
        if is_quick_to_render(state):
            body = self._render(state, stream, compressed)
        else:
            body = await asyncio.to_thread(self._render, state, stream, compressed)
        if body is None:
            return web.Response(status=404, text=f"unknown stream {_quote(stream or '')} of upstream {upstream}\n")
        return await send(request, [body], compressed=compressed)

    def _render(self, state: UpstreamState, stream: str | None, compressed: bool) -> bytes | None:
        """Render the metrics: empty if only other shards poll the upstream, None if it is up without this stream."""
        if state.not_owned:
            return encode(b"", compressed=compressed)
        streams = [each for each in state.streams if stream is None or each.identity.stream == stream]
        analytics = tuple(each for each in state.analytics if stream is None or each.stream == stream)
        if stream is not None and not streams and not analytics and state.up:
            return None
        if stream is not None:
            state = _only_about(state, stream)
        # How many restarts polls on demand see depends on how often they are requested.
        without_restarts = tuple(msgspec.structs.replace(each, restarts=None) for each in streams)
        # Pass-through metrics cannot be assigned to streams.
        text = render_upstream(state, without_restarts, analytics, passthrough=stream is None)
        return encode(text, compressed=compressed)


def parse_target(query: MultiMapping[str]) -> tuple[str, str | None]:
    """Return the names of the upstream and of the stream, if given. Raises ``BadProbeError``."""
    upstreams, streams = query.getall("upstream", []), query.getall("stream", [])
    if len(upstreams) > 1 or len(streams) > 1:
        raise BadProbeError("upstream and stream may be given only once")
    if not upstreams or not upstreams[0]:
        raise BadProbeError(f"missing parameter: upstream ({PROBE_PATH}?upstream=NAME)")
    return upstreams[0], streams[0] if streams else None


def parse_time_limit(header: str | None) -> float | None:
    """Return the maximum duration of the poll in seconds; None without the header. Raises ``BadProbeError``."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadProbeError(f"{SCRAPE_TIMEOUT_HEADER} must be a positive number of seconds")
    return max(seconds - OFFSET_SECONDS, seconds / 2)


def _only_about(state: UpstreamState, stream: str) -> UpstreamState:
    """Return the state without what is served about other streams by name."""
    return msgspec.structs.replace(
        state,
        threshold_rows=tuple(row for row in state.threshold_rows if row[0][0] in ("", stream)),
        off_rows=tuple(row for row in state.off_rows if row[0][0] in ("", stream)),
        maintained_streams={name: window for name, window in state.maintained_streams.items() if name == stream},
        former_labels=tuple(label for label in state.former_labels if label == stream),
    )


def _quote(name: str) -> str:
    return ascii(name[:_SHOWN_CHARACTERS])
