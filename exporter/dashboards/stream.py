"""Streams / Stream: everything that is known of one."""

from __future__ import annotations

from exporter.dashboards.dashboard import STREAM, Dashboard, Row, alert_annotations, restart_annotations
from exporter.dashboards.limits import Limits, rising
from exporter.dashboards.overview import STATUS_COLORS
from exporter.dashboards.panels import (
    Look,
    Panel,
    Query,
    fixed,
    graph,
    override,
    override_matching,
    stat,
    timeline,
    values_as,
)
from exporter.dashboards.queries import one_stream
from exporter.dashboards.stream_media import (
    EXPECTED,
    INGEST,
    bitrates,
    network,
    picture,
    recording_and_connection,
    transcoding,
    viewers,
)
from exporter.dashboards.tables import Column, table
from exporter.dashboards.variables import of_one_stream

_ALERTS = 'job=~"$job", platform=~"$platform", upstream=~"$upstream", stream="$stream"'
_LIVE = f"{one_stream.now('stream_live')} == 1"
_TRUE_FALSE = values_as({"0": ("false", "orange"), "1": ("true", "green")})
_STATUS_CODES = {status: code for code, status in enumerate(STATUS_COLORS)}


def stream(limits: Limits) -> Dashboard:
    """The dashboard of a single stream."""
    restarts = one_stream.increase("stream_restarts_total")
    return Dashboard(
        uid=STREAM,
        title="Streams / Stream",
        description="One stream: its state, its health and why, bitrate, picture, network, transcoding, recording.",
        variables=of_one_stream(),
        annotations=[alert_annotations(_ALERTS), restart_annotations(f"{restarts} > 0")],
        rows=[
            Row("", _figures(limits)),
            Row("State", [_status_timeline(), _alert_timeline(), _facts()]),
            Row("Health", _health(limits)),
            Row("Bitrate and picture", [*bitrates(limits), *picture(limits)]),
            Row("Viewers", viewers()),
            Row("Network (WAVE)", network(limits)),
            Row("Transcoding (Livepeer)", transcoding(limits)),
            Row("Recording and connection", recording_and_connection()),
        ],
    )


def _figures(limits: Limits) -> list[Panel]:
    return [
        stat(
            "Status",
            "The current status, normalised over the platforms.",
            Query(one_stream.now("stream_status"), "{{status}}"),
            Look(
                unit="short",
                steps=[{"color": "blue", "value": None}],
                overrides=[override(status.value, color=fixed(color)) for status, color in STATUS_COLORS.items()],
                empty="unknown",
            ),
            shows_name=True,
        ),
        stat(
            "Health",
            "The health score: the platform's own, or derived from what it tells.",
            Query(one_stream.now("stream_health_score_ratio"), "{{stream}}"),
            Look(unit="percentunit", decimals=0, steps=limits.health, empty="no score"),
        ),
        stat("Ingest", "Media that arrives now.", Query(INGEST, "{{stream}}"), Look(unit="bps")),
        stat(
            "Of expected",
            "The share of the configured bitrate that arrives.",
            Query(f"{INGEST}\n/ ({EXPECTED})", "{{stream}}"),
            Look(unit="percentunit", decimals=0, steps=limits.of_expected_bitrate, empty="none configured"),
        ),
        stat("Viewers", "Viewers now.", Query(one_stream.now("stream_viewers"), "{{stream}}"), Look(unit="short")),
        stat(
            "Latency",
            "From capture to viewer, where the platform measures it.",
            Query(one_stream.now("stream_latency_seconds"), "{{stream}}"),
            Look(unit="s", empty="not measured"),
        ),
        stat(
            "On the air for",
            "Since the current publish began.",
            Query(f"time() - {one_stream.now('stream_start_timestamp_seconds')} and {_LIVE}", "{{stream}}"),
            Look(unit="dtdurations", decimals=0, empty="not live, or not known"),
            graph=False,
        ),
        stat(
            "Restarts in 1 h",
            f"New publishes. The alert StreamFlapping fires at {limits['StreamFlapping']:g} in 15 minutes.",
            Query(f"round({one_stream.increase('stream_restarts_total', within='1h')})", "{{stream}}"),
            Look(unit="short", decimals=0, steps=rising(warning=1, critical=limits["StreamFlapping"])),
            graph=False,
        ),
    ]


def _status_timeline() -> Panel:
    codes = [
        f"{code} * max without (instance, pod, status) ({one_stream.series('stream_status', matcher)})"
        for matcher, code in ((f'status="{status.value}"', code) for status, code in _STATUS_CODES.items())
    ]
    words = {str(code): (status.value, STATUS_COLORS[status]) for status, code in _STATUS_CODES.items()}
    words["-1"] = ("not expected", "#4b5160")
    expected = f"2 * {one_stream.now('stream_expected')} - 1"
    return timeline(
        "Status over time",
        "The status over time, and when the configuration says that the stream should be live.",
        [Query("\nor\n".join(codes), "{{stream}}"), Query(expected, "{{stream}}, expected")],
        Look(
            unit="short",
            mappings=[values_as(words)],
            overrides=[
                override_matching(
                    ", expected$",
                    mappings=[values_as({"1": ("should be live", "blue"), "-1": ("may be off", "#4b5160")})],
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
        Look(
            unit="short",
            mappings=[values_as({"1": ("pending", "orange"), "2": ("firing", "red")})],
            empty="No alert of this stream in this time",
        ),
        width=8,
        height=6,
    )


def _facts() -> Panel:
    info = f"max by (stream, {', '.join(_FACTS.values())}) ({one_stream.series('stream_info')})"
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


def _health(limits: Limits) -> list[Panel]:
    return [
        graph(
            "Health score",
            f"Below {limits['StreamDegraded']:g} for ten minutes fires StreamDegraded, below "
            f"{limits['StreamUnhealthy']:g} for two StreamUnhealthy.",
            [Query(one_stream.now("stream_health_score_ratio"), "{{stream}}")],
            Look(unit="percentunit", minimum=0, maximum=1, steps=limits.health),
            width=8,
        ),
        timeline(
            "Reasons",
            "What pulls the score down, as long as it does.",
            [Query(one_stream.now("stream_health_reason"), "{{reason}}")],
            Look(
                unit="short",
                mappings=[values_as({"1": ("holds", "orange")})],
                empty="Nothing pulls the score down",
            ),
            width=8,
        ),
        timeline(
            "Conditions of the platform",
            "What the platform itself reports, in its own words. Livepeer.",
            [Query(one_stream.now("stream_health_condition"), "{{condition}}")],
            Look(unit="short", mappings=[_TRUE_FALSE], empty="This platform reports no conditions"),
            width=8,
        ),
        graph(
            "Issues",
            "Issues that the platform reports now. Livepeer.",
            [Query(one_stream.now("stream_issues"), "{{stream}}")],
            Look(unit="short", decimals=0, minimum=0, soft_maximum=1, empty="This platform reports no issues"),
            width=8,
            height=6,
        ),
        timeline(
            "Verdict of the platform",
            "Whether the platform calls the stream healthy. Livepeer.",
            [Query(one_stream.now("stream_healthy"), "{{stream}}")],
            Look(
                unit="short",
                mappings=[values_as({"0": ("unhealthy", "red"), "1": ("healthy", "green")})],
                empty="This platform gives no verdict",
            ),
            width=8,
            height=6,
            shows_values=True,
        ),
        timeline(
            "Grade of the platform",
            "The platform's own word for the health. Storm.",
            [Query(one_stream.now("stream_health_grade"), "{{grade}}")],
            Look(
                unit="short",
                mappings=[values_as({"1": ("graded", "blue")})],
                empty="This platform gives no grade",
            ),
            width=8,
            height=6,
        ),
    ]
