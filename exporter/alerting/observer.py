"""Watches one Alertmanager: its clock, whether it lists the watchdog, and restarts."""

from __future__ import annotations

from collections import deque

import structlog

from exporter.alerting.alertmanager import Alertmanager
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.http.errors import UpstreamError
from exporter.runtime.clock import Clock

log = structlog.get_logger()

CLOCK_OFFSET_WARNING_SECONDS = 30.0
CLOCK_OFFSET_KEPT_SECONDS = 300.0
"""Time to keep exporting an offset after the clock was last read."""
CLOCK_STEP_SECONDS = 1.0
"""Smallest change of Alertmanager's clock that counts as a step."""
REMEMBERED_STARTS = 8
"""Number of past start times to keep, to tell a restart from a load balancer."""


class AlertmanagerObserver:
    """Reads the clock and start time of one Alertmanager. A failed read does not count as a failed delivery."""

    def __init__(self, alertmanager: Alertmanager, clock: Clock, metrics: SidecarMetrics) -> None:
        self._alertmanager = alertmanager
        self._label = alertmanager.label
        self._clock = clock
        self._metrics = metrics
        self._epoch: float | None = None
        """Unix seconds on Alertmanager's clock when the steady clock was 0; None if unknown."""
        self._read_at = 0.0
        """When the clock was last read (steady clock)."""
        self._is_hidden = False
        """Whether alerts cannot be read, for example behind a proxy that blocks GET."""
        self._is_clock_off = False
        self._is_unlisted = False
        self._started_at: str | None = None
        """Alertmanager's ``uptime``, which is the time of its start; None if unknown."""
        self._earlier_starts: deque[str] = deque(maxlen=REMEMBERED_STARTS)
        self._is_shared = False
        """Whether several Alertmanagers answer at this address."""

    # -- clock ---------------------------------------------------------------------------------------------------------

    @property
    def is_clock_known(self) -> bool:
        """Whether the clock has been read."""
        return self._epoch is not None

    @property
    def can_send_times(self) -> bool:
        """Whether to send the watchdog with times: the clock is known, or cannot be read."""
        return self.is_clock_known or self._is_hidden

    def now(self, steady: float) -> float | None:
        """Convert a time on the steady clock to Unix seconds on Alertmanager's clock; None if unknown."""
        return None if self._epoch is None else self._epoch + steady

    async def read_clock(self, sent_at: str, posted: float) -> bool:
        """Read the clock from the watchdog that was just accepted, and return whether the clock was set back.

        ``sent_at``: the watchdog's annotation; ``posted``: when it was sent, on the steady clock. The source is
        ``updatedAt``, which Alertmanager sets on receipt; ``Date`` may come from a proxy.
        """
        try:
            listed = await self._alertmanager.listed_watchdogs()
        except UpstreamError as error:
            self._is_hidden |= error.status is not None and error.status < 500
            self._withdraw_old_offset()
            return False
        received_at = next((at for sent, at in listed if sent == sent_at and at is not None), None)
        was_set_back = False
        if received_at is not None:
            expected = self.now(posted)
            was_set_back = expected is not None and received_at < expected - CLOCK_STEP_SECONDS
            self._epoch, self._read_at = received_at - posted, posted
            self._report_clock()
        elif not listed:
            # the clock may have been set; a listed watchdog may be that of another sidecar
            self._epoch = None
        self._withdraw_old_offset()
        if not listed and not self._is_unlisted:
            log.warning("alertmanager does not list the watchdog that it accepted", alertmanager=self._label)
        self._is_unlisted = not listed
        return was_set_back

    def _withdraw_old_offset(self) -> None:
        """Stop exporting an offset that is unknown or too old."""
        if self._epoch is None or self._clock.monotonic() - self._read_at > CLOCK_OFFSET_KEPT_SECONDS:
            self._metrics.remove_clock_offset(self._label)

    def _report_clock(self) -> None:
        wall, steady = self._clock.instant()
        now = self.now(steady)
        assert now is not None
        offset = now - wall
        self._metrics.set_clock_offset(self._label, offset)
        is_off = abs(offset) > CLOCK_OFFSET_WARNING_SECONDS
        if is_off and not self._is_clock_off:
            log.warning(
                "alertmanager's clock differs from the exporter's", alertmanager=self._label, seconds=round(offset)
            )
        elif self._is_clock_off and not is_off:
            log.info("alertmanager's clock agrees with the exporter's again", alertmanager=self._label)
        self._is_clock_off = is_off

    # -- restarts ------------------------------------------------------------------------------------------------------

    @property
    def notices_restarts(self) -> bool:
        """Whether restarts can be noticed: it reports its start time, and is the only one at its address."""
        return self._started_at is not None and not self._is_shared

    async def has_restarted(self) -> bool:
        """Return whether Alertmanager has restarted since the last call, or may have."""
        try:
            started_at = await self._alertmanager.started_at()
        except UpstreamError as error:
            if error.status is None or error.status >= 500:
                # a temporary failure
                return False
            started_at = None
        before, self._started_at = self._started_at, started_at
        if started_at in (None, before) or self._is_shared:
            return False
        if started_at in self._earlier_starts:
            self._is_shared = True
            log.warning(
                "several alertmanagers answer at this address, but each one needs all alerts: "
                "configure each one, or set resolve_dns",
                alertmanager=self._label,
            )
        elif before is not None:
            self._earlier_starts.append(before)
            log.info("alertmanager has restarted", alertmanager=self._label)
        return True
