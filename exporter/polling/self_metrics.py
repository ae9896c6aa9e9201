"""Metrics about polling, per upstream (polls, failures, requests, dropped fields), and about maintenance."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from exporter.metrics.families.exporter_families import MAINTENANCE_SAVED, MAINTENANCE_WRITE_FAILURES
from exporter.metrics.families.upstream_families import (
    DUPLICATE_RECORDS,
    FETCH_FAILURES,
    FIELDS_DROPPED,
    POLL_DURATION,
    POLL_FAILURES,
    POLLER_RESTARTS,
    POLLS,
    REQUEST_DURATION,
    REQUESTS,
    STREAM_FAILURES,
)
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.metrics.text_format import label_value
from exporter.model import Labels, Reason

RequestObserver = Callable[[str, str, float], None]
"""Called with the endpoint template, the HTTP status or failure reason, and the seconds."""

_RequestMetrics = dict[tuple[str, str], tuple[Counter, Histogram]]
"""Children of the labelled metrics, by request and code; cached because there are hundreds of requests per second."""


class PollingMetrics:
    """Polling metrics of all upstreams. Counts for an upstream that has been removed are ignored."""

    def __init__(self, registry: FamilyRegistry) -> None:
        self._registry = registry
        self._known: dict[tuple[str, str], _RequestMetrics] = {}
        self._polls = registry.counter(POLLS)
        self._poll_failures = registry.counter(POLL_FAILURES)
        self._stream_failures = registry.counter(STREAM_FAILURES)
        self._fields_dropped = registry.counter(FIELDS_DROPPED)
        self._duplicate_records = registry.counter(DUPLICATE_RECORDS)
        self._fetch_failures = registry.counter(FETCH_FAILURES)
        self._poller_restarts = registry.counter(POLLER_RESTARTS)
        self._poll_duration = registry.histogram(POLL_DURATION)
        self._requests = registry.counter(REQUESTS)
        self._request_duration = registry.histogram(REQUEST_DURATION)

    def add_upstream(self, platform: str, upstream: str, labels: Labels = ()) -> None:
        """Start the upstream's series at 0, so that ``increase()`` sees the first event.

        ``labels`` are the labels configured for the upstream.
        """
        self._registry.label_upstream(upstream, labels)
        self._known.setdefault((platform, upstream), {})
        for metric in (self._polls, self._poller_restarts, self._duplicate_records, self._poll_duration):
            metric.labels(platform, upstream)
        for reason in Reason:
            self._poll_failures.labels(platform, upstream, reason.value)
            self._stream_failures.labels(platform, upstream, reason.value)

    def remove_upstream(self, platform: str, upstream: str) -> None:
        """Remove every series of the upstream."""
        self._known.pop((platform, upstream), None)
        for metric in self._per_upstream():
            metric.remove_by_labels({"platform": platform, "upstream": upstream})
        self._registry.label_upstream(upstream, ())

    def _per_upstream(self) -> tuple[MetricWrapperBase, ...]:
        return (
            self._polls,
            self._poll_failures,
            self._stream_failures,
            self._fields_dropped,
            self._duplicate_records,
            self._fetch_failures,
            self._poller_restarts,
            self._poll_duration,
            self._requests,
            self._request_duration,
        )

    def count_poll(self, platform: str, upstream: str, *, seconds: float, reason: Reason | None) -> None:
        """Count a completed poll and its duration; ``reason`` is None if it succeeded."""
        if (platform, upstream) not in self._known:
            return
        self._polls.labels(platform, upstream).inc()
        self._poll_duration.labels(platform, upstream).observe(seconds)
        if reason is not None:
            self._poll_failures.labels(platform, upstream, reason.value).inc()

    def count_stream_failure(self, platform: str, upstream: str, *, reason: Reason) -> None:
        """Count a stream whose own request or record failed in a successful poll."""
        if (platform, upstream) in self._known:
            self._stream_failures.labels(platform, upstream, reason.value).inc()

    def count_dropped_field(self, platform: str, upstream: str, *, field: str, times: int) -> None:
        """Count how often a field, by the platform's name for it, was dropped in one poll."""
        if (platform, upstream) in self._known:
            self._fields_dropped.labels(platform, upstream, label_value(field)).inc(times)

    def count_duplicate_records(self, platform: str, upstream: str, *, times: int) -> None:
        """Count records that were ignored because the same stream had a better one."""
        if (platform, upstream) in self._known:
            self._duplicate_records.labels(platform, upstream).inc(times)

    def count_fetch_failures(self, platform: str, upstream: str, *, kind: str, reason: str, times: int) -> None:
        """Count media objects of this kind, such as segments, that could not be fetched or read."""
        if (platform, upstream) in self._known:
            self._fetch_failures.labels(platform, upstream, kind, reason).inc(times)

    def count_restart(self, platform: str, upstream: str) -> None:
        """Count a restart of the upstream's poller after an internal error."""
        if (platform, upstream) in self._known:
            self._poller_restarts.labels(platform, upstream).inc()

    def request_observer(self, platform: str, upstream: str) -> RequestObserver:
        """Return the function that the upstream's client calls after every request."""

        def observe(request: str, code: str, seconds: float) -> None:
            known = self._known.get((platform, upstream))
            if known is None:
                return
            if (request, code) not in known:
                known[request, code] = (
                    self._requests.labels(platform, upstream, request, code),
                    self._request_duration.labels(platform, upstream, request),
                )
            requests, durations = known[request, code]
            requests.inc()
            durations.observe(seconds)

        return observe


class MaintenanceMetrics:
    """Metrics of the maintenance state file, which have no series before there is something to save."""

    def __init__(self, registry: FamilyRegistry) -> None:
        self._registry = registry
        self._created: tuple[Gauge, Counter] | None = None

    def set_saved(self, is_saved: bool) -> None:
        """Set whether manual maintenance survives a restart."""
        self._create()[0].set(is_saved)

    def count_write_failure(self) -> None:
        """Count a failure to write the file."""
        self._create()[1].inc()

    def _create(self) -> tuple[Gauge, Counter]:
        if self._created is None:
            counter = self._registry.counter(MAINTENANCE_WRITE_FAILURES)
            self._created = self._registry.gauge(MAINTENANCE_SAVED), counter
        return self._created
