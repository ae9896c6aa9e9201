"""A probe as small exporters have it: ask, read the JSON, fill a registry made for the purpose, print it.

Without the registry it is what is left to the HTTP server and client of both, whatever the metrics cost.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from bench.nginx import APPLICATION
from bench.serving import served

LABELS = ("application", "stream", "protocol")
METRICS = (
    "startTime", "healthScore", "inBandwidth", "outBandwidth", "inTotalBytes", "outTotalBytes", "viewerCount",
    "systemClientCount", "isRecording", "allowedToPublish", "id",
)  # fmt: skip
DERIVED = 4
"""More metrics than the object has numbers: 15 in all, as the exporter's probe shows of it."""


@asynccontextmanager
async def serving(url: str, metrics: bool = True) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """No commands of its own."""
    async with aiohttp.ClientSession() as session:

        async def probe(_: web.Request) -> web.Response:
            async with session.get(f"{url}/api/streams/{APPLICATION}/stream-000000") as response:
                stream = json.loads(await response.read())["data"]
            if not metrics:
                return web.Response(text="nothing\n")
            registry = CollectorRegistry()
            labels = (APPLICATION, "stream-000000", stream["protocol"])
            for name in METRICS:
                Gauge(f"stream_{name}", f"{name} of the stream.", LABELS, registry=registry).labels(*labels).set(
                    stream[name]
                )
            for number in range(DERIVED):
                gauge = Gauge(f"stream_derived_{number}", "Something made of it.", LABELS, registry=registry)
                gauge.labels(*labels).set(stream["inBandwidth"] * 8 / (number + 1))
            return web.Response(body=generate_latest(registry), content_type="text/plain")

        app = web.Application()
        app.router.add_get("/probe", probe)
        async with served(app) as port:
            yield port, {}
