"""Read the committed dashboards, and parse their PromQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser

DASHBOARDS = Path(__file__).parents[2] / "dashboards"

Json = dict[str, Any]
Node = Any
"""A node of promql_parser, which has no type hints."""

RATE_INTERVAL = "$__rate_interval"
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


@dataclass(frozen=True)
class Target:
    """A query of a panel."""

    dashboard: Json
    panel: Json
    json: Json

    @property
    def expression(self) -> str:
        text: str = self.json["expr"]
        return text

    def __str__(self) -> str:
        return f"{self.dashboard['title']}: {self.panel['title']}: {self.json['refId']}"


def read_dashboards() -> list[Json]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(DASHBOARDS.glob("*.json"))]


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield the panels, including those in collapsed rows, without the rows."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def targets(dashboard: Json) -> Iterator[Target]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Target(dashboard, panel, target)


def variables(dashboard: Json) -> dict[str, Json]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def fill_variables(expression: str, values: Mapping[str, str]) -> str:
    """Replace variables by their values; variables without a value stay."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2], match[0])

    return _VARIABLE.sub(value, expression)


TIMES = {"__rate_interval": "1m", "__interval": "15s", "__range": "15m"}
"""Values for a dashboard over 15 minutes, with scrapes every 15 s."""

# -- PromQL -----------------------------------------------------------------------------------------------------------

_RATE_INTERVAL_VALUE = "8869990ms"
"""A duration that no panel uses otherwise."""


def parse(expression: str) -> Node:
    """Parse a panel's expression, with times filled in."""
    return promql_parser.parse(fill_variables(expression, TIMES | {"__rate_interval": _RATE_INTERVAL_VALUE}))


def is_rate_interval(matrix: Node) -> bool:
    return bool(matrix.range.total_seconds() == 8869.990)


def walk(node: Node, above: tuple[Node, ...] = ()) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Yield every node with its ancestors, the nearest last."""
    yield node, above
    for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
        child = getattr(node, name, None)
        for each in child if isinstance(child, list) else [child]:
            if each is not None and type(each).__name__ in _NODES:
                yield from walk(each, (*above, node))


_NODES = {
    "AggregateExpr", "BinaryExpr", "Call", "MatrixSelector", "NumberLiteral", "ParenExpr", "StringLiteral",
    "SubqueryExpr", "UnaryExpr", "VectorSelector",
}  # fmt: skip


def selectors(expression: str) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Yield every vector selector with its ancestors."""
    for node, above in walk(parse(expression)):
        if type(node).__name__ == "VectorSelector":
            yield node, above


def metric_name(selector: Node) -> str:
    """Return the metric's name."""
    if selector.name:
        return str(selector.name)
    matchers = {m.name: m.value for m in selector.matchers.matchers}
    return str(matchers.get("__name__", ""))


def node_types(nodes: tuple[Node, ...]) -> list[str]:
    return [type(node).__name__ for node in nodes]
