"""Panels about the exporter itself: scrapes, notifications and process."""

from __future__ import annotations

from exporter.dashboards.panels import FieldOptions, Panel, Query, fixed_color, graph, override
from exporter.dashboards.selections import exporter
from exporter.dashboards.thresholds import RuleThresholds, rising

_BY_INSTANCE = "{{instance}}"
_NO_SIDECAR = "The sidecar is not enabled"
_SEND_STEP = "2m"
"""Minimum step for rates of notifications, because firing alerts are sent once a minute."""


def scrapes() -> list[Panel]:
    """Return the panels about scrapes."""
    return [
        graph(
            "Scrape duration",
            "Time until the exporter has answered a scrape.",
            [Query(exporter.selector("scrape_duration_seconds"), _BY_INSTANCE)],
            FieldOptions(unit="s", minimum=0),
            width=6,
        ),
        graph(
            "Samples per scrape",
            "Number of samples in a scrape.",
            [Query(exporter.selector("scrape_samples_scraped"), _BY_INSTANCE)],
            FieldOptions(unit="short", minimum=0),
            width=6,
        ),
        graph(
            "Series and streams",
            "Number of upstream and stream series in the last scrape, and number of streams.",
            [
                Query(exporter.selector("stream_exporter_series"), f"{_BY_INSTANCE} series"),
                Query(exporter.selector("stream_exporter_streams"), f"{_BY_INSTANCE} streams"),
            ],
            FieldOptions(unit="short", minimum=0),
            width=6,
        ),
        graph(
            "Dropped duplicates",
            "Series dropped because of duplicate labels. Any value above 0 is a bug in the exporter.",
            [Query(exporter.selector("stream_exporter_duplicates_dropped"), _BY_INSTANCE)],
            FieldOptions(unit="short", decimals=0, minimum=0, soft_maximum=1, steps=rising(critical=1)),
            width=6,
        ),
    ]


def notifications(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about alerts that the sidecar sends."""
    sent, errors = (exporter.rate(f"stream_exporter_notifications_{name}_total") for name in ("sent", "errors"))
    dropped = exporter.rate("stream_exporter_notifications_dropped_total")
    to_webhooks, webhook_errors, webhook_dropped = (
        exporter.rate(f"stream_exporter_webhook_notifications_{name}_total") for name in ("sent", "errors", "dropped")
    )

    def alerts_in(state: str) -> str:
        return exporter.current("stream_exporter_alerts", f'state="{state}"')

    return [
        graph(
            "Alerts sent",
            "Alerts per minute that were sent to each Alertmanager, failed or were dropped, and requests per minute to "
            f"each webhook. StreamAlertPushFailing fires at {thresholds['StreamAlertPushFailing']:g} failures in 15 "
            "minutes.",
            [
                Query(f"60 * {sent}", "{{alertmanager}} sent", min_step=_SEND_STEP),
                Query(f"60 * {errors}", "{{alertmanager}} errors", min_step=_SEND_STEP),
                Query(f"60 * {dropped}", "{{alertmanager}} dropped", min_step=_SEND_STEP),
                Query(f"60 * {to_webhooks}", "{{webhook}} sent", min_step=_SEND_STEP),
                Query(f"60 * {webhook_errors}", "{{webhook}} errors", min_step=_SEND_STEP),
                Query(f"60 * {webhook_dropped}", "{{webhook}} dropped", min_step=_SEND_STEP),
            ],
            FieldOptions(unit="cpm", minimum=0, empty=_NO_SIDECAR),
            width=6,
            height=9,
        ),
        graph(
            "Queue length",
            "Alerts whose latest state the Alertmanager has not accepted yet, and alerts waiting to be repeated.",
            [Query(exporter.current("stream_exporter_notifications_queue_length"), "{{alertmanager}}")],
            FieldOptions(unit="short", minimum=0, empty=_NO_SIDECAR),
            width=4,
            height=9,
        ),
        graph(
            "Send duration, p95",
            "95th percentile of the duration of requests to each Alertmanager.",
            [
                Query(
                    exporter.quantile(0.95, "stream_exporter_notifications_latency_seconds", by="alertmanager"),
                    "{{alertmanager}}",
                    min_step=_SEND_STEP,
                )
            ],
            FieldOptions(unit="s", minimum=0, empty=_NO_SIDECAR),
            width=4,
            height=9,
        ),
        graph(
            "Alertmanager clock offset",
            "Each Alertmanager's clock minus the exporter's. An offset above 30 s is logged; it prolongs alerts.",
            [Query(exporter.current("stream_exporter_notifications_clock_offset_seconds"), "{{alertmanager}}")],
            FieldOptions(unit="s", empty=_NO_SIDECAR),
            width=4,
            height=9,
        ),
        graph(
            "Sidecar alerts",
            "Firing alerts by name, and the number of pending alerts (condition not true for long enough yet).",
            [
                Query(f"sum by (alertname) ({alerts_in('firing')}) > 0", "{{alertname}}"),
                Query(f"sum({alerts_in('pending')})", "pending"),
            ],
            FieldOptions(
                unit="short",
                decimals=0,
                minimum=0,
                empty=_NO_SIDECAR,
                overrides=[override("pending", color=fixed_color("#6e7687"))],
            ),
            width=6,
            height=9,
            stacked=True,
        ),
    ]


def process() -> list[Panel]:
    """Return the panels about the exporter process."""
    cpu = exporter.selector("process_cpu_seconds_total")
    return [
        graph(
            "CPU",
            "CPU usage as a share of one core.",
            [Query(f"rate({cpu}[$__rate_interval])", _BY_INSTANCE)],
            FieldOptions(unit="percentunit", minimum=0),
            width=6,
            height=7,
        ),
        graph(
            "Memory",
            "Resident memory.",
            [Query(exporter.selector("process_resident_memory_bytes"), _BY_INSTANCE)],
            FieldOptions(unit="bytes", minimum=0),
            width=6,
            height=7,
        ),
        graph(
            "Open files",
            "Open file descriptors, including connections, as a share of the limit.",
            [Query(f"{exporter.selector('process_open_fds')}\n/ {exporter.selector('process_max_fds')}", _BY_INSTANCE)],
            FieldOptions(unit="percentunit", minimum=0, steps=rising(warning=0.8)),
            width=6,
            height=7,
        ),
        graph(
            "Uptime",
            "Time since the process started.",
            [Query(f"time() - {exporter.selector('process_start_time_seconds')}", _BY_INSTANCE)],
            FieldOptions(unit="s", minimum=0),
            width=6,
            height=7,
        ),
    ]
