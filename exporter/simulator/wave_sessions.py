"""WAVE's sessions: read, changed and deleted; and the ICE candidates of those that speak WebRTC.

The inside of ``metrics``, ``quality`` and ``connection`` is not documented; the names here are the usual ones.
A session outlives its publishes: between two of them it is ``ended`` and then ``idle``, and keeps its id for the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from exporter.simulator.conditions import LEVELS
from exporter.simulator.context import Context
from exporter.simulator.fault_injection import Fault, FaultKind
from exporter.simulator.fleet import WORLD_BEGAN
from exporter.simulator.prng import Purpose, between, roll
from exporter.simulator.serving import json_answer, json_body, whole_number
from exporter.simulator.streams import Platform, Stream
from exporter.simulator.totals import Publish
from exporter.simulator.wave_answers import error, iso, unix

STATUSES = ("idle", "live", "paused", "ended")
ENDED_SECONDS = 120.0
"""So long after its end a publish is ``ended``; then the session is ``idle``."""
GATHERING_SECONDS = 4.0
CANDIDATE_TYPES = ("host", "srflx", "prflx", "relay")
_CANDIDATES = ("host", "host", "srflx", "relay", "srflx", "prflx", "relay", "host")
_DEFAULT_LIMIT, _LARGEST_LIMIT = 50, 100
_AUDIO_KILOBITS = 128
_OBJECTS = ("metadata", "quality", "customProperties")
_ORDERED = {"paused": FaultKind.STALL, "ended": FaultKind.END, "idle": FaultKind.END}
"""What a status asked for does to the stream itself."""


@dataclass
class _Changes:
    """What clients asked for."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    updated_at: float | None = None
    status: str | None = None
    """A status that holds against the stream's own life; None: none does."""
    fault: Fault | None = None
    """What makes the stream keep to that status."""


class Sessions:
    """The sessions and what clients changed about them."""

    def __init__(self, world: Context) -> None:
        self._world = world
        self._fleet = world.fleet
        self._changes: dict[str, _Changes] = {}
        self._deleted: set[str] = set()

    def _asked_for(self, request: web.Request) -> Stream:
        name = request.match_info["id"]
        stream = self._fleet.by_id(Platform.WAVE, name)
        if stream is None or name in self._deleted:
            raise web.HTTPNotFound(reason="Session not found")
        return stream

    async def get(self, request: web.Request) -> web.Response:
        """``GET /streaming/sessions/{sessionId}``."""
        return json_answer(self._record(self._asked_for(request)))

    async def patch(self, request: web.Request) -> web.Response:
        """``PATCH``: the objects are merged; a status other than live stops the stream until live is asked for."""
        stream = self._asked_for(request)
        body = await json_body(request)
        if body is None:
            return error(400, "Validation error")
        wrong = [name for name in _OBJECTS if name in body and not isinstance(body[name], dict)]
        if "status" in body and body["status"] not in STATUSES:
            wrong.append("status")
        if wrong:
            details = [{"field": name, "issue": "invalid value"} for name in wrong]
            return error(400, "Validation error", details=details)
        changes = self._changes.setdefault(stream.id, _Changes())
        changes.updated_at = self._world.now()
        for name in _OBJECTS:
            if name in body:
                changes.objects[name] = {**changes.objects.get(name, {}), **body[name]}
        if "status" in body:
            self._hold(stream, changes, body["status"])
        session = self._record(stream)
        return json_answer({key: session[key] for key in _PATCHED if key in session})

    def _hold(self, stream: Stream, changes: _Changes, status: str) -> None:
        now = self._world.now()
        if changes.fault is not None:
            self._fleet.faults.end(changes.fault, now)
            changes.fault = None
        if status in _ORDERED:
            changes.fault = self._fleet.faults.order(Platform.WAVE, stream.index, _ORDERED[status], now)
        changes.status = status if status in _ORDERED or not self._fleet.live(stream, now) else None

    async def delete(self, request: web.Request) -> web.Response:
        """``DELETE``: refused while live."""
        stream = self._asked_for(request)
        now = self._world.now()
        if self._status(stream, self._fleet.publish(stream, now), now) == "live":
            return error(409, "Cannot delete active session")
        self._deleted.add(stream.id)
        return json_answer({"sessionId": stream.id, "deletedAt": iso(now)})

    def _status(self, stream: Stream, publish: Publish, now: float) -> str:
        changes = self._changes.get(stream.id)
        if changes is not None and changes.status is not None:
            if changes.status != "live" or not publish.live(now):
                return changes.status
            # The stream has come back by itself: its own life shows again.
            changes.status = None
        if publish.live(now):
            return "live"
        return "ended" if now < publish.end + ENDED_SECONDS else "idle"

    def _record(self, stream: Stream) -> dict[str, Any]:
        now = self._world.now()
        publish = self._fleet.publish(stream, now)
        changes = self._changes.get(stream.id, _Changes())
        until = min(now, publish.end)
        status = self._status(stream, publish, now)
        quality = {
            "targetLatency": int(stream.target_latency_seconds * 1000),
            "maxBitrate": int(stream.bitrate * 8 / 1000 * 1.5),
            "adaptiveBitrate": stream.protocol == "webrtc",
        }
        metadata = {"title": stream.name}
        record: dict[str, Any] = {
            "sessionId": stream.id,
            "protocol": stream.protocol,
            "status": status,
            "constraints": {
                "video": {"width": stream.width, "height": stream.height, "frameRate": stream.frame_rate},
                "audio": {"channels": 2, "sampleRate": 48000},
            },
            "quality": {**quality, **changes.objects.get("quality", {})},
            "recording": {"enabled": stream.index % 4 == 0},
            "connection": {"state": "connected" if publish.live(now) else "closed", "region": "eu-central"},
            # The last measurements stay when the media has stopped.
            "metrics": _metrics(stream, publish, until),
            "viewers": publish.viewers(now),
            "peakViewers": publish.peak_viewers(now),
            "metadata": {**metadata, **changes.objects.get("metadata", {})},
            "customProperties": changes.objects.get("customProperties", {}),
            "createdAt": iso(WORLD_BEGAN + stream.index),
            "updatedAt": iso(changes.updated_at or until),
            "startedAt": iso(publish.start),
            "duration": int(until - publish.start),
        }
        if not publish.live(now):
            record["endedAt"] = iso(publish.end)
        return record

    async def candidates(self, request: web.Request) -> web.Response:
        """``GET .../webrtc/candidates``: gathered over the first seconds; ``since`` and ``limit`` page through them."""
        stream = self._asked_for(request)
        if stream.protocol != "webrtc":
            return error(400, "Session does not use WebRTC")
        wanted = request.query.get("type")
        if wanted not in (None, *CANDIDATE_TYPES):
            return error(400, "Validation error", details=[{"field": "type", "issue": "unknown type"}])
        after = unix(request.query["since"]) if "since" in request.query else 0.0
        if after is None:
            return error(400, "Validation error", details=[{"field": "since", "issue": "not an ISO 8601 timestamp"}])
        now = self._world.now()
        publish = self._fleet.publish(stream, now)
        known = _candidates(self._fleet.seed, stream, publish.start, now)
        # What the client has seen it names by the millisecond that was shown.
        chosen = [
            candidate
            for candidate in known
            if wanted in (None, candidate["type"]) and (unix(candidate["timestamp"]) or 0.0) > after
        ]
        limit = whole_number(request.query.get("limit"), _DEFAULT_LIMIT, 1, _LARGEST_LIMIT)
        return json_answer(
            {
                "sessionId": stream.id,
                "candidates": chosen[:limit],
                "isComplete": now >= publish.start + GATHERING_SECONDS,
                "hasMore": len(chosen) > limit,
                "statistics": {
                    "total": len(known),
                    "gatheringTime": int(min(now - publish.start, GATHERING_SECONDS) * 1000),
                },
            }
        )


_PATCHED = ("sessionId", "protocol", "status", "quality", "metadata", "customProperties", "updatedAt")


def _metrics(stream: Stream, publish: Publish, now: float) -> dict[str, Any]:
    """Kilobits and milliseconds, as WAVE's players and SDKs have them; loss is a ratio."""
    level = LEVELS[publish.condition(now)]
    amounts = publish.amounts(now)
    kilobits = publish.bitrate(now) * 8 / 1000
    round_trip = stream.round_trip_seconds * level.delay * 1000
    return {
        "video": {
            "codec": "H264",
            "bitrateKbps": round(max(0.0, kilobits - _AUDIO_KILOBITS), 1),
            "fps": round(stream.frame_rate * level.frame_rate, 2),
            "resolution": f"{stream.width}x{stream.height}",
            "framesTotal": int(amounts.frames),
            "droppedFrames": int(amounts.dropped_frames),
        },
        "audio": {
            "codec": "opus" if stream.protocol == "webrtc" else "AAC",
            "bitrateKbps": _AUDIO_KILOBITS if level.media else 0,
            "channels": 2,
        },
        "network": {
            "bitrateKbps": round(kilobits, 1),
            "rtt": round(round_trip, 2),
            "jitter": round(round_trip / 8, 2),
            "packetLoss": level.loss,
            "latency": round(stream.latency_seconds * level.delay * 1000, 1),
            "bytesReceived": int(amounts.bytes),
        },
    }


def _candidates(seed: int, stream: Stream, start: float, now: float) -> list[dict[str, Any]]:
    """Those that have been found by now, in the order in which they were."""
    count = 3 + roll(seed, stream.index, Purpose.CANDIDATE) % (len(_CANDIDATES) - 2)
    found = []
    for number, kind in enumerate(_CANDIDATES[:count]):
        share = (number + between(0.1, 0.9, seed, stream.index, Purpose.CANDIDATE, number)) / count
        at = start + share * GATHERING_SECONDS
        if at <= now:
            found.append(
                {
                    "id": f"candidate-{number + 1}",
                    "type": kind,
                    "protocol": "tcp" if number % 4 == 1 else "udp",
                    "address": f"192.0.2.{1 + number}",
                    "port": 50000 + number,
                    "priority": 2122260223 - number * 1000,
                    "timestamp": iso(at),
                }
            )
    return found
