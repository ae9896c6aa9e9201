"""Livepeer's stream and session objects, and how their figures are made: flushed statistics, heartbeats, verdicts."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from exporter.simulator.conditions import LEVELS, Condition, Level
from exporter.simulator.fleet import WORLD_BEGAN, Fleet
from exporter.simulator.prng import Purpose, between, roll, unit
from exporter.simulator.streams import Stream
from exporter.simulator.totals import Publish, Totals

FLUSH_SECONDS = 50
"""Statistics are written at most so often."""
HEARTBEAT_SECONDS = 30
SEGMENT_SECONDS = 2
VERDICT_AFTER_SECONDS = 5.0
"""Before that a new publish has no verdict."""
RATE_KEPT_SECONDS = 30.0
"""So long after the end the last rate stays."""
CLEANUP_SECONDS = 120.0
"""So long a crashed stream is still called active."""
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
"""What the transcoder makes, in bytes per second of media."""
_INDEX_SHIFT = 96


@dataclass(frozen=True)
class Broadcast:
    """One publish of a stream, seen at one moment."""

    fleet: Fleet
    stream: Stream
    publish: Publish
    now: float

    @property
    def live(self) -> bool:
        """Whether it is really on the air."""
        return self.publish.live(self.now)

    @property
    def active(self) -> bool:
        """What the platform believes: a crashed one is active until the cleanup has been round."""
        return self.live or (self.publish.crashed and self.now < self.publish.end + CLEANUP_SECONDS)

    @property
    def _until(self) -> float:
        return min(self.now, self.publish.end)

    @cached_property
    def flushed(self) -> float:
        """When statistics were written last; the start of the publish when never."""
        if not self.live and not self.publish.crashed:
            return self.publish.end
        return self._step(self._until, FLUSH_SECONDS)

    def _step(self, moment: float, seconds: int) -> float:
        return self.publish.start + (moment - self.publish.start) // seconds * seconds

    @property
    def last_seen(self) -> int:
        """Unix milliseconds of the last statistics or heartbeat."""
        return _milliseconds(max(self.flushed, self._step(self._until, HEARTBEAT_SECONDS)))

    @property
    def unchanged_until(self) -> float:
        """Until when ``active`` and ``last_seen`` stay as they are, if no fault changes it."""
        if self.live:
            steps = (self._step(self.now, seconds) + seconds for seconds in (FLUSH_SECONDS, HEARTBEAT_SECONDS))
            return min(self.publish.end, *steps)
        following = self.fleet.next_start(self.stream, self.now)
        return min(following, self.publish.end + CLEANUP_SECONDS) if self.active else following

    @cached_property
    def statistics(self) -> Totals:
        """This publish's totals, as flushed."""
        return self.publish.amounts(self.flushed).whole()

    @property
    def ingest_rate(self) -> float:
        """Bytes per second at the last flush that saw new bytes; 0 once the stream is away."""
        if not self.active or self.now >= self.publish.end + RATE_KEPT_SECONDS:
            return 0.0
        moment = self.last_media(FLUSH_SECONDS)
        if moment <= self.publish.start:
            return 0.0
        noise = between(1 - _RATE_NOISE, 1 + _RATE_NOISE, Purpose.NOISE, int(moment), since=self.stream.root)
        return round(self.publish.bitrate(moment) * noise, 3)

    def last_media(self, seconds: int) -> float:
        """The last of the moments ``seconds`` apart at which media came; the start when there was none."""
        moment = self._step(self._until, seconds)
        while self.publish.condition(moment) is Condition.STALLED and moment > self.publish.start:
            stalled_since = self.publish.course.natural_start + self.publish.span(moment).start
            moment = max(self.publish.start, min(self._step(stalled_since, seconds), moment - seconds))
        return moment

    @property
    def level(self) -> Level:
        """How it is, or in the end was, doing."""
        return LEVELS[self.publish.condition(self.now)]

    @property
    def healthy(self) -> bool | None:
        """The verdict of the media server's buffer; None while idle or too new."""
        if not self.active or self.now < self.publish.start + VERDICT_AFTER_SECONDS:
            return None
        return self.level.healthy

    @property
    def recorded(self) -> bool:
        """Whether the stream is set to be recorded."""
        return unit(Purpose.NATURE, 20, since=self.stream.root) < _RECORD_CHANCE

    @property
    def session_id(self) -> str:
        """Made of the stream's place in the fleet, the start, and bits that look the part."""
        start = _milliseconds(self.publish.start)
        bits = roll(Purpose.IDENTITY, start, since=self.stream.root)
        return str(uuid.UUID(int=self.stream.index << _INDEX_SHIFT | bits, version=4))

    @staticmethod
    def index_in(session_id: uuid.UUID) -> int:
        """The stream's place in the fleet, out of a session's id."""
        return session_id.int >> _INDEX_SHIFT


def broadcast_of(fleet: Fleet, stream: Stream, now: float) -> Broadcast:
    """The publish that is on the air, or else the last one that was."""
    return Broadcast(fleet, stream, fleet.publish(stream, now), now)


def stream_record(broadcast: Broadcast, lasting: dict[str, Any]) -> dict[str, Any]:
    """A Stream: its totals are of all its publishes. ``lasting``: the stream's ``lasting_record``."""
    total = broadcast.fleet.all_time(broadcast.stream, broadcast.publish, broadcast.flushed)
    return {**lasting, "isActive": broadcast.active, **_figures(broadcast, total)}


def lasting_record(broadcast: Broadcast) -> dict[str, Any]:
    """What a Stream has that never changes; the rest is only given its place."""
    stream = broadcast.stream
    return {
        "id": stream.id,
        "name": stream.name,
        "kind": "stream",
        "playbackId": stream.playback_id,
        "streamKey": stream.secret_key,
        "isActive": None,
        "createdAt": _milliseconds(WORLD_BEGAN),
        "lastTerminatedAt": None,
        "suspended": False,
        "record": broadcast.recorded,
        "multistream": {
            "targets": [{"id": target_id(broadcast, n), "profile": "source"} for n in range(stream.targets)]
        },
    }


def session_record(broadcast: Broadcast) -> dict[str, Any]:
    """A Session: its totals are its own."""
    stream = broadcast.stream
    recording: dict[str, Any] = {}
    if broadcast.recorded:
        ready = broadcast.now >= broadcast.publish.end + RECORDED_AFTER_SECONDS
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
        "createdAt": _milliseconds(broadcast.publish.start),
        "record": broadcast.recorded,
        **recording,
        **_figures(broadcast, broadcast.statistics),
    }


def target_id(broadcast: Broadcast, number: int) -> str:
    """The id of one of a stream's multistream targets."""
    keys = (broadcast.fleet.seed, broadcast.stream.index, Purpose.IDENTITY, 10 + number)
    return str(uuid.UUID(int=roll(*keys, 0) << 64 | roll(*keys, 1), version=4))


def _figures(broadcast: Broadcast, total: Totals) -> dict[str, Any]:
    """What a Stream and a Session have in common."""
    healthy = broadcast.healthy
    rate = broadcast.ingest_rate
    segments = int(total.media_seconds) // SEGMENT_SECONDS
    return {
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


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
