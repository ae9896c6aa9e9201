"""Events for WAVE's analytics.

Source: WAVE API reference, Analytics, "Track analytics event" and "Track batch of analytics events".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.parsing import DropCounter, Record

EVENT = "POST /analytics/events"
BATCH = "POST /analytics/events/batch"
LARGEST_BATCH = 100

Event = Mapping[str, Any]
"""``eventType``, ``eventName`` and ``sessionId``, and what else the document names."""


class Tracked(NamedTuple):
    """What became of a batch."""

    accepted: int
    rejected: int


async def track_event(requests: Requests, event: Event) -> str:
    """Send one event; its id, empty where the platform does not say. Raises ``UpstreamError``."""
    answer = await requests.post(EVENT, body=event)
    if answer.data is None:
        return ""
    record = Record.from_response(answer.data, DropCounter())
    if record.flag("success") is False:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{EVENT}: the event was not taken")
    return record.text("eventId")


async def track_events(requests: Requests, events: Sequence[Event]) -> Tracked:
    """Send at most 100 events; what the platform does not reject it has accepted.

    Raises ``ValueError`` for more, before anything is sent, and ``UpstreamError``.
    """
    if len(events) > LARGEST_BATCH:
        raise ValueError(f"{len(events)} events, and a batch holds at most {LARGEST_BATCH}")
    answer = await requests.post(BATCH, body={"events": list(events)})
    rejected = None if answer.data is None else Record.from_response(answer.data, DropCounter()).count("rejected")
    rejected = min(rejected or 0, len(events))
    return Tracked(len(events) - rejected, rejected)
