"""Reading the committed dashboards, and their queries as Grafana would send them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).parents[2] / "dashboards"

Json = dict[str, Any]
Node = Any
"""Of promql_parser, which has no types."""

RATE_INTERVAL = "$__rate_interval"
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


@dataclass(frozen=True)
class Target:
    """One query of one panel."""

    dashboard: Json
    panel: Json
    json: Json

    @property
    def expression(self) -> str:
        text: str = self.json["expr"]
        return text

    def __str__(self) -> str:
        return f"{self.dashboard['title']}: {self.panel['title']}: {self.json['refId']}"


def read_all() -> list[Json]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(DASHBOARDS.glob("*.json"))]


def panels(dashboard: Json) -> Iterator[Json]:
    """The panels, those within collapsed rows too, without the rows."""
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


def filled_in(expression: str, values: Mapping[str, str]) -> str:
    """With values in place of the variables; one that has none is left as it is."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2], match[0])

    return _VARIABLE.sub(value, expression)


TIMES = {"__rate_interval": "1m", "__interval": "15s", "__range": "15m"}
"""As for a dashboard over 15 minutes of a Prometheus that scrapes every 15 s."""
