"""The panels of the exporter itself: scrapes, notifications, process."""

from __future__ import annotations

from exporter.dashboards.panels import FieldOptions, Panel, Query, fixed_color, graph, override
from exporter.dashboards.selections import exporter
from exporter.dashboards.thresholds import RuleThresholds, rising

_BY_INSTANCE = "{{instance}}"
_SIDECAR = "The sidecar is off"
_A_FEW_SENDS = "2m"
"""What fires is sent again every minute."""


def scrapes() -> list[Panel]:
    """What it costs Prometheus."""
    return [
        graph(
            "Duration of scrapes",
            "How long the exporter takes to answer Prometheus.",
            [Query(exporter.selector("scrape_duration_seconds"), _BY_INSTANCE)],
            FieldOptions(unit="s", minimum=0),
            width=6,
        ),
        graph(
            "Samples per scrape",
            "What one answer holds.",
            [Query(exporter.selector("scrape_samples_scraped"), _BY_INSTANCE)],
            FieldOptions(unit="short", minimum=0),
            width=6,
        ),
        graph(
            "Series and streams",
            "Series of upstreams and streams in the last answer, and the streams that are served.",
            [
                Query(exporter.selector("stream_exporter_series"), f"{_BY_INSTANCE} series"),
                Query(exporter.selector("stream_exporter_streams"), f"{_BY_INSTANCE} streams"),
            ],
            FieldOptions(unit="short", minimum=0),
            width=6,
        ),
        graph(
            "Duplicates left out",
            "Label sets that two objects have. Anything but 0 is a fault of the exporter.",
            [Query(exporter.selector("stream_exporter_duplicates_dropped"), _BY_INSTANCE)],
            FieldOptions(unit="short", decimals=0, minimum=0, soft_maximum=1, steps=rising(critical=1)),
            width=6,
        ),
    ]


def notifications(thresholds: RuleThresholds) -> list[Panel]:
    """The delivery of alerts, where the exporter sends them itself."""
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
            "Alerts per minute that were sent to each Alertmanager, could not be, or were dropped; requests per minute "
            f"to each webhook. At {thresholds['StreamAlertPushFailing']:g} failures in 15 minutes "
            "StreamAlertPushFailing fires.",
            [
                Query(f"60 * {sent}", "{{alertmanager}} sent", min_step=_A_FEW_SENDS),
                Query(f"60 * {errors}", "{{alertmanager}} errors", min_step=_A_FEW_SENDS),
                Query(f"60 * {dropped}", "{{alertmanager}} dropped", min_step=_A_FEW_SENDS),
                Query(f"60 * {to_webhooks}", "{{webhook}} sent", min_step=_A_FEW_SENDS),
                Query(f"60 * {webhook_errors}", "{{webhook}} errors", min_step=_A_FEW_SENDS),
                Query(f"60 * {webhook_dropped}", "{{webhook}} dropped", min_step=_A_FEW_SENDS),
            ],
            FieldOptions(unit="cpm", minimum=0, empty=_SIDECAR),
            width=6,
            height=9,
        ),
        graph(
            "Waiting to be sent",
            "Alerts whose newest state an Alertmanager has not accepted yet, and those still to be repeated.",
            [Query(exporter.current("stream_exporter_notifications_queue_length"), "{{alertmanager}}")],
            FieldOptions(unit="short", minimum=0, empty=_SIDECAR),
            width=4,
            height=9,
        ),
        graph(
            "Duration of sending, p95",
            "What 95 of 100 deliveries to an Alertmanager stay below.",
            [
                Query(
                    exporter.quantile(0.95, "stream_exporter_notifications_latency_seconds", by="alertmanager"),
                    "{{alertmanager}}",
                    min_step=_A_FEW_SENDS,
                )
            ],
            FieldOptions(unit="s", minimum=0, empty=_SIDECAR),
            width=4,
            height=9,
        ),
        graph(
            "Alertmanager's clock",
            "How far the clock of each Alertmanager is ahead of the exporter's. More than 30 s are logged: a wrong "
            "clock prolongs alerts.",
            [Query(exporter.current("stream_exporter_notifications_clock_offset_seconds"), "{{alertmanager}}")],
            FieldOptions(unit="s", empty=_SIDECAR),
            width=4,
            height=9,
        ),
        graph(
            "Alerts of the sidecar",
            "Those that fire by name, and all that are pending: their condition holds, but not yet for long enough.",
            [
                Query(f"sum by (alertname) ({alerts_in('firing')}) > 0", "{{alertname}}"),
                Query(f"sum({alerts_in('pending')})", "pending"),
            ],
            FieldOptions(
                unit="short",
                decimals=0,
                minimum=0,
                empty=_SIDECAR,
                overrides=[override("pending", color=fixed_color("#6e7687"))],
            ),
            width=6,
            height=9,
            stacked=True,
        ),
    ]


def process() -> list[Panel]:
    """The process, as the Prometheus client library sees it."""
    cpu = exporter.selector("process_cpu_seconds_total")
    return [
        graph(
            "CPU",
            "Share of one core.",
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
            "File descriptors in use, connections included, as a share of the most allowed.",
            [Query(f"{exporter.selector('process_open_fds')}\n/ {exporter.selector('process_max_fds')}", _BY_INSTANCE)],
            FieldOptions(unit="percentunit", minimum=0, steps=rising(warning=0.8)),
            width=6,
            height=7,
        ),
        graph(
            "Uptime",
            "Since the process began.",
            [Query(f"time() - {exporter.selector('process_start_time_seconds')}", _BY_INSTANCE)],
            FieldOptions(unit="s", minimum=0),
            width=6,
            height=7,
        ),
    ]
