"""Metric families of the exporter itself and of its alerting sidecar.

The values of the former are set by ``exporter.metrics.self_metrics``, ``exporter.polling.self_metrics`` and
``exporter.web.connections``, those of the latter by ``exporter.alerting.self_metrics``.
"""

from __future__ import annotations

from exporter.metrics.families.family import Family, Kind, Part, Source


def _gauge(name: str, help_: str, *labels: str, source: Source = Source.EXPORTER) -> Family:
    return Family(name=name, kind=Kind.GAUGE, help=help_, part=Part.EXPORTER, labels=labels, source=source)


def _sidecar_counter(name: str, help_: str, *labels: str) -> Family:
    return Family(name=name, kind=Kind.COUNTER, help=help_, part=Part.EXPORTER, labels=labels, source=Source.SIDECAR)


BUILD_INFO = _gauge(
    "stream_exporter_build_info",
    "Version and revision (git commit) of the exporter, and version of Python. Always 1.",
    "version",
    "revision",
    "pythonversion",
)
RELOAD_SUCCESSFUL = _gauge(
    "stream_exporter_config_last_reload_successful",
    "Whether the last load or reload of the configuration succeeded (1) or not (0).",
)
RELOAD_SUCCESS_TIMESTAMP = _gauge(
    "stream_exporter_config_last_reload_success_timestamp_seconds",
    "Unix time of the last successful load or reload of the configuration.",
)
CONFIG_HASH = _gauge(
    "stream_exporter_config_hash",
    "Fingerprint of the effective configuration without secrets. Shards and replicas with the same configuration have "
    "the same value.",
    source=Source.CONFIGURATION,
)
UPSTREAM_RETIRED = _gauge(
    "stream_upstream_retired",
    "Upstream listed under retired in the configuration, that is, removed on purpose. Always 1.",
    "upstream",
    source=Source.CONFIGURATION,
)
STREAMS = _gauge("stream_exporter_streams", "Number of streams currently exported, over all upstreams.")
SERIES = _gauge(
    "stream_exporter_series",
    "Number of upstream and stream series in this scrape. Absent if collect[] limits the scrape.",
)
DUPLICATES = _gauge(
    "stream_exporter_duplicates_dropped",
    "Number of series dropped from this scrape because of duplicate labels. Any value above 0 is a bug.",
)
SHARD_ORDINAL = _gauge("stream_exporter_shard_ordinal", "Number of this shard, counted from 0. 0 without --shard.")
SHARDS = _gauge("stream_exporter_shards", "Number of shards that share the streams. 1 without --shard.")
CONNECTIONS = _gauge("stream_exporter_web_connections", "Number of open connections to the exporter.")
CONNECTION_LIMIT = _gauge(
    "stream_exporter_web_connections_max",
    "Maximum number of open connections to the exporter: --web.max-connections, or fewer if the file descriptor limit "
    "requires it.",
)
CONNECTIONS_CLOSED = Family(
    name="stream_exporter_web_connections_closed_total",
    kind=Kind.COUNTER,
    help="Connections closed early by the exporter, by reason: limit (too many open connections), timeout (client too "
    "slow), flood (client sent too much ahead of a response).",
    part=Part.EXPORTER,
    labels=("reason",),
)
MAINTENANCE_SAVED = _gauge(
    "stream_exporter_maintenance_saved",
    "Whether maintenance started by hand survives a restart (1), or is kept in memory only because another process "
    "uses the file, or the file cannot be written (0). Absent until there is something to save.",
)
MAINTENANCE_WRITE_FAILURES = Family(
    name="stream_exporter_maintenance_write_failures_total",
    kind=Kind.COUNTER,
    help="Failed writes of the maintenance state file.",
    part=Part.EXPORTER,
)
EXPORTER_FAMILIES: tuple[Family, ...] = (
    BUILD_INFO,
    RELOAD_SUCCESSFUL,
    RELOAD_SUCCESS_TIMESTAMP,
    CONFIG_HASH,
    UPSTREAM_RETIRED,
    STREAMS,
    SERIES,
    DUPLICATES,
    SHARD_ORDINAL,
    SHARDS,
    CONNECTIONS,
    CONNECTION_LIMIT,
    CONNECTIONS_CLOSED,
    MAINTENANCE_SAVED,
    MAINTENANCE_WRITE_FAILURES,
)

NOTIFICATIONS_SENT = _sidecar_counter(
    "stream_exporter_notifications_sent_total", "Alerts accepted by this Alertmanager.", "alertmanager"
)
NOTIFICATIONS_ERRORS = _sidecar_counter(
    "stream_exporter_notifications_errors_total",
    "Failed attempts to send an alert to this Alertmanager, because the request failed or the alert was rejected.",
    "alertmanager",
)
NOTIFICATIONS_DROPPED = _sidecar_counter(
    "stream_exporter_notifications_dropped_total",
    "Alerts dropped because this Alertmanager rejected them, or did not accept their resolution for 15 minutes.",
    "alertmanager",
)
NOTIFICATIONS_QUEUE_LENGTH = _gauge(
    "stream_exporter_notifications_queue_length",
    "Number of alerts waiting to be sent.",
    "alertmanager",
    source=Source.SIDECAR,
)
NOTIFICATIONS_CLOCK_OFFSET = _gauge(
    "stream_exporter_notifications_clock_offset_seconds",
    "This Alertmanager's clock minus the exporter's, in seconds. Absent while unknown.",
    "alertmanager",
    source=Source.SIDECAR,
)
NOTIFICATIONS_LATENCY = Family(
    name="stream_exporter_notifications_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Duration of requests to this Alertmanager in seconds.",
    part=Part.EXPORTER,
    labels=("alertmanager",),
    source=Source.SIDECAR,
    bounds=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
WEBHOOK_SENT = _sidecar_counter(
    "stream_exporter_webhook_notifications_sent_total", "Notifications accepted by this webhook.", "webhook"
)
WEBHOOK_ERRORS = _sidecar_counter(
    "stream_exporter_webhook_notifications_errors_total",
    "Failed requests to this webhook, including retries.",
    "webhook",
)
WEBHOOK_DROPPED = _sidecar_counter(
    "stream_exporter_webhook_notifications_dropped_total",
    "Resolved alerts not sent to this webhook because its queue was full.",
    "webhook",
)
ALERTS = _gauge(
    "stream_exporter_alerts",
    "Number of alerts in the sidecar, by name and state (pending, firing).",
    "alertname",
    "state",
    source=Source.SIDECAR,
)
ALERT_STATE_SAVED = _gauge(
    "stream_exporter_alert_state_saved",
    "Whether alert state survives a restart (1), or is kept in memory only because another process uses the file, the "
    "file cannot be written, or there is no state folder (0).",
    source=Source.SIDECAR,
)
ALERT_STATE_WRITE_FAILURES = _sidecar_counter(
    "stream_exporter_alert_state_write_failures_total", "Failed writes of the alert state file."
)
WAVE_EVENTS = _sidecar_counter(
    "stream_exporter_wave_events_total",
    "Events sent to WAVE's analytics, by outcome (accepted, rejected, dropped).",
    "outcome",
)
SIDECAR_FAMILIES: tuple[Family, ...] = (
    NOTIFICATIONS_SENT,
    NOTIFICATIONS_ERRORS,
    NOTIFICATIONS_DROPPED,
    NOTIFICATIONS_QUEUE_LENGTH,
    NOTIFICATIONS_CLOCK_OFFSET,
    NOTIFICATIONS_LATENCY,
    WEBHOOK_SENT,
    WEBHOOK_ERRORS,
    WEBHOOK_DROPPED,
    ALERTS,
    ALERT_STATE_SAVED,
    ALERT_STATE_WRITE_FAILURES,
    WAVE_EVENTS,
)
