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
from exporter.dashboards.limits import CRITICAL, Limits, rising
from exporter.dashboards.panels import Look, Panel, Query, graph, heatmap, stat, timeline, values_as
from exporter.dashboards.queries import IDENTITY, UPSTREAMS_UP, exporter, or_zero, streams, upstreams
from exporter.dashboards.tables import Column, table
from exporter.dashboards.variables import of_streams
from exporter.metrics.text_format import bound
from exporter.model import Status

_LIVE = f"{streams.now('stream_live')} == 1"
_MISSING = f"{streams.now('stream_expected')} == 1 and {streams.now('stream_live')} == 0"
_SCORE = f"({streams.now('stream_health_score_ratio')} and {_LIVE})"
_OF_ALERTS = 'job=~"$job", platform=~"$platform|", upstream=~"$upstream|", stream=~"$stream|"'
"""``ALERTS`` has no instance; those of the exporter have no upstream, those of an upstream no stream."""
_FIRING = f'ALERTS{{alertstate="firing", alertname=~"Stream.+", severity!="none", {_OF_ALERTS}}}'
_SIDECAR_FIRING = exporter.now("stream_exporter_alerts", 'state="firing"', 'alertname!~".+Watchdog"')
_ORDER = "a_order"
_NO_SCORE = 2
"""Above every score."""
_SHOWN = 24
"""Streams in the timeline: as many rows as its height can show."""

STATUS_COLORS = {
    Status.IDLE: "#6e7687",
    Status.CONNECTING: "blue",
    Status.LIVE: "green",
    Status.PAUSED: "purple",
    Status.DEGRADED: "orange",
    Status.ENDED: "#9fa7b3",
    Status.ERROR: "red",
    Status.UNKNOWN: "#4b5160",
}


def overview(limits: Limits) -> Dashboard:
    """The dashboard of the whole fleet."""
    return Dashboard(
        uid=OVERVIEW,
        title="Streams / Overview",
        description="Whether the streams are fine, and which are not. A stream's name leads to its own dashboard.",
        variables=of_streams(),
        annotations=[alert_annotations(_OF_ALERTS)],
        rows=[
            Row("", _figures(limits)),
            Row("Streams", [_health_timeline(limits), _table(limits), _alerts()]),
            Row("Distribution", [*_heatmaps(), *_quantiles(limits)]),
            Row("By platform", _by_platform(limits)),
        ],
    )


def _figures(limits: Limits) -> list[Panel]:
    unhealthy = f"({streams.now('stream_health_score_ratio')} < {limits['StreamUnhealthy']:g} and {_LIVE})"
    return [
        stat(
            "Live",
            "Streams that media arrives of.",
            Query(f"sum({streams.now('stream_live')})"),
            Look(unit="short", decimals=0),
        ),
        stat(
            "Missing",
            "Streams that should be live by the configuration, and are not.",
            Query(or_zero(f"count({_MISSING})")),
            Look(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Unhealthy",
            f"Live streams with a health score below {limits['StreamUnhealthy']:g}, as StreamUnhealthy has it.",
            Query(or_zero(f"count({unhealthy})")),
            Look(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Alerts",
            "Alerts that fire now: those that Prometheus evaluates, and those that the sidecar sends itself.",
            Query(f"({or_zero(f'count({_FIRING})')})\n+\n({or_zero(f'sum({_SIDECAR_FIRING})')})"),
            Look(unit="short", decimals=0, steps=rising(warning=1)),
        ),
        stat(
            "Upstreams down",
            "Platforms whose last poll failed: nobody knows how their streams are.",
            Query(f"sum(1 - {UPSTREAMS_UP})"),
            Look(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Viewers",
            "Viewers of all streams, where the platform tells.",
            Query(f"sum({streams.now('stream_viewers')})"),
            Look(unit="short"),
        ),
        stat(
            "Ingest",
            "Media that all streams send to their platforms.",
            Query(f"8 * sum({streams.now('stream_ingest_bitrate_bytes_per_second')})"),
            Look(unit="bps"),
        ),
        stat(
            "Egress",
            "Media that the platforms send to viewers, where they tell.",
            Query(f"8 * sum({streams.now('stream_egress_bitrate_bytes_per_second')})"),
            Look(unit="bps"),
        ),
    ]


def _health_timeline(limits: Limits) -> Panel:
    """The rows of a timeline stand as Prometheus answers, by their labels: so a label is made that tells the order.

    ``count_values`` makes it of the mean health. What lies above the warning's threshold counts little: a stream that
    is always just above it is fine, one that was down for a moment is not.
    """
    warning, critical = limits["StreamDegraded"], limits["StreamUnhealthy"]
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
        Look(
            unit="percentunit",
            decimals=0,
            steps=[{"color": "dark-red", "value": None}, {"color": CRITICAL, "value": 0}, *limits.health[1:]],
            minimum=0,
            maximum=1,
            links=link_to_stream(field_of="labels"),
        ),
        height=15,
    )


def _table(limits: Limits) -> Panel:
    of_expected = (
        f"{streams.each('stream_ingest_bitrate_bytes_per_second')}\n"
        f"/ {streams.each('stream_expected_ingest_bitrate_bytes_per_second')}"
    )
    status = values_as({status.value: (status.value, color) for status, color in STATUS_COLORS.items()})
    age = f"time() - {streams.each('stream_start_timestamp_seconds')} and {streams.each('stream_live')} == 1"
    flapping = limits["StreamFlapping"]
    words = values_as({"-1": ("missing", "dark-red"), f"{_NO_SCORE}": ("no score", "transparent")})
    return table(
        "Streams",
        "Every stream: first those that should be live and are not, then the least healthy; last those without a "
        "score. Empty cells are facts that the platform does not tell. Expected: the share of the configured bitrate "
        "that arrives. Reasons: how many things pull the score down.",
        [
            Column(name="Stream", label="stream", look=Look(unit="none", links=link_to_stream())),
            Column(name="Upstream", label="upstream", look=Look(unit="none", links=link_to_upstream()), width=120),
            Column(name="Platform", label="platform", width=150),
            Column(
                name="Status",
                expression=streams.each("stream_status", by="platform, upstream, stream, status"),
                label="status",
                look=Look(unit="none", mappings=[status]),
                width=110,
                colored=True,
            ),
            Column(
                name="Health",
                expression=_health_in_order(),
                look=Look(unit="percentunit", decimals=0, steps=limits.health, mappings=[words]),
                width=90,
                colored=True,
            ),
            Column(
                name="Reasons",
                expression=f"count by ({IDENTITY}) ({streams.now('stream_health_reason')})",
                look=Look(unit="short", decimals=0),
                width=90,
            ),
            Column(
                name="Ingest",
                expression=f"8 * {streams.each('stream_ingest_bitrate_bytes_per_second')}",
                look=Look(unit="bps"),
                width=120,
            ),
            Column(
                name="Expected",
                expression=of_expected,
                look=Look(unit="percentunit", decimals=0, steps=limits.of_expected_bitrate),
                width=100,
                colored=True,
            ),
            Column(
                name="Latency",
                expression=streams.each("stream_latency_seconds"),
                look=Look(unit="s"),
                width=100,
            ),
            Column(name="Viewers", expression=streams.each("stream_viewers"), look=Look(unit="short"), width=90),
            Column(
                name="Restarts in 1 h",
                expression=f"round(max by ({IDENTITY}) (increase({streams.series('stream_restarts_total')}[1h])))",
                look=Look(unit="short", decimals=0, steps=rising(warning=1, critical=flapping)),
                width=130,
            ),
            Column(name="On the air", expression=age, look=Look(unit="dtdurations"), width=150),
        ],
        sort_by="Health",
        height=14,
    )


def _health_in_order() -> str:
    """Something for every stream: a table would put those without a value before the least healthy."""
    others = (f"{_NO_SCORE} + 0 * {streams.now(family)}" for family in ("stream_live", "stream_expected"))
    return f"max by ({IDENTITY}) (\n  " + "\n  or ".join((_SCORE, f"-1 * ({_MISSING})", *others)) + "\n)"


def _alerts() -> Panel:
    severity = values_as({"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")})
    return table(
        "Firing alerts",
        "What Prometheus has firing now. Those that the sidecar sends are in Alertmanager, and on the exporter's page.",
        [
            Column(
                name="Severity", label="severity", look=Look(unit="none", mappings=[severity]), width=110, colored=True
            ),
            Column(name="Alert", label="alertname", width=300),
            Column(name="Stream", label="stream", look=Look(unit="none", links=link_to_stream())),
            Column(name="Upstream", label="upstream"),
            Column(name="Platform", label="platform"),
            Column(
                name="Active for",
                expression=(
                    "time() - max by (severity, alertname, platform, upstream, stream) (\n"
                    f'  ALERTS_FOR_STATE{{job=~"$job"}} and ignoring (alertstate) {_FIRING}\n)'
                ),
                look=Look(unit="dtdurations"),
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


def _quantiles(limits: Limits) -> list[Panel]:
    goal = limits.health_goal
    health = "stream_sampled_health_score_ratio"
    at_most_goal = f'le="{bound(goal)}"'
    bad = f"sum by (upstream) ({upstreams.rate(health + '_bucket', at_most_goal)})"
    return [
        graph(
            "Ingest bitrate, quantiles",
            "Nine of ten streams lie above p10; half lie above p50.",
            _quantile_queries((0.1, 0.5, 0.9), "stream_sampled_ingest_bitrate_bytes_per_second", factor=8),
            Look(unit="bps", minimum=0),
            width=8,
        ),
        graph(
            "Latency, quantiles",
            "Nine of ten streams lie below p90.",
            _quantile_queries((0.5, 0.9, 0.99), "stream_sampled_latency_seconds"),
            Look(unit="s", minimum=0),
            width=8,
        ),
        graph(
            "Healthy observations",
            f"Share of the health observations above {goal:g}, by upstream: what the health SLO counts.",
            [Query(f"1 - {bad} / (sum by (upstream) ({upstreams.rate(health + '_count')}) > 0)", "{{upstream}}")],
            Look(unit="percentunit", maximum=1),
            width=8,
        ),
    ]


def _quantile_queries(quantiles: tuple[float, ...], family: str, *, factor: int = 1) -> list[Query]:
    times = f"{factor} * " if factor != 1 else ""
    return [Query(times + upstreams.quantile(q, family), f"p{q * 100:g}") for q in quantiles]


def _by_platform(limits: Limits) -> list[Panel]:
    return [
        graph(
            "Live streams by platform",
            "Streams that media arrives of.",
            [Query(f"sum by (platform) ({streams.now('stream_live')})", "{{platform}}")],
            Look(unit="short", decimals=0, minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Ingest by platform",
            "Media that streams send to the platform.",
            [Query(f"8 * sum by (platform) ({streams.now('stream_ingest_bitrate_bytes_per_second')})", "{{platform}}")],
            Look(unit="bps", minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Viewers by platform",
            "Viewers, where the platform tells.",
            [Query(f"sum by (platform) ({streams.now('stream_viewers')})", "{{platform}}")],
            Look(unit="short", decimals=0, minimum=0),
            width=6,
            stacked=True,
        ),
        graph(
            "Mean health by platform",
            "Mean health score of the live streams.",
            [Query(f"avg by (platform) ({_SCORE})", "{{platform}}")],
            Look(unit="percentunit", minimum=0, maximum=1, steps=limits.health),
            width=6,
        ),
    ]
