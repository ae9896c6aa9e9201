"""What every platform's application is made of: JSON, errors in its own words, credentials, and faults of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from exporter.simulator.context import Context
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.streams import Platform

ErrorAnswer = Callable[[int, str], web.Response]
"""A platform's own shape of an error: status and message."""
Guard = Callable[[web.Request], web.Response | None]
"""Looks at a request's credentials: None lets it through."""

LATE_SECONDS = 15.0
"""How late a slow answer is: later than an exporter waits by default."""
RETRY_AFTER_SECONDS = 10

_MAINTENANCE = (
    "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><h1>We are back soon</h1></body></html>\n"
)


def json_answer(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """``data`` as JSON."""
    return web.Response(
        body=msgspec.json.encode(data), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def whole_number(text: str | None, default: int, low: int, high: int) -> int:
    """A number from a query, kept within bounds; ``default`` when there is none."""
    if text is None or not text.isascii() or not text.isdigit():
        return default
    return max(low, min(int(text), high))


async def json_body(request: web.Request) -> dict[str, Any] | None:
    """The request's JSON object; None when it is anything else."""
    try:
        data = msgspec.json.decode(await request.read())
    except msgspec.DecodeError:
        return None
    return data if isinstance(data, dict) else None


def platform_app(
    world: Context, platform: Platform, *, error: ErrorAnswer, guard: Guard, outermost: tuple[Middleware, ...] = ()
) -> web.Application:
    """An application with everything but its routes. ``outermost`` sees each answer last."""
    late = LateAnswers(world)
    app = web.Application(
        middlewares=(*outermost, _faulty(world, platform, error, late), shaped(error), _guarded(guard))
    )
    app.on_shutdown.append(late.let_go)
    return app


def dated(world: Context) -> Middleware:
    """The Date header tells the world's time, which a test may have moved."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not response.prepared:
            response.headers[hdrs.DATE] = formatdate(world.now(), usegmt=True)
        return response

    return middleware


def shaped(error: ErrorAnswer) -> Middleware:
    """Errors of the routing (no such path, no such method) in the platform's words."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as exception:
            return error(exception.status, exception.reason)

    return middleware


def _guarded(guard: Guard) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return guard(request) or await handler(request)

    return middleware


class LateAnswers:
    """Holds answers back, and lets them go when the server stops, so that nobody waits for a slow one then."""

    def __init__(self, world: Context) -> None:
        self._clock = world.clock
        self._waiting: set[asyncio.Future[None]] = set()

    async def hold(self) -> None:
        """Wait until the answer is late enough."""
        sleep = asyncio.ensure_future(self._clock.sleep(LATE_SECONDS))
        self._waiting.add(sleep)
        try:
            await asyncio.wait([sleep])
        finally:
            self._waiting.discard(sleep)
            sleep.cancel()

    async def let_go(self, _: web.Application) -> None:
        """Cancel every wait."""
        for sleep in self._waiting:
            sleep.cancel()


def _faulty(world: Context, platform: Platform, error: ErrorAnswer, late: LateAnswers) -> Middleware:
    """What is wrong with the whole API now, before the platform itself has a say."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        match world.fleet.faults.of_upstream(platform, world.now()):
            case FaultKind.DOWN:
                return _hang_up(request)
            case FaultKind.AUTH:
                return error(401, "unauthorized")
            case FaultKind.HTML:
                return web.Response(text=_MAINTENANCE, content_type="text/html")
            case FaultKind.RATE_LIMIT:
                answer = error(429, "too many requests")
                answer.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
                return answer
            case FaultKind.TRUNCATED:
                return await _truncated(request, handler)
            case FaultKind.SLOW:
                await late.hold()
        return await handler(request)

    return middleware


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection without a word; the answer is for nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _truncated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The answer's head and half of its body, then the end of the connection."""
    whole = await handler(request)
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
    half = web.StreamResponse(status=whole.status, headers={hdrs.CONTENT_TYPE: whole.content_type})
    half.content_length = max(1, len(body))
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half
