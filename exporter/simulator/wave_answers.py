"""The shapes that all of WAVE's answers share: errors, times, and the choice of a period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from exporter.simulator.serving import json_answer

_CODES = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_REQUIRED",
    404: "NOT_FOUND",
    409: "CONFLICT",
    429: "RATE_LIMITED",
}


def error(status: int, message: str, *, details: list[dict[str, Any]] | None = None) -> web.Response:
    """``{"error": {"code", "message", "details"?}}``: one of the shapes that WAVE documents."""
    body: dict[str, Any] = {"code": _CODES.get(status, "ERROR"), "message": message}
    if details:
        body["details"] = details
    return json_answer({"error": body}, status=status)


def iso(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix(text: str) -> float | None:
    """ISO 8601 as unix seconds; None for what is not, or has no time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None


def one_of(request: web.Request, name: str, choices: Sequence[str], default: str) -> str | None:
    """A query parameter with fixed values; None for any other."""
    value = request.query.get(name, default)
    return value if value in choices else None
