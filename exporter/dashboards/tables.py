"""Tables: rows of several queries, joined by their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.dashboards.panels import Json, Look, Panel, Query, override, panel_of, targets_of

PLAIN = Look(unit="none")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: the value of a query; or a label, of all queries or of the one given here."""

    name: str
    expression: str = ""
    label: str = ""
    look: Look = PLAIN
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
    """Rows joined by the labels that all queries have."""
    queried = [column for column in columns if column.expression]
    targets = [
        {**target, "format": "table"}
        for target in targets_of([Query(column.expression) for column in queried], instant=True)
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
    look = Look(unit="none", overrides=[_column_override(column, empty) for column in columns], empty=empty)
    panel = panel_of(
        "table",
        title,
        description,
        targets,
        look,
        options,
        width=width,
        height=height,
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False},
        color={"mode": "thresholds"},
    )
    panel.json["transformations"] = transformations
    return panel


_NOTHING: Json = {"type": "special", "options": {"match": "null", "result": {"color": "transparent", "text": ""}}}
"""An empty cell would have the colour of the lowest threshold."""


def _column_override(column: Column, empty: str) -> Json:
    # what a table without rows says would stand in each empty cell, too
    nothing = {"noValue": ""} if empty else {}
    return override(column.name, **dict(_column_properties(column)), **nothing)


def _column_properties(column: Column) -> Iterator[tuple[str, Any]]:
    look = column.look
    plain = {"unit": look.unit, "decimals": look.decimals, "min": look.minimum, "max": look.maximum}
    mappings = [*look.mappings, _NOTHING] if column.colored else look.mappings
    lists = {"mappings": list(mappings), "links": list(look.links)}
    yield from ((name, value) for name, value in plain.items() if value not in (None, "none"))
    yield from ((name, value) for name, value in lists.items() if value)
    if look.steps is not None:
        yield "thresholds", {"mode": "absolute", "steps": look.steps}
    if column.colored:
        yield "custom.cellOptions", {"mode": "basic", "type": "color-background"}
    if column.width is not None:
        yield "custom.width", column.width
    if not column.label:
        yield "custom.align", "right"
