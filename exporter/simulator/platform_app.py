"""Common parts of the simulated platforms: JSON responses, error format, credentials, injected API faults."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from exporter.simulator.context import Context
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.simulated_streams import Platform

ErrorResponse = Callable[[int, str], web.Response]
"""Builds an error in the platform's format from status and message."""
CredentialCheck = Callable[[web.Request], web.Response | None]
"""Checks a request's credentials; returns None if they are valid."""

SLOW_RESPONSE_SECONDS = 15.0
"""Delay of a slow response, longer than the exporter's default timeout."""
RETRY_AFTER_SECONDS = 10

UNKNOWN_STATE = "REBALANCING"
"""An undocumented state, as after an upgrade of the platform."""
MALFORMED_BODY = {"result": "accepted"}
"""Valid JSON that is not a response of any platform."""

_MAINTENANCE = (
    "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><h1>We are back soon</h1></body></html>\n"
)
_NOT_FOUND = "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1></body></html>\n"


def json_response(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Encode ``data`` as a JSON response."""
    return web.Response(
        body=msgspec.json.encode(data), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def bounded_int(text: str | None, default: int, low: int, high: int) -> int:
    """Parse a number from a query and clamp it; ``default`` if there is none."""
    if text is None or not text.isascii() or not text.isdigit():
        return default
    return max(low, min(int(text), high))


async def json_body(request: web.Request) -> dict[str, Any] | None:
    """Return the request's JSON object; None if the body is anything else."""
    try:
        data = msgspec.json.decode(await request.read())
    except msgspec.DecodeError:
        return None
    return data if isinstance(data, dict) else None


def platform_app(
    context: Context,
    platform: Platform,
    *,
    error: ErrorResponse,
    check_credentials: CredentialCheck,
    outermost: tuple[Middleware, ...] = (),
) -> web.Application:
    """Make a platform's application without its routes. ``outermost`` middlewares see each response last."""
    delayed = DelayedResponses(context)
    app = web.Application(
        middlewares=(
            *outermost,
            _inject_faults(context, platform, error, delayed),
            _error_format(error),
            _require_credentials(check_credentials),
        )
    )
    app.on_shutdown.append(delayed.release_all)
    return app


def set_date_header(context: Context) -> Middleware:
    """Set the Date header to the simulated time, which a test may have moved."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not response.prepared:
            response.headers[hdrs.DATE] = formatdate(context.now(), usegmt=True)
        return response

    return middleware


def _error_format(error: ErrorResponse) -> Middleware:
    """Convert routing errors (unknown path or method) to the platform's format."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as exception:
            return error(exception.status, exception.reason)

    return middleware


def _require_credentials(check_credentials: CredentialCheck) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return check_credentials(request) or await handler(request)

    return middleware


class DelayedResponses:
    """Delays responses, and releases them on shutdown so that the server does not wait for them."""

    def __init__(self, context: Context) -> None:
        self._clock = context.clock
        self._delays: set[asyncio.Future[None]] = set()
        self._is_closing = False

    async def hold(self, seconds: float = SLOW_RESPONSE_SECONDS) -> None:
        """Wait for a time, or until shutdown."""
        if self._is_closing:
            return
        delay = asyncio.ensure_future(self._clock.sleep(seconds))
        self._delays.add(delay)
        try:
            await asyncio.wait([delay])
        finally:
            self._delays.discard(delay)
            delay.cancel()

    async def release_all(self, _: web.Application) -> None:
        """Cancel all delays, also later ones."""
        self._is_closing = True
        for delay in self._delays:
            delay.cancel()


def _inject_faults(context: Context, platform: Platform, error: ErrorResponse, delayed: DelayedResponses) -> Middleware:
    """Apply the active fault of the whole API, or of the requested stream, before the platform handles the request."""
    flaky_requests = itertools.count()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        now = context.now()
        match context.fleet.faults.upstream_fault(platform, now) or _requested_fault(context, platform, request, now):
            case FaultKind.DOWN:
                return _abort_connection(request)
            case FaultKind.TRUNCATED:
                return await _truncate_response(request, handler)
            case FaultKind.SLOW:
                await delayed.hold()
            case FaultKind.FLAKY if next(flaky_requests) % 2 == 0:
                return _maintenance_page()
            case kind:
                return _faulty_response(kind, error) or await handler(request)
        return await handler(request)

    return middleware


def _faulty_response(kind: FaultKind | None, error: ErrorResponse) -> web.Response | None:
    """Return the response to every request while this fault is active; None if the platform handles requests."""
    match kind:
        case FaultKind.AUTH:
            return error(401, "unauthorized")
        case FaultKind.HTML:
            return _maintenance_page()
        case FaultKind.NOT_FOUND:
            return web.Response(text=_NOT_FOUND, status=404, content_type="text/html")
        case FaultKind.MALFORMED:
            return json_response(MALFORMED_BODY)
        case FaultKind.RATE_LIMIT:
            response = error(429, "too many requests")
            response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
            return response
    return None


def _requested_fault(context: Context, platform: Platform, request: web.Request, now: float) -> FaultKind | None:
    """Return the active fault of responses about the requested stream, if any."""
    info = request.match_info
    stream_id = f"{info['application']}/{info['key']}" if "key" in info else info.get("id", "")
    stream = context.fleet.by_id(platform, stream_id) if stream_id else None
    return None if stream is None else context.fleet.faults.response_fault(stream.index, now)


def _maintenance_page() -> web.Response:
    return web.Response(text=_MAINTENANCE, content_type="text/html")


def _abort_connection(request: web.Request) -> web.Response:
    """Close the connection without a response; the returned one is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _truncate_response(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send the headers and half of the body, then close the connection."""
    whole = await handler(request)
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
    half = web.StreamResponse(status=whole.status, headers={hdrs.CONTENT_TYPE: whole.content_type})
    half.content_length = max(1, len(body))
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half
