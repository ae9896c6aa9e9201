"""Changes of streams' alerts, written back into WAVE as its own analytics events."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import structlog

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.self_metrics import EventOutcome, SidecarMetrics
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import StreamState, UpstreamState
from exporter.platforms.wave.event_api import LARGEST_BATCH, track_events
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

CAPACITY = 1000
TIMEOUT_SECONDS = 10.0
BACK_OFF_SECONDS = 1.0
LONGEST_BACK_OFF_SECONDS = 60.0
_WORTH_REPEATING = frozenset({401, 402, 403, 408, 429})

Event = dict[str, Any]


def event_of(alert: Alert, session: str) -> Event:
    """A firing alert as ``stream.unhealthy``, a resolved one as ``stream.recovered``."""
    return {
        "eventType": "stream",
        "eventName": "stream.recovered" if alert.phase is Phase.RESOLVED else "stream.unhealthy",
        "sessionId": session,
        "properties": {
            "platform": alert.platform,
            "upstream": alert.key.upstream,
            "stream": alert.key.stream,
            "alert": alert.key.rule,
            "value": alert.value,
        },
    }


def session_of(alert: Alert, state: StreamState | None) -> str:
    """The session that an event is about: WAVE's own id, where the stream is one of its sessions and shows it."""
    if alert.platform == "wave" and state is not None and state.report.session:
        return state.report.session
    return f"{alert.key.upstream}/{alert.key.stream}"


class EventSender:
    """A bounded queue of events, in the order in which they happened, and the task that sends them."""

    def __init__(
        self,
        client_of: Callable[[], UpstreamClient | None],
        *,
        clock: Clock,
        instruments: SidecarMetrics,
        capacity: int = CAPACITY,
    ) -> None:
        """``client_of``: the client of WAVE at that moment; a reload may change it."""
        self._client_of = client_of
        self._clock = clock
        self._instruments = instruments
        self._capacity = capacity
        self._queue: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._failures = 0
        self._sessions: dict[AlertKey, str] = {}
        """The sessions of what is firing: at its end the stream may have left already."""
        instruments.events_begin()

    @property
    def waiting(self) -> int:
        """Events that are not delivered yet."""
        return len(self._queue)

    def changed(self, alert: Alert, view: UpstreamState | None) -> None:
        """An alert of a stream began to fire, or was resolved."""
        key = alert.key
        states = view.streams if view is not None else ()
        state = next((state for state in states if state.identity.stream == key.stream), None)
        session = session_of(alert, state)
        if alert.phase is Phase.RESOLVED:
            session = self._sessions.pop(key, session)
        else:
            self._sessions[key] = session
        self._queue.append(event_of(alert, session))
        if len(self._queue) > self._capacity:
            self._queue.popleft()
            self._instruments.events(EventOutcome.DROPPED, 1)
        self._filled.set()

    async def run(self) -> None:
        """Send whatever happens, until cancelled."""
        while True:
            await self._filled.wait()
            try:
                delivered = await self.send()
            except Exception as error:
                log.error("events not sent", error=describe_exception(error))
                delivered = False
            if not delivered:
                self._failures += 1
                longest = min(LONGEST_BACK_OFF_SECONDS, BACK_OFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
                await self._clock.sleep(random.uniform(0.5, 1.0) * longest)  # noqa: S311 - spreads load

    async def send(self) -> bool:
        """One batch, if there is one; False: it is to be tried again later."""
        batch = list(islice(self._queue, LARGEST_BATCH))
        if not batch:
            self._filled.clear()
            return True
        client = self._client_of()
        if client is None:
            return False
        try:
            accepted, rejected = await track_events(client.requests(TIMEOUT_SECONDS), batch)
        except UpstreamError as error:
            if not self._failures:
                log.warning("wave takes no events", upstream=client.upstream, error=str(error))
            if not (400 <= (error.status or 0) < 500) or error.status in _WORTH_REPEATING:
                return False
            accepted, rejected = 0, len(batch)
        self._failures = 0
        self._instruments.events(EventOutcome.ACCEPTED, accepted)
        self._instruments.events(EventOutcome.REJECTED, rejected)
        if rejected:
            log.warning("wave rejected events", upstream=client.upstream, rejected=rejected)
        for event in batch:
            # during the request the oldest may have been dropped
            if self._queue and self._queue[0] is event:
                self._queue.popleft()
        return True
