"""The Grafana dashboards as code."""

from __future__ import annotations

import json

from exporter.dashboards.audience_dashboard import audience_dashboard
from exporter.dashboards.dashboard import Dashboard
from exporter.dashboards.overview_dashboard import overview_dashboard
from exporter.dashboards.playback_dashboard import playback_dashboard
from exporter.dashboards.stream_dashboard import stream_dashboard
from exporter.dashboards.thresholds import RuleThresholds
from exporter.dashboards.upstreams_dashboard import upstreams_dashboard

__all__ = ["RuleThresholds", "all_dashboards", "render_files"]


def all_dashboards(thresholds: RuleThresholds | None = None) -> tuple[Dashboard, ...]:
    """Return all dashboards, by default with the thresholds of the shipped rules."""
    thresholds = thresholds or RuleThresholds()
    return (
        overview_dashboard(thresholds),
        stream_dashboard(thresholds),
        playback_dashboard(thresholds),
        upstreams_dashboard(thresholds),
        audience_dashboard(thresholds),
    )


def render_files(thresholds: RuleThresholds | None = None) -> dict[str, str]:
    """Return the content of the dashboard files by file name."""
    return {
        dashboard.file_name: json.dumps(dashboard.as_json(), indent=2, ensure_ascii=False) + "\n"
        for dashboard in all_dashboards(thresholds)
    }
