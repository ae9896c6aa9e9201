"""WAVE's events: taken singly or in batches, and kept, so that a test can read what the exporter sent."""

from __future__ import annotations

from collections import deque
from typing import Any

from aiohttp import web

from exporter.simulator.context import Context
from exporter.simulator.serving import json_answer, json_body
from exporter.simulator.wave_answers import error, iso

LARGEST_BATCH = 100
EVENTS_KEPT = 10_000
_REQUIRED = ("eventType", "eventName", "sessionId")


class Events:
    """The last events, oldest first."""

    def __init__(self, world: Context) -> None:
        self._world = world
        self._kept: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._taken = 0

    async def track(self, request: web.Request) -> web.Response:
        """``POST /analytics/events``."""
        body = await json_body(request)
        missing = _missing(body)
        if body is None or missing:
            details = [{"field": name, "issue": "required"} for name in missing]
            return error(400, "Missing required fields", details=details)
        return json_answer({"success": True, "eventId": self._keep(body)})

    async def track_batch(self, request: web.Request) -> web.Response:
        """``POST /analytics/events/batch``: at most 100; a bad event is rejected alone."""
        body = await json_body(request) or {}
        events = body.get("events")
        if not isinstance(events, list) or len(events) > LARGEST_BATCH:
            details = [{"field": "events", "issue": f"an array of at most {LARGEST_BATCH}"}]
            return error(400, "Validation error", details=details)
        good = [event for event in events if isinstance(event, dict) and not _missing(event)]
        for event in good:
            self._keep(event)
        return json_answer({"success": True, "accepted": len(good), "rejected": len(events) - len(good)})

    async def show(self, _: web.Request) -> web.Response:
        """What was taken: ``{"events": [...]}``. A control of the simulator, not a part of WAVE."""
        return json_answer({"events": list(self._kept)})

    def _keep(self, event: dict[str, Any]) -> str:
        self._taken += 1
        event_id = f"evt_{self._taken}"
        self._kept.append({"eventId": event_id, "receivedAt": iso(self._world.now()), **event})
        return event_id


def _missing(event: dict[str, Any] | None) -> list[str]:
    """The required fields that are not texts."""
    fields = event or {}
    return [name for name in _REQUIRED if not isinstance(fields.get(name), str) or not fields[name]]
