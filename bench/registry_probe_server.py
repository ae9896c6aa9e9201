"""A probe as in small exporters: send a request, decode the JSON, fill a new registry, and render it.

Without the registry, it measures only the HTTP server and client, which all cases have in common.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from bench.nginx_upstream import APPLICATION
from bench.server_process import serve_app

_LABELS = ("application", "stream", "protocol")
_METRICS = (
    "startTime", "healthScore", "inBandwidth", "outBandwidth", "inTotalBytes", "outTotalBytes", "viewerCount",
    "systemClientCount", "isRecording", "allowedToPublish", "id",
)  # fmt: skip
_DERIVED = 4
"""More metrics than the object has numbers."""


class Metric(NamedTuple):
    """A metric with one sample, whose value comes from the JSON."""

    name: str
    help: str
    labels: Sequence[str]
    values: Sequence[str]


FIFTEEN = [
    Metric(f"stream_{name}", f"{name} of the stream.", _LABELS, (APPLICATION, "stream-000000", "WebRTC"))
    for name in (*_METRICS, *(f"derived_{number}" for number in range(_DERIVED)))
]


@asynccontextmanager
async def serving(
    url: str, metrics: Sequence[Sequence[Any]]
) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """There are no commands. ``metrics``: as ``Metric``; empty for no registry."""
    wanted = [Metric(*metric) for metric in metrics]
    async with aiohttp.ClientSession() as session:

        async def probe(_: web.Request) -> web.Response:
            async with session.get(f"{url}/api/streams/{APPLICATION}/stream-000000") as response:
                stream = json.loads(await response.read())["data"]
            if not wanted:
                return web.Response(text="# nothing\n")
            registry = CollectorRegistry()
            for metric, field in zip(wanted, cycle(_METRICS), strict=False):
                gauge = Gauge(metric.name, metric.help, metric.labels, registry=registry)
                gauge.labels(*metric.values).set(stream[field])
            return web.Response(body=generate_latest(registry), content_type="text/plain")

        app = web.Application()
        app.router.add_get("/probe", probe)
        async with serve_app(app) as port:
            yield port, {}
