"""Metric families of an upstream: read from its state, or counted by ``exporter.polling.self_metrics``."""

from __future__ import annotations

from collections.abc import Callable

from exporter.metrics.families.family import (
    UPSTREAM_LABELS,
    Family,
    Kind,
    Labelled,
    ModelFamily,
    Number,
    Part,
    Source,
)
from exporter.model import UpstreamState

UpstreamFamily = ModelFamily[UpstreamState]


def _gauge(name: str, help_: str, value: Callable[[UpstreamState], Number | None]) -> UpstreamFamily:
    return UpstreamFamily(
        name=name, kind=Kind.GAUGE, help=help_, part=Part.UPSTREAMS, labels=UPSTREAM_LABELS, value=value
    )


def _info(state: UpstreamState) -> tuple[Labelled, ...]:
    return (((state.host, state.version, state.health_score), 1),)


def _failing(state: UpstreamState) -> tuple[Labelled, ...]:
    if state.up is not False or state.last_error_reason is None:
        return ()
    return (((state.last_error_reason.value,), 1),)


def _former_labels(state: UpstreamState) -> tuple[Labelled, ...]:
    return tuple(((label,), 1) for label in state.former_labels)


def _calendars_readable(state: UpstreamState) -> tuple[Labelled, ...]:
    return tuple(((calendar.name,), calendar.readable) for calendar in state.calendars)


def _calendars_read_at(state: UpstreamState) -> tuple[Labelled, ...]:
    return tuple(((calendar.name,), calendar.read_at) for calendar in state.calendars)


def _maintenance(state: UpstreamState) -> tuple[Labelled, ...]:
    if state.maintenance is not None:
        return (_UPSTREAM_MAINTAINED,)
    return tuple([((label,), 1) for label in state.maintained_streams])


_UPSTREAM_MAINTAINED: Labelled = (("",), 1)

UPSTREAM_FAMILIES: tuple[UpstreamFamily, ...] = (
    UpstreamFamily(
        name="stream_upstream_info",
        kind=Kind.GAUGE,
        help="Host and version of the upstream, and whether its health scores are reported or derived. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "host", "version", "health_score"),
        values=_info,
    ),
    _gauge(
        "stream_upstream_up",
        "Whether the last poll succeeded (1) or not (0). Absent until the first poll has completed.",
        lambda state: state.up,
    ),
    _gauge(
        "stream_upstream_answering",
        "Whether the last successful poll is less than 2.5 poll intervals old (1) or not (0). Absent until a poll has "
        "succeeded or 2.5 intervals have passed since the first poll.",
        lambda state: state.answering,
    ),
    _gauge(
        "stream_upstream_list_complete",
        "Whether the last list of streams was complete (1), or streams may be missing from it (0). Absent if the "
        "platform has no list or it was not requested.",
        lambda state: state.list_complete,
    ),
    _gauge(
        "stream_upstream_statistics_frozen",
        "Whether the statistics of all live streams are frozen (1) or not (0). While frozen, bitrates and scores are "
        "absent. Absent with fewer than three live streams that have an ingest total, until one of them has moved, and "
        "while the upstream is not answering.",
        lambda state: state.are_statistics_frozen,
    ),
    UpstreamFamily(
        name="stream_upstream_failing",
        kind=Kind.GAUGE,
        help="Reason why the last poll failed. Absent while the upstream is up. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "reason"),
        values=_failing,
    ),
    UpstreamFamily(
        name="stream_former_label",
        kind=Kind.GAUGE,
        help="Label that a stream had in the last 20 minutes, before it got its current one. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "stream"),
        values=_former_labels,
    ),
    UpstreamFamily(
        name="stream_alert_threshold",
        kind=Kind.GAUGE,
        help="Threshold of an alert rule that is configured for this stream or, with an empty stream label, for the "
        "upstream itself, in the base unit of the rule's metric.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "stream", "rule"),
        source=Source.CONFIGURATION,
        values=lambda state: state.threshold_rows,
    ),
    UpstreamFamily(
        name="stream_alert_off",
        kind=Kind.GAUGE,
        help="Alert rule that is switched off for this stream or, with an empty stream label, for the upstream itself. "
        "Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "stream", "rule"),
        source=Source.CONFIGURATION,
        values=lambda state: state.off_rows,
    ),
    UpstreamFamily(
        name="stream_maintenance",
        kind=Kind.GAUGE,
        help="Stream under maintenance; with an empty stream, the upstream and all of its streams are. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "stream"),
        source=Source.CONFIGURATION,
        values=_maintenance,
    ),
    _gauge(
        "stream_upstream_streams",
        "Number of streams currently exported, including ended streams and expected streams without a report.",
        lambda state: None if state.up is None else len(state.streams),
    ),
    _gauge(
        "stream_upstream_streams_dropped",
        "Number of streams that the last successful poll dropped because of max_streams.",
        lambda state: None if state.up is None else state.streams_dropped,
    ),
    _gauge(
        "stream_upstream_poll_interval_seconds",
        "Effective poll interval; longer than configured while a rate limit requires it.",
        lambda state: state.poll_interval_seconds or None,
    ),
    _gauge(
        "stream_upstream_last_success_timestamp_seconds",
        "Unix time of the last successful poll. All data about the upstream and its streams is from this poll.",
        lambda state: state.last_success_timestamp_seconds,
    ),
    _gauge(
        "stream_upstream_clock_skew_seconds",
        "The upstream's clock minus the exporter's, from the Date header of responses.",
        lambda state: state.clock_skew_seconds,
    ),
    _gauge(
        "stream_upstream_rate_limit_remaining",
        "Requests left in the platform's rate limit, as last reported by the platform.",
        lambda state: state.rate_limit_remaining,
    ),
    UpstreamFamily(
        name="stream_upstream_calendar_readable",
        kind=Kind.GAUGE,
        help="Whether the last read of a calendar of the upstream's streams succeeded (1) or not (0), by file name or "
        "host. While it is 0, the last good copy is in use.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "calendar"),
        values=_calendars_readable,
    ),
    UpstreamFamily(
        name="stream_upstream_calendar_last_success_timestamp_seconds",
        kind=Kind.GAUGE,
        help="Unix time of the last successful read of a calendar of the upstream's streams, by file name or host. "
        "Absent if it has never been read.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "calendar"),
        values=_calendars_read_at,
    ),
)

PASSTHROUGH_SERIES_DROPPED = Family(
    name="stream_upstream_foreign_series_dropped",
    kind=Kind.GAUGE,
    help="Number of pass-through series dropped from this scrape, because of max_series or because they would make the "
    "exposition invalid.",
    part=Part.UPSTREAMS,
    labels=UPSTREAM_LABELS,
)


def _counter(name: str, help_: str, *labels: str) -> Family:
    return Family(name=name, kind=Kind.COUNTER, help=help_, part=Part.UPSTREAMS, labels=(*UPSTREAM_LABELS, *labels))


POLLS = _counter("stream_upstream_polls_total", "Completed polls, including failed ones.")
POLL_FAILURES = _counter("stream_upstream_poll_failures_total", "Failed polls, by reason.", "reason")
STREAM_FAILURES = _counter(
    "stream_upstream_stream_failures_total",
    "Failures of a single stream's request or record in a poll that succeeded, by reason.",
    "reason",
)
FIELDS_DROPPED = _counter(
    "stream_upstream_fields_dropped_total",
    "Values dropped because their type or range was wrong, by field.",
    "field",
)
DUPLICATE_RECORDS = _counter(
    "stream_upstream_duplicate_records_total",
    "Records dropped because the platform reported another record of the same stream that receives media or is newer.",
)
FETCH_FAILURES = _counter(
    "stream_upstream_fetch_failures_total",
    "Playlists, initialization sections and segments that a playback check could not fetch or read, by object and "
    "reason.",
    "object",
    "reason",
)
REQUESTS = _counter(
    "stream_upstream_requests_total",
    "Requests, by request (method and path template) and code (HTTP status, or the failure reason if there was no "
    "response).",
    "request",
    "code",
)
POLLER_RESTARTS = _counter(
    "stream_upstream_poller_restarts_total", "Restarts of the upstream's poller after an internal error."
)
POLL_DURATION = Family(
    name="stream_upstream_poll_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Duration of polls in seconds, including failed ones.",
    part=Part.UPSTREAMS,
    labels=UPSTREAM_LABELS,
    bounds=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0),
)
REQUEST_DURATION = Family(
    name="stream_upstream_request_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Duration of requests in seconds, including failed ones, by request (method and path template).",
    part=Part.UPSTREAMS,
    labels=(*UPSTREAM_LABELS, "request"),
    bounds=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

POLLING_FAMILIES: tuple[Family, ...] = (
    POLLS,
    POLL_FAILURES,
    STREAM_FAILURES,
    FIELDS_DROPPED,
    DUPLICATE_RECORDS,
    FETCH_FAILURES,
    REQUESTS,
    POLLER_RESTARTS,
    POLL_DURATION,
    REQUEST_DURATION,
)
