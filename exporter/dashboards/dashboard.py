"""A whole dashboard: its rows of panels laid out on Grafana's grid of 24 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from exporter.dashboards.panels import DATASOURCE, Json, Panel

SCHEMA_VERSION = 39
"""Of Grafana 10.4; later ones migrate it when they load it, none migrates back."""
TAG = "stream-exporter"
COLUMNS = 24

OVERVIEW = "stream-exporter-overview"
STREAM = "stream-exporter-stream"
UPSTREAMS = "stream-exporter-upstreams"
AUDIENCE = "stream-exporter-audience"

_TITLES = {"Overview": OVERVIEW, "Stream": STREAM, "Upstreams and exporter": UPSTREAMS, "Audience": AUDIENCE}

_KEPT = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
"""What a link takes along."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading (the first row needs none), from left to right and then below."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One dashboard; ``uid`` is its address and never changes."""

    uid: str
    title: str
    description: str
    variables: Sequence[Json]
    rows: Sequence[Row]
    annotations: Sequence[Json] = field(default=())
    since: str = "now-1h"
    refresh: str = "30s"

    @property
    def file_name(self) -> str:
        """What it is called in the folder of dashboards."""
        return f"{self.uid}.json"

    def as_json(self) -> Json:
        """What Grafana imports or provisions: no ``__inputs``, which provisioning doesn't fill in."""
        return {
            "annotations": {"list": [_BUILT_IN_ANNOTATIONS, *self.annotations]},
            "description": self.description,
            "editable": False,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": list(_links(self.uid)),
            "panels": list(_placed(self.rows)),
            "refresh": self.refresh,
            "schemaVersion": SCHEMA_VERSION,
            "tags": [TAG],
            "templating": {"list": list(self.variables)},
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
            "weekStart": "",
        }


def link_to_stream(*, field_of: str = "fields") -> list[Json]:
    """To the dashboard of the stream of a table's row (``fields``), or of a series (``labels``)."""
    source = "__data.fields" if field_of == "fields" else "__field.labels"
    names = {"platform": "Platform", "upstream": "Upstream", "stream": "Stream"}
    chosen = "&".join(
        f"var-{label}=${{{source}.{name if field_of == 'fields' else label}:percentencode}}"
        for label, name in names.items()
    )
    return [{"targetBlank": False, "title": "The stream", "url": f"/d/{STREAM}?{_KEPT}&{chosen}"}]


def link_to_upstream() -> list[Json]:
    """To the dashboard of the upstreams, for the upstream of a table's row."""
    url = f"/d/{UPSTREAMS}?{_KEPT}&var-upstream=${{__data.fields.Upstream:percentencode}}"
    return [{"targetBlank": False, "title": "The upstream", "url": url}]


def _links(uid: str) -> Iterator[Json]:
    """To the other dashboards. What is chosen for one stream stays behind: elsewhere it would hide all others."""
    kept = _KEPT.partition("&")[2]
    if uid != STREAM:
        kept += "&${platform:queryparam}&${upstream:queryparam}"
    for title, other in _TITLES.items():
        if other != uid:
            yield {
                "asDropdown": False,
                "icon": "dashboard",
                "includeVars": False,
                "keepTime": True,
                "tags": [],
                "targetBlank": False,
                "title": title,
                "tooltip": "",
                "type": "link",
                "url": f"/d/{other}?{kept}",
            }


def alert_annotations(matchers: str) -> Json:
    """Marks where an alert of Prometheus fires; ``ALERTS`` has no instance."""
    expression = f'ALERTS{{alertstate="firing", alertname=~"Stream.+", severity!="none", {matchers}}}'
    return _annotation(
        "Alerts", expression, color="red", title="{{alertname}}", text="{{severity}} {{upstream}} {{stream}}"
    )


def restart_annotations(expression: str) -> Json:
    """Marks where a stream was published anew."""
    return _annotation("Restarts", expression, color="blue", title="Published anew", text="{{upstream}} {{stream}}")


def _annotation(name: str, expression: str, *, color: str, title: str, text: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "name": name,
        "tagKeys": "alertname,severity",
        "target": {"expr": expression, "interval": "", "refId": "Anno"},
        "textFormat": text,
        "titleFormat": title,
    }


def _placed(rows: Iterable[Row]) -> Iterator[Json]:
    numbers = iter(range(1, 1000))
    y = 0
    for row in rows:
        heading: Json | None = None
        if row.title:
            heading = {
                "type": "row",
                "title": row.title,
                "id": next(numbers),
                "collapsed": row.collapsed,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
                "panels": [],
            }
            y += 1
        panels, end = _placed_panels(row.panels, y, numbers)
        if heading is not None:
            yield heading
        if heading is not None and row.collapsed:
            heading["panels"] = panels
        else:
            yield from panels
            y = end


def _placed_panels(panels: Sequence[Panel], y: int, numbers: Iterator[int]) -> tuple[list[Json], int]:
    """The panels with their places, and the line below them."""
    placed: list[Json] = []
    x = height = 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        placed.append(
            {"id": next(numbers), "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y}, **panel.json}
        )
        x, height = x + panel.width, max(height, panel.height)
    return placed, y + height


_BUILT_IN_ANNOTATIONS: Json = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}
