"""WAVE's API (https://api.wave.online/api/v1) over the fleet: who may ask and how often, and where everything is.

Sessions, analytics, events and the export have a module each.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exporter.simulator.configuration import API_KEY, TOKEN
from exporter.simulator.context import Context
from exporter.simulator.serving import platform_app
from exporter.simulator.streams import Platform
from exporter.simulator.wave_analytics import Analytics
from exporter.simulator.wave_answers import error
from exporter.simulator.wave_events import Events
from exporter.simulator.wave_export import Export
from exporter.simulator.wave_sessions import Sessions

WINDOW_SECONDS = 60
_EXPORT = "/streaming/analytics/prometheus"


def wave_app(world: Context, events: Events) -> web.Application:
    """What stands below ``/api/v1``."""
    sessions, analytics, export = Sessions(world), Analytics(world), Export(world)
    app = platform_app(world, Platform.WAVE, error=error, guard=_guard, outermost=(_rate_limited(world),))
    app.add_routes(
        [
            web.get("/streaming/sessions/{id}", sessions.get),
            web.patch("/streaming/sessions/{id}", sessions.patch),
            web.delete("/streaming/sessions/{id}", sessions.delete),
            web.get("/streaming/sessions/{id}/webrtc/candidates", sessions.candidates),
            web.get(_EXPORT, export.get),
            web.get("/analytics/stream/{id}", analytics.stream),
            web.get("/analytics/dashboards", analytics.dashboards),
            web.post("/analytics/events", events.track),
            web.post("/analytics/events/batch", events.track_batch),
        ]
    )
    return app


def _guard(request: web.Request) -> web.Response | None:
    if request.path.endswith(_EXPORT):
        known = request.headers.get("X-API-Key") == API_KEY
    else:
        known = request.headers.get("Authorization") == f"Bearer {TOKEN}"
    return None if known else error(401, "Authentication required")


def _rate_limited(world: Context) -> Middleware:
    """A sliding minute for each key; its state is on every answer."""
    asked: defaultdict[str, deque[float]] = defaultdict(deque)
    limit = world.options.wave_rate_limit

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        now = world.now()
        key = request.headers.get("X-API-Key") or request.headers.get("Authorization") or ""
        window = asked[key]
        while window and window[0] <= now - WINDOW_SECONDS:
            window.popleft()
        answer: web.StreamResponse
        if len(window) >= limit:
            answer = error(429, "Rate limit exceeded")
            answer.headers["Retry-After"] = str(math.ceil(window[0] + WINDOW_SECONDS - now))
        else:
            window.append(now)
            answer = await handler(request)
        if not answer.prepared:
            answer.headers["X-RateLimit-Limit"] = str(limit)
            answer.headers["X-RateLimit-Remaining"] = str(0 if answer.status == 429 else limit - len(window))
            answer.headers["X-RateLimit-Reset"] = str(math.ceil(window[0] + WINDOW_SECONDS))
            answer.headers["X-RateLimit-Window"] = str(WINDOW_SECONDS)
        return answer

    return middleware
