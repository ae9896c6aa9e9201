"""The interface through which queues get alerts, and the order in which alerts are sent."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from exporter.alerting.evaluator import Alert
from exporter.alerting.payload import AlertPayload

HORIZON_FACTOR = 4
"""Number of repeat intervals after which Alertmanager ends a firing alert that is no longer repeated."""


class Outbox(Protocol):
    """Provides the current alerts to the queues."""

    def sendable_alerts(self) -> Sequence[Alert]:
        """Return the firing and resolved alerts in sending order."""

    def payload(self, alert: Alert) -> AlertPayload | None:
        """Return an alert's payload, or None if the alert was replaced."""

    def has_lapsed(self, alert: Alert) -> bool:
        """Return whether the alert has already expired in Alertmanager, so that it must not be sent.

        An end in the past would also end an alert that another sidecar has sent since.
        """

    def is_under_maintenance(self, alert: Alert) -> bool:
        """Return whether the alert's stream or upstream is under maintenance."""

    def watchdog(self) -> AlertPayload:
        """Return the watchdog alert, which is sent first in every round."""


class SendingOrder(IntEnum):
    """The order in which alerts are sent, after the watchdog."""

    UPSTREAM = 0
    CRITICAL = 1
    WARNING = 2
    INFO = 3


_ORDER_OF_SEVERITY = {"critical": SendingOrder.CRITICAL, "warning": SendingOrder.WARNING}


def sending_order(alert: Alert) -> SendingOrder:
    """Return an alert's place: alerts about whole upstreams come first, then by severity."""
    if alert.key.upstream and not alert.key.stream:
        return SendingOrder.UPSTREAM
    return _ORDER_OF_SEVERITY.get(alert.key.severity, SendingOrder.INFO)


class Round(NamedTuple):
    """One repetition of all alerts, shared by all Alertmanagers. Times are on the steady clock.

    An alert that is no longer repeated thus ends at the same time in all of them. Otherwise a cluster member in which
    it has not ended yet would notify again.
    """

    at: float
    """Time from which the horizon of all alerts counts."""
    min_horizon: float = 0.0
    """Minimum horizon: longer than the slowest Alertmanager needs to accept all alerts."""
