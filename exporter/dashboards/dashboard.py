"""A dashboard, with its panels laid out on Grafana's grid of 24 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from exporter.dashboards.panels import DATASOURCE, Json, Panel
from exporter.dashboards.reporting_platforms import is_for_all_platforms, reporting_platforms

SCHEMA_VERSION = 39
"""Schema of Grafana 10.4, which later versions migrate on load."""
TAG = "stream-exporter"
COLUMNS = 24

OVERVIEW = "stream-exporter-overview"
STREAM = "stream-exporter-stream"
UPSTREAMS = "stream-exporter-upstreams"
AUDIENCE = "stream-exporter-audience"
PLAYBACK = "stream-exporter-playback"

_TITLES = {
    "Overview": OVERVIEW,
    "Stream": STREAM,
    "Playback": PLAYBACK,
    "Upstreams and exporter": UPSTREAMS,
    "Audience": AUDIENCE,
}

_LINK_PARAMETERS = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
"""Parameters of every link."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading (the first row needs none), placed from left to right."""

    title: str
    panels: Sequence[Panel]
    is_open: bool = False
    """Whether it is never collapsed, because the dashboard itself is about certain platforms."""

    @property
    def is_collapsed(self) -> bool:
        """Whether the row is collapsed at first, because some platform provides data for none of its panels."""
        return bool(self.title) and not self.is_open and not is_for_all_platforms(self.panels)


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A dashboard; ``uid`` is part of its URL and must not change."""

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
        """Name of the dashboard's JSON file."""
        return f"{self.uid}.json"

    def as_json(self) -> Json:
        """Return JSON for import and provisioning; without ``__inputs``, which provisioning does not support."""
        return {
            "annotations": {"list": [_BUILT_IN_ANNOTATIONS, *self.annotations]},
            "description": self.description,
            "editable": False,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": list(_links(self.uid)),
            "panels": list(_place_rows(self.rows)),
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
    """Link to the stream dashboard, for the stream in a table row (``fields``) or of a series (``labels``)."""
    source = "__data.fields" if field_of == "fields" else "__field.labels"
    names = {"platform": "Platform", "upstream": "Upstream", "stream": "Stream"}
    chosen = "&".join(
        f"var-{label}=${{{source}.{name if field_of == 'fields' else label}:percentencode}}"
        for label, name in names.items()
    )
    return [{"targetBlank": False, "title": "Open stream", "url": f"/d/{STREAM}?{_LINK_PARAMETERS}&{chosen}"}]


def link_to_upstream() -> list[Json]:
    """Link to the upstreams dashboard, for the upstream in a table row."""
    url = f"/d/{UPSTREAMS}?{_LINK_PARAMETERS}&var-upstream=${{__data.fields.Upstream:percentencode}}"
    return [{"targetBlank": False, "title": "Open upstream", "url": url}]


def _links(uid: str) -> Iterator[Json]:
    """Yield links to the other dashboards, without the selected stream, which would hide all others there."""
    parameters = _LINK_PARAMETERS.partition("&")[2]
    if uid != STREAM:
        parameters += "&${platform:queryparam}&${upstream:queryparam}"
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
                "url": f"/d/{other}?{parameters}",
            }


def alert_annotations(matchers: str) -> Json:
    """Annotate firing alerts from Prometheus; ``ALERTS`` has no instance label."""
    expression = f'ALERTS{{alertstate="firing", alertname=~"Stream.+", severity!="none", {matchers}}}'
    return _annotation(
        "Alerts", expression, color="red", title="{{alertname}}", text="{{severity}} {{upstream}} {{stream}}"
    )


def restart_annotations(expression: str) -> Json:
    """Annotate stream restarts."""
    return _annotation("Restarts", expression, color="blue", title="New ingest session", text="{{upstream}} {{stream}}")


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


def _place_rows(rows: Iterable[Row]) -> Iterator[Json]:
    numbers = iter(range(1, 1000))
    y = 0
    for row in rows:
        heading: Json | None = None
        if row.title:
            heading = {
                "type": "row",
                "title": row.title,
                "id": next(numbers),
                "collapsed": row.is_collapsed,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
                "panels": [],
            }
            y += 1
        panels, end = _place_panels(row.panels, y, numbers)
        if heading is not None:
            yield heading
        if heading is not None and row.is_collapsed:
            heading["panels"] = panels
        else:
            yield from panels
            y = end


def _description(panel: Panel) -> str:
    """Return the panel's description, with the platforms that report its values if not all do."""
    text = str(panel.json["description"])
    platforms = reporting_platforms(panel)
    return text if platforms is None else f"{text} Reported by: {', '.join(sorted(platforms))}."


def _place_panels(panels: Sequence[Panel], y: int, numbers: Iterator[int]) -> tuple[list[Json], int]:
    """Return the panels with their positions, and the first free grid line below them."""
    placed: list[Json] = []
    x = height = 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        placed.append(
            {
                "id": next(numbers),
                "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
                **panel.json,
                "description": _description(panel),
            }
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
