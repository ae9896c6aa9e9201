"""The simulator's own controls: faults ordered, listed and cleared over HTTP."""

from __future__ import annotations

import math
import re
from typing import Any

from aiohttp import web

from exporter.simulator.context import Context
from exporter.simulator.fault_injection import STREAM_FAULTS, Fault, FaultKind
from exporter.simulator.serving import json_answer, json_body
from exporter.simulator.streams import Platform

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_KEYS = frozenset({"platform", "stream", "fault", "for"})


class OrderError(Exception):
    """An order that means nothing; the text says why."""


class FaultControl:
    """``/faults``."""

    def __init__(self, world: Context) -> None:
        self._world = world
        self._faults = world.fleet.faults

    async def order(self, request: web.Request) -> web.Response:
        """``POST``: ``{"platform", "stream"?, "fault", "for"?}``; 201 with the fault as it is listed."""
        try:
            platform, index, kind, seconds = self._parse(await json_body(request))
        except OrderError as exception:
            return _refused(exception)
        fault = self._faults.order(platform, index, kind, self._world.now(), seconds)
        return json_answer(self._record(fault), status=201)

    def _parse(self, body: dict[str, Any] | None) -> tuple[Platform, int | None, FaultKind, float]:
        if body is None or not body.keys() <= _KEYS:
            raise OrderError("an object with platform, stream, fault and for")
        platform, index = self._target(body.get("platform"), body.get("stream"))
        return platform, index, _kind(body.get("fault"), of_stream=index is not None), parse_seconds(body.get("for"))

    async def show(self, _: web.Request) -> web.Response:
        """``GET``: what acts now."""
        return json_answer({"faults": [self._record(fault) for fault in self._faults.active(self._world.now())]})

    async def clear(self, request: web.Request) -> web.Response:
        """``DELETE[?platform=[&stream=]]``: end what acts now."""
        query = request.query
        platform, index = None, None
        try:
            if query.keys() & {"platform", "stream"}:
                platform, index = self._target(query.get("platform"), query.get("stream"))
        except OrderError as exception:
            return _refused(exception)
        return json_answer({"cleared": self._faults.clear(self._world.now(), platform, index)})

    def _target(self, platform_name: object, stream_name: object) -> tuple[Platform, int | None]:
        """The platform, and the stream's place in the fleet; None: the whole API."""
        if platform_name not in list(Platform):
            raise OrderError(f"platform: one of {', '.join(Platform)}")
        platform = Platform(str(platform_name))
        if stream_name in (None, ""):
            return platform, None
        stream = self._world.fleet.find(platform, str(stream_name))
        if stream is None:
            raise OrderError(f"stream: {platform} has none of this name or id")
        return platform, stream.index

    def _record(self, fault: Fault) -> dict[str, Any]:
        """Times in unix seconds; until is null for a fault that lasts until it is cleared."""
        stream = None if fault.index is None else self._world.fleet.by_index(fault.index)
        return {
            "platform": fault.platform,
            "stream": stream and stream.name,
            "id": stream and stream.id,
            "fault": fault.kind,
            "since": fault.start,
            "until": None if math.isinf(fault.end) else fault.end,
        }


def _kind(name: object, *, of_stream: bool) -> FaultKind:
    allowed = [kind for kind in FaultKind if (kind in STREAM_FAULTS) is of_stream]
    for kind in allowed:
        if kind == name:
            return kind
    raise OrderError(f"fault: {'with' if of_stream else 'without'} a stream one of {', '.join(allowed)}")


def parse_seconds(value: object) -> float:
    """``90``, ``"90s"`` or ``"1m30s"`` in seconds; None is for ever. Raises OrderError for anything else."""
    if value is None:
        return math.inf
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    if isinstance(value, str):
        parts = _PART.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise OrderError('for: seconds above 0, or a duration as "90s" or "1m30s"')


def _refused(exception: OrderError) -> web.Response:
    return json_answer({"error": str(exception)}, status=400)
