"""Metrics of the alerting sidecar itself."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum

from prometheus_client import Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase

from exporter.metrics.families import exporter_families as families
from exporter.metrics.self_metrics import FamilyRegistry


class EventOutcome(StrEnum):
    """Outcome of an event sent to WAVE."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DROPPED = "dropped"


class SidecarMetrics:
    """The sidecar's metrics, which have no series while the sidecar is inactive."""

    def __init__(self, registry: FamilyRegistry) -> None:
        self._sent = registry.counter(families.NOTIFICATIONS_SENT)
        self._errors = registry.counter(families.NOTIFICATIONS_ERRORS)
        self._dropped = registry.counter(families.NOTIFICATIONS_DROPPED)
        self._queue_length = registry.gauge(families.NOTIFICATIONS_QUEUE_LENGTH)
        self._clock_offset = registry.gauge(families.NOTIFICATIONS_CLOCK_OFFSET)
        self._latency = registry.histogram(families.NOTIFICATIONS_LATENCY)
        self._webhook_sent = registry.counter(families.WEBHOOK_SENT)
        self._webhook_errors = registry.counter(families.WEBHOOK_ERRORS)
        self._webhook_dropped = registry.counter(families.WEBHOOK_DROPPED)
        self._alerts = registry.gauge(families.ALERTS)
        self._events = registry.counter(families.WAVE_EVENTS)
        self._registry = registry
        self._write_failures: Counter | None = None
        self._state_saved: Gauge | None = None
        self._senders: Tally[str] = Tally()
        self._counted: set[tuple[str, str]] = set()

    # -- Alertmanagers -------------------------------------------------------------------------------------------------

    def add_alertmanager(self, identity: str) -> None:
        """Create the series of an Alertmanager."""
        self._senders[identity] += 1
        for metric in self._per_alertmanager():
            metric.labels(identity)

    def remove_alertmanager(self, identity: str) -> None:
        """Remove the series of an Alertmanager once its last queue is closed; a reload may open a new one first."""
        self._senders[identity] -= 1
        if not self._senders[identity]:
            del self._senders[identity]
            for metric in self._per_alertmanager():
                metric.remove(identity)
            self.remove_clock_offset(identity)

    def set_queue_length(self, identity: str, alerts: int) -> None:
        """Set the number of waiting alerts."""
        self._queue_length.labels(identity).set(alerts)

    def set_clock_offset(self, identity: str, seconds: float) -> None:
        """Set the number of seconds by which an Alertmanager's clock is ahead."""
        self._clock_offset.labels(identity).set(seconds)

    def remove_clock_offset(self, identity: str) -> None:
        """Remove the series of an Alertmanager's clock offset, if there is one."""
        with suppress(KeyError):
            self._clock_offset.remove(identity)

    def count_sent(self, identity: str, alerts: int) -> None:
        """Count alerts that an Alertmanager accepted."""
        self._sent.labels(identity).inc(alerts)

    def count_errors(self, identity: str, alerts: int) -> None:
        """Count the alerts of a failed request."""
        self._errors.labels(identity).inc(alerts)

    def count_dropped(self, identity: str, alerts: int) -> None:
        """Count dropped alerts."""
        if alerts:
            self._dropped.labels(identity).inc(alerts)

    def observe_latency(self, identity: str, seconds: float) -> None:
        """Observe the duration of a request to an Alertmanager, whether it succeeded or not."""
        self._latency.labels(identity).observe(seconds)

    def _per_alertmanager(self) -> tuple[MetricWrapperBase, ...]:
        return (self._sent, self._errors, self._dropped, self._queue_length, self._latency)

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def add_webhook(self, name: str) -> None:
        """Create the series of a webhook."""
        for metric in self._per_webhook():
            metric.labels(name)

    def remove_webhook(self, name: str) -> None:
        """Remove the series of a webhook."""
        for metric in self._per_webhook():
            metric.remove(name)

    def count_webhook_sent(self, name: str) -> None:
        """Count a notification that a webhook accepted."""
        self._webhook_sent.labels(name).inc()

    def count_webhook_error(self, name: str) -> None:
        """Count a failed request to a webhook."""
        self._webhook_errors.labels(name).inc()

    def count_webhook_dropped(self, name: str, alerts: int) -> None:
        """Count resolved alerts that will not be sent to a webhook."""
        if alerts:
            self._webhook_dropped.labels(name).inc(alerts)

    def _per_webhook(self) -> tuple[MetricWrapperBase, ...]:
        return (self._webhook_sent, self._webhook_errors, self._webhook_dropped)

    # -- alerts --------------------------------------------------------------------------------------------------------

    def set_alerts(self, active: Iterable[tuple[str, str]]) -> None:
        """Set the number of alerts by name and state; combinations that no longer occur become 0."""
        tally = Tally(active)
        self._counted |= tally.keys()
        for name, state in self._counted:
            self._alerts.labels(name, state).set(tally[name, state])

    def set_saved(self, is_saved: bool) -> None:
        """Set whether alert state survives a restart."""
        if self._state_saved is None:
            self._state_saved = self._registry.gauge(families.ALERT_STATE_SAVED)
        self._state_saved.set(is_saved)

    def start_write_failures(self) -> None:
        """Create the series of write failures of the alert state file, at 0."""
        if self._write_failures is None:
            self._write_failures = self._registry.counter(families.ALERT_STATE_WRITE_FAILURES)

    def count_write_failure(self) -> None:
        """Count a failure to write the alert state file."""
        self.start_write_failures()
        assert self._write_failures is not None
        self._write_failures.inc()

    # -- events --------------------------------------------------------------------------------------------------------

    def start_events(self) -> None:
        """Create the series of all outcomes, at 0."""
        for outcome in EventOutcome:
            self._events.labels(outcome.value)

    def count_events(self, outcome: EventOutcome, number: int) -> None:
        """Count events for WAVE by outcome."""
        if number:
            self._events.labels(outcome.value).inc(number)
