"""Sends changes of stream alerts to a platform that records events."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import structlog

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.self_metrics import EventOutcome, SidecarMetrics
from exporter.http.errors import UpstreamError
from exporter.model import UpstreamState
from exporter.platforms.capabilities import AlertChange, AlertSink
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

CAPACITY = 1000
BACK_OFF_SECONDS = 1.0
MAX_BACK_OFF_SECONDS = 60.0
_RETRIED_CLIENT_ERRORS = frozenset({401, 402, 403, 408, 429})
"""4xx statuses after which the same batch may still be accepted."""


class AlertEventQueue:
    """Bounded FIFO queue of alert changes, and the task that sends them."""

    def __init__(
        self,
        upstream: str,
        find_sink: Callable[[str], AlertSink | None],
        *,
        clock: Clock,
        metrics: SidecarMetrics,
        capacity: int = CAPACITY,
    ) -> None:
        """``find_sink`` returns the current sink of an upstream; a reload may change it."""
        self._upstream = upstream
        self._find_sink = find_sink
        self._clock = clock
        self._metrics = metrics
        self._capacity = capacity
        self._queue: deque[AlertChange] = deque()
        self._filled = asyncio.Event()
        self._failures = 0
        self._sessions: dict[AlertKey, str] = {}
        """Session ids of firing alerts, because a stream may be gone when its alert resolves."""
        metrics.start_events()

    @property
    def waiting(self) -> int:
        """Number of changes that have not been delivered yet."""
        return len(self._queue)

    def add(self, alert: Alert, upstream_state: UpstreamState | None) -> None:
        """Queue a stream alert that started to fire or was resolved."""
        # without the severity, because one grade of a rule may replace the other
        key = replace(alert.key, severity="")
        streams = upstream_state.streams if upstream_state is not None else ()
        session = next((state.report.session for state in streams if state.identity.stream == key.stream), "")
        if alert.phase is Phase.RESOLVED:
            session = self._sessions.pop(key, session)
        else:
            self._sessions[key] = session
        self._queue.append(
            AlertChange(
                alert=key.rule,
                is_firing=alert.phase is not Phase.RESOLVED,
                platform=alert.platform,
                upstream=key.upstream,
                stream=key.stream,
                session=session,
                value=alert.value,
            )
        )
        if len(self._queue) > self._capacity:
            self._queue.popleft()
            self._metrics.count_events(EventOutcome.DROPPED, 1)
        self._filled.set()

    async def run(self) -> None:
        """Send queued changes until cancelled."""
        while True:
            await self._filled.wait()
            try:
                delivered = await self._send_batch()
            except Exception as error:
                log.error("events could not be sent", error=describe_exception(error))
                delivered = False
            if not delivered:
                self._failures += 1
                longest = min(MAX_BACK_OFF_SECONDS, BACK_OFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
                await self._clock.sleep(random.uniform(0.5, 1.0) * longest)  # noqa: S311 - spreads load

    async def _send_batch(self) -> bool:
        """Send the oldest changes; return False if they must be sent again later."""
        if not self._queue:
            self._filled.clear()
            return True
        sink = self._find_sink(self._upstream)
        if sink is None:
            return False
        batch = list(islice(self._queue, sink.batch_size))
        try:
            accepted, rejected = await sink.send(batch)
        except UpstreamError as error:
            if not self._failures:
                log.warning("wave does not accept events", upstream=self._upstream, error=str(error))
            if not (400 <= (error.status or 0) < 500) or error.status in _RETRIED_CLIENT_ERRORS:
                return False
            accepted, rejected = 0, len(batch)
        self._failures = 0
        self._metrics.count_events(EventOutcome.ACCEPTED, accepted)
        self._metrics.count_events(EventOutcome.REJECTED, rejected)
        if rejected:
            log.warning("wave rejected events", upstream=self._upstream, rejected=rejected)
        for change in batch:
            # the oldest may have been dropped during the request
            if self._queue and self._queue[0] is change:
                self._queue.popleft()
        return True
