"""Grafana panels as JSON, with one constructor for each panel type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exporter.dashboards.thresholds import Steps, neutral

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """A query of a panel; ``legend`` may contain labels (``{{stream}}``)."""

    expression: str
    legend: str = ""
    min_step: str = ""
    """Minimum step and rate interval, for counters that change less often than Prometheus scrapes."""


@dataclass(frozen=True)
class Panel:
    """A panel without a position; ``width`` is in grid columns (of 24), ``height`` in grid units of 30 pixels."""

    json: Json
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class FieldOptions:
    """Display options for the values of a panel or column."""

    unit: str
    decimals: int | None = None
    steps: Steps | None = None
    """Thresholds; None if the values are neither good nor bad."""
    minimum: float | None = None
    maximum: float | None = None
    soft_maximum: float | None = None
    """Lower limit for the end of a graph's axis, which would otherwise be 100 if all values are 0."""
    mappings: Sequence[Json] = ()
    overrides: Sequence[Json] = ()
    links: Sequence[Json] = ()
    empty: str = ""
    """Text to show without data, if that is normal."""


def stat(
    title: str,
    description: str,
    query: Query,
    field: FieldOptions,
    *,
    width: int = 3,
    height: int = 4,
    shows_name: bool = False,
    instant: bool = False,
    graph: bool = True,
) -> Panel:
    """Create a panel with one number, or with the legend of the series if ``shows_name``."""
    options = {
        "colorMode": "value" if field.steps is None else "background",
        "graphMode": "area" if graph and not instant and not shows_name else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "name" if shows_name else "value",
        "wideLayout": True,
    }
    targets = make_targets([query], instant=instant or shows_name)
    return make_panel("stat", title, description, targets, field, options, width=width, height=height)


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    field: FieldOptions,
    *,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    axis: str = "",
    bars: bool = False,
) -> Panel:
    """Create a time series panel."""
    options = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {
        "axisBorderShow": False,
        "axisPlacement": "auto",
        **({} if field.soft_maximum is None else {"axisSoftMax": field.soft_maximum}),
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 25 if stacked else 8,
        "lineInterpolation": "linear",
        "lineWidth": 0 if bars else 1,
        "pointSize": 4,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "off" if field.steps is None else "dashed"},
    }
    targets = make_targets(queries)
    color = {"mode": "palette-classic"}
    if axis:
        # As a default, the label would also appear on the time axis.
        label = {
            "matcher": {"id": "byType", "options": "number"},
            "properties": [{"id": "custom.axisLabel", "value": axis}],
        }
        field = replace(field, overrides=[label, *field.overrides])
    return make_panel(
        "timeseries",
        title,
        description,
        targets,
        field,
        options,
        width=width,
        height=height,
        custom=custom,
        color=color,
    )


def timeline(
    title: str,
    description: str,
    queries: Sequence[Query],
    field: FieldOptions,
    *,
    width: int = 24,
    height: int = 8,
    shows_values: bool = False,
) -> Panel:
    """Create a state timeline with one row per series; consecutive equal values are merged.

    Colours come from the mappings, or from the thresholds if there are no mappings, because Grafana ignores mappings
    when it merges by thresholds (https://github.com/grafana/grafana/issues/71804).
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
    return make_panel(
        "state-timeline",
        title,
        description,
        make_targets(queries),
        field,
        options,
        width=width,
        height=height,
        custom=custom,
        color=fixed_color("blue") if field.mappings else {"mode": "thresholds"},
    )


def heatmap(
    title: str, description: str, expression: str, *, unit: str, scheme: str, width: int = 8, height: int = 9
) -> Panel:
    """Create a heatmap of a histogram's buckets."""
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
    target = {**make_targets([Query(expression, "{{le}}")])[0], "format": "heatmap"}
    # Cells are numbers of observations; only the axis has the unit of the metric.
    field = FieldOptions(unit="short")
    return make_panel("heatmap", title, description, [target], field, options, width=width, height=height)


_PLAIN = FieldOptions(unit="none")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A table column: the value of ``expression``, or the label ``label`` of that query or of all queries."""

    name: str
    expression: str = ""
    label: str = ""
    field: FieldOptions = _PLAIN
    width: int | None = None
    colored: bool = False


def table(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    sort_by: str,
    descending: bool = False,
    width: int = 24,
    height: int = 10,
    empty: str = "",
) -> Panel:
    """Create a table whose rows are joined by the labels that all queries have."""
    queried = [column for column in columns if column.expression]
    targets = [
        {**target, "format": "table"}
        for target in make_targets([Query(column.expression) for column in queried], instant=True)
    ]
    values = {
        column.name: f"Value #{target['refId']}" if len(queried) > 1 else "Value"
        for column, target in zip(queried, targets, strict=True)
    }
    fields = {column.name: column.label or values[column.name] for column in columns}
    hidden = ["Time", *(values[column.name] for column in queried if column.label)]
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": dict.fromkeys(hidden, True),
                "indexByName": {field: index for index, field in enumerate(fields.values())},
                "renameByName": {field: name for name, field in fields.items()},
            },
        },
    ]
    options = {
        "cellHeight": "sm",
        "footer": {"countRows": False, "enablePagination": False, "fields": "", "reducer": ["sum"], "show": False},
        "showHeader": True,
        "sortBy": [{"desc": descending, "displayName": sort_by}],
    }
    field = FieldOptions(unit="none", overrides=[_column_override(column, empty) for column in columns], empty=empty)
    panel = make_panel(
        "table",
        title,
        description,
        targets,
        field,
        options,
        width=width,
        height=height,
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False},
        color={"mode": "thresholds"},
    )
    panel.json["transformations"] = transformations
    return panel


_EMPTY_CELL: Json = {"type": "special", "options": {"match": "null", "result": {"color": "transparent", "text": ""}}}
"""Without this, an empty cell would have the colour of the lowest threshold."""


def _column_override(column: Column, empty: str) -> Json:
    # Otherwise, the text for an empty table would appear in each empty cell.
    no_value = {"noValue": ""} if empty else {}
    return override(column.name, **dict(_column_properties(column)), **no_value)


def _column_properties(column: Column) -> Iterator[tuple[str, Any]]:
    field = column.field
    plain = {"unit": field.unit, "decimals": field.decimals, "min": field.minimum, "max": field.maximum}
    mappings = [*field.mappings, _EMPTY_CELL] if column.colored else field.mappings
    lists = {"mappings": list(mappings), "links": list(field.links)}
    yield from ((name, value) for name, value in plain.items() if value not in (None, "none"))
    yield from ((name, value) for name, value in lists.items() if value)
    if field.steps is not None:
        yield "thresholds", {"mode": "absolute", "steps": field.steps}
    if column.colored:
        yield "custom.cellOptions", {"mode": "basic", "type": "color-background"}
    if column.width is not None:
        yield "custom.width", column.width
    if not column.label:
        yield "custom.align", "right"


def override(name: str, **properties: Any) -> Json:
    """Override options of one field by display name; write ``custom.lineWidth`` as ``custom__lineWidth``."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }


def override_pattern(pattern: str, **properties: Any) -> Json:
    """Override options of all fields whose display name contains a match of a regular expression."""
    return {**override(pattern, **properties), "matcher": {"id": "byRegexp", "options": f"/{pattern}/"}}


def fixed_color(color: str) -> Json:
    """Return a fixed colour for a field."""
    return {"fixedColor": color, "mode": "fixed"}


DASHED: Json = {"dash": [6, 6], "fill": "dash"}


def value_mapping(texts: Mapping[str, tuple[str, str]]) -> Json:
    """Map values to texts: {value: (text, colour)}."""
    return {
        "type": "value",
        "options": {
            value: {"color": color, "index": index, "text": text}
            for index, (value, (text, color)) in enumerate(texts.items())
        },
    }


def make_targets(queries: Sequence[Query], *, instant: bool = False) -> list[Json]:
    """Return the queries as targets A, B, C…; instant queries are evaluated only at the end of the time range."""
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


def make_panel(
    kind: str,
    title: str,
    description: str,
    targets: list[Json],
    field: FieldOptions,
    options: Json,
    *,
    width: int,
    height: int,
    custom: Json | None = None,
    color: Json | None = None,
) -> Panel:
    """Create a panel of any type; ``custom`` and ``color`` are field defaults specific to the type."""
    defaults: Json = {
        "color": color or {"mode": "thresholds"},
        "custom": custom or {},
        "mappings": list(field.mappings),
        "thresholds": {"mode": "absolute", "steps": neutral() if field.steps is None else field.steps},
        "unit": field.unit,
    }
    optional = {
        "decimals": field.decimals,
        "links": list(field.links) or None,
        "max": field.maximum,
        "min": field.minimum,
        "noValue": field.empty or None,
    }
    defaults |= {key: value for key, value in optional.items() if value is not None}
    json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": list(field.overrides)},
        "options": options,
    }
    return Panel(json, width, height)
