"""What one stream or session object of Livepeer Studio says, before it is decided whether that is live.

Field names, units and the meaning of null: the platform's OpenAPI document and its published source. ``streamKey`` and
``pull`` carry secrets; they are never read. A session's ``isActive``, ``suspended`` and ``lastTerminatedAt`` are filled
in with defaults by the server and say nothing; they are not read either.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from exporter.model import Rendition, StreamReport
from exporter.platforms.parsing import Record
from exporter.platforms.slim_report import slim_report

STREAM, SESSION = "stream", "session"
"""The kinds."""
BYTES_PER_BIT = 0.125
FRESH_SECONDS = 90.0
"""The platform itself holds a stream for inactive that it has not seen for so long."""
NEVER = 0.0
"""``last_seen`` of what has never been seen; the platform writes 0."""
RECORDING = "recording/"
"""Before the name of a rendition that ``recordingSpec`` asks for, which is made for the recording alone."""
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


class Reading(msgspec.Struct, frozen=True):
    """One object, read: ``report`` holds its facts as if it were live, the rest decides whether it is."""

    report: StreamReport
    active: bool | None
    """The stream's ``isActive``; None: not said, as for every session."""
    last_seen: float | None
    """Unix seconds on the platform's clock, ``NEVER``, or None when the field was bad."""

    def is_fresh(self, platform_now: float) -> bool | None:
        """Whether it was seen within 90 s on the platform's clock; None: unknown."""
        return None if self.last_seen is None else platform_now - self.last_seen <= FRESH_SECONDS


def read_stream(record: Record) -> Reading:
    """A Stream object, as ``GET /stream`` lists it. Its totals are those of all its sessions together."""
    suspended = record.flag("suspended")
    report = Report(
        id=record.text("id"),
        kind=STREAM,
        publish_allowed=None if suspended is None else not suspended,
        **_facts(record),
    )
    return Reading(report, record.flag("isActive"), _last_seen(record))


def read_session(record: Record, *, stream: str = "", session: str = "") -> Reading:
    """A Session object. ``stream``, ``session``: what it was asked for by, else the object's own word is taken.

    A session that does not name its parent stream stands for itself.
    """
    session = session or record.text("id")
    report = Report(
        id=stream or record.text("parentId") or session,
        kind=SESSION,
        session=session,
        start_timestamp_seconds=record.time_ms("createdAt"),
        recording_status=record.text("recordingStatus"),
        **_facts(record),
    )
    return Reading(report, None, _last_seen(record))


def _facts(record: Record) -> dict[str, Any]:
    """What streams and sessions say in the same words: fields of ``StreamReport``."""
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
    """The target bitrates, each name once, as each becomes one series; the recording's only while recording is on."""
    targets = dict(_targets(record, ""))
    spec = record.record("recordingSpec") if recording is not False else None
    if spec is not None:
        targets |= _targets(spec, RECORDING)
    if not targets and not isinstance(record.raw.get("profiles"), list):
        return None
    return _ladder(tuple(targets.items()))


@lru_cache(maxsize=1024)
def _ladder(targets: tuple[tuple[str, float], ...]) -> tuple[Rendition, ...]:
    """The same for all streams that have the same profiles: of thousands most do."""
    return tuple(Rendition(name, bitrate) for name, bitrate in targets)


def _targets(record: Record, prefix: str) -> Iterator[tuple[str, float]]:
    for profile in record.records("profiles"):
        name = profile.text("name")
        bitrate = profile.number("bitrate", unit=BYTES_PER_BIT, low=0)
        if name and bitrate is not None:
            yield prefix + name, bitrate
