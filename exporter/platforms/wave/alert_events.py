"""Send alerts as events to WAVE's analytics.

Source: WAVE API reference, Analytics, "Track analytics event" and "Track batch of analytics events".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from exporter.platforms.api import (
    AlertChange,
    AlertSink,
    DeliveryCounts,
    DropCounter,
    Reason,
    Record,
    Requests,
    UpstreamClient,
    UpstreamError,
)

EVENT = "POST /analytics/events"
BATCH = "POST /analytics/events/batch"
MAX_BATCH = 100
TIMEOUT_SECONDS = 10.0

Event = Mapping[str, Any]
"""``eventType``, ``eventName``, ``sessionId`` and the optional fields of the API reference."""


class WaveAlertSink(AlertSink):
    """Sends alert changes as events, about streams of all platforms."""

    batch_size: ClassVar[int] = MAX_BATCH

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client

    async def send(self, changes: Sequence[AlertChange]) -> DeliveryCounts:
        """Send at most ``batch_size`` changes in one request. Raises ``UpstreamError``."""
        return await track_events(self._client.requests(TIMEOUT_SECONDS), [event_of(change) for change in changes])


def event_of(change: AlertChange) -> Event:
    """Return the event for an alert change: ``stream.unhealthy`` or ``stream.recovered``."""
    return {
        "eventType": "stream",
        "eventName": "stream.unhealthy" if change.is_firing else "stream.recovered",
        "sessionId": _session_id(change),
        "properties": {
            "platform": change.platform,
            "upstream": change.upstream,
            "stream": change.stream,
            "alert": change.alert,
            "value": change.value,
        },
    }


def _session_id(change: AlertChange) -> str:
    """Return the session id if the stream is a WAVE session and its id may be shown."""
    if change.platform == "wave" and change.session:
        return change.session
    return f"{change.upstream}/{change.stream}"


async def track_event(requests: Requests, event: Event) -> str:
    """Send one event and return its id, or an empty string if WAVE returns none. Raises ``UpstreamError``."""
    response = await requests.post(EVENT, body=event)
    if response.data is None:
        return ""
    record = Record.from_response(response.data, DropCounter())
    if record.flag("success") is False:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{EVENT}: the event was rejected")
    return record.text("eventId")


async def track_events(requests: Requests, events: Sequence[Event]) -> DeliveryCounts:
    """Send at most 100 events; those that WAVE does not report as rejected count as accepted.

    Raises ``ValueError`` for more events, before anything is sent, and ``UpstreamError``.
    """
    if len(events) > MAX_BATCH:
        raise ValueError(f"{len(events)} events, but a batch holds at most {MAX_BATCH}")
    response = await requests.post(BATCH, body={"events": list(events)})
    rejected = None if response.data is None else Record.from_response(response.data, DropCounter()).count("rejected")
    rejected = min(rejected or 0, len(events))
    return DeliveryCounts(len(events) - rejected, rejected)
