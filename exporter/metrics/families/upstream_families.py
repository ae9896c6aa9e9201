"""The families of an upstream: those read from its state, and those that ``exporter.polling.self_metrics`` counts."""

from __future__ import annotations

from collections.abc import Callable

from exporter.metrics.families.family import UPSTREAM_LABELS, Family, Kind, Labelled, ModelFamily, Number, Part
from exporter.model import UpstreamState

UpstreamFamily = ModelFamily[UpstreamState]


def _gauge(name: str, help_: str, value: Callable[[UpstreamState], Number | None]) -> UpstreamFamily:
    return UpstreamFamily(
        name=name, kind=Kind.GAUGE, help=help_, part=Part.UPSTREAMS, labels=UPSTREAM_LABELS, value=value
    )


def _info(view: UpstreamState) -> tuple[Labelled, ...]:
    return (((view.host, view.version, view.health_score), 1),)


def _failing(view: UpstreamState) -> tuple[Labelled, ...]:
    if view.up is not False or view.last_error_reason is None:
        return ()
    return (((view.last_error_reason.value,), 1),)


def _former_labels(view: UpstreamState) -> tuple[Labelled, ...]:
    return tuple(((label,), 1) for label in view.former_labels)


UPSTREAM_FAMILIES: tuple[UpstreamFamily, ...] = (
    UpstreamFamily(
        name="stream_upstream_info",
        kind=Kind.GAUGE,
        help="The upstream, its version, and whether its health scores are reported or derived. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "host", "version", "health_score"),
        values=_info,
    ),
    _gauge(
        "stream_upstream_up",
        "Whether the last poll succeeded (1) or not (0). Absent before the first poll is completed.",
        lambda view: view.up,
    ),
    _gauge(
        "stream_upstream_answering",
        "Whether the last successful poll is younger than 2.5 intervals (1) or not (0). Absent until a poll has "
        "succeeded, or 2.5 intervals have passed since the first one.",
        lambda view: view.answering,
    ),
    _gauge(
        "stream_upstream_list_complete",
        "Whether the last list of streams was read as a whole (1), or some may be missing from it (0). Absent where "
        "the platform has no list, or none was requested.",
        lambda view: view.list_complete,
    ),
    _gauge(
        "stream_upstream_statistics_frozen",
        "Whether the platform's statistics are frozen as a whole (1), so that bitrates and scores are absent, or not "
        "(0). Absent without the ingest totals of three live streams, while none was seen moving yet, and while the "
        "upstream is not answering.",
        lambda view: view.are_statistics_frozen,
    ),
    UpstreamFamily(
        name="stream_upstream_failing",
        kind=Kind.GAUGE,
        help="Why the last poll failed; absent while the upstream is up. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "reason"),
        values=_failing,
    ),
    UpstreamFamily(
        name="stream_former_label",
        kind=Kind.GAUGE,
        help="A label that a stream had in the last 20 minutes and that is served under another one now. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*UPSTREAM_LABELS, "stream"),
        values=_former_labels,
    ),
    _gauge(
        "stream_upstream_streams",
        "Streams served now, those that ended or are only expected included.",
        lambda view: None if view.up is None else len(view.streams),
    ),
    _gauge(
        "stream_upstream_streams_dropped",
        "Streams that the last successful poll left out because of max_streams.",
        lambda view: None if view.up is None else view.streams_dropped,
    ),
    _gauge(
        "stream_upstream_poll_interval_seconds",
        "Effective seconds between polls: longer than configured while a rate limit requires it.",
        lambda view: view.poll_interval_seconds or None,
    ),
    _gauge(
        "stream_upstream_last_success_timestamp_seconds",
        "Unix time of the last successful poll. All data of the upstream is served from memory and is so old.",
        lambda view: view.last_success_timestamp_seconds,
    ),
    _gauge(
        "stream_upstream_clock_skew_seconds",
        "The upstream's clock minus the exporter's, from the Date header.",
        lambda view: view.clock_skew_seconds,
    ),
    _gauge(
        "stream_upstream_rate_limit_remaining",
        "Requests left in the platform's rate limit, as it last said.",
        lambda view: view.rate_limit_remaining,
    ),
)

PASSTHROUGH_SERIES_DROPPED = Family(
    name="stream_upstream_foreign_series_dropped",
    kind=Kind.GAUGE,
    help="Series of the platform's own export left out of this answer: beyond max_series, or such as would spoil it.",
    part=Part.UPSTREAMS,
    labels=UPSTREAM_LABELS,
)


def _counter(name: str, help_: str, *labels: str) -> Family:
    return Family(name=name, kind=Kind.COUNTER, help=help_, part=Part.UPSTREAMS, labels=(*UPSTREAM_LABELS, *labels))


POLLS = _counter("stream_upstream_polls_total", "Polls completed, failed ones included.")
POLL_FAILURES = _counter("stream_upstream_poll_failures_total", "Polls that failed, by reason.", "reason")
STREAM_FAILURES = _counter(
    "stream_upstream_stream_failures_total",
    "Single streams whose own request or record failed while the poll succeeded, by reason.",
    "reason",
)
FIELDS_DROPPED = _counter(
    "stream_upstream_fields_dropped_total",
    "Values left out because they were not what the platform documents, by field.",
    "field",
)
DUPLICATE_RECORDS = _counter(
    "stream_upstream_duplicate_records_total",
    "Records left out because the platform reported another one of the same stream, which receives media or is newer.",
)
REQUESTS = _counter(
    "stream_upstream_requests_total",
    "Requests made, by request (method and path template) and HTTP status, or the reason of the failure without one.",
    "request",
    "code",
)
POLLER_RESTARTS = _counter(
    "stream_upstream_poller_restarts_total", "Times the upstream's poller died of an internal error and was restarted."
)
POLL_DURATION = Family(
    name="stream_upstream_poll_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds that whole polls took, failed ones included.",
    part=Part.UPSTREAMS,
    labels=UPSTREAM_LABELS,
    bounds=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0),
)
REQUEST_DURATION = Family(
    name="stream_upstream_request_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Seconds that single requests took, failed ones included, by request (method and path template).",
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
    REQUESTS,
    POLLER_RESTARTS,
    POLL_DURATION,
    REQUEST_DURATION,
)
