"""Streams / Stream: everything that is known of one."""

from __future__ import annotations

from exporter.dashboards.dashboard import STREAM, Dashboard, Row, alert_annotations, restart_annotations
from exporter.dashboards.panels import (
    Column,
    FieldOptions,
    Panel,
    Query,
    fixed_color,
    graph,
    override,
    override_pattern,
    stat,
    table,
    timeline,
    value_mapping,
)
from exporter.dashboards.selections import one_stream, single_stream_variables
from exporter.dashboards.stream_media_panels import (
    EXPECTED,
    INGEST,
    bitrates,
    network,
    picture,
    recording_and_connection,
    transcoding,
    viewers,
)
from exporter.dashboards.thresholds import STATUS_COLORS, RuleThresholds, rising

_ALERTS = 'job=~"$job", platform=~"$platform", upstream=~"$upstream", stream="$stream"'
_LIVE = f"{one_stream.current('stream_live')} == 1"
_TRUE_FALSE = value_mapping({"0": ("false", "orange"), "1": ("true", "green")})
_STATUS_CODES = {status: code for code, status in enumerate(STATUS_COLORS)}


def stream_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """The dashboard of a single stream."""
    restarts = one_stream.increase("stream_restarts_total")
    return Dashboard(
        uid=STREAM,
        title="Streams / Stream",
        description="One stream: its state, its health and why, bitrate, picture, network, transcoding, recording.",
        variables=single_stream_variables(),
        annotations=[alert_annotations(_ALERTS), restart_annotations(f"{restarts} > 0")],
        rows=[
            Row("", _figures(thresholds)),
            Row("State", [_status_timeline(), _alert_timeline(), _facts()]),
            Row("Health", _health(thresholds)),
            Row("Bitrate and picture", [*bitrates(thresholds), *picture(thresholds)]),
            Row("Viewers", viewers()),
            Row("Network (WAVE)", network(thresholds)),
            Row("Transcoding (Livepeer)", transcoding(thresholds)),
            Row("Recording and connection", recording_and_connection()),
        ],
    )


def _figures(thresholds: RuleThresholds) -> list[Panel]:
    return [
        stat(
            "Status",
            "The current status, normalised over the platforms.",
            Query(one_stream.current("stream_status"), "{{status}}"),
            FieldOptions(
                unit="short",
                steps=[{"color": "blue", "value": None}],
                overrides=[override(status.value, color=fixed_color(color)) for status, color in STATUS_COLORS.items()],
                empty="unknown",
            ),
            shows_name=True,
        ),
        stat(
            "Health",
            "The health score: the platform's own, or derived from what it tells.",
            Query(one_stream.current("stream_health_score_ratio"), "{{stream}}"),
            FieldOptions(unit="percentunit", decimals=0, steps=thresholds.health, empty="no score"),
        ),
        stat("Ingest", "Media that arrives now.", Query(INGEST, "{{stream}}"), FieldOptions(unit="bps")),
        stat(
            "Of expected",
            "The share of the configured bitrate that arrives.",
            Query(f"{INGEST}\n/ ({EXPECTED})", "{{stream}}"),
            FieldOptions(
                unit="percentunit", decimals=0, steps=thresholds.expected_bitrate_share, empty="none configured"
            ),
        ),
        stat(
            "Viewers",
            "Viewers now.",
            Query(one_stream.current("stream_viewers"), "{{stream}}"),
            FieldOptions(unit="short"),
        ),
        stat(
            "Latency",
            "From capture to viewer, where the platform measures it.",
            Query(one_stream.current("stream_latency_seconds"), "{{stream}}"),
            FieldOptions(unit="s", empty="not measured"),
        ),
        stat(
            "On the air for",
            "Since the current publish began.",
            Query(f"time() - {one_stream.current('stream_start_timestamp_seconds')} and {_LIVE}", "{{stream}}"),
            FieldOptions(unit="dtdurations", decimals=0, empty="not live, or not known"),
            graph=False,
        ),
        stat(
            "Restarts in 1 h",
            f"New publishes. The alert StreamFlapping fires at {thresholds['StreamFlapping']:g} in 15 minutes.",
            Query(f"round({one_stream.increase('stream_restarts_total', within='1h')})", "{{stream}}"),
            FieldOptions(unit="short", decimals=0, steps=rising(warning=1, critical=thresholds["StreamFlapping"])),
            graph=False,
        ),
    ]


def _status_timeline() -> Panel:
    codes = [
        f"{code} * max without (instance, pod, status) ({one_stream.selector('stream_status', matcher)})"
        for matcher, code in ((f'status="{status.value}"', code) for status, code in _STATUS_CODES.items())
    ]
    words = {str(code): (status.value, STATUS_COLORS[status]) for status, code in _STATUS_CODES.items()}
    words["-1"] = ("not expected", "#4b5160")
    expected = f"2 * {one_stream.current('stream_expected')} - 1"
    return timeline(
        "Status over time",
        "The status over time, and when the configuration says that the stream should be live.",
        [Query("\nor\n".join(codes), "{{stream}}"), Query(expected, "{{stream}}, expected")],
        FieldOptions(
            unit="short",
            mappings=[value_mapping(words)],
            overrides=[
                override_pattern(
                    ", expected$",
                    mappings=[value_mapping({"1": ("should be live", "blue"), "-1": ("may be off", "#4b5160")})],
                )
            ],
        ),
        width=16,
        height=6,
        shows_values=True,
    )


def _alert_timeline() -> Panel:
    firing, pending = (
        f'ALERTS{{alertstate="{state}", alertname=~"Stream.+", {_ALERTS}}}' for state in ("firing", "pending")
    )
    return timeline(
        "Alerts",
        "Alerts of this stream in Prometheus: orange while pending, red while firing.",
        [Query(f"2 * max by (alertname) ({firing})\nor\nmax by (alertname) ({pending})", "{{alertname}}")],
        FieldOptions(
            unit="short",
            mappings=[value_mapping({"1": ("pending", "orange"), "2": ("firing", "red")})],
            empty="No alert of this stream in this time",
        ),
        width=8,
        height=6,
    )


def _facts() -> Panel:
    info = f"max by (stream, {', '.join(_FACTS.values())}) ({one_stream.selector('stream_info')})"
    return table(
        "What it is",
        "What does not change while the stream is live. Empty is what the platform does not tell.",
        [
            Column(name="Stream", expression=info, label="stream"),
            *(Column(name=name, label=label) for name, label in _FACTS.items()),
        ],
        sort_by="Stream",
        height=4,
    )


_FACTS = {
    "Name": "name",
    "Application": "application",
    "Protocol": "protocol",
    "Kind": "kind",
    "Video": "video_codec",
    "Audio": "audio_codec",
    "Picture": "resolution",
    "Session": "session",
}


def _health(thresholds: RuleThresholds) -> list[Panel]:
    return [
        graph(
            "Health score",
            f"Below {thresholds['StreamDegraded']:g} for ten minutes fires StreamDegraded, below "
            f"{thresholds['StreamUnhealthy']:g} for two StreamUnhealthy.",
            [Query(one_stream.current("stream_health_score_ratio"), "{{stream}}")],
            FieldOptions(unit="percentunit", minimum=0, maximum=1, steps=thresholds.health),
            width=8,
        ),
        timeline(
            "Reasons",
            "What pulls the score down, as long as it does.",
            [Query(one_stream.current("stream_health_reason"), "{{reason}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"1": ("holds", "orange")})],
                empty="Nothing pulls the score down",
            ),
            width=8,
        ),
        timeline(
            "Conditions of the platform",
            "What the platform itself reports, in its own words. Livepeer.",
            [Query(one_stream.current("stream_health_condition"), "{{condition}}")],
            FieldOptions(unit="short", mappings=[_TRUE_FALSE], empty="This platform reports no conditions"),
            width=8,
        ),
        graph(
            "Issues",
            "Issues that the platform reports now. Livepeer.",
            [Query(one_stream.current("stream_issues"), "{{stream}}")],
            FieldOptions(unit="short", decimals=0, minimum=0, soft_maximum=1, empty="This platform reports no issues"),
            width=8,
            height=6,
        ),
        timeline(
            "Verdict of the platform",
            "Whether the platform calls the stream healthy. Livepeer.",
            [Query(one_stream.current("stream_healthy"), "{{stream}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"0": ("unhealthy", "red"), "1": ("healthy", "green")})],
                empty="This platform gives no verdict",
            ),
            width=8,
            height=6,
            shows_values=True,
        ),
        timeline(
            "Grade of the platform",
            "The platform's own word for the health. Storm.",
            [Query(one_stream.current("stream_health_grade"), "{{grade}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"1": ("graded", "blue")})],
                empty="This platform gives no grade",
            ),
            width=8,
            height=6,
        ),
    ]
