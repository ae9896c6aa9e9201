"""The families of the exporter itself and of its alerting sidecar.

``exporter.metrics.self_metrics`` and ``exporter.web.connections`` set the former, ``exporter.alerting.self_metrics``
the latter.
"""

from __future__ import annotations

from exporter.metrics.families.family import Family, Kind, Part, Source


def _gauge(name: str, help_: str, *labels: str, source: Source = Source.EXPORTER) -> Family:
    return Family(name=name, kind=Kind.GAUGE, help=help_, part=Part.EXPORTER, labels=labels, source=source)


def _sidecar_counter(name: str, help_: str, *labels: str) -> Family:
    return Family(name=name, kind=Kind.COUNTER, help=help_, part=Part.EXPORTER, labels=labels, source=Source.SIDECAR)


BUILD_INFO = _gauge(
    "stream_exporter_build_info",
    "The exporter's version, the commit it was built from, and the Python it runs on. Always 1.",
    "version",
    "revision",
    "pythonversion",
)
RELOAD_SUCCESSFUL = _gauge(
    "stream_exporter_config_last_reload_successful", "Whether the last (re)load of the configuration succeeded."
)
RELOAD_SUCCESS_TIMESTAMP = _gauge(
    "stream_exporter_config_last_reload_success_timestamp_seconds",
    "Unix time of the last successful (re)load of the configuration.",
)
CONFIG_HASH = _gauge(
    "stream_exporter_config_hash",
    "Fingerprint of the effective configuration without its secrets: equal where shards and replicas run the same one.",
    source=Source.CONFIGURATION,
)
UPSTREAM_RETIRED = _gauge(
    "stream_upstream_retired",
    "An upstream that was removed from the configuration on purpose, as the key retired says. Always 1.",
    "upstream",
    source=Source.CONFIGURATION,
)
STREAMS = _gauge("stream_exporter_streams", "Streams served now, of all upstreams.")
SERIES = _gauge("stream_exporter_series", "Series of upstreams and streams in this answer. Absent when it is narrowed.")
DUPLICATES = _gauge(
    "stream_exporter_duplicates_dropped",
    "Label sets left out of this answer because another object has the same. Anything but 0 is a fault.",
)
SHARD_ORDINAL = _gauge("stream_exporter_shard_ordinal", "Which shard this is, from 0 on. 0 without --shard.")
SHARDS = _gauge("stream_exporter_shards", "Shards that the streams are spread over. 1 without --shard.")
CONNECTIONS = _gauge("stream_exporter_web_connections", "Open connections to the exporter's port.")
CONNECTION_LIMIT = _gauge(
    "stream_exporter_web_connections_max",
    "Connections to the exporter's port that may be open: --web.max-connections, or what the file descriptors allow.",
)
CONNECTIONS_CLOSED = Family(
    name="stream_exporter_web_connections_closed_total",
    kind=Kind.COUNTER,
    help="Connections to the exporter's port that were closed early: limit (too many were open), timeout (too slow), "
    "flood (too much sent ahead of a response).",
    part=Part.EXPORTER,
    labels=("reason",),
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
)

NOTIFICATIONS_SENT = _sidecar_counter(
    "stream_exporter_notifications_sent_total", "Alerts that this Alertmanager accepted.", "alertmanager"
)
NOTIFICATIONS_ERRORS = _sidecar_counter(
    "stream_exporter_notifications_errors_total",
    "Alerts in requests that failed, and alerts that this Alertmanager refused; each attempt counts.",
    "alertmanager",
)
NOTIFICATIONS_DROPPED = _sidecar_counter(
    "stream_exporter_notifications_dropped_total",
    "Alerts that were given up: this Alertmanager refused them, or did not accept their end for 15 minutes.",
    "alertmanager",
)
NOTIFICATIONS_QUEUE_LENGTH = _gauge(
    "stream_exporter_notifications_queue_length", "Alerts waiting to be sent.", "alertmanager", source=Source.SIDECAR
)
NOTIFICATIONS_CLOCK_OFFSET = _gauge(
    "stream_exporter_notifications_clock_offset_seconds",
    "Seconds by which this Alertmanager's clock is ahead of the exporter's. Absent while unknown.",
    "alertmanager",
    source=Source.SIDECAR,
)
NOTIFICATIONS_LATENCY = Family(
    name="stream_exporter_notifications_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds that a request to this Alertmanager took.",
    part=Part.EXPORTER,
    labels=("alertmanager",),
    source=Source.SIDECAR,
    bounds=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
WEBHOOK_SENT = _sidecar_counter(
    "stream_exporter_webhook_notifications_sent_total", "Notifications that this webhook accepted.", "webhook"
)
WEBHOOK_ERRORS = _sidecar_counter(
    "stream_exporter_webhook_notifications_errors_total",
    "Requests to this webhook that failed; each attempt counts.",
    "webhook",
)
WEBHOOK_DROPPED = _sidecar_counter(
    "stream_exporter_webhook_notifications_dropped_total",
    "Resolved alerts that this webhook was not told of, because too many were waiting.",
    "webhook",
)
ALERTS = _gauge(
    "stream_exporter_alerts",
    "Alerts of the sidecar, by name and state (pending, firing).",
    "alertname",
    "state",
    source=Source.SIDECAR,
)
ALERT_STATE_WRITE_FAILURES = _sidecar_counter(
    "stream_exporter_alert_state_write_failures_total", "Times the memory of alerts could not be written to its file."
)
WAVE_EVENTS = _sidecar_counter(
    "stream_exporter_wave_events_total",
    "Events for WAVE's analytics, by outcome (accepted, rejected, dropped).",
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
    ALERT_STATE_WRITE_FAILURES,
    WAVE_EVENTS,
)
