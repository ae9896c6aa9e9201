"""The page for the person on call: a shell that its scripts fill, and a plain table where scripts are off."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from aiohttp import web

from exporter import __version__
from exporter.config.upstream import UpstreamSettings
from exporter.model import UpstreamState
from exporter.service import Service

_STATIC = files("exporter.web.ui") / "static"
_PAGE = Template((_STATIC / "page.html").read_text(encoding="utf-8"))
_MODULES: Final = sorted(file.name for file in _STATIC.iterdir() if file.name.endswith(".js"))
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Page:
    """The page and its static files."""

    def __init__(self, service: Service, *, telemetry_path: str) -> None:
        self._service = service
        self._telemetry_path = telemetry_path
        self._static = static_files()

    def add_routes(self, app: web.Application) -> None:
        """Take the page's places; the root only where the metrics do not stand there."""
        if self._telemetry_path != "/":
            app.router.add_get("/", self.page)
        app.router.add_get("/streams", self.page)
        app.router.add_get("/streams/{upstream}/{stream:.+}", self.page)
        app.router.add_get("/static/{name}", self.static)

    async def page(self, request: web.Request) -> web.Response:
        """The same for the list and every stream: the scripts see in the address what is meant."""
        service = self._service
        upstreams = [(upstream, service.store.get(upstream.name)) for upstream in service.settings.upstreams]
        html = render(upstreams, telemetry_path=self._telemetry_path, root=root_from(request.rel_url.raw_path))
        return web.Response(text=html, content_type="text/html")

    async def static(self, request: web.Request) -> web.Response:
        """A file of the page."""
        found = self._static.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        content_type, body = found
        return web.Response(body=body, content_type=content_type, charset="utf-8")


def static_files() -> dict[str, tuple[str, bytes]]:
    """All that the page loads: name → (content type, content)."""
    return {
        file.name: (_TYPES[suffix], file.read_bytes())
        for file in _STATIC.iterdir()
        for suffix in _TYPES
        if file.name.endswith(suffix)
    }


def root_from(path: str) -> str:
    """The way from a page at this path to the exporter's root; relative, so that a proxy may add a prefix."""
    return "../" * (path.count("/") - 1) or "./"


def render(
    upstreams: Iterable[tuple[UpstreamSettings, UpstreamState | None]], *, telemetry_path: str, root: str = "./"
) -> str:
    """The page as HTML, over each upstream and what is served for it (None before its first completed poll).

    Everything that comes from a platform or the configuration is escaped.
    """
    rows = "\n".join(_row(settings, view) for settings, view in upstreams)
    home = "streams" if telemetry_path == "/" else ""
    metrics = escape(telemetry_path.removeprefix("/"))
    # Each module names the next: asked for one after the other they would come late.
    preloads = "\n".join(f'<link rel="modulepreload" href="{root}static/{name}">' for name in _MODULES)
    return _PAGE.substitute(
        version=escape(__version__), metrics=metrics, rows=rows, root=root, home=home, preloads=preloads
    )


def _row(settings: UpstreamSettings, view: UpstreamState | None) -> str:
    cells = [escape(settings.name), escape(settings.platform), escape(settings.host), *_facts(view)]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _facts(view: UpstreamState | None) -> list[str]:
    if view is None or view.up is None:
        return ["not polled yet", "", "", "", ""]
    state = "up" if view.up else "down"
    return [
        f'<span class="{state}">{state}</span>',
        str(len(view.streams)),
        str(sum(1 for stream in view.streams if stream.live)),
        _moment(view.last_success_timestamp_seconds),
        escape(view.last_error),
    ]


def _moment(timestamp: float | None) -> str:
    if timestamp is None:
        return "never"
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
