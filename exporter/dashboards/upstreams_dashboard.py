"""Streams / Upstreams and exporter: can the figures be trusted?"""

from __future__ import annotations

from exporter.dashboards.dashboard import UPSTREAMS, Dashboard, Row, alert_annotations
from exporter.dashboards.exporter_panels import notifications, process, scrapes
from exporter.dashboards.panels import Column, FieldOptions, Panel, Query, graph, stat, table, timeline, value_mapping
from exporter.dashboards.selections import UPSTREAM_UP, exporter, upstream_variables, upstreams
from exporter.dashboards.thresholds import RuleThresholds, falling, rising

_AGE = f"time() - {upstreams.current('stream_upstream_last_success_timestamp_seconds')}"
_ANSWERING_INTERVALS = 2.5
"""Age in intervals up to which an upstream counts as answering (``stream_upstream_answering``)."""
_A_FEW_POLLS = "2m"
"""Polls of a platform that fails are up to a minute apart."""
_FAILED = 'code!~"[23]..|404"'


def upstreams_dashboard(thresholds: RuleThresholds) -> Dashboard:
    """The dashboard of the platforms that are polled, and of the exporter that polls them."""
    return Dashboard(
        uid=UPSTREAMS,
        title="Streams / Upstreams and exporter",
        description="The platforms that are polled, and the exporter itself: whether the figures can be trusted.",
        variables=upstream_variables(),
        annotations=[alert_annotations('job=~"$job", scope=~"upstream|exporter", upstream=~"$upstream|"')],
        rows=[
            Row("", _figures()),
            Row("Upstreams", [_up_timeline(), _table()]),
            Row("Polls", _polls()),
            Row("Requests", _requests(thresholds)),
            Row("Scrapes", scrapes()),
            Row("Notifications of the sidecar", notifications(thresholds)),
            Row("Process", process()),
        ],
    )


def _figures() -> list[Panel]:
    return [
        stat(
            "Upstreams up",
            "Platforms whose last poll succeeded.",
            Query(f"sum({UPSTREAM_UP})"),
            FieldOptions(unit="short", decimals=0),
        ),
        stat(
            "Upstreams down",
            "Platforms whose last poll failed: nobody knows how their streams are.",
            Query(f"sum(1 - {UPSTREAM_UP})"),
            FieldOptions(unit="short", decimals=0, steps=rising(critical=1)),
        ),
        stat(
            "Oldest data",
            "Age of the last good answer, of the upstream that is worst.",
            Query(f"max({_AGE})"),
            FieldOptions(unit="s"),
        ),
        stat(
            "Polls failed in 1 h",
            "Whole polls that brought nothing.",
            Query(f"round(sum({upstreams.increase('stream_upstream_poll_failures_total', within='1h')}))"),
            FieldOptions(unit="short", decimals=0, steps=rising(warning=1)),
        ),
        stat(
            "Exporters up",
            "Instances that answer scrapes.",
            Query(f"sum({exporter.selector('up')})"),
            FieldOptions(unit="short", decimals=0, steps=falling(critical=1)),
        ),
        stat(
            "Streams",
            "Streams that are served; one exporter's, not those of its replicas too.",
            Query(f"sum({upstreams.current('stream_upstream_streams')})"),
            FieldOptions(unit="short", decimals=0),
        ),
        stat(
            "Left out",
            "Streams that max_streams keeps out.",
            Query(f"sum({upstreams.current('stream_upstream_streams_dropped')})"),
            FieldOptions(unit="short", decimals=0, steps=rising(warning=1)),
        ),
        stat(
            "Configuration",
            "Whether the last reload succeeded, on every instance.",
            Query(f"min({exporter.selector('stream_exporter_config_last_reload_successful')})"),
            FieldOptions(
                unit="short",
                steps=falling(critical=1),
                mappings=[value_mapping({"0": ("old", "red"), "1": ("loaded", "green")})],
            ),
            graph=False,
        ),
    ]


def _up_timeline() -> Panel:
    return timeline(
        "Up",
        "Whether the last poll succeeded. A gap is a time without scrapes.",
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
        "Platforms",
        "Every upstream. Intervals: how many poll intervals old its data are; StreamUpstreamDataStale fires above "
        f"{_ANSWERING_INTERVALS:g}. Reported scores are the platform's, derived ones the exporter's.",
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
            "Polls per minute, failed ones included.",
            [Query(f"60 * {polls}", "{{upstream}}", min_step=_A_FEW_POLLS)],
            FieldOptions(unit="cpm", minimum=0),
            width=6,
        ),
        graph(
            "Failed polls by reason",
            "Polls per minute that brought nothing.",
            [
                Query(
                    f"60 * sum by (upstream, reason) ({upstreams.rate('stream_upstream_poll_failures_total')}) > 0",
                    "{{upstream}} {{reason}}",
                    min_step=_A_FEW_POLLS,
                )
            ],
            FieldOptions(unit="cpm", minimum=0, empty="No poll failed"),
            width=6,
            bars=True,
        ),
        graph(
            "Duration of polls",
            "The mean, and what 95 of 100 polls stay below, in one line per upstream each.",
            [
                Query(
                    f"{upstreams.rate('stream_upstream_poll_duration_seconds_sum')}\n"
                    f"/ ({upstreams.rate('stream_upstream_poll_duration_seconds_count')} > 0)",
                    "{{upstream}} mean",
                    min_step=_A_FEW_POLLS,
                ),
                Query(
                    upstreams.quantile(0.95, "stream_upstream_poll_duration_seconds", by="upstream"),
                    "{{upstream}} p95",
                    min_step=_A_FEW_POLLS,
                ),
            ],
            FieldOptions(unit="s", minimum=0),
            width=6,
        ),
        graph(
            "Age of the data",
            "In poll intervals, since the last good answer. StreamUpstreamDataStale fires above "
            f"{_ANSWERING_INTERVALS:g} while the upstream counts as up.",
            [Query(f"({_AGE})\n/ {upstreams.current('stream_upstream_poll_interval_seconds')}", "{{upstream}}")],
            FieldOptions(unit="short", minimum=0, steps=rising(warning=_ANSWERING_INTERVALS)),
            width=6,
            axis="intervals",
        ),
        graph(
            "Streams that failed alone",
            "Streams per minute whose own request or record failed while the poll succeeded, by reason.",
            [
                Query(
                    f"60 * sum by (upstream, reason) ({upstreams.rate('stream_upstream_stream_failures_total')}) > 0",
                    "{{upstream}} {{reason}}",
                    min_step=_A_FEW_POLLS,
                )
            ],
            FieldOptions(unit="cpm", minimum=0, empty="No stream failed alone"),
            width=8,
            height=7,
            bars=True,
        ),
        graph(
            "Fields and records left out",
            "Values per minute that were not what the platform documents, by field; and records per minute that were "
            "left out in favour of another one of the same stream.",
            [
                Query(
                    f"60 * sum by (upstream, field) ({upstreams.rate('stream_upstream_fields_dropped_total')}) > 0",
                    "{{upstream}} {{field}}",
                    min_step=_A_FEW_POLLS,
                ),
                Query(
                    f"60 * {upstreams.rate('stream_upstream_duplicate_records_total')} > 0",
                    "{{upstream}} duplicates",
                    min_step=_A_FEW_POLLS,
                ),
            ],
            FieldOptions(unit="cpm", minimum=0, empty="Every value was as documented"),
            width=8,
            height=7,
            bars=True,
        ),
        graph(
            "Restarts of pollers",
            "Times in an hour that a poller died of an internal error. Anything but 0 is a fault of the exporter.",
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
    every = f"sum by (upstream) ({upstreams.rate(requests)})"
    return [
        graph(
            "Requests by answer",
            "Requests per second by HTTP status, or by the reason why there was none.",
            [
                Query(
                    f"sum by (upstream, code) ({upstreams.rate(requests)})",
                    "{{upstream}} {{code}}",
                    min_step=_A_FEW_POLLS,
                )
            ],
            FieldOptions(unit="reqps", minimum=0),
            width=8,
            stacked=True,
        ),
        graph(
            "Requests that fail",
            f"The share of them; StreamUpstreamErrorRatioHigh fires above {ratio:g}.",
            [
                Query(
                    f"(sum by (upstream) ({upstreams.rate(requests, _FAILED)}) or 0 * {every})\n/ ({every} > 0)",
                    "{{upstream}}",
                    min_step=_A_FEW_POLLS,
                )
            ],
            FieldOptions(unit="percentunit", minimum=0, soft_maximum=0.1, steps=rising(warning=ratio)),
            width=8,
        ),
        graph(
            "Requests left in the rate limit",
            "As the platform last said, where it says so.",
            [Query(upstreams.current("stream_upstream_rate_limit_remaining"), "{{upstream}}")],
            FieldOptions(unit="short", minimum=0, empty="No platform says"),
            width=8,
        ),
        graph(
            "Duration of requests, p95",
            "95 of 100 requests take less, by request.",
            [
                Query(
                    upstreams.quantile(0.95, "stream_upstream_request_duration_seconds", by="upstream, request"),
                    "{{upstream}} {{request}}",
                    min_step=_A_FEW_POLLS,
                )
            ],
            FieldOptions(unit="s", minimum=0),
            width=16,
            height=9,
        ),
        graph(
            "Clock skew",
            "The platform's clock minus the exporter's, from its answers, which tell whole seconds.",
            [Query(upstreams.current("stream_upstream_clock_skew_seconds"), "{{upstream}}")],
            FieldOptions(unit="s", soft_maximum=1),
            width=8,
            height=9,
        ),
    ]
