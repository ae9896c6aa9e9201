"""The simulator as one application: each platform under its own path, with the fault controls next to them."""

from __future__ import annotations

import math
import re
from typing import Any

from aiohttp import web

from exporter.runtime.clock import Clock
from exporter.simulator.context import Context, Options
from exporter.simulator.fault_injection import PLAYBACK_FAULTS, STREAM_FAULTS, UPSTREAM_FAULTS, Fault, FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.platform_app import json_body, json_response, set_date_header
from exporter.simulator.simulated_hls import hls_app
from exporter.simulator.simulated_livepeer import livepeer_app
from exporter.simulator.simulated_storm import storm_app
from exporter.simulator.simulated_streams import PLAYBACK_PLATFORM, Platform
from exporter.simulator.simulated_wave import wave_app
from exporter.simulator.simulated_wave_analytics import Events


def make_app(fleet: Fleet, clock: Clock | None = None, options: Options | None = None) -> web.Application:
    """Make the application of a simulator with this fleet."""
    return make_simulator(Context(fleet, clock or Clock(), options or Options()))


def make_simulator(context: Context) -> web.Application:
    """Make the application: the platforms' APIs, the HLS origin, ``/faults`` and ``/wave/events``."""
    faults, events = FaultControl(context), Events(context)
    app = web.Application(middlewares=(set_date_header(context),))
    app.add_routes(
        [
            web.post("/faults", faults.create),
            web.get("/faults", faults.show),
            web.delete("/faults", faults.clear),
            web.get("/wave/events", events.show),
        ]
    )
    app.add_subapp("/livepeer/api", livepeer_app(context))
    app.add_subapp("/storm/api", storm_app(context))
    app.add_subapp("/wave/api/v1", wave_app(context, events))
    app.add_subapp("/hls", hls_app(context))
    return app


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_KEYS = frozenset({"platform", "stream", "fault", "for"})


class InvalidFaultError(Exception):
    """Invalid fault request; the text says why."""


class FaultControl:
    """Handlers of ``/faults``."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._faults = context.fleet.faults

    async def create(self, request: web.Request) -> web.Response:
        """``POST {"platform", "stream"?, "fault", "for"?}``: inject a fault; return 201 and the fault."""
        try:
            platform, index, kind, seconds = self._parse(await json_body(request))
        except InvalidFaultError as exception:
            return _bad_request(exception)
        fault = self._faults.inject(platform, index, kind, self._context.now(), seconds)
        return json_response(self._fault_record(fault), status=201)

    def _parse(self, body: dict[str, Any] | None) -> tuple[Platform, int | None, FaultKind, float]:
        if body is None or not body.keys() <= _KEYS:
            raise InvalidFaultError("expected an object with platform, stream, fault and for")
        platform, index = self._parse_target(body.get("platform"), body.get("stream"))
        kind = _parse_kind(body.get("fault"), platform, of_stream=index is not None)
        return platform, index, kind, parse_seconds(body.get("for"))

    async def show(self, _: web.Request) -> web.Response:
        """``GET``: list the active faults."""
        active = self._faults.active_faults(self._context.now())
        return json_response({"faults": [self._fault_record(fault) for fault in active]})

    async def clear(self, request: web.Request) -> web.Response:
        """``DELETE[?platform=[&stream=]]``: end the active faults."""
        query = request.query
        platform, index = None, None
        try:
            if query.keys() & {"platform", "stream"}:
                platform, index = self._parse_target(query.get("platform"), query.get("stream"))
        except InvalidFaultError as exception:
            return _bad_request(exception)
        return json_response({"cleared": self._faults.clear(self._context.now(), platform, index)})

    def _parse_target(self, platform_name: object, stream_name: object) -> tuple[Platform, int | None]:
        """Return the platform and the stream's position in the fleet, or None for the whole API."""
        if platform_name not in list(Platform):
            raise InvalidFaultError(f"platform: expected one of {', '.join(Platform)}")
        platform = Platform(str(platform_name))
        if stream_name in (None, ""):
            return platform, None
        fleet_platform = PLAYBACK_PLATFORM if platform is Platform.HLS else platform
        stream = self._context.fleet.find_stream(fleet_platform, str(stream_name))
        if stream is None:
            raise InvalidFaultError(f"stream: {platform} has no stream with this name or id")
        return platform, stream.index

    def _fault_record(self, fault: Fault) -> dict[str, Any]:
        """Return a fault with times in Unix seconds; ``until`` is null if the fault lasts until it is cleared."""
        stream = None if fault.index is None else self._context.fleet.by_index(fault.index)
        return {
            "platform": fault.platform,
            "stream": stream and stream.name,
            "id": stream and stream.id,
            "fault": fault.kind,
            "since": fault.start,
            "until": None if math.isinf(fault.end) else fault.end,
        }


def _parse_kind(name: object, platform: Platform, *, of_stream: bool) -> FaultKind:
    if platform is Platform.HLS:
        known, of_stream = PLAYBACK_FAULTS, True
    else:
        known = STREAM_FAULTS if of_stream else UPSTREAM_FAULTS
    allowed = [kind for kind in FaultKind if kind in known]
    for kind in allowed:
        if kind == name:
            return kind
    hint = "" if of_stream else "; others need a stream"
    raise InvalidFaultError(f"fault: expected one of {', '.join(allowed)}{hint}")


def parse_seconds(value: object) -> float:
    """Parse ``90``, ``"90s"`` or ``"1m30s"``; None means forever. Raise InvalidFaultError for anything else."""
    if value is None:
        return math.inf
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    if isinstance(value, str):
        parts = _DURATION_PART.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise InvalidFaultError('for: expected seconds above 0, or a duration such as "90s" or "1m30s"')


def _bad_request(exception: InvalidFaultError) -> web.Response:
    return json_response({"error": str(exception)}, status=400)
