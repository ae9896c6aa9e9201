"""The dashboard Streams / Playback: what viewers get of all streams with playback checks."""

from __future__ import annotations

from exporter.dashboards import playback_panels as panels
from exporter.dashboards.dashboard import PLAYBACK, Dashboard, Row, alert_annotations
from exporter.dashboards.selections import stream_variables
from exporter.dashboards.thresholds import RuleThresholds

_ALERTS = 'job=~"$job", platform=~"$platform", upstream=~"$upstream", stream=~"$stream|"'


def playback_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """Return the playback dashboard."""
    return Dashboard(
        uid=PLAYBACK,
        title="Streams / Playback",
        description="What viewers get: which streams are playable, which are not and why, and how media arrives.",
        variables=stream_variables(),
        annotations=[alert_annotations(_ALERTS)],
        rows=[
            Row("", panels.stats(thresholds)),
            Row("Checks", [panels.checks_table(thresholds)], is_open=True),
            Row("States", panels.states(), is_open=True),
            Row("Media", panels.media(thresholds), is_open=True),
            Row("Segments", panels.segments(thresholds), is_open=True),
            Row("Renditions, audio and video", panels.renditions(), is_open=True),
            Row("Playlists", panels.playlists(), is_open=True),
            Row("Requests", panels.fetches(), is_open=True),
        ],
    )
