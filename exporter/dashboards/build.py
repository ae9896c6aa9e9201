"""All dashboards, and their files."""

from __future__ import annotations

import json

from exporter.dashboards.audience import audience
from exporter.dashboards.dashboard import Dashboard
from exporter.dashboards.limits import Limits
from exporter.dashboards.overview import overview
from exporter.dashboards.stream import stream
from exporter.dashboards.upstreams import upstreams


def dashboards(limits: Limits | None = None) -> tuple[Dashboard, ...]:
    """The dashboards, with the thresholds of the rules that are in force."""
    limits = limits or Limits()
    return (overview(limits), stream(limits), upstreams(limits), audience(limits))


def files(limits: Limits | None = None) -> dict[str, str]:
    """{file name: text} of all dashboards."""
    return {
        dashboard.file_name: json.dumps(dashboard.as_json(), indent=2, ensure_ascii=False) + "\n"
        for dashboard in dashboards(limits)
    }
