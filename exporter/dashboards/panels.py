"""Panels as Grafana's JSON has them, one constructor per kind; the pages compose them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exporter.dashboards.limits import Steps, none

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """One query of a panel; ``legend`` may name labels: ``{{stream}}``."""

    expression: str
    legend: str = ""
    min_step: str = ""
    """For what changes less often than Prometheus scrapes: a rate looks back over at least so long."""


@dataclass(frozen=True)
class Panel:
    """A panel without its place: ``width`` of 24 columns, ``height`` in units of 30 pixels."""

    json: Json
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the values of a panel are shown."""

    unit: str
    decimals: int | None = None
    steps: Steps | None = None
    """Thresholds; None: the values are neither good nor bad."""
    minimum: float | None = None
    maximum: float | None = None
    soft_maximum: float | None = None
    """The axis of a graph reaches at least so far: else one of zeros alone reaches to 100."""
    mappings: Sequence[Json] = ()
    overrides: Sequence[Json] = ()
    links: Sequence[Json] = ()
    empty: str = ""
    """What a panel without data says, where that is ordinary."""


def stat(
    title: str,
    description: str,
    query: Query,
    look: Look,
    *,
    width: int = 3,
    height: int = 4,
    shows_name: bool = False,
    instant: bool = False,
    graph: bool = True,
) -> Panel:
    """One number, or with ``shows_name`` the legend of the one series. Its background has the threshold's colour."""
    options = {
        "colorMode": "value" if look.steps is None else "background",
        "graphMode": "area" if graph and not instant and not shows_name else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "name" if shows_name else "value",
        "wideLayout": True,
    }
    targets = targets_of([query], instant=instant or shows_name)
    return panel_of("stat", title, description, targets, look, options, width=width, height=height)


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    look: Look,
    *,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    axis: str = "",
    bars: bool = False,
) -> Panel:
    """A time series."""
    options = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {
        "axisBorderShow": False,
        "axisPlacement": "auto",
        **({} if look.soft_maximum is None else {"axisSoftMax": look.soft_maximum}),
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 25 if stacked else 8,
        "lineInterpolation": "linear",
        "lineWidth": 0 if bars else 1,
        "pointSize": 4,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "off" if look.steps is None else "dashed"},
    }
    targets = targets_of(queries)
    color = {"mode": "palette-classic"}
    if axis:
        # as an option of the panel, it would stand below the axis of time, too
        label = {
            "matcher": {"id": "byType", "options": "number"},
            "properties": [{"id": "custom.axisLabel", "value": axis}],
        }
        look = replace(look, overrides=[label, *look.overrides])
    return panel_of(
        "timeseries", title, description, targets, look, options, width=width, height=height, custom=custom, color=color
    )


def timeline(
    title: str,
    description: str,
    queries: Sequence[Query],
    look: Look,
    *,
    width: int = 24,
    height: int = 8,
    shows_values: bool = False,
) -> Panel:
    """States over time, a row for each series; equal neighbours are one block.

    The blocks have the colours of the mappings, or of the thresholds where there are no mappings: where Grafana merges
    by thresholds it looks at no mapping (https://github.com/grafana/grafana/issues/71804).
    """
    options = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto" if shows_values else "never",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    custom = {"fillOpacity": 75, "lineWidth": 0, "spanNulls": False}
    return panel_of(
        "state-timeline",
        title,
        description,
        targets_of(queries),
        look,
        options,
        width=width,
        height=height,
        custom=custom,
        color=fixed("blue") if look.mappings else {"mode": "thresholds"},
    )


def heatmap(
    title: str, description: str, expression: str, *, unit: str, scheme: str, width: int = 8, height: int = 9
) -> Panel:
    """The buckets of a histogram over time."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {"exponent": 0.5, "fill": "dark-blue", "mode": "scheme", "reverse": False, "scale": "exponential",
                  "scheme": scheme, "steps": 64},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }  # fmt: skip
    target = {**targets_of([Query(expression, "{{le}}")])[0], "format": "heatmap"}
    # What a cell holds is a number of observations; the axis has the unit of the metric.
    look = Look(unit="short")
    return panel_of("heatmap", title, description, [target], look, options, width=width, height=height)


def override(name: str, **properties: Any) -> Json:
    """Another look of one field, by its display name; ``custom_line_width`` is written ``custom__lineWidth``."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }


def override_matching(pattern: str, **properties: Any) -> Json:
    """Another look of all fields whose display name matches a regular expression, anywhere in it."""
    return {**override(pattern, **properties), "matcher": {"id": "byRegexp", "options": f"/{pattern}/"}}


def fixed(color: str) -> Json:
    """The one colour of a field."""
    return {"fixedColor": color, "mode": "fixed"}


DASHED: Json = {"dash": [6, 6], "fill": "dash"}


def values_as(texts: Mapping[str, tuple[str, str]]) -> Json:
    """Values (as text) shown as words: {value: (text, colour)}."""
    return {
        "type": "value",
        "options": {
            value: {"color": color, "index": index, "text": text}
            for index, (value, (text, color)) in enumerate(texts.items())
        },
    }


def targets_of(queries: Sequence[Query], *, instant: bool = False) -> list[Json]:
    """The queries as targets A, B, C…; an instant one asks for the end of the dashboard's time alone."""
    return [
        {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expression,
            "instant": instant,
            **({"interval": query.min_step} if query.min_step else {}),
            "legendFormat": query.legend or "__auto",
            "range": not instant,
            "refId": chr(ord("A") + index),
        }
        for index, query in enumerate(queries)
    ]


def panel_of(
    kind: str,
    title: str,
    description: str,
    targets: list[Json],
    look: Look,
    options: Json,
    *,
    width: int,
    height: int,
    custom: Json | None = None,
    color: Json | None = None,
) -> Panel:
    """What every kind of panel has: ``custom`` and ``color`` are the kind's own defaults of a field."""
    defaults: Json = {
        "color": color or {"mode": "thresholds"},
        "custom": custom or {},
        "mappings": list(look.mappings),
        "thresholds": {"mode": "absolute", "steps": none() if look.steps is None else look.steps},
        "unit": look.unit,
    }
    optional = {
        "decimals": look.decimals,
        "links": list(look.links) or None,
        "max": look.maximum,
        "min": look.minimum,
        "noValue": look.empty or None,
    }
    defaults |= {key: value for key, value in optional.items() if value is not None}
    json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": list(look.overrides)},
        "options": options,
    }
    return Panel(json, width, height)
