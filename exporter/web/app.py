"""The web application: routes and response headers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.web.groups_api import GroupsApi
from exporter.web.json_api import DiscoveryHandler, StreamsApi
from exporter.web.lifecycle import LifecycleGuard
from exporter.web.maintenance_api import MaintenanceApi
from exporter.web.metrics_handler import MetricsHandler
from exporter.web.options import DISCOVERY_PATH, PROBE_PATH, WebOptions
from exporter.web.probe_handler import ProbeHandler
from exporter.web.protocols import RunningExporter
from exporter.web.report_api import ReportApi
from exporter.web.security import Security
from exporter.web.server import SERVER_HEADER
from exporter.web.sidecar_api import SidecarApi
from exporter.web.ui.page import Page

_SECURITY_HEADERS = {
    # The page loads nothing from other hosts, has no inline scripts, and cannot be framed.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": SERVER_HEADER,
}
_FOLDED_HEADERS: Final[Mapping[str, str]] = CIMultiDict(_SECURITY_HEADERS)
"""The same headers with their names case-folded in advance, which saves time for every response."""
_PROBE_OFF = "Probes are disabled (--web.disable-probe).\n"


def make_app(exporter: RunningExporter, *, options: WebOptions, security: Security | None = None) -> web.Application:
    """Build the web application of an exporter. It neither starts nor stops the exporter."""
    app = web.Application()
    (security or Security(clock=exporter.clock)).protect(app, _FOLDED_HEADERS)
    guard = LifecycleGuard(options)
    handlers = _Handlers(exporter, guard)
    scrapes = MetricsHandler(exporter.exposition)
    exporter.store.subscribe(scrapes.prepare)
    Page(exporter, telemetry_path=options.telemetry_path).add_routes(app)
    StreamsApi(exporter).add_routes(app)
    GroupsApi(exporter).add_routes(app)
    scrapes.add_routes(app, options.telemetry_path)
    app.router.add_get(PROBE_PATH, _refuse_probe if options.disable_probe else ProbeHandler(exporter.probes).handle)
    app.router.add_get(DISCOVERY_PATH, DiscoveryHandler(exporter, options).handle)
    SidecarApi(exporter.sidecar).add_routes(app)
    ReportApi(exporter.reports, exporter.clock).add_routes(app)
    MaintenanceApi(exporter.maintenance, exporter.clock, guard).add_routes(app)
    app.router.add_get("/config", handlers.config)
    app.router.add_get("/-/healthy", handlers.healthy)
    app.router.add_get("/-/ready", handlers.ready)
    app.router.add_post("/-/reload", handlers.reload)
    app.router.add_put("/-/reload", handlers.reload)
    return app


async def _refuse_probe(_request: web.Request) -> web.Response:
    return web.Response(status=404, text=_PROBE_OFF)


class _Handlers:
    """Handlers of ``/config`` and the management endpoints (``/-/``)."""

    def __init__(self, exporter: RunningExporter, guard: LifecycleGuard) -> None:
        self._exporter = exporter
        self._guard = guard
        self._config: tuple[Settings, asyncio.Future[str]] | None = None
        """The settings in force and their YAML."""

    async def config(self, _request: web.Request) -> web.Response:
        settings = self._exporter.settings
        if self._config is None or self._config[0] is not settings:
            # With thousands of configured streams, writing the YAML takes seconds, so it is written once per reload.
            text = asyncio.get_running_loop().run_in_executor(None, settings.redacted_yaml)
            self._config = (settings, text)
        return web.Response(text=await asyncio.shield(self._config[1]))

    async def healthy(self, _request: web.Request) -> web.Response:
        if self._exporter.healthy:
            return web.Response(text="healthy\n")
        return web.Response(status=503, text="polling loop is not running\n")

    async def ready(self, _request: web.Request) -> web.Response:
        if self._exporter.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="some upstreams have not been polled yet\n")

    async def reload(self, request: web.Request) -> web.Response:
        refusal = self._guard.refusal(request, ", or send SIGHUP")
        if refusal is not None:
            return web.Response(status=403, text=f"{refusal}\n")
        try:
            await self._exporter.reload()
        except ConfigError as error:
            return web.Response(status=500, text="".join(f"{line}\n" for line in error.errors))
        return web.Response(text="reloaded\n")
