"""The dashboard Streams / Overview: state of all streams."""

from __future__ import annotations

from exporter.dashboards.dashboard import (
    OVERVIEW,
    Dashboard,
    Row,
    alert_annotations,
    link_to_stream,
    link_to_upstream,
)
from exporter.dashboards.panels import (
    Column,
    FieldOptions,
    Panel,
    Query,
    graph,
    heatmap,
    stat,
    table,
    timeline,
    value_mapping,
)
from exporter.dashboards.selections import (
    IDENTITY,
    UPSTREAM_UP,
    exporter,
    or_zero,
    stream_variables,
    streams,
    upstreams,
)
from exporter.dashboards.thresholds import CRITICAL, STATUS_COLORS, RuleThresholds, rising
from exporter.metrics.text_format import bound

_LIVE = f"{streams.current('stream_live')} == 1"
_MISSING = f"{streams.current('stream_expected')} == 1 and {streams.current('stream_live')} == 0"
_SCORE = f"({streams.current('stream_health_score_ratio')} and {_LIVE})"
_ALERT_MATCHERS = 'job=~"$job", platform=~"$platform|", upstream=~"$upstream|", stream=~"$stream|"'
"""``ALERTS`` has no instance label; alerts about the exporter have no upstream, those about an upstream no stream."""
_FIRING = f'ALERTS{{alertstate="firing", alertname=~"Stream.+", severity!="none", {_ALERT_MATCHERS}}}'
_SIDECAR_FIRING = exporter.current("stream_exporter_alerts", 'state="firing"', 'alertname!~".+Watchdog"')
_ORDER_LABEL = "a_order"
_NO_SCORE = 2
"""Sort value of streams without a score, above every score."""
_TIMELINE_STREAMS = 24
"""Maximum number of streams in the timeline, limited by its height."""


def overview_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """Return the overview dashboard."""
    return Dashboard(
        uid=OVERVIEW,
        title="Streams / Overview",
        description="State of all streams, worst first. Click a stream's name to open its dashboard.",
        variables=stream_variables(),
        annotations=[alert_annotations(_ALERT_MATCHERS)],
        rows=[
            Row("", _stats(thresholds)),
            Row("Streams", [_health_timeline(thresholds), _table(thresholds), _alerts()]),
            Row("Distribution", [*_heatmaps(), *_quantiles(thresholds)]),
            Row("By platform", _by_platform(thresholds)),
        ],
    )


def _stats(thresholds: RuleThresholds) -> list[Panel]:
    unhealthy = f"({streams.current('stream_health_score_ratio')} < {thresholds['StreamUnhealthy']:g} and {_LIVE})"
    return [
        stat(
            "Live",
            "Number of live streams.",
            Query(f"sum({streams.current('stream_live')})"),
            FieldOptions(unit="short", decimals=0),
        ),
        stat(
            "Missing",
            "Expected streams that are not live.",
            Query(or_zero(f"count({_MISSING})")),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Unhealthy",
            f"Live streams with a health score below {thresholds['StreamUnhealthy']:g} (StreamUnhealthy).",
            Query(or_zero(f"count({unhealthy})")),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Alerts",
            "Firing alerts, from Prometheus' rules and from the sidecar.",
            Query(f"({or_zero(f'count({_FIRING})')})\n+\n({or_zero(f'sum({_SIDECAR_FIRING})')})"),
            FieldOptions(unit="short", decimals=0, steps=rising(warning=1)),
        ),
        stat(
            "Upstreams down",
            "Upstreams whose last poll failed.",
            Query(f"sum(1 - {UPSTREAM_UP})"),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Viewers",
            "Viewers of all streams, for platforms that report them.",
            Query(f"sum({streams.current('stream_viewers')})"),
            FieldOptions(unit="short"),
        ),
        stat(
            "Ingest",
            "Total ingest bitrate of all streams.",
            Query(f"8 * sum({streams.current('stream_ingest_bitrate_bytes_per_second')})"),
            FieldOptions(unit="bps"),
        ),
        stat(
            "Egress",
            "Total bitrate sent to viewers, for platforms that report it.",
            Query(f"8 * sum({streams.current('stream_egress_bitrate_bytes_per_second')})"),
            FieldOptions(unit="bps"),
        ),
    ]


def _health_timeline(thresholds: RuleThresholds) -> Panel:
    """Return the timeline of the streams with the lowest mean health, worst first.

    Grafana shows the rows in the order of the series, which Prometheus sorts by label. So ``count_values`` adds a
    label made from the mean health. Health above the warning threshold counts little, so that a stream that is always
    just above it ranks better than one that was down for a moment.
    """
    warning, critical = thresholds["StreamDegraded"], thresholds["StreamUnhealthy"]
    health = f"({_SCORE} or -1 * ({_MISSING}))"
    mean = f"avg_over_time((clamp_max({health}, {warning:g}) + {health} / 100)[$__range:1m] @ end())"
    worst = f"bottomk({_TIMELINE_STREAMS}, max by ({IDENTITY}) ({mean}))"
    # Six digits each, so that the texts sort like the numbers.
    order = f'count_values by ({IDENTITY}) ("{_ORDER_LABEL}", round(1e5 * (3 + {worst})))'
    return timeline(
        "Health",
        f"Health score of the {_TIMELINE_STREAMS} streams with the lowest average in the time range, worst first. Red: "
        f"below {critical:g} (StreamUnhealthy). Orange: below {warning:g} (StreamDegraded). Dark red: expected but not "
        "live. Gap: not live, or too new for a score.",
        [Query(f"{health}\n* on ({IDENTITY}) group_left ({_ORDER_LABEL})\n{order}", "{{stream}}")],
        FieldOptions(
            unit="percentunit",
            decimals=0,
            steps=[{"color": "dark-red", "value": None}, {"color": CRITICAL, "value": 0}, *thresholds.health[1:]],
            minimum=0,
            maximum=1,
            links=link_to_stream(field_of="labels"),
        ),
        height=15,
    )


def _table(thresholds: RuleThresholds) -> Panel:
    expected_share = (
        f"{streams.max_by('stream_ingest_bitrate_bytes_per_second')}\n"
        f"/ {streams.max_by('stream_expected_ingest_bitrate_bytes_per_second')}"
    )
    status = value_mapping({status.value: (status.value, color) for status, color in STATUS_COLORS.items()})
    age = f"time() - {streams.max_by('stream_start_timestamp_seconds')} and {streams.max_by('stream_live')} == 1"
    flapping = thresholds["StreamFlapping"]
    words = value_mapping({"-1": ("missing", "dark-red"), f"{_NO_SCORE}": ("no score", "transparent")})
    return table(
        "Streams",
        "All streams: missing ones first, then by health score, then those without a score. A cell is empty if the "
        "platform does not report the value. Reasons is the number of reasons that lower the score; Of expected is the "
        "ingest bitrate as a share of the expected bitrate.",
        [
            Column(name="Stream", label="stream", field=FieldOptions(unit="none", links=link_to_stream())),
            Column(
                name="Upstream", label="upstream", field=FieldOptions(unit="none", links=link_to_upstream()), width=120
            ),
            Column(name="Platform", label="platform", width=150),
            Column(
                name="Status",
                expression=streams.max_by("stream_status", by="platform, upstream, stream, status"),
                label="status",
                field=FieldOptions(unit="none", mappings=[status]),
                width=110,
                colored=True,
            ),
            Column(
                name="Health",
                expression=_health_in_order(),
                field=FieldOptions(unit="percentunit", decimals=0, steps=thresholds.health, mappings=[words]),
                width=90,
                colored=True,
            ),
            Column(
                name="Reasons",
                expression=f"count by ({IDENTITY}) ({streams.current('stream_health_reason')})",
                field=FieldOptions(unit="short", decimals=0),
                width=90,
            ),
            Column(
                name="Ingest",
                expression=f"8 * {streams.max_by('stream_ingest_bitrate_bytes_per_second')}",
                field=FieldOptions(unit="bps"),
                width=120,
            ),
            Column(
                name="Of expected",
                expression=expected_share,
                field=FieldOptions(unit="percentunit", decimals=0, steps=thresholds.expected_bitrate_share),
                width=100,
                colored=True,
            ),
            Column(
                name="Latency",
                expression=streams.max_by("stream_latency_seconds"),
                field=FieldOptions(unit="s"),
                width=100,
            ),
            Column(
                name="Viewers", expression=streams.max_by("stream_viewers"), field=FieldOptions(unit="short"), width=90
            ),
            Column(
                name="Restarts in 1 h",
                expression=f"round(max by ({IDENTITY}) (increase({streams.selector('stream_restarts_total')}[1h])))",
                field=FieldOptions(unit="short", decimals=0, steps=rising(warning=1, critical=flapping)),
                width=130,
            ),
            Column(name="Live for", expression=age, field=FieldOptions(unit="dtdurations"), width=150),
        ],
        sort_by="Health",
        height=14,
    )


def _health_in_order() -> str:
    """Return a sort value for every stream, because Grafana would put streams without a value first."""
    every_stream = f"max without (instance, pod, status) ({streams.selector('stream_status')})"
    others = (f"{_NO_SCORE} + 0 * {series}" for series in (every_stream, streams.current("stream_expected")))
    return f"max by ({IDENTITY}) (\n  " + "\n  or ".join((_SCORE, f"-1 * ({_MISSING})", *others)) + "\n)"


def _alerts() -> Panel:
    severity = value_mapping(
        {"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")}
    )
    return table(
        "Firing alerts",
        "Alerts firing in Prometheus. Alerts sent by the sidecar are in Alertmanager and on the exporter's page.",
        [
            Column(
                name="Severity",
                label="severity",
                field=FieldOptions(unit="none", mappings=[severity]),
                width=110,
                colored=True,
            ),
            Column(name="Alert", label="alertname", width=300),
            Column(name="Stream", label="stream", field=FieldOptions(unit="none", links=link_to_stream())),
            Column(name="Upstream", label="upstream"),
            Column(name="Platform", label="platform"),
            Column(
                name="Active for",
                expression=(
                    "time() - max by (severity, alertname, platform, upstream, stream) (\n"
                    f'  ALERTS_FOR_STATE{{job=~"$job"}} and ignoring (alertstate) {_FIRING}\n)'
                ),
                field=FieldOptions(unit="dtdurations"),
            ),
        ],
        sort_by="Severity",
        height=7,
        empty="No firing alerts",
    )


def _heatmaps() -> list[Panel]:
    return [
        heatmap(
            "Ingest bitrates",
            "Distribution of the ingest bitrates of live streams. The axis is in bytes per second, because a heatmap "
            "cannot convert bucket bounds to bits.",
            upstreams.buckets("stream_sampled_ingest_bitrate_bytes_per_second"),
            unit="Bps",
            scheme="Blues",
        ),
        heatmap(
            "Latencies",
            "Distribution of the latencies of live streams, for platforms that measure latency.",
            upstreams.buckets("stream_sampled_latency_seconds"),
            unit="s",
            scheme="Oranges",
        ),
        heatmap(
            "Health scores",
            "Distribution of the health scores of live streams. An expected stream that is not live counts as 0.",
            upstreams.buckets("stream_sampled_health_score_ratio"),
            unit="percentunit",
            scheme="Greens",
        ),
    ]


def _quantiles(thresholds: RuleThresholds) -> list[Panel]:
    goal = thresholds.health_goal
    health = "stream_sampled_health_score_ratio"
    at_most_goal = f'le="{bound(goal)}"'
    bad = f"sum by (upstream) ({upstreams.rate(health + '_bucket', at_most_goal)})"
    return [
        graph(
            "Ingest bitrate, quantiles",
            "10th, 50th and 90th percentile of the ingest bitrates of live streams.",
            _quantile_queries((0.1, 0.5, 0.9), "stream_sampled_ingest_bitrate_bytes_per_second", factor=8),
            FieldOptions(unit="bps", minimum=0),
            width=8,
        ),
        graph(
            "Latency, quantiles",
            "50th, 90th and 99th percentile of the latencies of live streams.",
            _quantile_queries((0.5, 0.9, 0.99), "stream_sampled_latency_seconds"),
            FieldOptions(unit="s", minimum=0),
            width=8,
        ),
        graph(
            "Healthy observations",
            f"Share of health scores above {goal:g}, by upstream. The health SLO is based on this share.",
            [Query(f"1 - {bad} / (sum by (upstream) ({upstreams.rate(health + '_count')}) > 0)", "{{upstream}}")],
            FieldOptions(unit="percentunit", maximum=1),
            width=8,
        ),
    ]


def _quantile_queries(quantiles: tuple[float, ...], family: str, *, factor: int = 1) -> list[Query]:
    times = f"{factor} * " if factor != 1 else ""
    return [Query(times + upstreams.quantile(q, family), f"p{q * 100:g}") for q in quantiles]


def _by_platform(thresholds: RuleThresholds) -> list[Panel]:
    return [
        graph(
            "Live streams by platform",
            "Number of live streams.",
            [Query(f"sum by (platform) ({streams.current('stream_live')})", "{{platform}}")],
            FieldOptions(unit="short", decimals=0, minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Ingest by platform",
            "Total ingest bitrate, by platform.",
            [
                Query(
                    f"8 * sum by (platform) ({streams.current('stream_ingest_bitrate_bytes_per_second')})",
                    "{{platform}}",
                )
            ],
            FieldOptions(unit="bps", minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Viewers by platform",
            "Number of viewers, for platforms that report it.",
            [Query(f"sum by (platform) ({streams.current('stream_viewers')})", "{{platform}}")],
            FieldOptions(unit="short", decimals=0, minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Mean health by platform",
            "Mean health score of live streams.",
            [Query(f"avg by (platform) ({_SCORE})", "{{platform}}")],
            FieldOptions(unit="percentunit", minimum=0, maximum=1, steps=thresholds.health),
            width=6,
        ),
    ]
