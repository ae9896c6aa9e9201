"""``/sd``: every upstream as a target of ``/probe``, for Prometheus' HTTP service discovery."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs, web

from exporter.config.types import format_duration
from exporter.config.upstream import UpstreamSettings
from exporter.service import Service
from exporter.web.probe_handler import OFFSET_SECONDS
from exporter.web.probe_handler import PATH as PROBE_PATH

PATH = "/sd"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class Origin(NamedTuple):
    """Where the exporter is reached."""

    address: str
    """``host[:port]``."""
    is_tls: bool = False
    path: str = ""
    """What stands before every path, without a slash at its end."""

    @property
    def page_url(self) -> str:
        """The page of the exporter."""
        return f"{'https' if self.is_tls else 'http'}://{self.address}{self.path}/"


def external_origin(url: str) -> Origin:
    """The value of ``--web.external-url``. Raises ``ValueError``."""
    parts = urlsplit(url)
    is_usable = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc) and parts.port != 0
    if not is_usable or not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path) or parts.query or parts.fragment:
        raise ValueError("allowed: http://HOST[:PORT][/PATH] or the same with https")
    return Origin(parts.netloc, parts.scheme == "https", parts.path.rstrip("/"))


class DiscoveryPage:
    """Answers service discovery."""

    def __init__(self, service: Service, external: Origin | None) -> None:
        self._service = service
        self._external = external

    async def handle(self, request: web.Request) -> web.Response:
        """The list; 400 where it would need a ``Host`` header and there is none to use."""
        origin = self._external or _origin(request)
        if origin is None:
            return web.Response(status=400, text="a Host header of the form HOST[:PORT] is needed\n")
        body = msgspec.json.encode(target_groups(self._service.settings.upstreams, origin))
        return web.Response(body=body, content_type="application/json")


def target_groups(upstreams: Iterable[UpstreamSettings], origin: Origin) -> list[dict[str, Any]]:
    """A target group for each upstream, ready for ``/probe`` without relabelling."""
    return [{"targets": [origin.address], "labels": _labels(upstream, origin)} for upstream in upstreams]


def _labels(upstream: UpstreamSettings, origin: Origin) -> dict[str, str]:
    labels = {
        "__metrics_path__": origin.path + PROBE_PATH,
        "__param_upstream": upstream.name,
        # A probe polls: it comes as often as the upstream is to be polled, and may take as long.
        "__scrape_interval__": format_duration(upstream.interval),
        "__scrape_timeout__": format_duration(min(upstream.interval, upstream.timeout + OFFSET_SECONDS)),
        # All upstreams are behind one address: without this they would share their `up`.
        "instance": f"{origin.address}/{upstream.name}",
    }
    return {"__scheme__": "https", **labels} if origin.is_tls else labels


def _origin(request: web.Request) -> Origin | None:
    host = request.headers.get(hdrs.HOST, "")
    return Origin(host, request.secure) if _HOST.fullmatch(host) else None
