"""Livepeer's stream, session and health objects: flushed statistics, heartbeats and health verdicts."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from exporter.simulator.fleet import EPOCH, Fleet
from exporter.simulator.platform_app import UNKNOWN_STATE
from exporter.simulator.prng import Purpose, random_between, random_bits, random_unit
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.stream_conditions import LEVELS, Condition, Level
from exporter.simulator.totals import IngestSession, Totals

FLUSH_SECONDS = 50
"""Interval of the statistics."""
HEARTBEAT_SECONDS = 30
SEGMENT_SECONDS = 2
VERDICT_AFTER_SECONDS = 5.0
"""Age from which an ingest session has a health verdict."""
RATE_KEPT_SECONDS = 30.0
"""How long the last rate is kept after the end."""
CLEANUP_SECONDS = 120.0
"""How long a crashed stream is still reported as active."""
RECORDED_AFTER_SECONDS = 300.0
_RECORD_CHANCE = 0.4
_RATE_NOISE = 0.1

_LADDER = (
    ("240p0", 426, 240, 250_000),
    ("360p0", 640, 360, 800_000),
    ("480p0", 854, 480, 1_600_000),
    ("720p0", 1280, 720, 3_000_000),
)
_PROFILES = [
    {"name": name, "width": width, "height": height, "bitrate": bitrate, "fps": 0}
    for name, width, height, bitrate in _LADDER
]
_TRANSCODED = sum(bitrate for *_, bitrate in _LADDER) / 8
"""Output of the transcoder, in bytes per second of media."""
_INDEX_SHIFT = 96


@dataclass(frozen=True)
class Broadcast:
    """One ingest session of a stream at a point in time."""

    fleet: Fleet
    stream: Stream
    ingest: IngestSession
    now: float

    @property
    def is_live(self) -> bool:
        """Whether the stream is actually live."""
        return self.ingest.is_live(self.now)

    @property
    def active(self) -> bool:
        """Whether the platform reports the stream as active; a crashed stream stays active until the cleanup."""
        return self.is_live or (self.ingest.crashed and self.now < self.ingest.end + CLEANUP_SECONDS)

    @property
    def _until(self) -> float:
        return min(self.now, self.ingest.end)

    @property
    def _last_flush(self) -> float:
        """Time of the last flush; the start of the ingest session if there was none."""
        if not self.is_live and not self.ingest.crashed:
            return self.ingest.end
        return self._last_step(self._until, FLUSH_SECONDS)

    @cached_property
    def flushed(self) -> float:
        """Time of the last flush, or of the last one before the statistics were frozen."""
        measured_at = self.fleet.faults.measured_at(Platform.LIVEPEER, self.now)
        if measured_at >= self._last_flush:
            return self._last_flush
        return self._last_step(max(self.ingest.start, measured_at), FLUSH_SECONDS)

    def _last_step(self, moment: float, seconds: int) -> float:
        return self.ingest.start + (moment - self.ingest.start) // seconds * seconds

    @property
    def last_seen(self) -> int:
        """Time of the last flush or heartbeat in Unix milliseconds."""
        return _milliseconds(max(self._last_flush, self._last_step(self._until, HEARTBEAT_SECONDS)))

    @property
    def unchanged_until(self) -> float:
        """Until when ``active`` and ``last_seen`` stay the same, unless a fault changes them."""
        if self.is_live:
            steps = (self._last_step(self.now, seconds) + seconds for seconds in (FLUSH_SECONDS, HEARTBEAT_SECONDS))
            return min(self.ingest.end, *steps)
        next_start = self.fleet.next_start(self.stream, self.now)
        return min(next_start, self.ingest.end + CLEANUP_SECONDS) if self.active else next_start

    @cached_property
    def statistics(self) -> Totals:
        """Totals of this ingest session at the last flush."""
        return self.ingest.totals(self.flushed).floor()

    @property
    def ingest_rate(self) -> float:
        """Bytes per second at the last flush with new bytes; 0 some time after the end."""
        if not self.active or self.now >= self.ingest.end + RATE_KEPT_SECONDS:
            return 0.0
        moment = self.last_media_time(FLUSH_SECONDS)
        if moment <= self.ingest.start:
            return 0.0
        noise = random_between(1 - _RATE_NOISE, 1 + _RATE_NOISE, Purpose.NOISE, int(moment), seed=self.stream.seed)
        return round(self.ingest.bitrate(moment) * noise, 3)

    def last_media_time(self, seconds: int) -> float:
        """Return the last multiple of ``seconds`` at which there was media, or the start if there was none."""
        moment = self._last_step(self._until, seconds)
        while self.ingest.condition(moment) is Condition.STALLED and moment > self.ingest.start:
            stalled_since = self.ingest.course.natural_start + self.ingest.span(moment).start
            moment = max(self.ingest.start, min(self._last_step(stalled_since, seconds), moment - seconds))
        return moment

    @property
    def has_unknown_state(self) -> bool:
        """Whether the state is reported in an unknown format."""
        return self.fleet.faults.has_unknown_state(Platform.LIVEPEER, self.stream.index, self.now)

    @property
    def level(self) -> Level:
        """Effect of the current or, after the end, the last condition."""
        return LEVELS[self.ingest.condition(self.now)]

    @property
    def healthy(self) -> bool | None:
        """Verdict of the media server's buffer; None while idle or too new."""
        if not self.active or self.now < self.ingest.start + VERDICT_AFTER_SECONDS:
            return None
        return self.level.healthy

    @property
    def recorded(self) -> bool:
        """Whether recording is enabled for the stream."""
        return random_unit(Purpose.NATURE, 20, seed=self.stream.seed) < _RECORD_CHANCE

    @property
    def session_id(self) -> str:
        """UUID with the stream's fleet index and bits that depend on the start."""
        start = _milliseconds(self.ingest.start)
        bits = random_bits(Purpose.IDENTITY, start, seed=self.stream.seed)
        return str(uuid.UUID(int=self.stream.index << _INDEX_SHIFT | bits, version=4))

    @staticmethod
    def stream_index_of(session_id: uuid.UUID) -> int:
        """Return the stream's fleet index from a session's id."""
        return session_id.int >> _INDEX_SHIFT


def latest_broadcast(fleet: Fleet, stream: Stream, now: float) -> Broadcast:
    """Return the current broadcast, or the last one if the stream is off air."""
    return Broadcast(fleet, stream, fleet.latest_ingest(stream, now), now)


def stream_record(broadcast: Broadcast, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a Stream, with totals of all its ingest sessions. ``fields`` are its ``static_fields``."""
    total = broadcast.fleet.all_time(broadcast.stream, broadcast.ingest, broadcast.flushed)
    active = UNKNOWN_STATE if broadcast.has_unknown_state else broadcast.active
    return {**fields, "isActive": active, **_statistics_fields(broadcast, total)}


def static_fields(broadcast: Broadcast) -> dict[str, Any]:
    """Return a Stream's fields that never change, with None as placeholder for others."""
    stream = broadcast.stream
    return {
        "id": stream.id,
        "name": stream.name,
        "kind": "stream",
        "playbackId": stream.playback_id,
        "streamKey": stream.secret_key,
        "isActive": None,
        "createdAt": _milliseconds(EPOCH),
        "lastTerminatedAt": None,
        "suspended": False,
        "record": broadcast.recorded,
        "multistream": {
            "targets": [{"id": target_id(broadcast, n), "profile": "source"} for n in range(stream.targets)]
        },
    }


def session_record(broadcast: Broadcast) -> dict[str, Any]:
    """Return a Session, with its own totals."""
    stream = broadcast.stream
    recording: dict[str, Any] = {}
    if broadcast.recorded:
        ready = broadcast.now >= broadcast.ingest.end + RECORDED_AFTER_SECONDS
        recording["recordingStatus"] = "ready" if ready else "waiting"
        if ready:
            recording["recordingUrl"] = f"https://recordings.invalid/{broadcast.session_id}/index.m3u8"
            recording["mp4Url"] = f"https://recordings.invalid/{broadcast.session_id}/source.mp4"
    return {
        "id": broadcast.session_id,
        "name": stream.name,
        "kind": "session",
        "parentId": stream.id,
        "playbackId": stream.playback_id,
        "createdAt": _milliseconds(broadcast.ingest.start),
        "record": broadcast.recorded,
        **recording,
        **_statistics_fields(broadcast, broadcast.statistics),
    }


def target_id(broadcast: Broadcast, number: int) -> str:
    """Return the id of one of a stream's multistream targets."""
    keys = (broadcast.fleet.seed, broadcast.stream.index, Purpose.IDENTITY, 10 + number)
    return str(uuid.UUID(int=random_bits(*keys, 0) << 64 | random_bits(*keys, 1), version=4))


def _statistics_fields(broadcast: Broadcast, total: Totals) -> dict[str, Any]:
    """Return the fields that a Stream and a Session have in common."""
    healthy = broadcast.healthy
    rate = broadcast.ingest_rate
    segments = int(total.media_seconds) // SEGMENT_SECONDS
    fields = {
        "lastSeen": broadcast.last_seen,
        "isHealthy": healthy,
        "issues": list(broadcast.level.issues) if healthy is False else None,
        "sourceSegments": segments,
        "transcodedSegments": int(total.transcoded_seconds) // SEGMENT_SECONDS * len(_LADDER),
        "sourceSegmentsDuration": int(total.media_seconds),
        "transcodedSegmentsDuration": int(total.transcoded_seconds) * len(_LADDER),
        "sourceBytes": int(total.bytes),
        "transcodedBytes": int(total.transcoded_seconds * _TRANSCODED),
        "ingestRate": rate,
        "outgoingRate": round(_TRANSCODED, 3) if rate else 0.0,
        "profiles": _PROFILES,
    }
    if broadcast.has_unknown_state:
        # No field shows whether media is arriving.
        del fields["lastSeen"], fields["sourceBytes"]
    return fields


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


PROBE_SECONDS = 10
"""Interval of the condition probes."""
EVENTS_KEPT_SECONDS = 60.0
"""How long health events are available after the end."""
_SHARE_WINDOW = {"1m": 60, "10m": 600}


def health_record(broadcast: Broadcast) -> dict[str, Any] | None:
    """Return a stream's health; None without recent events."""
    ingest, now = broadcast.ingest, broadcast.now
    if not broadcast.active and now >= ingest.end + EVENTS_KEPT_SECONDS:
        return None
    # There are no probes without media, so a stall shows only as an old probe.
    probed = broadcast.last_media_time(PROBE_SECONDS)
    known = probed > ingest.start
    level = LEVELS[ingest.condition(probed)]
    connected = broadcast.is_live and level.healthy
    real_time = level.pace >= 1

    def condition(status: bool | None) -> dict[str, Any]:
        return _condition_record(ingest, probed, status if known else None)

    targets = [
        {
            "target": {"id": target_id(broadcast, n), "name": f"target-{n + 1}", "profile": "source"},
            "connected": condition(connected),
        }
        for n in range(broadcast.stream.targets)
    ]
    multistreaming = connected if targets else None
    active = {
        **_condition_record(ingest, ingest.start, broadcast.active),
        "extraData": {"nodeId": "prod-1", "region": "fra"},
    }
    return {
        "id": broadcast.stream.id,
        "healthy": condition(real_time and multistreaming is not False),
        "conditions": [
            {"type": "Active", **active},
            {"type": "Transcoding", **condition(True)},
            {"type": "TranscodeRealTime", **condition(real_time)},
            {"type": "TranscodeNoErrors", **condition(True)},
            {"type": "Multistreaming", **condition(multistreaming)},
        ],
        "metrics": {
            "TranscodeRealtimeRatio": [
                {
                    "name": "TranscodeRealtimeRatio",
                    "dimensions": {"nodeId": "prod-1"},
                    "last": [int(probed * 1000), level.pace],
                }
            ]
        }
        if known
        else {},
        "multistream": targets,
    }


def _condition_record(ingest: IngestSession, probed: float, status: bool | None) -> dict[str, Any]:
    """Return one condition; null before its first probe."""
    if status is None:
        return {"status": None, "lastProbeTime": None, "lastTransitionTime": None}
    span = ingest.span(probed)
    transition = max(ingest.start, ingest.course.natural_start + span.start)
    duration = probed - transition
    frequency = {
        name: round(min(1.0, duration / window) if status else max(0.0, 1 - duration / window), 2)
        for name, window in _SHARE_WINDOW.items()
    }
    return {
        "status": status,
        "frequency": frequency,
        "lastProbeTime": int(probed * 1000),
        "lastTransitionTime": int(transition * 1000),
    }
