"""Simulated WAVE API (https://api.wave.online/api/v1): routes, sessions, and ICE candidates of WebRTC sessions.

The fields inside ``metrics``, ``quality`` and ``connection`` are not documented, so this uses common names. A WAVE
session outlives its ingest sessions: between two of them it is ``ended``, then ``idle``, and it keeps its id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from exporter.simulator.context import Context
from exporter.simulator.fault_injection import Fault, FaultKind
from exporter.simulator.fleet import EPOCH
from exporter.simulator.platform_app import UNKNOWN_STATE, bounded_int, json_body, json_response, platform_app
from exporter.simulator.prng import Purpose, random_between, random_bits
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.simulated_wave_analytics import Analytics, Events, Export
from exporter.simulator.stream_conditions import LEVELS
from exporter.simulator.totals import IngestSession
from exporter.simulator.wave_conventions import EXPORT_PATH, check_credentials, error, format_iso, parse_iso, rate_limit

STATUSES = ("idle", "live", "paused", "ended")
ENDED_SECONDS = 120.0
"""How long a session is ``ended`` after its ingest ended; then it is ``idle``."""
GATHERING_SECONDS = 4.0
CANDIDATE_TYPES = ("host", "srflx", "prflx", "relay")
_CANDIDATES = ("host", "host", "srflx", "relay", "srflx", "prflx", "relay", "host")
_DEFAULT_LIMIT, _LARGEST_LIMIT = 50, 100
_AUDIO_KILOBITS = 128
_PATCHABLE_OBJECTS = ("metadata", "quality", "customProperties")
_STATUS_FAULTS = {"paused": FaultKind.STALL, "ended": FaultKind.END, "idle": FaultKind.END}
"""Effect of a requested status on the stream itself."""


@dataclass
class _Changes:
    """Changes that clients requested."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    updated_at: float | None = None
    status: str | None = None
    """Requested status that overrides the stream's own; None if there is none."""
    fault: Fault | None = None
    """Injected fault that puts the stream into that status."""


def wave_app(context: Context, events: Events) -> web.Application:
    """Make the application for ``/api/v1``."""
    sessions, analytics, export = Sessions(context), Analytics(context), Export(context)
    app = platform_app(
        context, Platform.WAVE, error=error, check_credentials=check_credentials, outermost=(rate_limit(context),)
    )
    app.add_routes(
        [
            web.get("/streaming/sessions/{id}", sessions.get),
            web.patch("/streaming/sessions/{id}", sessions.patch),
            web.delete("/streaming/sessions/{id}", sessions.delete),
            web.get("/streaming/sessions/{id}/webrtc/candidates", sessions.candidates),
            web.get(EXPORT_PATH, export.get),
            web.get("/analytics/stream/{id}", analytics.stream),
            web.get("/analytics/dashboards", analytics.dashboards),
            web.post("/analytics/events", events.track),
            web.post("/analytics/events/batch", events.track_batch),
        ]
    )
    return app


class Sessions:
    """The sessions, and the changes that clients requested."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fleet = context.fleet
        self._changes: dict[str, _Changes] = {}
        self._deleted: set[str] = set()

    def _requested_stream(self, request: web.Request) -> Stream:
        name = request.match_info["id"]
        stream = self._fleet.by_id(Platform.WAVE, name)
        if stream is None or name in self._deleted:
            raise web.HTTPNotFound(reason="Session not found")
        return stream

    async def get(self, request: web.Request) -> web.Response:
        """``GET /streaming/sessions/{sessionId}``."""
        return json_response(self._session_record(self._requested_stream(request)))

    async def patch(self, request: web.Request) -> web.Response:
        """``PATCH``: merge objects; any status except live stops the stream until live is requested."""
        stream = self._requested_stream(request)
        body = await json_body(request)
        if body is None:
            return error(400, "Validation error")
        wrong = [name for name in _PATCHABLE_OBJECTS if name in body and not isinstance(body[name], dict)]
        if "status" in body and body["status"] not in STATUSES:
            wrong.append("status")
        if wrong:
            details = [{"field": name, "issue": "invalid value"} for name in wrong]
            return error(400, "Validation error", details=details)
        changes = self._changes.setdefault(stream.id, _Changes())
        changes.updated_at = self._context.now()
        for name in _PATCHABLE_OBJECTS:
            if name in body:
                changes.objects[name] = {**changes.objects.get(name, {}), **body[name]}
        if "status" in body:
            self._apply_status(stream, changes, body["status"])
        session = self._session_record(stream)
        return json_response({key: session[key] for key in _PATCH_RESPONSE_FIELDS if key in session})

    def _apply_status(self, stream: Stream, changes: _Changes, status: str) -> None:
        now = self._context.now()
        if changes.fault is not None:
            self._fleet.faults.end(changes.fault, now)
            changes.fault = None
        if status in _STATUS_FAULTS:
            changes.fault = self._fleet.faults.inject(Platform.WAVE, stream.index, _STATUS_FAULTS[status], now)
        changes.status = status if status in _STATUS_FAULTS or not self._fleet.is_live(stream, now) else None

    async def delete(self, request: web.Request) -> web.Response:
        """``DELETE``: refused while live."""
        stream = self._requested_stream(request)
        now = self._context.now()
        if self._status(stream, self._fleet.latest_ingest(stream, now), now) == "live":
            return error(409, "Cannot delete active session")
        self._deleted.add(stream.id)
        return json_response({"sessionId": stream.id, "deletedAt": format_iso(now)})

    def _status(self, stream: Stream, ingest: IngestSession, now: float) -> str:
        changes = self._changes.get(stream.id)
        if changes is not None and changes.status is not None:
            if changes.status != "live" or not ingest.is_live(now):
                return changes.status
            # The stream is live again, so its own status applies.
            changes.status = None
        if ingest.is_live(now):
            return "live"
        return "ended" if now < ingest.end + ENDED_SECONDS else "idle"

    def _session_record(self, stream: Stream) -> dict[str, Any]:
        now = self._context.now()
        ingest = self._fleet.latest_ingest(stream, now)
        changes = self._changes.get(stream.id, _Changes())
        faults = self._fleet.faults
        until = min(now, ingest.end)
        measured_at = max(ingest.start, min(until, faults.measured_at(Platform.WAVE, now)))
        metrics = _session_metrics(stream, ingest, measured_at)
        status = self._status(stream, ingest, now)
        if faults.has_unknown_state(Platform.WAVE, stream.index, now):
            # Remove the total too, so that no field shows whether media is arriving.
            status = UNKNOWN_STATE
            del metrics["network"]["bytesReceived"]
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
            "connection": {"state": "connected" if ingest.is_live(now) else "closed", "region": "eu-central"},
            # Measurements keep their last value after the end.
            "metrics": metrics,
            "viewers": ingest.viewers(measured_at) if ingest.is_live(now) else 0,
            "peakViewers": ingest.peak_viewers(now),
            "metadata": {**metadata, **changes.objects.get("metadata", {})},
            "customProperties": changes.objects.get("customProperties", {}),
            "createdAt": format_iso(EPOCH + stream.index),
            "updatedAt": format_iso(changes.updated_at or until),
            "startedAt": format_iso(ingest.start),
            "duration": int(until - ingest.start),
        }
        if not ingest.is_live(now):
            record["endedAt"] = format_iso(ingest.end)
        return record

    async def candidates(self, request: web.Request) -> web.Response:
        """``GET .../webrtc/candidates``: gathered over the first seconds; ``since`` and ``limit`` page through them."""
        stream = self._requested_stream(request)
        if stream.protocol != "webrtc":
            return error(400, "Session does not use WebRTC")
        wanted = request.query.get("type")
        if wanted not in (None, *CANDIDATE_TYPES):
            return error(400, "Validation error", details=[{"field": "type", "issue": "unknown type"}])
        after = parse_iso(request.query["since"]) if "since" in request.query else 0.0
        if after is None:
            return error(400, "Validation error", details=[{"field": "since", "issue": "not an ISO 8601 timestamp"}])
        now = self._context.now()
        ingest = self._fleet.latest_ingest(stream, now)
        known = _gathered_candidates(self._fleet.seed, stream, ingest.start, now)
        # Compare in milliseconds, the resolution of the timestamps that clients see.
        chosen = [
            candidate
            for candidate in known
            if wanted in (None, candidate["type"]) and (parse_iso(candidate["timestamp"]) or 0.0) > after
        ]
        limit = bounded_int(request.query.get("limit"), _DEFAULT_LIMIT, 1, _LARGEST_LIMIT)
        return json_response(
            {
                "sessionId": stream.id,
                "candidates": chosen[:limit],
                "isComplete": now >= ingest.start + GATHERING_SECONDS,
                "hasMore": len(chosen) > limit,
                "statistics": {
                    "total": len(known),
                    "gatheringTime": int(min(now - ingest.start, GATHERING_SECONDS) * 1000),
                },
            }
        )


_PATCH_RESPONSE_FIELDS = ("sessionId", "protocol", "status", "quality", "metadata", "customProperties", "updatedAt")


def _session_metrics(stream: Stream, ingest: IngestSession, now: float) -> dict[str, Any]:
    """Return metrics in kilobits and milliseconds, as in WAVE's players and SDKs; packet loss is a ratio."""
    level = LEVELS[ingest.condition(now)]
    totals = ingest.totals(now)
    kilobits = ingest.bitrate(now) * 8 / 1000
    round_trip = stream.round_trip_seconds * level.delay * 1000
    return {
        "video": {
            "codec": "H264",
            "bitrateKbps": round(max(0.0, kilobits - _AUDIO_KILOBITS), 1),
            "fps": round(stream.frame_rate * level.frame_rate, 2),
            "resolution": f"{stream.width}x{stream.height}",
            "framesTotal": int(totals.frames),
            "droppedFrames": int(totals.dropped_frames),
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
            "bytesReceived": int(totals.bytes),
        },
    }


def _gathered_candidates(seed: int, stream: Stream, start: float, now: float) -> list[dict[str, Any]]:
    """Return the candidates gathered up to ``now``, in order."""
    count = 3 + random_bits(seed, stream.index, Purpose.CANDIDATE) % (len(_CANDIDATES) - 2)
    found = []
    for number, kind in enumerate(_CANDIDATES[:count]):
        share = (number + random_between(0.1, 0.9, seed, stream.index, Purpose.CANDIDATE, number)) / count
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
                    "timestamp": format_iso(at),
                }
            )
    return found
