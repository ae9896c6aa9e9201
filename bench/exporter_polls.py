"""Polls by this exporter: request, decoding, validation, states, histograms and publishing."""

from __future__ import annotations

import asyncio
import json
import time

from bench.case_runner import Figures, measure_cpu
from bench.generated_streams import settings_of
from bench.nginx_upstream import APPLICATION, stream_object
from exporter.config.root import Settings
from exporter.polling.coordinator import Coordinator
from exporter.service import Service


def main(url: str, streams: int, way: str, connections: int, polls: int) -> Figures:
    """Return CPU seconds per stream. ``way``: ``single`` (a GET per stream) or ``list`` (a GET per page)."""
    upstream = {"name": "bench", "platform": "storm", "url": url, "max_streams": 1_000_000, "timeout": "60s",
                "interval": "90s", "max_concurrent_requests": connections}  # fmt: skip
    if way == "single":
        upstream |= {
            "discover": False,
            "streams": [{"application": APPLICATION, "key": f"stream-{n:06}"} for n in range(streams)],
        }
    seconds = asyncio.run(_poll(settings_of({"upstreams": [upstream]}), streams, polls))
    figures = {"per stream": seconds / (streams * polls)}
    if way == "list":
        text = json.dumps(stream_object(1))
        figures["json.loads of one"] = measure_cpu(lambda: [json.loads(text) for _ in range(20_000)]) / 20_000
    return figures


async def _poll(settings: Settings, streams: int, polls: int) -> float:
    service = Service(settings, load=lambda: settings)
    (upstream,) = settings.upstreams
    service.store.arrange([upstream.name])
    coordinator: Coordinator = service._build_coordinator(upstream, service.settings)  # noqa: SLF001
    service.polling_metrics.add_upstream(upstream.platform, upstream.name)
    await coordinator.poll()
    view = service.store.get(upstream.name)
    assert view is not None and len(view.streams) == streams and view.up, view and view.last_error  # noqa: PT018
    began = time.process_time()
    for _ in range(polls):
        await coordinator.poll()
    spent = time.process_time() - began
    await coordinator.close()
    return spent
