"""The alerts that receivers get, and the order in which they get them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from exporter.alerting.evaluator import Alert
from exporter.alerting.payload import AlertPayload

HORIZON_FACTOR = 4
"""Multiple of the time between two repetitions for which a firing alert lasts in Alertmanager without another one."""


class Outbox(Protocol):
    """The current alerts, as the queues send them."""

    def sendable_alerts(self) -> Sequence[Alert]:
        """Return the firing and resolved alerts, in the order in which they are sent."""

    def payload(self, alert: Alert) -> AlertPayload | None:
        """Return an alert's payload; None if the alert was replaced."""

    def has_lapsed(self, alert: Alert) -> bool:
        """Whether the alert has ended in Alertmanager by itself.

        It must not be sent any more: an end in the past would also end an alert that another sidecar has sent since.
        """

    def watchdog(self) -> AlertPayload:
        """Return the sign of life that begins every round."""


class SendingOrder(IntEnum):
    """The order in which alerts are sent, after the watchdog."""

    UPSTREAM = 0
    CRITICAL = 1
    WARNING = 2
    INFO = 3


_ORDER_OF_SEVERITY = {"critical": SendingOrder.CRITICAL, "warning": SendingOrder.WARNING}


def sending_order(alert: Alert) -> SendingOrder:
    """Return when an alert is sent: first those about whole upstreams, then by severity."""
    if not alert.key.stream:
        return SendingOrder.UPSTREAM
    return _ORDER_OF_SEVERITY.get(alert.key.severity, SendingOrder.INFO)


class Round(NamedTuple):
    """One repetition of all alerts; the same for all Alertmanagers.

    An alert that is repeated no more therefore ends at the same time in all of them. In a cluster, the one in which it
    has not ended would notify again. All times are on the steady clock.
    """

    at: float
    """The moment from which the alerts last for a horizon."""
    least_horizon: float = 0.0
    """The shortest time that an alert lasts: longer than the slowest Alertmanager needs to accept all alerts."""
