"""The dashboard Streams / Audience: viewers, watch time, delivery and analytics."""

from __future__ import annotations

from exporter.dashboards.dashboard import AUDIENCE, Dashboard, Row, link_to_stream
from exporter.dashboards.panels import Column, FieldOptions, Panel, Query, graph, stat, table
from exporter.dashboards.selections import IDENTITY, largest, stream_variables, streams, upstreams
from exporter.dashboards.thresholds import RuleThresholds

_VIEWERS = streams.current("stream_viewers")
_TOP = 10
_MINUTES_PER_HOUR = 60
_NO_ANALYTICS = "No analytics; WAVE reports them for streams listed in the configuration"


def audience_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """Return the audience dashboard."""
    return Dashboard(
        uid=AUDIENCE,
        title="Streams / Audience",
        description="Viewers and peaks, hours watched, viewer errors, and the platforms' analytics.",
        variables=stream_variables(),
        since="now-6h",
        rows=[
            Row("", _stats()),
            Row("Viewers", [*_viewers(thresholds), _table()]),
            Row("Delivery", _delivery()),
            Row("Platform analytics", _analytics()),
        ],
    )


def _watched(expression: str) -> str:
    """Return the hours watched in the time range, from one sample per minute."""
    return f"sum_over_time(({expression})[$__range:1m]) / {_MINUTES_PER_HOUR}"


def _stats() -> list[Panel]:
    total = f"sum({_VIEWERS})"
    return [
        stat(
            "Viewers",
            "Current number of viewers of all streams.",
            Query(total),
            FieldOptions(unit="short"),
            width=4,
            graph=False,
        ),
        stat(
            "Peak",
            "Maximum number of concurrent viewers of all streams in the time range.",
            Query(f"max_over_time(({total})[$__range:])"),
            FieldOptions(unit="short"),
            width=4,
            instant=True,
        ),
        stat(
            "Hours watched",
            "Hours watched in the time range, from the number of viewers at each minute.",
            Query(_watched(total)),
            FieldOptions(unit="short"),
            width=4,
            instant=True,
        ),
        stat(
            "Streams with viewers",
            "Streams with at least one viewer.",
            Query(f"sum({_VIEWERS} > bool 0)"),
            FieldOptions(unit="short", decimals=0),
            width=4,
            graph=False,
        ),
        stat(
            "Largest stream",
            "Number of viewers of the stream with the most viewers.",
            Query(f"max({_VIEWERS})"),
            FieldOptions(unit="short"),
            width=4,
            graph=False,
        ),
        stat(
            "Egress per viewer",
            "Egress bitrate per viewer, for streams whose platform reports both.",
            Query(
                f"8 * sum({streams.current('stream_egress_bitrate_bytes_per_second')})\n"
                f"/ sum({_VIEWERS} and {streams.current('stream_egress_bitrate_bytes_per_second')})"
            ),
            FieldOptions(unit="bps"),
            width=4,
            graph=False,
        ),
    ]


def _viewers(thresholds: RuleThresholds) -> list[Panel]:
    mean = f"avg_over_time({streams.selector('stream_viewers')}[$__range] @ end())"
    return [
        graph(
            "Viewers by platform",
            "Number of viewers, for platforms that report it.",
            [Query(f"sum by (platform) ({_VIEWERS})", "{{platform}}")],
            FieldOptions(unit="short", minimum=0),
            stacked=True,
            height=10,
        ),
        graph(
            "Viewers of the largest streams",
            f"The {_TOP} streams with the most viewers on average. StreamViewersDropped fires if a live stream loses "
            f"{thresholds['StreamViewersDropped']:.0%} of its viewers within 10 minutes.",
            [Query(largest(_TOP, _VIEWERS, f"max without (instance, pod) ({mean})"), "{{stream}} ({{upstream}})")],
            FieldOptions(unit="short", minimum=0),
            height=10,
        ),
    ]


def _table() -> Panel:
    viewers = streams.selector("stream_viewers")
    return table(
        "Audience by stream",
        "Peak is the maximum number of concurrent viewers seen by the exporter in the time range; Peak (platform) is "
        "the maximum that the platform reports.",
        [
            Column(name="Stream", label="stream", field=FieldOptions(unit="none", links=link_to_stream())),
            Column(name="Upstream", label="upstream"),
            Column(name="Platform", label="platform"),
            Column(name="Viewers", expression=streams.max_by("stream_viewers"), field=FieldOptions(unit="short")),
            Column(
                name="Peak",
                expression=f"max by ({IDENTITY}) (max_over_time({viewers}[$__range]))",
                field=FieldOptions(unit="short"),
            ),
            Column(
                name="Peak (platform)",
                expression=streams.max_by("stream_viewers_peak"),
                field=FieldOptions(unit="short"),
            ),
            Column(
                name="Hours watched",
                expression=_watched(streams.max_by("stream_viewers")),
                field=FieldOptions(unit="short", decimals=1),
            ),
            Column(
                name="Views with errors",
                expression=streams.max_by("stream_viewer_error_ratio"),
                field=FieldOptions(unit="percentunit", decimals=1),
            ),
        ],
        sort_by="Viewers",
        descending=True,
        height=12,
    )


def _delivery() -> list[Panel]:
    return [
        graph(
            "Egress by platform",
            "Bitrate sent to viewers, for platforms that report it.",
            [
                Query(
                    f"8 * sum by (platform) ({streams.current('stream_egress_bitrate_bytes_per_second')})",
                    "{{platform}}",
                )
            ],
            FieldOptions(unit="bps", minimum=0),
            width=8,
            stacked=True,
        ),
        graph(
            "Views with errors",
            f"Share of views with errors, for the {_TOP} streams with the highest share.",
            [
                Query(
                    largest(
                        _TOP,
                        streams.current("stream_viewer_error_ratio"),
                        "max without (instance, pod) "
                        f"(avg_over_time({streams.selector('stream_viewer_error_ratio')}[$__range] @ end()))",
                    ),
                    "{{stream}}",
                )
            ],
            FieldOptions(unit="percentunit", minimum=0, soft_maximum=0.1),
            width=8,
        ),
        graph(
            "Latency weighted by viewers",
            "Average latency of the streams, weighted by their viewers.",
            [
                Query(
                    f"sum by (upstream) ({streams.current('stream_latency_seconds')} * {_VIEWERS})\n"
                    f"/ (sum by (upstream) ({_VIEWERS} and {streams.current('stream_latency_seconds')}) > 0)",
                    "{{upstream}}",
                )
            ],
            FieldOptions(unit="s", minimum=0),
            width=8,
        ),
    ]


def _analytics() -> list[Panel]:
    return [
        table(
            "Stream analytics",
            "The platform's analytics over the configured period.",
            [
                Column(name="Stream", label="stream"),
                Column(name="Upstream", label="upstream", width=100),
                Column(name="Period", label="period", width=80),
                *(
                    Column(
                        name=name,
                        expression=streams.max_by(f"stream_analytics_{family}", by="upstream, stream, period"),
                        field=FieldOptions(unit=unit, decimals=0),
                        width=width,
                    )
                    for name, family, unit, width in (
                        ("Viewers", "viewers", "none", 90),
                        ("Peak", "peak_viewers", "none", 90),
                        ("Average watch time", "average_watch_seconds", "dtdurations", 140),
                    )
                ),
            ],
            sort_by="Viewers",
            descending=True,
            width=12,
            height=9,
            empty=_NO_ANALYTICS,
        ),
        table(
            "Other platform metrics",
            "Numbers that platforms report without documenting their meaning, under the platform's own names.",
            [
                Column(name="Metric", label="metric", width=270),
                Column(name="Stream", label="stream"),
                Column(name="Upstream", label="upstream", width=100),
                Column(name="Period", label="period", width=80),
                Column(
                    name="Value",
                    expression=upstreams.max_by("stream_platform_metric", by="upstream, stream, metric, period"),
                    field=FieldOptions(unit="short"),
                    width=100,
                ),
            ],
            sort_by="Metric",
            width=12,
            height=9,
            empty=_NO_ANALYTICS,
        ),
    ]
