"""The dashboard Streams / Stream: details of a single stream."""

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
    recording_and_connection,
    transcoding,
    video,
    viewers,
)
from exporter.dashboards.stream_playback_panels import playback
from exporter.dashboards.thresholds import STATUS_COLORS, RuleThresholds, rising

_ALERTS = 'job=~"$job", platform=~"$platform", upstream=~"$upstream", stream="$stream"'
_LIVE = f"{one_stream.current('stream_live')} == 1"
_TRUE_FALSE = value_mapping({"0": ("false", "orange"), "1": ("true", "green")})
_STATUS_CODES = {status: code for code, status in enumerate(STATUS_COLORS)}


def stream_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """Return the stream dashboard."""
    restarts = one_stream.increase("stream_restarts_total")
    return Dashboard(
        uid=STREAM,
        title="Streams / Stream",
        description="Details of a single stream: status, health, bitrate, video, playback, network, transcoding.",
        variables=single_stream_variables(),
        annotations=[alert_annotations(_ALERTS), restart_annotations(f"{restarts} > 0")],
        rows=[
            Row("", _stats(thresholds)),
            Row("State", [_status_timeline(), _alert_timeline(), _details()]),
            Row("Health", _health(thresholds)),
            Row("Bitrate and video", [*bitrates(thresholds), *video(thresholds)]),
            Row("Viewers", viewers()),
            Row("Playback", playback(thresholds)),
            Row("Network", network(thresholds)),
            Row("Transcoding", transcoding(thresholds)),
            Row("Recording and connection", recording_and_connection()),
        ],
    )


def _stats(thresholds: RuleThresholds) -> list[Panel]:
    return [
        stat(
            "Status",
            "Current status, in the same words for all platforms.",
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
            "Health score, reported by the platform or derived by the exporter.",
            Query(one_stream.current("stream_health_score_ratio"), "{{stream}}"),
            FieldOptions(unit="percentunit", decimals=0, steps=thresholds.health, empty="no score"),
        ),
        stat("Ingest", "Current ingest bitrate.", Query(INGEST, "{{stream}}"), FieldOptions(unit="bps")),
        stat(
            "Of expected",
            "Ingest bitrate as a share of the expected bitrate.",
            Query(f"{INGEST}\n/ ({EXPECTED})", "{{stream}}"),
            FieldOptions(
                unit="percentunit", decimals=0, steps=thresholds.expected_bitrate_share, empty="not configured"
            ),
        ),
        stat(
            "Viewers",
            "Current number of viewers.",
            Query(one_stream.current("stream_viewers"), "{{stream}}"),
            FieldOptions(unit="short"),
        ),
        stat(
            "Latency",
            "Latency from capture to viewer, if the platform measures it.",
            Query(one_stream.current("stream_latency_seconds"), "{{stream}}"),
            FieldOptions(unit="s", empty="not measured"),
        ),
        stat(
            "Live for",
            "Time since the current ingest session started.",
            Query(f"time() - {one_stream.current('stream_start_timestamp_seconds')} and {_LIVE}", "{{stream}}"),
            FieldOptions(unit="dtdurations", decimals=0, empty="not live or unknown"),
            graph=False,
        ),
        stat(
            "Restarts in 1 h",
            f"New ingest sessions. StreamFlapping fires at {thresholds['StreamFlapping']:g} in 15 minutes.",
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
        "Status, and the times when the stream is expected to be live.",
        [Query("\nor\n".join(codes), "{{stream}}"), Query(expected, "{{stream}}, expected")],
        FieldOptions(
            unit="short",
            mappings=[value_mapping(words)],
            overrides=[
                override_pattern(
                    ", expected$",
                    mappings=[value_mapping({"1": ("expected", "blue"), "-1": ("not expected", "#4b5160")})],
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
            empty="No alerts in this time range",
        ),
        width=8,
        height=6,
    )


def _details() -> Panel:
    info = f"max by (stream, {', '.join(_DETAILS.values())}) ({one_stream.selector('stream_info')})"
    return table(
        "Details",
        "Properties that stay the same while the stream is live; empty if the platform does not report them.",
        [
            Column(name="Stream", expression=info, label="stream"),
            *(Column(name=name, label=label) for name, label in _DETAILS.items()),
        ],
        sort_by="Stream",
        height=4,
    )


_DETAILS = {
    "Name": "name",
    "Application": "application",
    "Protocol": "protocol",
    "Kind": "kind",
    "Video": "video_codec",
    "Audio": "audio_codec",
    "Resolution": "resolution",
    "Session": "session",
}


def _health(thresholds: RuleThresholds) -> list[Panel]:
    return [
        graph(
            "Health score",
            f"StreamDegraded fires after 10 minutes below {thresholds['StreamDegraded']:g}, StreamUnhealthy after 2 "
            f"minutes below {thresholds['StreamUnhealthy']:g}.",
            [Query(one_stream.current("stream_health_score_ratio"), "{{stream}}")],
            FieldOptions(unit="percentunit", minimum=0, maximum=1, steps=thresholds.health),
            width=8,
        ),
        timeline(
            "Reasons",
            "Reasons that lower the health score.",
            [Query(one_stream.current("stream_health_reason"), "{{reason}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"1": ("active", "orange")})],
                empty="No reasons",
            ),
            width=8,
        ),
        timeline(
            "Platform conditions",
            "Health conditions reported by the platform.",
            [Query(one_stream.current("stream_health_condition"), "{{condition}}")],
            FieldOptions(unit="short", mappings=[_TRUE_FALSE], empty="Not reported by this platform"),
            width=8,
        ),
        graph(
            "Issues",
            "Number of issues reported by the platform.",
            [Query(one_stream.current("stream_issues"), "{{stream}}")],
            FieldOptions(unit="short", decimals=0, minimum=0, soft_maximum=1, empty="Not reported by this platform"),
            width=8,
            height=6,
        ),
        timeline(
            "Platform verdict",
            "Whether the platform reports the stream as healthy.",
            [Query(one_stream.current("stream_healthy"), "{{stream}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"0": ("unhealthy", "red"), "1": ("healthy", "green")})],
                empty="Not reported by this platform",
            ),
            width=8,
            height=6,
            shows_values=True,
        ),
        timeline(
            "Platform grade",
            "Health grade reported by the platform.",
            [Query(one_stream.current("stream_health_grade"), "{{grade}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"1": ("current", "blue")})],
                empty="Not reported by this platform",
            ),
            width=8,
            height=6,
        ),
    ]
