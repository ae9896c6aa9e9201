"""Metrics of the alerting sidecar itself."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from enum import StrEnum

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from exporter.metrics.families import exporter_families as families
from exporter.metrics.self_metrics import FamilyRegistry


class EventOutcome(StrEnum):
    """The outcome of an event for WAVE."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DROPPED = "dropped"


class SidecarMetrics:
    """The sidecar's metrics; without samples while the sidecar is off."""

    def __init__(self, registry: FamilyRegistry) -> None:
        self._sent = registry.counter(families.NOTIFICATIONS_SENT)
        self._errors = registry.counter(families.NOTIFICATIONS_ERRORS)
        self._dropped = registry.counter(families.NOTIFICATIONS_DROPPED)
        self._queue_length = registry.gauge(families.NOTIFICATIONS_QUEUE_LENGTH)
        self._queue_capacity = registry.gauge(families.NOTIFICATIONS_QUEUE_CAPACITY)
        self._latency = registry.histogram(families.NOTIFICATIONS_LATENCY)
        self._alerts = registry.gauge(families.ALERTS)
        self._events = registry.counter(families.WAVE_EVENTS)
        self._registry = registry
        self._write_failures: Counter | None = None
        self._senders: Tally[str] = Tally()
        self._counted: set[tuple[str, str]] = set()

    # -- Alertmanagers -------------------------------------------------------------------------------------------------

    def add_alertmanager(self, address: str, capacity: int) -> None:
        """Start the series of an Alertmanager (host and port) with a queue of that capacity."""
        self._senders[address] += 1
        for metric in self._per_alertmanager():
            metric.labels(address)
        self._queue_capacity.labels(address).inc(capacity)

    def remove_alertmanager(self, address: str, capacity: int, waiting: int) -> None:
        """Count out a queue with ``waiting`` alerts in it; the series end with the address's last queue."""
        self._senders[address] -= 1
        self._queue_capacity.labels(address).dec(capacity)
        self._queue_length.labels(address).dec(waiting)
        if not self._senders[address]:
            del self._senders[address]
            for metric in self._per_alertmanager():
                metric.remove(address)

    def change_queue_length(self, address: str, by: int) -> None:
        """Change the queue length by this number of alerts."""
        if by:
            self._queue_length.labels(address).inc(by)

    def count_sent(self, address: str, alerts: int) -> None:
        """Count alerts that an Alertmanager accepted."""
        self._sent.labels(address).inc(alerts)

    def count_errors(self, address: str, alerts: int) -> None:
        """Count the alerts of a failed request."""
        self._errors.labels(address).inc(alerts)

    def count_dropped(self, address: str, alerts: int) -> None:
        """Count alerts that were given up."""
        if alerts:
            self._dropped.labels(address).inc(alerts)

    def observe_latency(self, address: str, seconds: float) -> None:
        """Observe the duration of a request to an Alertmanager, whether it succeeded or not."""
        self._latency.labels(address).observe(seconds)

    def _per_alertmanager(self) -> tuple[MetricWrapperBase, ...]:
        return (self._sent, self._errors, self._dropped, self._queue_length, self._queue_capacity, self._latency)

    # -- alerts --------------------------------------------------------------------------------------------------------

    def set_alerts(self, active: Iterable[tuple[str, str]]) -> None:
        """Set the number of alerts by name and state; names and states that are gone become 0."""
        tally = Tally(active)
        self._counted |= tally.keys()
        for name, state in self._counted:
            self._alerts.labels(name, state).set(tally[name, state])

    def start_write_failures(self) -> None:
        """Start to count write failures of the alert state file, from 0."""
        if self._write_failures is None:
            self._write_failures = self._registry.counter(families.ALERT_STATE_WRITE_FAILURES)

    def count_write_failure(self) -> None:
        """Count a failure to write the alert state file."""
        self.start_write_failures()
        assert self._write_failures is not None
        self._write_failures.inc()

    # -- events --------------------------------------------------------------------------------------------------------

    def start_events(self) -> None:
        """Start the series of all outcomes at 0."""
        for outcome in EventOutcome:
            self._events.labels(outcome.value)

    def count_events(self, outcome: EventOutcome, number: int) -> None:
        """Count events for WAVE by outcome."""
        if number:
            self._events.labels(outcome.value).inc(number)
