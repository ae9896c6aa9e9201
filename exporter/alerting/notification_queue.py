"""One queue and one task per Alertmanager, so that a dead or slow one does not delay the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from itertools import islice

import structlog

from exporter.alerting.alertmanager import Alertmanager, are_alerts_refused
from exporter.alerting.evaluator import RESOLVED_KEPT_SECONDS
from exporter.alerting.payload import AlertPayload, Fingerprint
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

MAX_BATCH_SIZE = 64
CAPACITY = 10_000
FIRST_BACKOFF_SECONDS = 1.0


class NotificationQueue:
    """Keeps the newest state of each alert until its Alertmanager has accepted it."""

    def __init__(
        self,
        alertmanager: Alertmanager,
        *,
        clock: Clock,
        metrics: SidecarMetrics,
        max_backoff_seconds: float,
        capacity: int = CAPACITY,
    ) -> None:
        self.label = alertmanager.label
        self._alertmanager = alertmanager
        self._clock = clock
        self._metrics = metrics
        self._max_backoff_seconds = max_backoff_seconds
        self._capacity = capacity
        self._queue: dict[Fingerprint, AlertPayload] = {}
        self._filled = asyncio.Event()
        self._failures = 0
        self._failure_reason: Reason | None = None
        self._is_overflowing = False
        metrics.add_alertmanager(self.label, capacity)

    @property
    def waiting(self) -> int:
        """Number of alerts that are not delivered yet."""
        return len(self._queue)

    def enqueue(self, payloads: Iterable[AlertPayload]) -> None:
        """Send these soon, in place of older states of the same alerts. If there are too many, drop the oldest."""
        before = len(self._queue)
        for payload in payloads:
            self._queue[payload.fingerprint] = payload
        surplus = len(self._queue) - self._capacity
        for fingerprint in list(islice(self._queue, max(0, surplus))):
            del self._queue[fingerprint]
        self._metrics.count_dropped(self.label, max(0, surplus))
        self._log_overflow(surplus > 0)
        self._metrics.change_queue_length(self.label, len(self._queue) - before)
        if self._queue:
            self._filled.set()

    async def run(self) -> None:
        """Send what is enqueued, until cancelled."""
        while True:
            await self._filled.wait()
            try:
                delivered = await self.send_batch()
            except Exception as error:
                log.error("alerts not sent", alertmanager=self.label, error=describe_exception(error))
                self._failures += 1
                delivered = False
            if not delivered:
                await self._clock.sleep(self._backoff_seconds())

    async def send_batch(self) -> bool:
        """Send the alerts that have waited longest in one request; return False if it is to be repeated later."""
        batch = self._next_batch()
        if not batch:
            self._filled.clear()
            return True
        now = self._clock.now()
        try:
            await self._alertmanager.post([payload.to_json(now) for payload in batch])
        except UpstreamError as error:
            self._metrics.count_errors(self.label, len(batch))
            self._log_failure(error, batch)
            if not are_alerts_refused(error):
                self._failures += 1
                self._move_to_end(batch)
                return False
        else:
            self._metrics.count_sent(self.label, len(batch))
            self._log_recovery()
        self._failures = 0
        self._remove(batch)
        return True

    async def flush(self) -> None:
        """Send everything that is waiting, until the first failure."""
        while self._queue and await self.send_batch():
            pass

    async def close(self) -> None:
        """Close the connection and drop what is waiting; the queue must not be used afterwards."""
        await self._alertmanager.close()
        self._metrics.remove_alertmanager(self.label, self._capacity, len(self._queue))
        self._queue.clear()

    def _next_batch(self) -> list[AlertPayload]:
        """Return the next batch, which stays in the queue until it is delivered."""
        if self._failures:
            # only after a failure can an alert have waited that long
            oldest_resolve = self._clock.monotonic() - RESOLVED_KEPT_SECONDS
            expired = [
                payload
                for payload in self._queue.values()
                if payload.resolved_steady is not None and payload.resolved_steady < oldest_resolve
            ]
            self._remove(expired)
            self._metrics.count_dropped(self.label, len(expired))
        return list(islice(self._queue.values(), MAX_BATCH_SIZE))

    def _remove(self, payloads: Iterable[AlertPayload]) -> None:
        """Remove these from the queue, unless a newer state has replaced them."""
        before = len(self._queue)
        for payload in payloads:
            if self._queue.get(payload.fingerprint) is payload:
                del self._queue[payload.fingerprint]
        self._metrics.change_queue_length(self.label, len(self._queue) - before)

    def _move_to_end(self, payloads: Iterable[AlertPayload]) -> None:
        """Let the others go first, in case these are what makes the server fail."""
        for payload in payloads:
            if self._queue.get(payload.fingerprint) is payload:
                self._queue[payload.fingerprint] = self._queue.pop(payload.fingerprint)

    def _backoff_seconds(self) -> float:
        longest = min(self._max_backoff_seconds, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
        return random.uniform(0.5, 1.0) * longest  # noqa: S311 - spreads load

    def _log_failure(self, error: UpstreamError, batch: list[AlertPayload]) -> None:
        if are_alerts_refused(error):
            self._log_recovery()
            names = sorted({payload.labels["alertname"] for payload in batch})
            log.error("alertmanager refused alerts", alertmanager=self.label, error=str(error), alertnames=names)
        elif error.reason is not self._failure_reason:
            log_event = log.error if error.reason in (Reason.AUTH, Reason.FORBIDDEN) else log.warning
            log_event("alertmanager fails", alertmanager=self.label, reason=error.reason.value, error=str(error))
            self._failure_reason = error.reason

    def _log_recovery(self) -> None:
        if self._failure_reason is not None:
            log.info("alertmanager is back", alertmanager=self.label, waiting=len(self._queue))
            self._failure_reason = None

    def _log_overflow(self, is_overflowing: bool) -> None:
        if is_overflowing and not self._is_overflowing:
            log.error("too many alerts wait, the oldest are dropped", alertmanager=self.label, capacity=self._capacity)
        self._is_overflowing = is_overflowing
