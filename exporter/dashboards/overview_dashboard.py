"""Streams / Overview: is it fine?"""

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
_OF_ALERTS = 'job=~"$job", platform=~"$platform|", upstream=~"$upstream|", stream=~"$stream|"'
"""``ALERTS`` has no instance; those of the exporter have no upstream, those of an upstream no stream."""
_FIRING = f'ALERTS{{alertstate="firing", alertname=~"Stream.+", severity!="none", {_OF_ALERTS}}}'
_SIDECAR_FIRING = exporter.current("stream_exporter_alerts", 'state="firing"', 'alertname!~".+Watchdog"')
_ORDER = "a_order"
_NO_SCORE = 2
"""Above every score."""
_SHOWN = 24
"""Streams in the timeline: as many rows as its height can show."""


def overview_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """The dashboard of the whole fleet."""
    return Dashboard(
        uid=OVERVIEW,
        title="Streams / Overview",
        description="Whether the streams are fine, and which are not. A stream's name leads to its own dashboard.",
        variables=stream_variables(),
        annotations=[alert_annotations(_OF_ALERTS)],
        rows=[
            Row("", _figures(thresholds)),
            Row("Streams", [_health_timeline(thresholds), _table(thresholds), _alerts()]),
            Row("Distribution", [*_heatmaps(), *_quantiles(thresholds)]),
            Row("By platform", _by_platform(thresholds)),
        ],
    )


def _figures(thresholds: RuleThresholds) -> list[Panel]:
    unhealthy = f"({streams.current('stream_health_score_ratio')} < {thresholds['StreamUnhealthy']:g} and {_LIVE})"
    return [
        stat(
            "Live",
            "Streams that media arrives of.",
            Query(f"sum({streams.current('stream_live')})"),
            FieldOptions(unit="short", decimals=0),
        ),
        stat(
            "Missing",
            "Streams that should be live by the configuration, and are not.",
            Query(or_zero(f"count({_MISSING})")),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Unhealthy",
            f"Live streams with a health score below {thresholds['StreamUnhealthy']:g}, as StreamUnhealthy has it.",
            Query(or_zero(f"count({unhealthy})")),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Alerts",
            "Alerts that fire now: those that Prometheus evaluates, and those that the sidecar sends itself.",
            Query(f"({or_zero(f'count({_FIRING})')})\n+\n({or_zero(f'sum({_SIDECAR_FIRING})')})"),
            FieldOptions(unit="short", decimals=0, steps=rising(warning=1)),
        ),
        stat(
            "Upstreams down",
            "Platforms whose last poll failed: nobody knows how their streams are.",
            Query(f"sum(1 - {UPSTREAM_UP})"),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Viewers",
            "Viewers of all streams, where the platform tells.",
            Query(f"sum({streams.current('stream_viewers')})"),
            FieldOptions(unit="short"),
        ),
        stat(
            "Ingest",
            "Media that all streams send to their platforms.",
            Query(f"8 * sum({streams.current('stream_ingest_bitrate_bytes_per_second')})"),
            FieldOptions(unit="bps"),
        ),
        stat(
            "Egress",
            "Media that the platforms send to viewers, where they tell.",
            Query(f"8 * sum({streams.current('stream_egress_bitrate_bytes_per_second')})"),
            FieldOptions(unit="bps"),
        ),
    ]


def _health_timeline(thresholds: RuleThresholds) -> Panel:
    """The rows of a timeline stand as Prometheus answers, by their labels: so a label is made that tells the order.

    ``count_values`` makes it of the mean health. What lies above the warning's threshold counts little: a stream that
    is always just above it is fine, one that was down for a moment is not.
    """
    warning, critical = thresholds["StreamDegraded"], thresholds["StreamUnhealthy"]
    health = f"({_SCORE} or -1 * ({_MISSING}))"
    mean = f"avg_over_time((clamp_max({health}, {warning:g}) + {health} / 100)[$__range:1m] @ end())"
    worst = f"bottomk({_SHOWN}, max by ({IDENTITY}) ({mean}))"
    # of six digits each, so that the order of the texts is that of the numbers
    order = f'count_values by ({IDENTITY}) ("{_ORDER}", round(1e5 * (3 + {worst})))'
    return timeline(
        "Health",
        f"The health score of each stream; red below {critical:g} (StreamUnhealthy), orange below {warning:g} "
        f"(StreamDegraded), dark red while a stream that should be live is not. The {_SHOWN} streams that were worst "
        "on average in the chosen time, the worst first; a gap is a stream that is not live, or too young for a score.",
        [Query(f"{health}\n* on ({IDENTITY}) group_left ({_ORDER})\n{order}", "{{stream}}")],
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
    of_expected = (
        f"{streams.max_by('stream_ingest_bitrate_bytes_per_second')}\n"
        f"/ {streams.max_by('stream_expected_ingest_bitrate_bytes_per_second')}"
    )
    status = value_mapping({status.value: (status.value, color) for status, color in STATUS_COLORS.items()})
    age = f"time() - {streams.max_by('stream_start_timestamp_seconds')} and {streams.max_by('stream_live')} == 1"
    flapping = thresholds["StreamFlapping"]
    words = value_mapping({"-1": ("missing", "dark-red"), f"{_NO_SCORE}": ("no score", "transparent")})
    return table(
        "Streams",
        "Every stream: first those that should be live and are not, then the least healthy; last those without a "
        "score. Empty cells are facts that the platform does not tell. Expected: the share of the configured bitrate "
        "that arrives. Reasons: how many things pull the score down.",
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
                name="Expected",
                expression=of_expected,
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
            Column(name="On the air", expression=age, field=FieldOptions(unit="dtdurations"), width=150),
        ],
        sort_by="Health",
        height=14,
    )


def _health_in_order() -> str:
    """Something for every stream: a table would put those without a value before the least healthy."""
    every_stream = f"max without (instance, pod, status) ({streams.selector('stream_status')})"
    others = (f"{_NO_SCORE} + 0 * {series}" for series in (every_stream, streams.current("stream_expected")))
    return f"max by ({IDENTITY}) (\n  " + "\n  or ".join((_SCORE, f"-1 * ({_MISSING})", *others)) + "\n)"


def _alerts() -> Panel:
    severity = value_mapping(
        {"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")}
    )
    return table(
        "Firing alerts",
        "What Prometheus has firing now. Those that the sidecar sends are in Alertmanager, and on the exporter's page.",
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
        empty="No alert fires",
    )


def _heatmaps() -> list[Panel]:
    return [
        heatmap(
            "Ingest bitrates",
            "How the ingest bitrates of the live streams are spread: observations per bucket. The axis is in bytes per "
            "second; a heatmap cannot show 8 times that.",
            upstreams.buckets("stream_sampled_ingest_bitrate_bytes_per_second"),
            unit="Bps",
            scheme="Blues",
        ),
        heatmap(
            "Latencies",
            "How the latencies of the live streams are spread, where the platform measures them.",
            upstreams.buckets("stream_sampled_latency_seconds"),
            unit="s",
            scheme="Oranges",
        ),
        heatmap(
            "Health scores",
            "How the health scores are spread. A stream that should be live and is not counts as 0.",
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
            "Nine of ten streams lie above p10; half lie above p50.",
            _quantile_queries((0.1, 0.5, 0.9), "stream_sampled_ingest_bitrate_bytes_per_second", factor=8),
            FieldOptions(unit="bps", minimum=0),
            width=8,
        ),
        graph(
            "Latency, quantiles",
            "Nine of ten streams lie below p90.",
            _quantile_queries((0.5, 0.9, 0.99), "stream_sampled_latency_seconds"),
            FieldOptions(unit="s", minimum=0),
            width=8,
        ),
        graph(
            "Healthy observations",
            f"Share of the health observations above {goal:g}, by upstream: what the health SLO counts.",
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
            "Streams that media arrives of.",
            [Query(f"sum by (platform) ({streams.current('stream_live')})", "{{platform}}")],
            FieldOptions(unit="short", decimals=0, minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Ingest by platform",
            "Media that streams send to the platform.",
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
            "Viewers, where the platform tells.",
            [Query(f"sum by (platform) ({streams.current('stream_viewers')})", "{{platform}}")],
            FieldOptions(unit="short", decimals=0, minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Mean health by platform",
            "Mean health score of the live streams.",
            [Query(f"avg by (platform) ({_SCORE})", "{{platform}}")],
            FieldOptions(unit="percentunit", minimum=0, maximum=1, steps=thresholds.health),
            width=6,
        ),
    ]
