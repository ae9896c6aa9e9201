"""``/sd``: every upstream as a target of ``/probe``, for Prometheus' HTTP service discovery."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from exporter.config.types import format_duration
from exporter.config.upstream import UpstreamSettings
from exporter.web.options import PROBE_PATH, Origin
from exporter.web.probe_handler import OFFSET_SECONDS
from exporter.web.protocols import ServedState


class DiscoveryHandler:
    """Handle service discovery."""

    def __init__(self, served: ServedState, external: Origin | None) -> None:
        self._served = served
        self._external = external

    async def handle(self, request: web.Request) -> web.Response:
        """Return the target groups, or 400 if they depend on a ``Host`` header that is missing or malformed."""
        origin = self._external or Origin.from_host_header(request.headers.get(hdrs.HOST, ""), is_tls=request.secure)
        if origin is None:
            return web.Response(status=400, text="a Host header of the form HOST[:PORT] is needed\n")
        body = msgspec.json.encode(target_groups(self._served.settings.upstreams, origin))
        return web.Response(body=body, content_type="application/json")


def target_groups(upstreams: Iterable[UpstreamSettings], origin: Origin) -> list[dict[str, Any]]:
    """Return a target group for each upstream, ready for ``/probe`` without relabelling."""
    return [{"targets": [origin.address], "labels": _target_labels(upstream, origin)} for upstream in upstreams]


def _target_labels(upstream: UpstreamSettings, origin: Origin) -> dict[str, str]:
    labels = {
        "__metrics_path__": origin.path + PROBE_PATH,
        "__param_upstream": upstream.name,
        # A probe polls, so it has the upstream's own interval and timeout.
        "__scrape_interval__": format_duration(upstream.interval),
        "__scrape_timeout__": format_duration(min(upstream.interval, upstream.timeout + OFFSET_SECONDS)),
        # All upstreams have the same address: without this label they would share one `up` series.
        "instance": f"{origin.address}/{upstream.name}",
    }
    return {"__scheme__": "https", **labels} if origin.is_tls else labels
