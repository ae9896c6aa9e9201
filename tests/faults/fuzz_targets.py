"""One upstream of each platform, from its settings to the exposition, over answers that a test may replace."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from exporter.http.client import UpstreamClient
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import UpstreamState
from exporter.platforms.registry import platforms
from exporter.polling.coordinator import Coordinator
from exporter.polling.histograms import PollHistograms
from exporter.polling.schedule import Schedule
from exporter.polling.self_metrics import PollingMetrics
from exporter.polling.tracker import Tracker
from exporter.store import Store
from tests.fake_clock import FakeClock
from tests.faults.json_mutations import encoded
from tests.http.raw_server import http, read_request, serving
from tests.metrics.generated_views import rendered
from tests.metrics.reference_renderer import render_plainly
from tests.platforms.scripted_api import fixture

NOW = 1_726_000_150.0
DATE = formatdate(NOW, usegmt=True)
"""The recorded answers are of this moment, for every platform's own clock."""
EXPORT = """\
# HELP streaming_active_streams Streams that are live.
# TYPE streaming_active_streams gauge
streaming_active_streams 2
# TYPE streaming_bytes_total counter
streaming_bytes_total{stream_id="str_1",protocol="srt"} 17
# TYPE streaming_latency_seconds histogram
streaming_latency_seconds_bucket{stream_id="str_1",le="0.5"} 1
streaming_latency_seconds_bucket{stream_id="str_1",le="+Inf"} 2
streaming_latency_seconds_sum{stream_id="str_1"} 1.5
streaming_latency_seconds_count{stream_id="str_1"} 2
"""


@dataclass(frozen=True)
class Target:
    """A platform with its settings, and every answer that these make it ask for, by ``METHOD /path``."""

    platform: str
    settings: Mapping[str, Any]
    answers: Mapping[str, Any]
    refused: Mapping[str, int] = field(default_factory=dict)
    """Status of what is not 200."""

    def __str__(self) -> str:
        return f"{self.platform} {self.settings.get('name')}"


def _livepeer() -> Target:
    first, second = (stream["id"] for stream in fixture("livepeer/streams-active.json")[:2])
    settings = {
        "name": "list-and-sessions",
        "auth": {"bearer_token": "t"},
        "discover": True,
        "health_details": "30s",
        "streams": [{"id": second, "expected": True}],
        "sessions": ["single"],
    }
    health = fixture("livepeer/health.json")
    answers = {
        "GET /stream": fixture("livepeer/streams-active.json"),
        f"GET /stream/{second}/sessions": fixture("livepeer/sessions-documented.json"),
        "GET /session/single": {
            **fixture("livepeer/session-documented.json"),
            "parentId": first,
            "lastSeen": int(NOW * 1000),
        },
        "GET /data/views/now": fixture("livepeer/views-now.json"),
        f"GET /data/stream/{second}/health": health,
        f"GET /data/stream/{first}/health": health,
    }
    return Target("livepeer", settings, answers)


def _storm(*, cluster: bool) -> Target:
    keys = ("f1", "nowhere") if cluster else ("away", "nowhere")
    settings = {
        "name": "cluster" if cluster else "server",
        "base_path": "/",
        "auth": {"username": "u", "password": "p"},
        "discover": True,
        "streams": [{"application": "edge", "key": key, "expected": True} for key in keys],
    }
    listed = fixture("storm/cluster-streams.json" if cluster else "storm/streams-page-1.json")
    listed["data"]["hasNext"] = False
    answers = {
        "POST /auth/login": fixture("storm/login.json"),
        "GET /cluster/streams" if cluster else "GET /streams": listed,
        "GET /streams/edge/f1/native/metadata": fixture("storm/substream-metadata.json"),
    }
    # a server without batches is asked for its streams one by one
    answers |= {
        "GET /streams/edge/f1" if cluster else "POST /streams/batch": fixture(
            "storm/stream.json" if cluster else "storm/batch.json"
        )
    }
    return Target("storm", settings, answers)


def _wave() -> Target:
    first, second = "sess_1234_abc123", "sess_5678"
    settings = {
        "name": "all",
        "auth": {"bearer_token": "t"},
        "interval": "30s",
        "sessions": [{"id": first, "expected": True}, second],
        "session_numbers": True,
        "ice_candidates": "30s",
        "analytics": {"streams": ["str_1"], "dashboards": True, "interval": "30s"},
        "prometheus": {"enabled": True, "api_key": "k", "interval": "30s", "max_series": 100},
    }
    candidates = {**fixture("wave/candidates-page-1.json"), "hasMore": False}
    figures = {"streamId": "str_1", "totalViewers": 9, "peakViewers": 4, "avgWatchTime": 61.5, "quality": {"a": [1, 2]}}
    answers = {
        f"GET /streaming/sessions/{first}": fixture("wave/session.json"),
        f"GET /streaming/sessions/{second}": {**fixture("wave/session.json"), "sessionId": second},
        f"GET /streaming/sessions/{first}/webrtc/candidates": candidates,
        f"GET /streaming/sessions/{second}/webrtc/candidates": candidates,
        "GET /analytics/stream/str_1": figures,
        "GET /analytics/dashboards": {"period": "7d", "metrics": {"viewers": 3, "by": {"country": {"de": 2.5}}}},
        "GET /streaming/analytics/prometheus": EXPORT,
    }
    return Target("wave", settings, answers)


def _node_media_server(version: int) -> Target:
    folder = "node_media_server"
    settings = {
        "name": f"version-{version}",
        "auth": {"username": "u", "password": "p"},
        "streams": [{"application": "live", "key": "test", "expected": True}],
    }
    if version == 2:
        answers = {
            "GET /api/server": fixture(f"{folder}/2.7.4-server.json"),
            "GET /api/streams": fixture(f"{folder}/2.7.4-streams.json"),
        }
        return Target("node_media_server", settings, answers, {"GET /api/v1/health": 404})
    answers = {
        "GET /api/v1/health": fixture(f"{folder}/4.4.3-health.json"),
        "POST /api/v1/login": {"success": True, "data": {"token": "token", "challenge": "c0ffee"}},
        "GET /api/v1/streams": fixture(f"{folder}/4.4.3-streams.json"),
    }
    return Target("node_media_server", settings, answers)


TARGETS = (
    _livepeer(),
    _storm(cluster=False),
    _storm(cluster=True),
    _wave(),
    _node_media_server(2),
    _node_media_server(4),
)


class Fuzzed:
    """A running upstream of a target; what it is answered is good until ``answers`` says otherwise."""

    def __init__(self, target: Target, url: str) -> None:
        kind = platforms()[target.platform]
        settings = kind.settings_class.model_validate({**target.settings, "platform": target.platform, "url": url})
        labels = {"platform": settings.platform, "upstream": settings.name}
        self.clock = FakeClock(NOW, auto_advance=True)
        self.store = Store()
        self.store.arrange([settings.name])
        self.metrics = FamilyRegistry()
        polling_metrics = PollingMetrics(self.metrics)
        polling_metrics.add_upstream(**labels)
        self.settings = settings
        client = UpstreamClient.from_settings(
            settings, clock=self.clock, observe=polling_metrics.request_observer(**labels)
        )
        self.coordinator = Coordinator(
            settings,
            platform=kind(settings, client, self.clock),
            client=client,
            tracker=Tracker(settings, self.clock.now()),
            histograms=PollHistograms(**labels, per_stream=True),
            schedule=Schedule(settings.interval, random.Random(1)),
            store=self.store,
            metrics=polling_metrics,
            clock=self.clock,
        )

    async def poll(self, *, after: float) -> UpstreamState:
        self.clock.advance(after)
        await self.coordinator.poll()
        view = self.store.get(self.settings.name)
        assert view is not None
        return view


class Answering:
    """Serves a target's answers, or those that are put in their place."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.instead: dict[str, bytes] = {}
        self.asked: set[str] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            name = f"{request.method} {request.target.partition('?')[0]}"
            self.asked.add(name)
            writer.write(http(self._status(name), self._body(name), {"Date": DATE}))
            await writer.drain()

    def _status(self, name: str) -> int:
        return self._target.refused.get(name, 200 if name in self._target.answers else 404)

    def _body(self, name: str) -> bytes:
        good = self._target.answers.get(name, {})
        return self.instead.get(name, good.encode() if isinstance(good, str) else encoded(good))


@asynccontextmanager
async def fuzzed(target: Target) -> AsyncIterator[tuple[Fuzzed, Answering]]:
    answering = Answering(target)
    async with serving(answering.handle) as port:
        upstream = Fuzzed(target, f"http://127.0.0.1:{port}")
        try:
            yield upstream, answering
        finally:
            await upstream.coordinator.close()


def exposed(*views: UpstreamState) -> str:
    """What is served of views, which has to be readable, and the same as made in the plain way."""
    rendering = rendered(*views)
    text = rendering.text.decode()
    reference = render_plainly(views)
    assert text == reference.text
    assert (rendering.series, rendering.duplicates) == (reference.series, reference.duplicates)
    series, names = set(), set()
    for family in text_string_to_metric_families(text):
        assert family.name not in names
        names.add(family.name)
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in series
            series.add(key)
            assert math.isfinite(sample.value)
            assert sample.timestamp is None
            assert {"platform", "upstream"} <= sample.labels.keys()
    return text
