"""What the exporter counts about itself and about asking its upstreams, kept by prometheus_client."""

from __future__ import annotations

import platform as python_platform
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

from exporter import __version__
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.metrics.families import exporter_families as own
from exporter.metrics.families import upstream_families as polling
from exporter.metrics.families.family import Family
from exporter.metrics.text_format import label_value
from exporter.model import Reason
from exporter.sharding import SINGLE, Shard

RequestObserver = Callable[[str, str, float], None]
"""Endpoint (method and path template), HTTP status or the reason of the failure, seconds."""

_RequestMetrics = dict[tuple[str, str], tuple[Counter, Histogram]]
"""Label children by endpoint and code; cached because there are hundreds of requests per second."""

_POLLING: Final[Sequence[Family]] = polling.POLLING_FAMILIES


class ExporterMetrics:
    """The objects behind the families; one instance per process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._exporter = CollectorRegistry()
        self._upstreams = CollectorRegistry()
        self._known: dict[tuple[str, str], _RequestMetrics] = {}
        self._polls = self._counter(polling.POLLS)
        self._poll_failures = self._counter(polling.POLL_FAILURES)
        self._stream_failures = self._counter(polling.STREAM_FAILURES)
        self._fields_dropped = self._counter(polling.FIELDS_DROPPED)
        self._poller_restarts = self._counter(polling.POLLER_RESTARTS)
        self._poll_duration = self._histogram(polling.POLL_DURATION)
        self._requests = self._counter(polling.REQUESTS)
        self._request_duration = self._histogram(polling.REQUEST_DURATION)
        self._reload_successful = self._gauge(own.RELOAD_SUCCESSFUL)
        self._reload_success_timestamp = self._gauge(own.RELOAD_SUCCESS_TIMESTAMP)
        self._shard_ordinal = self._gauge(own.SHARD_ORDINAL)
        self._shards = self._gauge(own.SHARDS)
        self.sharded(SINGLE)
        self._gauge(own.BUILD_INFO).labels(version=__version__, pythonversion=python_platform.python_version()).set(1)
        self.sidecar = SidecarMetrics(self._exporter)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._exporter)

    # -- what is rendered ----------------------------------------------------------------------------------------------

    def exporter(self) -> bytes:
        """The text of the process's own families."""
        return generate_latest(_WithSamples(self._exporter))

    def upstreams(self) -> bytes:
        """The text of what is counted per upstream."""
        return generate_latest(_WithSamples(self._upstreams))

    # -- upstreams come and go -----------------------------------------------------------------------------------------

    def add_upstream(self, platform: str, upstream: str) -> None:
        """Begin the upstream's series at 0, so that their first increase can be seen."""
        self._known.setdefault((platform, upstream), {})
        for metric in (self._polls, self._poller_restarts, self._poll_duration):
            metric.labels(platform, upstream)
        for reason in Reason:
            self._poll_failures.labels(platform, upstream, reason.value)
            self._stream_failures.labels(platform, upstream, reason.value)

    def remove_upstream(self, platform: str, upstream: str) -> None:
        """Remove every series of the upstream; what a poll that is being cancelled still counts is ignored."""
        self._known.pop((platform, upstream), None)
        for metric in self._per_upstream():
            metric.remove_by_labels({"platform": platform, "upstream": upstream})

    def _per_upstream(self) -> tuple[MetricWrapperBase, ...]:
        return (
            self._polls,
            self._poll_failures,
            self._stream_failures,
            self._fields_dropped,
            self._poller_restarts,
            self._poll_duration,
            self._requests,
            self._request_duration,
        )

    # -- what happens --------------------------------------------------------------------------------------------------

    def poll_finished(self, platform: str, upstream: str, *, seconds: float, reason: Reason | None) -> None:
        """One poll ended after so long; ``reason``: why it failed, None when it did not."""
        if (platform, upstream) not in self._known:
            return
        self._polls.labels(platform, upstream).inc()
        self._poll_duration.labels(platform, upstream).observe(seconds)
        if reason is not None:
            self._poll_failures.labels(platform, upstream, reason.value).inc()

    def stream_failed(self, platform: str, upstream: str, *, reason: Reason) -> None:
        """One stream's own request or record failed in a poll that succeeded."""
        if (platform, upstream) in self._known:
            self._stream_failures.labels(platform, upstream, reason.value).inc()

    def field_dropped(self, platform: str, upstream: str, *, field: str, times: int) -> None:
        """A field, by the platform's name for it, was left out so many times in one poll."""
        if (platform, upstream) in self._known:
            self._fields_dropped.labels(platform, upstream, label_value(field)).inc(times)

    def request_observer(self, platform: str, upstream: str) -> RequestObserver:
        """Return the function that an upstream's client calls after every request."""

        def observe(endpoint: str, code: str, seconds: float) -> None:
            metrics = self._known.get((platform, upstream))
            if metrics is None:
                return
            if (endpoint, code) not in metrics:
                metrics[endpoint, code] = (
                    self._requests.labels(platform, upstream, endpoint, code),
                    self._request_duration.labels(platform, upstream, endpoint),
                )
            requests, durations = metrics[endpoint, code]
            requests.inc()
            durations.observe(seconds)

        return observe

    def poller_restarted(self, platform: str, upstream: str) -> None:
        """A poller died of an internal error and begins again."""
        if (platform, upstream) in self._known:
            self._poller_restarts.labels(platform, upstream).inc()

    def sharded(self, shard: Shard) -> None:
        """Which of the processes that share the work this is."""
        self._shard_ordinal.set(shard.ordinal)
        self._shards.set(shard.count)

    def reloaded(self, *, success: bool, at: float) -> None:
        """The configuration was loaded, or could not be; ``at``: unix seconds."""
        self._reload_successful.set(1 if success else 0)
        if success:
            self._reload_success_timestamp.set(at)

    # -- made from the catalogue ---------------------------------------------------------------------------------------

    def _registry(self, family: Family) -> CollectorRegistry:
        return self._upstreams if family in _POLLING else self._exporter

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, family.labels, registry=self._registry(family))

    def _gauge(self, family: Family) -> Gauge:
        return Gauge(family.name, family.help, family.labels, registry=self._registry(family))

    def _histogram(self, family: Family) -> Histogram:
        return Histogram(
            family.name, family.help, family.labels, registry=self._registry(family), buckets=family.bounds
        )


class _WithSamples(CollectorRegistry):
    """A registry's families but for those without samples, whose headings would stand alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._all = registry

    def collect(self) -> Iterator[Metric]:
        return (family for family in self._all.collect() if family.samples)
