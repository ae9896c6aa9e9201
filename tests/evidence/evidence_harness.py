"""A platform whose responses a test replaces between polls: responses in, exposition text and alerts out."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from exporter.alerting.evaluator import Evaluator, Phase
from exporter.alerting.rules import Owner
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.model import UpstreamState
from exporter.platforms.base import Platform
from exporter.platforms.registry import shipped
from exporter.platforms.testing import (
    START,
    FakeClock,
    PolledUpstream,
    RecordedResponse,
    Recording,
    polled_upstream,
)
from tests.exposition_text import Labels, samples

PLATFORMS: Mapping[str, type[Platform[Any]]] = {platform.name: platform for platform in shipped()}
PAGES = ("StreamExpectedOffline", "StreamUnhealthy", "StreamError")
"""Alerts about a single stream that page someone."""
RATES = (
    "stream_ingest_bitrate_bytes_per_second", "stream_egress_bitrate_bytes_per_second",
    "stream_transcode_bitrate_bytes_per_second", "stream_transcode_realtime_ratio",
)  # fmt: skip
LIVE_ONLY = (
    *RATES, "stream_viewers", "stream_latency_seconds", "stream_round_trip_time_seconds", "stream_jitter_seconds",
    "stream_packet_loss_ratio", "stream_video_frames_per_second", "stream_health_score_ratio", "stream_healthy",
)  # fmt: skip
"""Families that off-air streams do not have."""


class Served:
    """A parsed exposition."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: dict[tuple[str, Labels], float] = {}
        # buckets are most of the text, and no test reads them
        for name, labels, value in samples(text, buckets=False):
            assert (name, labels) not in self._samples, f"duplicate series {name} {labels}"
            self._samples[name, labels] = value
        for stream in self.streams():
            self.status(stream)

    def value(self, name: str, stream: str | None = None, /, **labels: str) -> float | None:
        """Return the value of the only series of a family with these labels; None if there is none."""
        wanted = labels if stream is None else {"stream": stream, **labels}
        found = [
            value for (own, own_labels), value in self._samples.items()
            if own == name and wanted.items() <= dict(own_labels).items()
        ]  # fmt: skip
        assert len(found) <= 1, f"{name} {wanted}: {len(found)} series"
        return found[0] if found else None

    def streams(self) -> set[str]:
        """Return the labels of all streams."""
        return {dict(labels)["stream"] for (name, labels) in self._samples if name == "stream_status"}

    def live_streams(self) -> set[str]:
        """Return the labels of the live streams."""
        return {dict(labels)["stream"] for (name, labels), v in self._samples.items() if name == "stream_live" and v}

    def status(self, stream: str) -> str:
        """Return the stream's status, and check that it is the only one and agrees with ``stream_live``."""
        (status,) = [
            dict(labels)["status"] for (name, labels), value in self._samples.items()
            if name == "stream_status" and dict(labels)["stream"] == stream and value == 1
        ]  # fmt: skip
        live = {"unknown": None, "live": 1.0, "degraded": 1.0}.get(status, 0.0)
        assert self.value("stream_live", stream) == live, f"{stream} is {status}"
        return status

    def score(self, stream: str) -> float | None:
        """Return the stream's health score."""
        return self.value("stream_health_score_ratio", stream)

    def bitrate(self, stream: str) -> float | None:
        """Return the stream's ingest bitrate."""
        return self.value("stream_ingest_bitrate_bytes_per_second", stream)

    def reasons(self, stream: str) -> set[str]:
        """Return the stream's health reasons."""
        return {
            dict(labels)["reason"] for (name, labels) in self._samples
            if name == "stream_health_reason" and dict(labels)["stream"] == stream
        }  # fmt: skip

    def of_stream(self, stream: str) -> dict[tuple[str, Labels], float]:
        """Return all series of one stream."""
        return {key: value for key, value in self._samples.items() if dict(key[1]).get("stream") == stream}

    def of_streams(self) -> dict[tuple[str, Labels], float]:
        """Return the series of all streams, without those of upstream and analytics."""
        streams = self.streams()
        return {key: value for key, value in self._samples.items() if dict(key[1]).get("stream") in streams}

    def upstream(self, name: str, **labels: str) -> float | None:
        """Return the value of one of the upstream's own series."""
        return self.value(f"stream_upstream_{name}", **labels)


class EvidenceHarness:
    """An upstream, its responses, and an evaluator that gets its states as the sidecar's does."""

    def __init__(self, upstream: PolledUpstream, responses: dict[str, Any]) -> None:
        self.upstream = upstream
        self.responses = responses
        """By request, as in ``Recording.responses``; a test replaces them between polls."""
        self._evaluator = Evaluator(rules_in_force(owners=(Owner.BOTH, Owner.SIDECAR)))
        self.state: UpstreamState | None = None
        self.alerts: set[str] = set()
        """Alerts that are or were pending or firing, as ``Name stream``."""

    @property
    def clock(self) -> FakeClock:
        return self.upstream.clock

    async def poll(
        self, times: int = 1, *, after: float | None = None, change: Callable[[], None] | None = None
    ) -> Served:
        """Poll an interval (or ``after`` seconds) after the last poll, and return what is served.

        ``change`` is called before each poll.
        """
        for _ in range(times):
            if self.state is not None:
                self.clock.advance(self.upstream.settings.interval if after is None else after)
            if change is not None:
                change()
            self.state = await self.upstream.poll()
            self._evaluate(self.state)
        return Served(self.upstream.text())

    def _evaluate(self, state: UpstreamState) -> None:
        for _ in self._evaluator.evaluate(state, self.clock.instant()):
            pass
        active = (key for key, alert in self._evaluator.alerts.items() if alert.phase is not Phase.RESOLVED)
        self.alerts |= {f"{key.rule} {key.stream}".strip() for key in active}

    def pages(self) -> set[str]:
        """Return the alerts about single streams that page someone, including pending ones."""
        return {alert for alert in self.alerts if alert.startswith(PAGES)}


@asynccontextmanager
async def evidence_harness(
    platform: str,
    responses: dict[str, Any],
    *,
    at: float = START,
    **settings: Any,
) -> AsyncIterator[EvidenceHarness]:
    """Yield an upstream with a copy of these responses."""
    served = copy.deepcopy(responses)
    async with polled_upstream(PLATFORMS[platform], Recording(served, settings, at)) as upstream:
        yield EvidenceHarness(upstream, served)


# -- documents ---------------------------------------------------------------------------------------------------------


def changed(document: Any, changes: Mapping[str, Any]) -> Any:
    """Return a copy with values replaced, by paths such as ``data/list/0/healthScore``; ``MISSING`` removes a value."""
    copied = copy.deepcopy(document)
    for path, value in changes.items():
        *way, last = path.split("/")
        holder = copied
        for name in way:
            holder = holder[int(name) if isinstance(holder, list) else name]
        key = int(last) if isinstance(holder, list) else last
        if value is MISSING:
            holder.pop(key, None)
        else:
            holder[key] = value
    return copied


MISSING = object()


def json_of(document: Any) -> RecordedResponse:
    """Return a response with a JSON document, which may be a list; in a recording, a bare list is a sequence."""
    return RecordedResponse(json.dumps(document).encode())


def raw_json(document: Any, **replacements: bytes) -> RecordedResponse:
    """Return a document as JSON in which each name is replaced by these bytes."""
    body = document.body if isinstance(document, RecordedResponse) else json_of(document).body
    for name, replacement in replacements.items():
        assert name.encode() in body
        body = body.replace(name.encode(), replacement)
    return RecordedResponse(body)


# -- one live stream of each platform ----------------------------------------------------------------------------------

STORM = "storm"
LIVEPEER = "livepeer"
WAVE = "wave"
NMS = "node_media_server"
HOUR_MS = 3_600_000
START_MS = int(START) * 1000


def storm_stream(key: str = "k", application: str = "a", **fields: Any) -> dict[str, Any]:
    return {
        "application": application, "streamKey": key, "state": "PUBLISHED", "type": "NATIVE_STREAM",
        "startTime": START_MS - HOUR_MS, "viewerCount": 3, "inBandwidth": 300_000, "outBandwidth": 900_000,
        "inTotalBytes": 1_000_000, "outTotalBytes": 3_000_000, "healthScore": 88, "healthGrade": "Very Good", **fields,
    }  # fmt: skip


def storm_list(*streams: Any, **fields: Any) -> dict[str, Any]:
    return {"data": {"hasNext": False, "totalItems": len(streams), "totalPages": 1, "list": list(streams), **fields}}


def livepeer_stream(id_: str = "s1", *, seen: float = START, **fields: Any) -> dict[str, Any]:
    return {
        "id": id_, "name": id_, "playbackId": f"play-{id_}", "isActive": True, "isHealthy": True, "issues": None,
        "lastSeen": int(seen * 1000), "createdAt": START_MS - HOUR_MS, "suspended": False, "ingestRate": 300_000,
        "outgoingRate": 500_000, "sourceBytes": 1_000_000, "transcodedBytes": 2_000_000, **fields,
    }  # fmt: skip


def livepeer_session(id_: str = "e1", *, parent: str = "s1", seen: float = START, **fields: Any) -> dict[str, Any]:
    session = livepeer_stream(id_, seen=seen, parentId=parent, **fields)
    del session["isActive"], session["suspended"]
    return session


def wave_session(id_: str = "s1", *, network: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    measured = {"bitrate": 2400, "rtt": 20, "packetLoss": 0.001, "bytesReceived": 1_000_000, **(network or {})}
    return {
        "sessionId": id_, "protocol": "webrtc", "status": "live", "viewers": 3, "peakViewers": 9,
        "startedAt": "2024-09-10T19:00:00Z", "metrics": {"network": measured, "video": {"fps": 30}}, **fields,
    }  # fmt: skip


def nms4_stream(
    name: str = "n", application: str = "live", *, publisher: Mapping[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    published = {
        "id": f"p-{name}", "protocol": "rtmp", "createTime": START_MS - HOUR_MS, "videoCodec": 7,
        "videoFramerate": 30, "audioCodec": 10, "inBytes": 1_000_000, **(publisher or {}),
    }  # fmt: skip
    return {
        "app": application, "name": name, "status": "publishing", "publisher": published, "subscribers": 2,
        "inBps": 300_000, "outBps": 600_000, "recording": False, **fields,
    }  # fmt: skip


def nms4_list(*streams: Any, **fields: Any) -> dict[str, Any]:
    return {"success": True, "data": {"streams": list(streams), "total": len(streams), **fields}}


NMS4_HEALTH = {"success": True, "data": {"status": "ok", "version": "4.4.3"}}
NMS4_NO_SUCH_PAGE = RecordedResponse(b"Cannot GET /api/v1/health", 404, "text/html")


def nms2_publisher(**fields: Any) -> dict[str, Any]:
    return {
        "app": "live", "stream": "n", "clientId": "C1", "connectCreated": "2024-09-10T19:00:00.000Z",
        "bytes": 1_000_000, "audio": {"codec": "AAC"}, "video": {"codec": "H264", "fps": 30}, **fields,
    }  # fmt: skip


def nms2_stream(**publisher: Any) -> dict[str, Any]:
    return {"publisher": nms2_publisher(**publisher), "subscribers": [{"protocol": "rtmp"}]}


def storm(*streams: Any, **fields: Any) -> dict[str, Any]:
    """Return the responses of a Storm server with these streams."""
    return {"GET /api/streams": storm_list(*streams, **fields)}


def livepeer(*streams: Any) -> dict[str, Any]:
    """Return the responses of Livepeer with these active streams and no viewers."""
    return {"GET /stream": json_of(streams), "GET /data/views/now": json_of([])}


def wave(*sessions: Any) -> dict[str, Any]:
    """Return the responses of WAVE with these sessions."""
    return {f"GET /streaming/sessions/{session['sessionId']}": session for session in sessions}


def nms4(*streams: Any) -> dict[str, Any]:
    """Return the responses of node-media-server 4 with these streams."""
    return {"GET /api/v1/health": NMS4_HEALTH, "GET /api/v1/streams": nms4_list(*streams)}


def nms2(streams: Any) -> dict[str, Any]:
    """Return the responses of node-media-server 2 with these streams, by application and key."""
    return {
        "GET /api/v1/health": NMS4_NO_SUCH_PAGE, "GET /api/server": {"version": "2.7.4"}, "GET /api/streams": streams,
    }  # fmt: skip


LIVEPEER_KEY: dict[str, Any] = {"auth": {"bearer_token": "t"}}
