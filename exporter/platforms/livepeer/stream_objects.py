"""Stream and session objects of Livepeer Studio, before it is decided whether they are live.

Field names, units and the meaning of null: the platform's OpenAPI document and its published source. ``streamKey`` and
``pull`` carry secrets; they are never read. A session's ``isActive``, ``suspended`` and ``lastTerminatedAt`` are filled
in with defaults by the server and say nothing; they are not read either.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from exporter.platforms.api import BITS_PER_SECOND, Record, Rendition, StreamReport, slim_report

STREAM, SESSION = "stream", "session"
"""The values of ``StreamReport.kind``."""
FRESH_SECONDS = 90.0
"""Seconds after which the platform itself takes a stream that it has not seen as inactive."""
NEVER = 0.0
"""``last_seen`` of a stream that has never been seen; the platform writes 0."""
RECORDING_PREFIX = "recording/"
"""Prefix to the name of a rendition in ``recordingSpec``, which is made for the recording alone."""
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
"""The fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)


class ParsedObject(msgspec.Struct, frozen=True):
    """A stream or session: ``report`` has its fields as if it were live, the others decide whether it is."""

    report: StreamReport
    active: bool | None
    """The stream's ``isActive``; None: not reported, as for every session."""
    last_seen: float | None
    """Unix seconds on the platform's clock, ``NEVER``, or None when the field was bad."""

    def is_fresh(self, platform_now: float) -> bool | None:
        """Return whether it was seen within 90 s on the platform's clock; None: unknown."""
        return None if self.last_seen is None else platform_now - self.last_seen <= FRESH_SECONDS


def parse_stream(record: Record) -> ParsedObject:
    """Parse a Stream object, as ``GET /stream`` lists it. Its totals are those of all its sessions together."""
    suspended = record.flag("suspended")
    report = Report(
        id=record.text("id"),
        kind=STREAM,
        publish_allowed=None if suspended is None else not suspended,
        **_common_fields(record),
    )
    return ParsedObject(report, record.flag("isActive"), _last_seen(record))


def parse_session(record: Record, *, stream: str = "", session: str = "") -> ParsedObject:
    """Parse a Session object. ``stream``, ``session``: the ids it was requested by, otherwise the object's own count.

    A session that does not name its parent stream is its own stream.
    """
    session = session or record.text("id")
    report = Report(
        id=stream or record.text("parentId") or session,
        kind=SESSION,
        session=session,
        start_timestamp_seconds=record.time_ms("createdAt"),
        recording_status=record.text("recordingStatus"),
        **_common_fields(record),
    )
    return ParsedObject(report, None, _last_seen(record))


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
    }


def _last_seen(record: Record) -> float | None:
    raw = record.raw.get("lastSeen")
    if raw is None or (raw == 0 and not isinstance(raw, bool)):
        return NEVER
    return record.time_ms("lastSeen")


def _renditions(record: Record, *, recording: bool | None) -> tuple[Rendition, ...] | None:
    """Return the target bitrates, each name once (each is one series); the recording's only while recording is on."""
    targets = dict(_target_bitrates(record, ""))
    spec = record.record("recordingSpec") if recording is not False else None
    if spec is not None:
        targets |= _target_bitrates(spec, RECORDING_PREFIX)
    if not targets and not isinstance(record.raw.get("profiles"), list):
        return None
    return _make_renditions(tuple(targets.items()))


@lru_cache(maxsize=1024)
def _make_renditions(targets: tuple[tuple[str, float], ...]) -> tuple[Rendition, ...]:
    """Return one object for all streams that have the same profiles: of thousands most do."""
    return tuple(Rendition(name, bitrate) for name, bitrate in targets)


def _target_bitrates(record: Record, prefix: str) -> Iterator[tuple[str, float]]:
    for profile in record.records("profiles"):
        name = profile.text("name")
        bitrate = profile.number("bitrate", unit=BITS_PER_SECOND, low=0)
        if name and bitrate is not None:
            yield prefix + name, bitrate
