"""Conventions of all WAVE endpoints: errors, times, query parameters, credentials and rate limit."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exporter.simulator.context import API_KEY, TOKEN, Context
from exporter.simulator.platform_app import json_response

WINDOW_SECONDS = 60
EXPORT_PATH = "/streaming/analytics/prometheus"
_CODES = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_REQUIRED",
    404: "NOT_FOUND",
    409: "CONFLICT",
    429: "RATE_LIMITED",
}


def error(status: int, message: str, *, details: list[dict[str, Any]] | None = None) -> web.Response:
    """Return ``{"error": {"code", "message", "details"?}}``, one of the formats that WAVE documents."""
    body: dict[str, Any] = {"code": _CODES.get(status, "ERROR"), "message": message}
    if details:
        body["details"] = details
    return json_response({"error": body}, status=status)


def format_iso(seconds: float) -> str:
    """Format Unix seconds as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text: str) -> float | None:
    """Parse ISO 8601 to Unix seconds; None if it is invalid or has no time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None


def query_choice(request: web.Request, name: str, choices: Sequence[str], default: str) -> str | None:
    """Return a query parameter with fixed values; None for any other value."""
    value = request.query.get(name, default)
    return value if value in choices else None


def check_credentials(request: web.Request) -> web.Response | None:
    """Require the API key for the export and the token for everything else."""
    if request.path.endswith(EXPORT_PATH):
        known = request.headers.get("X-API-Key") == API_KEY
    else:
        known = request.headers.get("Authorization") == f"Bearer {TOKEN}"
    return None if known else error(401, "Authentication required")


def rate_limit(context: Context) -> Middleware:
    """Limit the requests per key in a sliding minute; every response has the state of the limit."""
    requests: defaultdict[str, deque[float]] = defaultdict(deque)
    limit = context.options.wave_rate_limit

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        now = context.now()
        key = request.headers.get("X-API-Key") or request.headers.get("Authorization") or ""
        window = requests[key]
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
