"""The page for the person on call: a shell that its scripts fill, and a plain table for browsers without scripts."""

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
from exporter.web.protocols import ServedState
from exporter.web.serializers import StreamCounts, count_streams

_STATIC = files("exporter.web.ui") / "static"
_PAGE = Template((_STATIC / "page.html").read_text(encoding="utf-8"))
_MODULES: Final = sorted(file.name for file in _STATIC.iterdir() if file.name.endswith(".js"))
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Page:
    """The page and its static files."""

    def __init__(self, served: ServedState, *, telemetry_path: str) -> None:
        self._served = served
        self._telemetry_path = telemetry_path
        self._static = static_files()

    def add_routes(self, app: web.Application) -> None:
        """Add the page's routes; the root only if the metrics are not there."""
        if self._telemetry_path != "/":
            app.router.add_get("/", self.page)
        app.router.add_get("/streams", self.page)
        app.router.add_get("/streams/{upstream}/{stream:.+}", self.page)
        app.router.add_get("/static/{name}", self.static)

    async def page(self, request: web.Request) -> web.Response:
        """Return the page. It is the same for the list and every stream; the scripts choose the view by the URL."""
        served = self._served
        upstreams = [(upstream, served.store.get(upstream.name)) for upstream in served.settings.upstreams]
        html = render(upstreams, telemetry_path=self._telemetry_path, root=root_from(request.rel_url.raw_path))
        return web.Response(text=html, content_type="text/html")

    async def static(self, request: web.Request) -> web.Response:
        """Return one of the page's files."""
        found = self._static.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        content_type, body = found
        return web.Response(body=body, content_type=content_type, charset="utf-8")


def static_files() -> dict[str, tuple[str, bytes]]:
    """Return the files that the page loads: name → (content type, content)."""
    return {
        file.name: (_TYPES[suffix], file.read_bytes())
        for file in _STATIC.iterdir()
        for suffix in _TYPES
        if file.name.endswith(suffix)
    }


def root_from(path: str) -> str:
    """Return the exporter's root, relative to a page at this path, so that a proxy may add a prefix."""
    return "../" * (path.count("/") - 1) or "./"


def render(
    upstreams: Iterable[tuple[UpstreamSettings, UpstreamState | None]], *, telemetry_path: str, root: str = "./"
) -> str:
    """Return the page as HTML, with each upstream and its state (None before its first completed poll).

    All text from platforms and the configuration is escaped.
    """
    rows = "\n".join(_table_row(upstream, state) for upstream, state in upstreams)
    home = "streams" if telemetry_path == "/" else ""
    metrics = escape(telemetry_path.removeprefix("/"))
    # Modules import each other: without preloading they would be fetched one after the other.
    preloads = "\n".join(f'<link rel="modulepreload" href="{root}static/{name}">' for name in _MODULES)
    return _PAGE.substitute(
        version=escape(__version__), metrics=metrics, rows=rows, root=root, home=home, preloads=preloads
    )


def _table_row(upstream: UpstreamSettings, state: UpstreamState | None) -> str:
    cells = [escape(upstream.name), escape(upstream.platform), escape(upstream.host), *_state_cells(state)]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _state_cells(state: UpstreamState | None) -> list[str]:
    if state is None or state.up is None:
        return ["not polled yet", "", "", "", ""]
    word = "up" if state.up else "down"
    return [
        f'<span class="{word}">{word}</span>',
        str(len(state.streams)),
        _format_live(count_streams(state)),
        _format_time(state.last_success_timestamp_seconds),
        escape(state.last_error),
    ]


def _format_live(counts: StreamCounts) -> str:
    if counts.live is not None:
        return f"{counts.live}, {counts.unknown} unknown" if counts.unknown else str(counts.live)
    since = "" if counts.unknown_since is None else f" since {_format_time(counts.unknown_since)}"
    then = "" if counts.were_live is None else f"; {counts.were_live} of {counts.withdrawn} were live then"
    return f"unknown{since}{then}"


def _format_time(timestamp: float | None) -> str:
    if timestamp is None:
        return "never"
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
