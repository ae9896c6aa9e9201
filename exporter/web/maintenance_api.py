"""JSON API of maintenance windows (``/api/v1/maintenance``): list them, start one, end one."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web

from exporter.config.types import parse_duration
from exporter.polling.maintenance import Window
from exporter.polling.maintenance_control import ConfiguredWindowError, UnknownTargetError, UnknownWindowError
from exporter.polling.manual_maintenance import MAX_WINDOWS, InvalidWindowError, TooManyWindowsError
from exporter.runtime.clock import Clock
from exporter.web.json_api import error_response, json_response
from exporter.web.lifecycle import LifecycleGuard
from exporter.web.protocols import Maintenance
from exporter.web.serializers import valid_text

MAINTENANCE_PATH: Final = "/api/v1/maintenance"
MAX_BODY_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 10.0
"""Time limit for reading a body."""
_EXPECTED: Final = "expected a JSON object with the strings upstream and for, and optionally stream and reason"
_CONFIGURED: Final = "this window is configured; change the configuration and reload"


class _StartRequest(msgspec.Struct, forbid_unknown_fields=True):
    upstream: str
    duration: str = msgspec.field(name="for")
    stream: str = ""
    reason: str = ""


class _RefusedError(Exception):
    """A request that is refused, with its HTTP status."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class MaintenanceApi:
    """Handlers of maintenance windows."""

    def __init__(self, maintenance: Maintenance, clock: Clock, guard: LifecycleGuard) -> None:
        self._maintenance = maintenance
        self._clock = clock
        self._guard = guard

    def add_routes(self, app: web.Application) -> None:
        """Add the handlers to an application."""
        app.router.add_get(MAINTENANCE_PATH, self.list)
        app.router.add_post(MAINTENANCE_PATH, self.start)
        app.router.add_delete(MAINTENANCE_PATH + "/{id}", self.end)

    async def list(self, _request: web.Request) -> web.Response:
        """Return the current and future windows."""
        return json_response({"windows": [self._entry(window) for window in self._maintenance.windows()]})

    async def start(self, request: web.Request) -> web.Response:
        """Start a window: 201 with the window."""
        try:
            self._check_guard(request)
            wanted, seconds = await _read_request(request)
            window = await self._maintenance.start(wanted.upstream, wanted.stream, seconds, wanted.reason)
        except _RefusedError as error:
            return error_response(error.status, str(error))
        except InvalidWindowError as error:
            return error_response(400, str(error))
        except UnknownTargetError as error:
            return error_response(404, str(error))
        except TooManyWindowsError:
            return error_response(409, f"there are already {MAX_WINDOWS} windows; end some of them first")
        return json_response({"window": self._entry(window), "saved": self._maintenance.is_saved}, 201)

    async def end(self, request: web.Request) -> web.Response:
        """End a window that was started by hand."""
        try:
            self._check_guard(request)
            await self._maintenance.end(request.match_info["id"])
        except _RefusedError as error:
            return error_response(error.status, str(error))
        except UnknownWindowError:
            return error_response(404, "no current or future window has this id")
        except ConfiguredWindowError:
            return error_response(409, _CONFIGURED)
        return json_response({"saved": self._maintenance.is_saved})

    def _check_guard(self, request: web.Request) -> None:
        refusal = self._guard.refusal(request, ", or configure maintenance windows")
        if refusal is not None:
            raise _RefusedError(403, refusal)

    def _entry(self, window: Window) -> dict[str, Any]:
        return window_entry(window, self._clock.now())


def window_entry(window: Window, now: float) -> dict[str, Any]:
    """Return a window's entry in a list. ``now`` is in Unix seconds."""
    entry: dict[str, Any] = {"id": window.id, "upstream": window.upstream}
    if window.stream:
        entry["stream"] = valid_text(window.stream)
    entry |= {"start_timestamp_seconds": window.start, "end_timestamp_seconds": window.end}
    if window.reason:
        entry["reason"] = valid_text(window.reason)
    return entry | {"manual": window.is_manual, "active": window.start <= now}


async def _read_request(request: web.Request) -> tuple[_StartRequest, float]:
    """Return the request, and the duration in seconds. Raises ``_RefusedError``."""
    try:
        wanted = msgspec.json.decode(await _read_body(request), type=_StartRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _RefusedError(400, _EXPECTED) from None
    try:
        return wanted, parse_duration(wanted.duration)
    except ValueError:
        raise _RefusedError(400, "for: expected a duration such as 30m or 2h") from None


async def _read_body(request: web.Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.content.iter_any():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise _RefusedError(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise _RefusedError(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    return bytes(body)
