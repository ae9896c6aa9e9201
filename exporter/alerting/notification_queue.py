"""Queue of alerts for one Alertmanager. Each queue has its own task, so that a slow one does not delay the others."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import structlog

from exporter.alerting.alertmanager import Alertmanager, Fault, classify_failure
from exporter.alerting.backlog import Backlog, Entry, Version
from exporter.alerting.evaluator import RESOLVED_KEPT_SECONDS, Alert, AlertKey, Phase
from exporter.alerting.observer import AlertmanagerObserver
from exporter.alerting.outbox import HORIZON_FACTOR, Outbox, Round
from exporter.alerting.payload import SENT_AT, AlertPayload
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

MAX_BATCH_SIZE = 64
FIRST_BACKOFF_SECONDS = 1.0
BACKOFFS_PER_ROUND = 4
"""Number of maximum back-offs that fit between two rounds."""
SMALL_BATCHES_SECONDS = 3600.0
"""Time before large batches are tried again after one was refused as too large."""
REFUSED_PAUSE_SECONDS = 15 * 60.0
"""Time before a refused alert is sent again although its state has not changed."""
MEASURED_BATCHES = 64
"""Number of recent batches used to estimate the time per batch."""
OUTLIER_FACTOR = 4.0
"""Cap on a batch's measured time as a multiple of the median, because a batch during an outage is not typical."""


class NotificationQueue:
    """Sends changed alerts at once, and repeats all alerts in rounds."""

    def __init__(
        self,
        alertmanager: Alertmanager,
        outbox: Outbox,
        *,
        clock: Clock,
        metrics: SidecarMetrics,
        resend_seconds: float,
        first_round: Round,
    ) -> None:
        """``resend_seconds``: the time between two rounds."""
        self.label = alertmanager.label
        self._alertmanager = alertmanager
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._resend_seconds = resend_seconds
        self._backlog = Backlog()
        self._round_size = 0
        self._sending = 0
        """Number of repeated alerts in the current request."""
        self._is_round_due = True
        self._current_round = self._next_round = first_round
        self._is_check_due = False
        """Whether to check for a restart of Alertmanager, as after a failure."""
        self._work = asyncio.Event()
        self._work.set()
        self._accepted_resolves: dict[AlertKey, Version] = {}
        """Resolves that Alertmanager has accepted since it started."""
        self._refused: dict[AlertKey, tuple[Version, float]] = {}
        """Alerts that Alertmanager has refused, and when (steady clock)."""
        self._observer = AlertmanagerObserver(alertmanager, clock, metrics)
        self._batch_size = MAX_BATCH_SIZE
        self._small_batches_since = 0.0
        self._batch_seconds: deque[float] = deque(maxlen=MEASURED_BATCHES)
        self._busy_since: float | None = None
        """Since when the next batch has been due (steady clock); None while there is nothing to send."""
        self._failures = 0
        self._failure_reason: Reason | None = None
        metrics.add_alertmanager(self.label)

    @property
    def waiting(self) -> int:
        """Number of alerts that have not been delivered yet."""
        return len(self._backlog) + self._sending + self._is_round_due

    def enqueue(self, alerts: Iterable[Alert]) -> None:
        """Queue the new states of these alerts."""
        self._backlog.add_changes(alerts)
        self._update_length()
        self._work.set()

    def round_seconds(self) -> float:
        """Estimate the seconds needed to send all alerts and the waiting changes; 0 if unknown."""
        if not self._batch_seconds:
            return 0.0
        batches = sorted(self._batch_seconds)
        longest = OUTLIER_FACTOR * batches[len(batches) // 2]
        batch_seconds = sum(min(seconds, longest) for seconds in batches) / len(batches)
        return math.ceil((self._round_size + self._backlog.changes) / self._batch_size) * batch_seconds

    def start_round(self, next_round: Round) -> None:
        """Repeat all alerts once the current round is complete."""
        self._is_round_due = True
        self._next_round = next_round
        usual_horizon = HORIZON_FACTOR * self._resend_seconds
        if next_round.min_horizon > max(2 * self._current_round.min_horizon, usual_horizon):
            # alerts sent in the current round would end before they are repeated
            self._backlog.end_round()
        self._work.set()

    async def run(self) -> None:
        """Send waiting alerts until cancelled."""
        while True:
            await self._work.wait()
            try:
                delivered = await self.send_batch()
            except Exception as error:
                log.error("alerts could not be sent", alertmanager=self.label, error=describe_exception(error))
                self._failures += 1
                delivered = False
            if not delivered:
                self._drop_late_resolves()
                await self._clock.sleep(self._backoff_seconds())

    async def send_batch(self) -> bool:
        """Send one request; return False if its alerts must be sent again later."""
        if self._busy_since is None:
            self._busy_since = self._clock.monotonic()
        if self._is_check_due:
            self._is_check_due = False
            await self._detect_restart()
        if self._is_round_due and self._backlog.is_round_complete:
            return await self._begin_round()
        batch = self._backlog.take_batch(self._batch_size, self._build_payload)
        self._update_length()
        if batch:
            self._sending = sum(1 for entry in batch if not entry.is_change)
            try:
                return await self._deliver(batch)
            finally:
                self._sending = 0
        self._busy_since = None
        self._work.clear()
        return True

    async def flush(self) -> None:
        """Send the waiting changes until the first failure."""
        self._backlog.end_round()
        self._is_round_due = False
        while self._backlog.changes and await self.send_batch():
            pass

    async def close(self) -> None:
        """Close the connection and drop waiting alerts; the queue must not be used afterwards."""
        await self._alertmanager.close()
        self._metrics.remove_alertmanager(self.label)

    # -- rounds --------------------------------------------------------------------------------------------------------

    async def _begin_round(self) -> bool:
        """Send the watchdog, read Alertmanager's clock and start time, and queue all alerts."""
        if not await self._send_watchdog():
            return False
        await self._detect_restart()
        self._is_round_due = False
        now = self._clock.monotonic()
        if self._batch_size < MAX_BATCH_SIZE and now - self._small_batches_since >= SMALL_BATCHES_SECONDS:
            self._batch_size = MAX_BATCH_SIZE
        alerts = self._outbox.sendable_alerts()
        keys = {alert.key for alert in alerts}
        self._accepted_resolves = {key: seen for key, seen in self._accepted_resolves.items() if key in keys}
        self._refused = {key: seen for key, seen in self._refused.items() if now < seen[1] + REFUSED_PAUSE_SECONDS}
        self._backlog.begin_round(alerts)
        self._round_size = len(alerts)
        self._current_round = self._next_round
        self._update_length()
        return True

    async def _send_watchdog(self) -> bool:
        """Send the watchdog and read Alertmanager's clock from it; return False if it was not accepted.

        Alertmanager does not list alerts that have ended by its own clock. While that clock is unknown, the watchdog is
        sent without times, so that it is always listed.
        """
        observer = self._observer
        for _ in range(2):
            was_known = observer.is_clock_known
            watchdog = self._outbox.watchdog()
            began = self._clock.monotonic()
            body = self._to_json(watchdog) if observer.can_send_times else watchdog.to_json_without_times()
            try:
                await self._post([body])
            except UpstreamError as error:
                # the watchdog is valid, so the connection is at fault
                self._fail(error, 1)
                return False
            self._metrics.count_sent(self.label, 1)
            self._succeed()
            posted = (began + self._clock.monotonic()) / 2
            if await observer.read_clock(watchdog.annotations[SENT_AT], posted):
                # resolved alerts whose end is now in the future fire again there, so resolve them again
                self._accepted_resolves.clear()
            if observer.is_clock_known or not was_known:
                break
        return True

    async def _detect_restart(self) -> None:
        """Start a new round if Alertmanager has restarted, because it does not persist alerts."""
        if await self._observer.has_restarted():
            self._accepted_resolves.clear()
            self._refused.clear()
            self._backlog.end_round()
            self._is_round_due = True

    # -- batches -------------------------------------------------------------------------------------------------------

    def _build_payload(self, alert: Alert, version: Version) -> AlertPayload | None:
        """Return an alert's payload, or None if it no longer has to be sent."""
        if self._is_settled(alert.key, version) or self._outbox.has_lapsed(alert):
            return None
        try:
            return self._outbox.payload(alert)
        except Exception as error:
            log.error("alert could not be sent", alertname=alert.key.rule, error=describe_exception(error))
            return None

    def _is_settled(self, key: AlertKey, version: Version) -> bool:
        """Return whether Alertmanager refused this state, or accepted this resolve and has not restarted since."""
        is_accepted = self._observer.notices_restarts and self._accepted_resolves.get(key) == version
        refused = self._refused.get(key)
        return is_accepted or (refused is not None and refused[0] == version)

    async def _deliver(self, batch: Sequence[Entry]) -> bool:
        """Send a batch; return False if the connection is at fault."""
        try:
            await self._post_entries(batch)
        except UpstreamError as error:
            fault = classify_failure(error)
            if fault is Fault.SIZE:
                return await self._send_smaller(error, batch)
            if fault is Fault.ALERT:
                return await self._isolate(error, batch)
            return self._requeue(error, batch)
        self._accept(batch)
        self._succeed()
        return True

    async def _send_smaller(self, error: UpstreamError, batch: Sequence[Entry]) -> bool:
        """Halve the batch size, or send a single alert without annotations."""
        if len(batch) > 1:
            if self._batch_size == MAX_BATCH_SIZE:
                log.warning("request too large for alertmanager; sending smaller ones", alertmanager=self.label)
            self._batch_size = len(batch) // 2
            self._small_batches_since = self._clock.monotonic()
            self._backlog.return_to_front(batch)
            return True
        (entry,) = batch
        try:
            await self._post([self._entry_json(entry) | {"annotations": {}}])
        except UpstreamError as second:
            if classify_failure(second) is Fault.CONNECTION:
                return self._requeue(second, batch)
            self._drop_refused(entry, error)
        else:
            self._accept(batch)
        self._succeed()
        return True

    async def _isolate(self, error: UpstreamError, batch: Sequence[Entry]) -> bool:
        """Find the refused alerts by halving the batch, and drop them; return False if the connection is at fault."""
        left: list[Sequence[Entry]] = [batch]
        """Parts that contain a refused alert or have not been sent yet."""
        try:
            # if the watchdog is refused too, the connection is at fault, not an alert
            await self._post([self._to_json(self._outbox.watchdog())])
            while left:
                part = left[-1]
                if len(part) > 1:
                    middle = len(part) // 2
                    left[-1:] = [part[middle:], part[:middle]]
                    part = left[-1]
                try:
                    await self._post_entries(part)
                except UpstreamError as refusal:
                    if classify_failure(refusal) is not Fault.ALERT:
                        raise
                    error = refusal
                    if len(part) == 1:
                        self._drop_refused(part[0], error)
                        left.pop()
                else:
                    self._accept(part)
                    left.pop()
        except UpstreamError as failure:
            return self._requeue(failure, [entry for part in left for entry in part])
        self._succeed()
        return True

    async def _post_entries(self, entries: Sequence[Entry]) -> None:
        await self._post([self._entry_json(entry) for entry in entries])

    async def _post(self, body: Sequence[dict[str, Any]]) -> None:
        await self._alertmanager.post(body)
        now = self._clock.monotonic()
        if self._busy_since is not None:
            # includes back-offs after failures
            self._batch_seconds.append(now - self._busy_since)
            self._busy_since = now

    def _entry_json(self, entry: Entry) -> dict[str, Any]:
        return self._to_json(entry.payload, is_repeated=not entry.is_change)

    def _to_json(self, payload: AlertPayload, *, is_repeated: bool = False) -> dict[str, Any]:
        """Return the JSON of an alert that lasts one horizon from now, or from the last round if it ``is_repeated``."""
        wall, steady = self._clock.instant()
        # not from the start of its own round, which may have been before an outage
        at = max(self._next_round.at, steady - self._resend_seconds) if is_repeated else steady
        min_horizon = self._next_round.min_horizon
        return payload.to_json(wall - (steady - at), self._observer.now(at), min_horizon=min_horizon)

    # -- outcomes ------------------------------------------------------------------------------------------------------

    def _accept(self, entries: Sequence[Entry]) -> None:
        self._metrics.count_sent(self.label, len(entries))
        for entry in entries:
            if entry.version.phase is Phase.RESOLVED:
                self._accepted_resolves[entry.alert.key] = entry.version
            self._backlog.remove(entry.alert, entry.version)
        self._update_length()

    def _drop_refused(self, entry: Entry, error: UpstreamError) -> None:
        key = entry.alert.key
        log.error(
            "alertmanager refused an alert",
            alertmanager=self.label,
            alertname=key.rule,
            upstream=key.upstream,
            stream=key.stream,
            error=str(error),
        )
        self._refused[key] = entry.version, self._clock.monotonic()
        self._metrics.count_errors(self.label, 1)
        self._metrics.count_dropped(self.label, 1)
        self._backlog.remove(entry.alert, entry.version)

    def _requeue(self, error: UpstreamError, batch: Sequence[Entry]) -> bool:
        """Move the alerts of a failed request to the end of the queue, in case they cause the failure."""
        self._fail(error, len(batch))
        self._backlog.return_to_end(batch)
        self._update_length()
        return False

    def _fail(self, error: UpstreamError, alerts: int) -> None:
        """Record a connection failure; log it once per reason."""
        self._metrics.count_errors(self.label, alerts)
        self._failures += 1
        self._is_check_due = True
        if error.reason is not self._failure_reason:
            log_event = log.error if error.reason in (Reason.AUTH, Reason.FORBIDDEN) else log.warning
            log_event(
                "cannot send to alertmanager", alertmanager=self.label, reason=error.reason.value, error=str(error)
            )
            self._failure_reason = error.reason

    def _succeed(self) -> None:
        self._failures = 0
        if self._failure_reason is not None:
            log.info("alertmanager is back", alertmanager=self.label, waiting=self.waiting)
            self._failure_reason = None

    def _drop_late_resolves(self) -> None:
        """Drop resolves that waited so long that the alerts have expired in Alertmanager."""
        oldest = self._clock.monotonic() - max(RESOLVED_KEPT_SECONDS, self._next_round.min_horizon)
        late = list(self._backlog.remove_resolved_before(oldest))
        # with ``resolve: lapse`` nothing is lost
        self._metrics.count_dropped(self.label, sum(1 for alert in late if not self._outbox.has_lapsed(alert)))
        self._update_length()

    def _update_length(self) -> None:
        self._metrics.set_queue_length(self.label, len(self._backlog))

    def _backoff_seconds(self) -> float:
        longest = min(
            self._resend_seconds / BACKOFFS_PER_ROUND, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16)
        )
        return random.uniform(0.5, 1.0) * longest  # noqa: S311 - spreads load
