"""Walking a PromQL expression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser

from tests.dashboards.grafana import TIMES, filled_in

Node = Any
"""promql_parser has no types."""

_RATE_INTERVAL = "8869990ms"
"""No panel asks for such a time by hand."""


def parsed(expression: str) -> Node:
    """The tree of a panel's expression, times filled in."""
    return promql_parser.parse(filled_in(expression, TIMES | {"__rate_interval": _RATE_INTERVAL}))


def is_rate_interval(matrix: Node) -> bool:
    return bool(matrix.range.total_seconds() == 8869.990)


def walk(node: Node, above: tuple[Node, ...] = ()) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Every node with those above it, the nearest last."""
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
    """Every vector selector, with what is above it."""
    for node, above in walk(parsed(expression)):
        if type(node).__name__ == "VectorSelector":
            yield node, above


def named(selector: Node) -> str:
    """The metric's name."""
    if selector.name:
        return str(selector.name)
    matchers = {m.name: m.value for m in selector.matchers.matchers}
    return str(matchers.get("__name__", ""))


def kinds(nodes: tuple[Node, ...]) -> list[str]:
    return [type(node).__name__ for node in nodes]
