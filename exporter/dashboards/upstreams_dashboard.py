"""The dashboard Streams / Upstreams and exporter: polls, requests, and the exporter itself."""

from __future__ import annotations

from exporter.dashboards.dashboard import UPSTREAMS, Dashboard, Row, alert_annotations
from exporter.dashboards.exporter_panels import notifications, process, scrapes
from exporter.dashboards.panels import Column, FieldOptions, Panel, Query, graph, stat, table, timeline, value_mapping
from exporter.dashboards.selections import UPSTREAM_UP, exporter, upstream_variables, upstreams
from exporter.dashboards.thresholds import RuleThresholds, falling, rising

_AGE = f"time() - {upstreams.current('stream_upstream_last_success_timestamp_seconds')}"
_ANSWERING_INTERVALS = 2.5
"""Maximum age of the data, in poll intervals, while an upstream is answering (``stream_upstream_answering``)."""
_POLL_STEP = "2m"
"""Minimum step for rates of polls, because failing upstreams are polled as rarely as once a minute."""
_FAILED = 'code!~"[23]..|404"'


def upstreams_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """Return the dashboard of upstreams and exporter."""
    return Dashboard(
        uid=UPSTREAMS,
        title="Streams / Upstreams and exporter",
        description="State of the upstreams and of the exporter itself, to tell whether the data can be trusted.",
        variables=upstream_variables(),
        annotations=[alert_annotations('job=~"$job", scope=~"upstream|exporter", upstream=~"$upstream|"')],
        rows=[
            Row("", _stats()),
            Row("Upstreams", [_up_timeline(), _table()]),
            Row("Polls", _polls()),
            Row("Requests", _requests(thresholds)),
            Row("Scrapes", scrapes()),
            Row("Sidecar notifications", notifications(thresholds)),
            Row("Process", process()),
        ],
    )


def _stats() -> list[Panel]:
    return [
        stat(
            "Upstreams up",
            "Upstreams whose last poll succeeded.",
            Query(f"sum({UPSTREAM_UP})"),
            FieldOptions(unit="short", decimals=0),
        ),
        stat(
            "Upstreams down",
            "Upstreams whose last poll failed.",
            Query(f"sum(1 - {UPSTREAM_UP})"),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Oldest data",
            "Age of the oldest data: time since the last successful poll of the worst upstream.",
            Query(f"max({_AGE})"),
            FieldOptions(unit="s"),
        ),
        stat(
            "Failed polls in 1 h",
            "Polls that failed.",
            Query(f"round(sum({upstreams.increase('stream_upstream_poll_failures_total', within='1h')}))"),
            FieldOptions(unit="short", decimals=0, steps=rising(warning=1)),
        ),
        stat(
            "Exporters up",
            "Exporter instances that answer scrapes.",
            Query(f"sum({exporter.selector('up')})"),
            FieldOptions(unit="short", decimals=0, steps=falling(critical=1)),
        ),
        stat(
            "Streams",
            "Number of streams; streams served by several replicas count once.",
            Query(f"sum({upstreams.current('stream_upstream_streams')})"),
            FieldOptions(unit="short", decimals=0),
        ),
        stat(
            "Streams dropped",
            "Streams dropped because of max_streams.",
            Query(f"sum({upstreams.current('stream_upstream_streams_dropped')})"),
            FieldOptions(unit="short", decimals=0, steps=rising(warning=1)),
        ),
        stat(
            "Configuration",
            "Whether the last reload succeeded on every instance.",
            Query(f"min({exporter.selector('stream_exporter_config_last_reload_successful')})"),
            FieldOptions(
                unit="short",
                steps=falling(critical=1),
                mappings=[value_mapping({"0": ("reload failed", "red"), "1": ("loaded", "green")})],
            ),
            graph=False,
        ),
    ]


def _up_timeline() -> Panel:
    return timeline(
        "Up",
        "Whether the last poll succeeded. Gaps are times without scrapes.",
        [Query(upstreams.current("stream_upstream_up"), "{{upstream}}")],
        FieldOptions(unit="short", mappings=[value_mapping({"0": ("down", "red"), "1": ("up", "green")})]),
        width=7,
        height=7,
        shows_values=True,
    )


def _table() -> Panel:
    by = "platform, upstream"
    up = value_mapping({"0": ("down", "red"), "1": ("up", "green")})
    age = f"time() - {upstreams.max_by('stream_upstream_last_success_timestamp_seconds', by=by)}"
    return table(
        "Upstreams",
        "All upstreams. Intervals is the age of the data in poll intervals; StreamUpstreamDataStale fires above "
        f"{_ANSWERING_INTERVALS:g}. Score tells whether health scores are reported by the platform or derived by the "
        "exporter.",
        [
            Column(
                name="Upstream",
                expression=upstreams.max_by("stream_upstream_info", by=f"{by}, host, version, health_score"),
                label="upstream",
            ),
            Column(name="Platform", label="platform", width=140),
            Column(name="Host", label="host", width=160),
            Column(name="Version", label="version", width=80),
            Column(name="Score", label="health_score", width=90),
            Column(
                name="State",
                expression=upstreams.max_by("stream_upstream_up", by=by),
                field=FieldOptions(unit="short", mappings=[up], steps=falling(critical=1)),
                width=70,
                colored=True,
            ),
            Column(
                name="Answering",
                expression=upstreams.max_by("stream_upstream_answering", by=by),
                field=FieldOptions(
                    unit="short",
                    mappings=[value_mapping({"0": ("no", "red"), "1": ("yes", "green")})],
                    steps=falling(critical=1),
                ),
                width=95,
                colored=True,
            ),
            Column(
                name="List",
                expression=upstreams.max_by("stream_upstream_list_complete", by=by),
                field=FieldOptions(
                    unit="short",
                    mappings=[value_mapping({"0": ("doubtful", "orange"), "1": ("complete", "green")})],
                    steps=falling(critical=1),
                ),
                width=90,
                colored=True,
            ),
            Column(
                name="Streams",
                expression=f"sum by ({by}) ({upstreams.current('stream_upstream_streams')})",
                field=FieldOptions(unit="short", decimals=0),
                width=80,
            ),
            Column(name="Age of data", expression=age, field=FieldOptions(unit="s", decimals=1), width=110),
            Column(
                name="Intervals",
                expression=f"({age})\n/ {upstreams.max_by('stream_upstream_poll_interval_seconds', by=by)}",
                field=FieldOptions(unit="short", decimals=1, steps=rising(warning=_ANSWERING_INTERVALS)),
                width=90,
                colored=True,
            ),
            Column(
                name="Requests left",
                expression=upstreams.max_by("stream_upstream_rate_limit_remaining", by=by),
                field=FieldOptions(unit="short", decimals=0),
                width=120,
            ),
        ],
        sort_by="State",
        width=17,
        height=7,
    )


def _polls() -> list[Panel]:
    polls = upstreams.rate("stream_upstream_polls_total")
    return [
        graph(
            "Polls",
            "Polls per minute, including failed ones.",
            [Query(f"60 * {polls}", "{{upstream}}", min_step=_POLL_STEP)],
            FieldOptions(unit="cpm", minimum=0),
            width=6,
        ),
        graph(
            "Failed polls by reason",
            "Failed polls per minute.",
            [
                Query(
                    f"60 * sum by (upstream, reason) ({upstreams.rate('stream_upstream_poll_failures_total')}) > 0",
                    "{{upstream}} {{reason}}",
                    min_step=_POLL_STEP,
                )
            ],
            FieldOptions(unit="cpm", minimum=0, empty="No failed polls"),
            width=6,
            bars=True,
        ),
        graph(
            "Poll duration",
            "Mean and 95th percentile of the duration of polls.",
            [
                Query(
                    f"{upstreams.rate('stream_upstream_poll_duration_seconds_sum')}\n"
                    f"/ ({upstreams.rate('stream_upstream_poll_duration_seconds_count')} > 0)",
                    "{{upstream}} mean",
                    min_step=_POLL_STEP,
                ),
                Query(
                    upstreams.quantile(0.95, "stream_upstream_poll_duration_seconds", by="upstream"),
                    "{{upstream}} p95",
                    min_step=_POLL_STEP,
                ),
            ],
            FieldOptions(unit="s", minimum=0),
            width=6,
        ),
        graph(
            "Age of data",
            "Time since the last successful poll, in poll intervals. StreamUpstreamDataStale fires above "
            f"{_ANSWERING_INTERVALS:g} while the upstream is up.",
            [Query(f"({_AGE})\n/ {upstreams.current('stream_upstream_poll_interval_seconds')}", "{{upstream}}")],
            FieldOptions(unit="short", minimum=0, steps=rising(warning=_ANSWERING_INTERVALS)),
            width=6,
            axis="intervals",
        ),
        graph(
            "Stream failures",
            "Failures per minute of a single stream's request or record in polls that succeeded, by reason.",
            [
                Query(
                    f"60 * sum by (upstream, reason) ({upstreams.rate('stream_upstream_stream_failures_total')}) > 0",
                    "{{upstream}} {{reason}}",
                    min_step=_POLL_STEP,
                )
            ],
            FieldOptions(unit="cpm", minimum=0, empty="No stream failures"),
            width=8,
            height=7,
            bars=True,
        ),
        graph(
            "Dropped fields and records",
            "Values per minute dropped because their type or range was wrong, by field; records per minute dropped "
            "because another record of the same stream takes precedence.",
            [
                Query(
                    f"60 * sum by (upstream, field) ({upstreams.rate('stream_upstream_fields_dropped_total')}) > 0",
                    "{{upstream}} {{field}}",
                    min_step=_POLL_STEP,
                ),
                Query(
                    f"60 * {upstreams.rate('stream_upstream_duplicate_records_total')} > 0",
                    "{{upstream}} duplicates",
                    min_step=_POLL_STEP,
                ),
            ],
            FieldOptions(unit="cpm", minimum=0, empty="Nothing dropped"),
            width=8,
            height=7,
            bars=True,
        ),
        graph(
            "Poller restarts",
            "Restarts per hour after an internal error. Any value above 0 is a bug in the exporter.",
            [
                Query(
                    f"round({upstreams.increase('stream_upstream_poller_restarts_total', within='1h')})", "{{upstream}}"
                )
            ],
            FieldOptions(unit="short", decimals=0, minimum=0, soft_maximum=1, steps=rising(critical=1)),
            width=8,
            height=7,
        ),
    ]


def _requests(thresholds: RuleThresholds) -> list[Panel]:
    requests = "stream_upstream_requests_total"
    ratio = thresholds["StreamUpstreamErrorRatioHigh"]
    total = f"sum by (upstream) ({upstreams.rate(requests)})"
    return [
        graph(
            "Requests by status",
            "Requests per second, by HTTP status or failure reason.",
            [
                Query(
                    f"sum by (upstream, code) ({upstreams.rate(requests)})",
                    "{{upstream}} {{code}}",
                    min_step=_POLL_STEP,
                )
            ],
            FieldOptions(unit="reqps", minimum=0),
            width=8,
            stacked=True,
        ),
        graph(
            "Request error ratio",
            f"Share of requests that fail. StreamUpstreamErrorRatioHigh fires above {ratio:g}.",
            [
                Query(
                    f"(sum by (upstream) ({upstreams.rate(requests, _FAILED)}) or 0 * {total})\n/ ({total} > 0)",
                    "{{upstream}}",
                    min_step=_POLL_STEP,
                )
            ],
            FieldOptions(unit="percentunit", minimum=0, soft_maximum=0.1, steps=rising(warning=ratio)),
            width=8,
        ),
        graph(
            "Rate limit remaining",
            "Requests left in the platform's rate limit, as last reported by the platform.",
            [Query(upstreams.current("stream_upstream_rate_limit_remaining"), "{{upstream}}")],
            FieldOptions(unit="short", minimum=0, empty="Not reported by any platform"),
            width=8,
        ),
        graph(
            "Request duration, p95",
            "95th percentile of the duration of requests, by request.",
            [
                Query(
                    upstreams.quantile(0.95, "stream_upstream_request_duration_seconds", by="upstream, request"),
                    "{{upstream}} {{request}}",
                    min_step=_POLL_STEP,
                )
            ],
            FieldOptions(unit="s", minimum=0),
            width=16,
            height=9,
        ),
        graph(
            "Clock skew",
            "The platform's clock minus the exporter's, from the Date header, which has a resolution of 1 s.",
            [Query(upstreams.current("stream_upstream_clock_skew_seconds"), "{{upstream}}")],
            FieldOptions(unit="s", soft_maximum=1),
            width=8,
            height=9,
        ),
    ]
