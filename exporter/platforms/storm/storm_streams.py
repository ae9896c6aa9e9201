"""What Storm says of one stream, as a report: the stream object of the single GET, the batch and the list.

Source: Storm Streaming Server 3.x, RESTful API, pages Stream, Stream List (Batch) and Cluster Stream List.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec

from exporter.model import Status, StreamReport
from exporter.platforms.parsing import Record
from exporter.platforms.slim_report import slim_report

NO_DATA = "No Data"
"""The grade that comes with a ``healthScore`` of 0 when there is nothing to score."""
_STATUSES = {
    "PUBLISHED": Status.LIVE,
    "RUNNING": Status.LIVE,
    "AWAITING": Status.IDLE,
    "NOT_PUBLISHED": Status.IDLE,
    "INITIALIZED": Status.IDLE,
    "HIBERNATED": Status.IDLE,
    "UNPUBLISHED": Status.ENDED,
    "STOPPED": Status.ENDED,
    "CLOSING": Status.ENDED,
    "CLOSED": Status.ENDED,
    "ERROR": Status.ERROR,
}
"""The documents show PUBLISHED alone; the others are what Storm's own player reads from the same field, and 2.x."""
_STATES = {name: (status, status is Status.LIVE) for name, status in _STATUSES.items()}
"""With whether that is live."""
_UNKNOWN = Status.UNKNOWN, None
FEEDS = frozenset(
    {
        "application", "kind", "video_codec", "audio_codec", "resolution",
        "status", "live", "start_timestamp_seconds",
        "health_score_ratio", "health_grade",
        "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second", "ingest_bytes", "egress_bytes",
        "substreams", "viewers", "system_clients",
        "frames_per_second", "width_pixels", "height_pixels",
        "recording", "publish_allowed",
    }
)  # fmt: skip
"""The fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)


class FoundStream(msgspec.Struct, frozen=True, gc=False):
    """A stream that Storm spoke of, and where its substream metadata is."""

    report: StreamReport
    substream: str = ""
    """The substream's name; empty: the answer named none."""

    @property
    def key(self) -> str:
        """The stream key."""
        return self.report.id[len(self.report.application) + 1 :]


def stream_id(application: str, key: str) -> str:
    """The identity: Storm's own ``id`` is not unique across applications."""
    return sys.intern(f"{application}/{key}")


def read_stream(record: Record, *, application: str = "", key: str = "") -> FoundStream | None:
    """A stream object; ``application`` and ``key`` are what was asked for, where the answer leaves them out.

    None where it cannot be told which stream this is.
    """
    application = record.text("application") or application
    key = record.text("streamKey", unique=True) or key
    if not application or not key:
        return None
    status, live = _state(record)
    grade = record.text("healthGrade")
    score = record.ratio("healthScore", unit=0.01)
    substreams = record.records("subStreams") if "subStreams" in record else None
    report = Report(
        id=stream_id(application, key),
        application=application,
        kind=record.word("type"),
        status=status,
        live=live,
        start_timestamp_seconds=record.time_ms("startTime"),
        health_score_ratio=None if grade == NO_DATA else score,
        health_grade=grade,
        ingest_bitrate_bytes_per_second=record.number("inBandwidth", low=0.0),
        egress_bitrate_bytes_per_second=record.number("outBandwidth", low=0.0),
        ingest_bytes=record.total("inTotalBytes"),
        egress_bytes=record.total("outTotalBytes"),
        substreams=None if substreams is None else len(substreams),
        viewers=record.count("viewerCount"),
        system_clients=record.count("systemClientCount"),
        recording=record.flag("isRecording"),
        publish_allowed=record.flag("allowedToPublish"),
    )
    return FoundStream(report, _native_substream(substreams, key) if substreams else "")


def missing_stream(application: str, key: str) -> FoundStream:
    """A stream that was asked for and is not there: it is not being published."""
    report = Report(id=stream_id(application, key), application=application, status=Status.IDLE, live=False)
    return FoundStream(report)


def read_cluster_stream(record: Record) -> Iterator[FoundStream]:
    """An item of the cluster list: one stream key with its sources, told apart by the application they run in.

    A source stands for a server; of several servers with the same application the one that receives media speaks.
    """
    key = record.text("streamKey", unique=True)
    by_application: dict[str, FoundStream] = {}
    for source in record.records("sourceList") if key else []:
        application = source.text("applicationName")
        if not application:
            continue
        status, live = _state(source)
        report = Report(
            id=stream_id(application, key),
            application=application,
            kind=source.word("applicationType"),
            status=status,
            live=live,
            ingest_bitrate_bytes_per_second=source.number("bitrate", low=0.0),
        )
        known = by_application.get(application)
        if known is None or _weight(report) > _weight(known.report):
            by_application[application] = FoundStream(report)
    yield from by_application.values()


def _weight(report: StreamReport) -> tuple[bool, float]:
    return bool(report.live), report.ingest_bitrate_bytes_per_second or 0.0


def _state(record: Record) -> tuple[Status, bool | None]:
    return _STATES.get(record.text("state").upper(), _UNKNOWN)


def _native_substream(substreams: list[Record], key: str) -> str:
    """The name of the substream that is the ingest itself: the one with the stream's own key, else the first."""
    named = [(record.text("streamKey", unique=True), record.text("name")) for record in substreams]
    return next((name for own, name in named if own == key and name), next((name for _, name in named if name), ""))
