"""Parse stream and session objects of Livepeer Studio; ``liveness.py`` decides whether they are live.

Field names, units and the meaning of null are from the platform's OpenAPI document and its published source.
``streamKey`` and ``pull`` contain secrets and are never read. A session's ``isActive``, ``suspended`` and
``lastTerminatedAt`` are not read either, because the server fills in defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from exporter.platforms.api import (
    BITS_PER_SECOND,
    Clock,
    HeartbeatTracker,
    Record,
    Rendition,
    Requests,
    SignOfLife,
    StreamReport,
    slim_report,
)

STREAM, SESSION = "stream", "session"
"""The values of ``StreamReport.kind``."""
FRESH_SECONDS = 90.0
"""Seconds without a heartbeat after which the platform considers a stream inactive."""
NEVER = 0.0
"""``last_seen`` of a stream that was never seen; the platform reports 0."""
NOT_SEEN = SignOfLife(False, None)
HEALTH_FACTS = ("isHealthy", "issues", "ingestRate", "sourceBytes")
RECORDING_PREFIX = "recording/"
"""Prefix for the names of renditions in ``recordingSpec``, which exist only in the recording."""
FEEDS = frozenset(
    {
        "name", "session", "kind", "playback_id",
        "status", "live", "start_timestamp_seconds", "end_timestamp_seconds", "last_seen_timestamp_seconds",
        "healthy", "health_conditions", "issues",
        "ingest_bitrate_bytes_per_second", "transcode_bitrate_bytes_per_second", "ingest_bytes", "transcoded_bytes",
        "source_segments", "transcoded_segments", "source_media_seconds", "transcoded_media_seconds",
        "transcode_realtime_ratio",
        "renditions", "multistream_targets",
        "viewers", "viewer_error_ratio",
        "recording", "recording_status", "publish_allowed",
    }
)  # fmt: skip
"""Fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)


class ParsedObject(msgspec.Struct, frozen=True):
    """A stream or session. ``report`` is filled as if it were live; the other fields decide whether it is."""

    report: StreamReport
    active: bool | None
    """The stream's ``isActive``; None if not reported, and for sessions."""
    last_seen: float | None
    """Unix seconds on the platform's clock, ``NEVER``, or None if the field is missing or unreadable."""
    sign: SignOfLife
    """What ``last_seen`` proves."""


class Reader:
    """Reads the objects of one poll."""

    def __init__(self, heartbeats: HeartbeatTracker, requests: Requests, clock: Clock) -> None:
        self._heartbeats = heartbeats
        self._requests = requests
        self._clock = clock

    def sign_of_life(self, key: str, last_seen: float | None) -> SignOfLife:
        """Return what the ``last_seen`` of a stream or session proves."""
        if last_seen == NEVER:
            return NOT_SEEN
        server_time = self._requests.server_time
        return self._heartbeats.observe(
            key,
            last_seen,
            now=self._clock.monotonic(),
            platform_now=self._requests.now if server_time is None else server_time,
        )


def parse_stream(record: Record, reader: Reader) -> ParsedObject:
    """Parse a stream object as listed by ``GET /stream``. Its totals are sums over all its sessions."""
    stream_id = record.text("id")
    suspended = record.flag("suspended")
    report = Report(
        id=stream_id,
        kind=STREAM,
        publish_allowed=None if suspended is None else not suspended,
        **_common_fields(record),
    )
    last_seen = _last_seen(record)
    return ParsedObject(report, record.flag("isActive"), last_seen, reader.sign_of_life(stream_id, last_seen))


def parse_session(record: Record, reader: Reader, *, stream: str = "") -> ParsedObject | None:
    """Parse a session object; None if it has no id. ``stream``: id of the stream that it was requested for.

    A session without a parent stream is reported under its own id.
    """
    session = record.text("id")
    if not session:
        return None
    report = Report(
        id=stream or record.text("parentId") or session,
        kind=SESSION,
        session=session,
        start_timestamp_seconds=record.time_ms("createdAt"),
        recording_status=record.text("recordingStatus"),
        **_common_fields(record),
    )
    last_seen = _last_seen(record)
    return ParsedObject(report, None, last_seen, reader.sign_of_life(f"session {session}", last_seen))


def _common_fields(record: Record) -> dict[str, Any]:
    """Return the fields of ``StreamReport`` that streams and sessions have in common."""
    healthy = record.flag("isHealthy")
    issues = record.texts("issues")
    if "issues" not in record and healthy is not None:
        issues = ()
    recording = record.flag("record")
    return {
        "name": record.text("name"),
        "playback_id": record.text("playbackId"),
        "healthy": healthy,
        "issues": issues,
        "ingest_bitrate_bytes_per_second": record.number("ingestRate", low=0),
        "transcode_bitrate_bytes_per_second": record.number("outgoingRate", low=0),
        "ingest_bytes": record.total("sourceBytes"),
        "transcoded_bytes": record.total("transcodedBytes"),
        "source_segments": record.total("sourceSegments"),
        "transcoded_segments": record.total("transcodedSegments"),
        "source_media_seconds": record.total("sourceSegmentsDuration"),
        "transcoded_media_seconds": record.total("transcodedSegmentsDuration"),
        "renditions": _renditions(record, recording=recording),
        "recording": recording,
        "health_unreadable": record.has_unreadable(*HEALTH_FACTS),
    }


def _last_seen(record: Record) -> float | None:
    raw = record.raw.get("lastSeen")
    if raw == "0" or (raw == 0 and not isinstance(raw, bool)):
        return NEVER
    return record.time_ms("lastSeen")


def _renditions(record: Record, *, recording: bool | None) -> tuple[Rendition, ...] | None:
    """Return the target bitrates by unique name, with those of the recording unless recording is off."""
    targets = dict(_target_bitrates(record, ""))
    spec = record.record("recordingSpec") if recording is not False else None
    if spec is not None:
        targets |= _target_bitrates(spec, RECORDING_PREFIX)
    if not targets and not isinstance(record.raw.get("profiles"), list):
        return None
    return _make_renditions(tuple(targets.items()))


@lru_cache(maxsize=1024)
def _make_renditions(targets: tuple[tuple[str, float], ...]) -> tuple[Rendition, ...]:
    """Return renditions; cached because most streams have the same profiles."""
    return tuple(Rendition(name, bitrate) for name, bitrate in targets)


def _target_bitrates(record: Record, prefix: str) -> Iterator[tuple[str, float]]:
    for profile in record.records("profiles"):
        name = profile.text("name")
        bitrate = profile.number("bitrate", unit=BITS_PER_SECOND, low=0)
        if name and bitrate is not None:
            yield prefix + name, bitrate
