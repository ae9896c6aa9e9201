"""One queue and one task per Alertmanager: a dead or slow one holds up no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from itertools import islice

import structlog

from exporter.alerting.alertmanager import Alertmanager, is_to_blame
from exporter.alerting.evaluator import RESOLVED_KEPT_SECONDS
from exporter.alerting.payload import AlertPayload, Fingerprint
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

BATCH = 64
CAPACITY = 10_000
BACK_OFF_SECONDS = 1.0


class NotificationQueue:
    """Keeps the newest state of each alert until its Alertmanager has taken it."""

    def __init__(
        self,
        alertmanager: Alertmanager,
        *,
        clock: Clock,
        instruments: SidecarMetrics,
        generator_url: str,
        longest_back_off_seconds: float,
        capacity: int = CAPACITY,
        random_: random.Random | None = None,
    ) -> None:
        self.label = alertmanager.label
        self._alertmanager = alertmanager
        self._clock = clock
        self._instruments = instruments
        self._generator_url = generator_url
        self._longest_back_off = longest_back_off_seconds
        self._capacity = capacity
        self._random = random_ or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._queue: dict[Fingerprint, AlertPayload] = {}
        self._filled = asyncio.Event()
        self._failures = 0
        self._failing_for: Reason | None = None
        self._is_overflowing = False
        instruments.add_alertmanager(self.label, capacity)

    @property
    def waiting(self) -> int:
        """Alerts that are not delivered yet."""
        return len(self._queue)

    def offer(self, notices: Iterable[AlertPayload]) -> None:
        """Send these soon, instead of what is waiting about the same alerts. The oldest go when there are too many."""
        before = len(self._queue)
        for notice in notices:
            self._queue[notice.fingerprint] = notice
        surplus = len(self._queue) - self._capacity
        for fingerprint in list(islice(self._queue, max(0, surplus))):
            del self._queue[fingerprint]
        self._instruments.dropped(self.label, max(0, surplus))
        self._tell_overflow(surplus > 0)
        self._instruments.queue_changed(self.label, len(self._queue) - before)
        if self._queue:
            self._filled.set()

    async def run(self) -> None:
        """Send whatever is offered, until cancelled."""
        while True:
            await self._filled.wait()
            try:
                delivered = await self.send()
            except Exception as error:
                log.error("alerts not sent", alertmanager=self.label, error=describe_exception(error))
                self._failures += 1
                delivered = False
            if not delivered:
                await self._clock.sleep(self._back_off())

    async def send(self) -> bool:
        """One request with what has waited longest, if anything has; False: it is to be tried again later."""
        now = self._clock.now()
        batch = self._take(now)
        if not batch:
            self._filled.clear()
            return True
        try:
            await self._alertmanager.post([notice.wire(now, self._generator_url) for notice in batch])
        except UpstreamError as error:
            self._instruments.not_sent(self.label, len(batch))
            self._tell_failure(error, batch)
            if not is_to_blame(error):
                self._failures += 1
                self._put_last(batch)
                return False
        else:
            self._instruments.sent(self.label, len(batch))
            self._tell_recovery()
        self._failures = 0
        self._remove(batch)
        return True

    async def flush(self) -> None:
        """Send all that is waiting, or as much as is taken at the first attempt."""
        while self._queue and await self.send():
            pass

    async def close(self) -> None:
        """Close the connection; the sender is not used afterwards."""
        await self._alertmanager.close()
        self._instruments.remove_alertmanager(self.label, self._capacity, len(self._queue))
        self._queue.clear()

    # -- the queue -----------------------------------------------------------------------------------------------------

    def _take(self, now: float) -> list[AlertPayload]:
        """The next batch, which stays in the queue until it is delivered."""
        if self._failures:
            # only after a failure can anything have waited so long
            late = [
                n for n in self._queue.values() if n.ends_at is not None and now > n.ends_at + RESOLVED_KEPT_SECONDS
            ]
            self._remove(late)
            self._instruments.dropped(self.label, len(late))
        return list(islice(self._queue.values(), BATCH))

    def _remove(self, notices: Iterable[AlertPayload]) -> None:
        """Take these out of the queue, where nothing newer has come for them meanwhile."""
        before = len(self._queue)
        for notice in notices:
            if self._queue.get(notice.fingerprint) is notice:
                del self._queue[notice.fingerprint]
        self._instruments.queue_changed(self.label, len(self._queue) - before)

    def _put_last(self, notices: Iterable[AlertPayload]) -> None:
        """Let the others go first: should it be these that the server stumbles over, they hold up no more."""
        for notice in notices:
            if self._queue.get(notice.fingerprint) is notice:
                self._queue[notice.fingerprint] = self._queue.pop(notice.fingerprint)

    def _back_off(self) -> float:
        longest = min(self._longest_back_off, BACK_OFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
        return self._random.uniform(0.5, 1.0) * longest

    # -- what is told --------------------------------------------------------------------------------------------------

    def _tell_failure(self, error: UpstreamError, batch: list[AlertPayload]) -> None:
        if is_to_blame(error):
            self._tell_recovery()
            names = sorted({notice.labels["alertname"] for notice in batch})
            log.error("alertmanager refused alerts", alertmanager=self.label, error=str(error), alertnames=names)
        elif error.reason is not self._failing_for:
            tell = log.error if error.reason in (Reason.AUTH, Reason.FORBIDDEN) else log.warning
            tell("alertmanager fails", alertmanager=self.label, reason=error.reason.value, error=str(error))
            self._failing_for = error.reason

    def _tell_recovery(self) -> None:
        if self._failing_for is not None:
            log.info("alertmanager is back", alertmanager=self.label, waiting=len(self._queue))
            self._failing_for = None

    def _tell_overflow(self, is_overflowing: bool) -> None:
        if is_overflowing and not self._is_overflowing:
            log.error("too many alerts wait, the oldest are dropped", alertmanager=self.label, capacity=self._capacity)
        self._is_overflowing = is_overflowing
