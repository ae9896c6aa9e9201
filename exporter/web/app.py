"""The routes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from exporter.config.loading import ConfigError
from exporter.service import Service
from exporter.web import alerts_api as alerts
from exporter.web import probe_handler as probe
from exporter.web import service_discovery as discovery
from exporter.web.metrics_handler import MetricsHandler
from exporter.web.security import Security
from exporter.web.server.bad_requests import SERVER
from exporter.web.service_discovery import Origin
from exporter.web.streams_api import StreamsApi
from exporter.web.ui.page import Page

DEFAULT_TELEMETRY_PATH: Final = "/metrics"

_SECURITY_HEADERS = {
    # Nothing of a page may come from elsewhere, be made to run out of a text, or be framed.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": SERVER,
}
_FOLDED_HEADERS: Final[Mapping[str, str]] = CIMultiDict(_SECURITY_HEADERS)
"""The same, so that their names need not be folded for every answer."""
_TAKEN = ("/-/", "/static/", "/streams/", "/api/v1/")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_LIFECYCLE_OFF = "Reloading over HTTP is off: start with --web.enable-lifecycle, or send SIGHUP.\n"


class WebOptions(msgspec.Struct, frozen=True):
    """What the command line says about the web part."""

    telemetry_path: str = DEFAULT_TELEMETRY_PATH
    enable_lifecycle: bool = False
    external: Origin | None = None
    """Where Prometheus reaches the exporter, when that is not where its request went."""


def check_telemetry_path(path: str) -> str:
    """The path, or ValueError when it is no path or already stands for something else."""
    if not _PATH.fullmatch(path):
        raise ValueError("it must begin with / and hold only letters, digits and . _ ~ - /")
    if path in ("/config", "/streams", alerts.PATH, discovery.PATH, probe.PATH) or path.startswith(_TAKEN):
        raise ValueError("this path is already taken")
    return path


def make_app(service: Service, *, options: WebOptions, security: Security | None = None) -> web.Application:
    """All that the exporter answers, over a service that runs elsewhere, behind ``security``."""
    app = web.Application()
    handlers = _Handlers(service, options)
    scrapes = MetricsHandler(service.exposition)
    service.store.subscribe(scrapes.prepare)
    (security or Security(clock=service.clock)).protect(app, _FOLDED_HEADERS)
    app.on_cleanup.append(_closing(scrapes))
    Page(service, telemetry_path=options.telemetry_path).add_routes(app)
    StreamsApi(service).add_routes(app)
    app.router.add_get(options.telemetry_path, scrapes.handle)
    app.router.add_get(probe.PATH, probe.ProbeHandler(service.probes).handle)
    app.router.add_get(discovery.PATH, discovery.DiscoveryPage(service, options.external).handle)
    app.router.add_get(alerts.PATH, alerts.AlertsApi(service.sidecar).handle)
    app.router.add_get("/config", handlers.config)
    app.router.add_get("/-/healthy", handlers.healthy)
    app.router.add_get("/-/ready", handlers.ready)
    app.router.add_post("/-/reload", handlers.reload)
    app.router.add_put("/-/reload", handlers.reload)
    return app


class _Handlers:
    def __init__(self, service: Service, options: WebOptions) -> None:
        self._service = service
        self._options = options

    async def config(self, _request: web.Request) -> web.Response:
        # Thousands of configured streams take seconds to write as YAML.
        return web.Response(text=await asyncio.to_thread(self._service.settings.redacted_yaml))

    async def healthy(self, _request: web.Request) -> web.Response:
        if self._service.healthy:
            return web.Response(text="healthy\n")
        return web.Response(status=503, text="nothing polls\n")

    async def ready(self, _request: web.Request) -> web.Response:
        if self._service.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not every upstream has been polled yet\n")

    async def reload(self, _request: web.Request) -> web.Response:
        if not self._options.enable_lifecycle:
            return web.Response(status=403, text=_LIFECYCLE_OFF)
        try:
            await self._service.reload()
        except ConfigError as error:
            return web.Response(status=500, text="".join(f"{line}\n" for line in error.errors))
        return web.Response(text="reloaded\n")


def _closing(scrapes: MetricsHandler) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_app: web.Application) -> None:
        scrapes.close()

    return close
