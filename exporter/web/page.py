"""The landing page: what this is, where its metrics are, and how each upstream is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template

from exporter import __version__
from exporter.config.upstream import UpstreamSettings
from exporter.model import UpstreamView

_STATIC = files("exporter.web") / "static"
_PAGE = Template((_STATIC / "page.html").read_text(encoding="utf-8"))
STYLE = (_STATIC / "page.css").read_text(encoding="utf-8")


def render(upstreams: Iterable[tuple[UpstreamSettings, UpstreamView | None]], *, telemetry_path: str) -> str:
    """The page as HTML, over each upstream and what is served for it (None before its first completed poll).

    Everything that comes from a platform or the configuration is escaped.
    """
    rows = "\n".join(_row(settings, view) for settings, view in upstreams)
    return _PAGE.substitute(version=escape(__version__), metrics=escape(telemetry_path), rows=rows)


def _row(settings: UpstreamSettings, view: UpstreamView | None) -> str:
    cells = [escape(settings.name), escape(settings.platform), escape(settings.host), *_facts(view)]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _facts(view: UpstreamView | None) -> list[str]:
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
