"""Parse Storm's stream objects to reports, and request substream metadata (codecs, picture size, frame rate).

Source: Storm Streaming Server 3.x, RESTful API, pages Stream, Stream List (Batch), Cluster Stream List and Substream
Metadata.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from exporter.platforms.api import (
    PERCENT,
    Clock,
    DropCounter,
    Rate,
    Reason,
    Record,
    Requests,
    Status,
    StreamReport,
    UpstreamError,
    application_stream_id,
    meanings,
    normalised,
    slim_report,
)

NO_DATA = normalised("No Data")
"""The grade that comes with a ``healthScore`` of 0 if there is nothing to score; the grade may also be missing."""
_STATUSES = meanings(
    {
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
)
"""Only PUBLISHED is documented; Storm's own player and version 2.x read the other words from the same field."""
HEALTH_FACTS = ("healthScore", "inBandwidth", "inTotalBytes")
RATES = (
    Rate("ingest_bytes", "ingest_bitrate_bytes_per_second"),
    Rate("egress_bytes", "egress_bitrate_bytes_per_second"),
)
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
"""Fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)


class StormStream(msgspec.Struct, frozen=True, gc=False):
    """A stream's report, and the substream whose metadata is requested for it."""

    report: StreamReport
    key: str
    substream: str = ""
    """Name of the substream; empty if the response has none."""


def read_envelope(data: object, endpoint: str, drops: DropCounter) -> Record:
    """Return the ``data`` of Storm's envelope ``{"data": {...}, "meta": {...}}``. Raises ``UpstreamError``."""
    content = data.get("data") if isinstance(data, dict) else None
    if not isinstance(content, dict):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the response has no object data")
    return Record(content, drops)


# -- streams -----------------------------------------------------------------------------------------------------------


def stream_id(application: str, key: str) -> str:
    """Return a stream's id; Storm's own ``id`` is not unique across applications."""
    return sys.intern(application_stream_id(application, key))


def read_stream(record: Record, *, application: str = "", key: str = "") -> StormStream | None:
    """Parse a stream object; None if it does not identify its stream.

    ``application`` and ``key``: the requested ones, for responses that omit them.
    """
    application = record.text("application") or application
    key = record.text("streamKey", unique=True) or key
    if not application or not key:
        return None
    status, live = _state(record)
    grade = record.text("healthGrade")
    score = record.ratio("healthScore", unit=PERCENT)
    has_no_data = normalised(grade) == NO_DATA or (score == 0 and not grade.strip())
    substreams = record.records("subStreams") if "subStreams" in record else None
    report = Report(
        id=stream_id(application, key),
        application=application,
        kind=record.word("type"),
        status=status,
        live=live,
        start_timestamp_seconds=record.time_ms("startTime"),
        health_score_ratio=None if has_no_data else score,
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
        health_unreadable=record.has_unreadable(*HEALTH_FACTS),
    )
    return StormStream(report, key, _native_substream(substreams, key) if substreams else "")


def missing_stream(application: str, key: str) -> StormStream:
    """Return a requested stream that does not exist, because it is not being published."""
    report = Report(id=stream_id(application, key), application=application, status=Status.IDLE, live=False)
    return StormStream(report, key)


def read_cluster_stream(record: Record) -> Iterator[StormStream]:
    """Yield the streams in a row of the cluster list: one for each source (server) of the stream key."""
    key = record.text("streamKey", unique=True)
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
            health_unreadable=source.has_unreadable("bitrate"),
        )
        yield StormStream(report, key)


def _state(record: Record) -> tuple[Status, bool | None]:
    status = record.meaning("state", _STATUSES)
    return (Status.UNKNOWN, None) if status is None else (status, status is Status.LIVE)


def _native_substream(substreams: list[Record], key: str) -> str:
    """Return the name of the substream that is the ingest: the one with the stream's own key, otherwise the first."""
    named = [(record.text("streamKey", unique=True), record.text("name")) for record in substreams]
    return next((name for own, name in named if own == key and name), next((name for _, name in named if name), ""))


# -- substream metadata ------------------------------------------------------------------------------------------------

METADATA = "GET /streams/{app}/{key}/{substream}/metadata"
STREAMS_PER_STEP = 100
"""Number of streams above which to yield to the event loop."""
RETRY_AFTER_SECONDS = 60.0
"""Seconds to wait after a failed metadata request, so that it is not repeated in every poll."""


class SubstreamMetadata(msgspec.Struct, frozen=True, gc=False):
    """The facts about a substream that are exported, named like the fields of ``StreamReport``."""

    video_codec: str = ""
    audio_codec: str = ""
    resolution: str = ""
    width_pixels: int | None = None
    height_pixels: int | None = None
    frames_per_second: float | None = None


class _Publish(msgspec.Struct, gc=False):
    """The publish for which a stream's metadata was requested."""

    start: float | None
    metadata: SubstreamMetadata | None = None
    retry_at: float = 0.0

    def includes(self, report: StreamReport) -> bool:
        """Whether the report belongs to this publish, which may have ended."""
        is_same = self.start == report.start_timestamp_seconds
        return is_same and (bool(report.live) or self.start is not None)


class SubstreamMetadataCache:
    """Requests the metadata of each publish once; forgets streams that are missing from a poll."""

    def __init__(self, clock: Clock, requests_per_poll: int) -> None:
        """``requests_per_poll``: maximum, which matters when many streams start at once."""
        self._clock = clock
        self._requests_per_poll = requests_per_poll
        self._publishes: dict[str, _Publish] = {}

    async def add_metadata(
        self, requests: Requests, streams: Iterable[StormStream], drops: DropCounter
    ) -> list[StreamReport]:
        """Request missing metadata, and return the reports with the metadata known so far."""
        streams = list(streams)
        # going through thousands of streams takes milliseconds: yield to the event loop before and after
        are_many = len(streams) > STREAMS_PER_STEP
        if are_many:
            await asyncio.sleep(0)
        self._forget_ended(streams)
        now = self._clock.monotonic()
        due = [stream for stream in streams if self._is_due(stream, now)][: self._requests_per_poll]
        if due:
            await self._request_metadata(requests, due, drops, now)
        if are_many:
            await asyncio.sleep(0)
        return [self._with_metadata(stream.report) for stream in streams]

    async def _request_metadata(
        self, requests: Requests, streams: list[StormStream], drops: DropCounter, now: float
    ) -> None:
        async def fetch(stream: StormStream) -> SubstreamMetadata:
            return await _fetch_metadata(requests, stream, drops)

        for stream, result in await requests.map(fetch, streams):
            publish = self._publishes.setdefault(stream.report.id, _Publish(stream.report.start_timestamp_seconds))
            if isinstance(result, UpstreamError):
                publish.retry_at = now + RETRY_AFTER_SECONDS
            else:
                publish.metadata = result

    def _forget_ended(self, streams: list[StormStream]) -> None:
        """Keep only the publishes that these streams belong to."""
        known, self._publishes = self._publishes, {}
        for report in [stream.report for stream in streams] if known else ():
            publish = known.get(report.id)
            if publish is not None and publish.includes(report):
                self._publishes[report.id] = publish

    def _is_due(self, stream: StormStream, now: float) -> bool:
        if not stream.report.live or not stream.substream:
            return False
        publish = self._publishes.get(stream.report.id)
        return publish is None or (publish.metadata is None and now >= publish.retry_at)

    def _with_metadata(self, report: StreamReport) -> StreamReport:
        publish = self._publishes.get(report.id)
        if publish is None or publish.metadata is None:
            return report
        metadata = publish.metadata
        return msgspec.structs.replace(
            report,
            video_codec=metadata.video_codec,
            audio_codec=metadata.audio_codec,
            resolution=metadata.resolution,
            width_pixels=metadata.width_pixels,
            height_pixels=metadata.height_pixels,
            frames_per_second=metadata.frames_per_second,
        )


async def _fetch_metadata(requests: Requests, stream: StormStream, drops: DropCounter) -> SubstreamMetadata:
    try:
        response = await requests.get(
            METADATA, app=stream.report.application, key=stream.key, substream=stream.substream
        )
    except UpstreamError as error:
        if error.means_absent:
            return SubstreamMetadata()
        raise
    record = read_envelope(response.data, METADATA, drops)
    width, height = record.count("width") or None, record.count("height") or None
    metadata = SubstreamMetadata(
        video_codec=record.text("videoCodec"),
        audio_codec=record.text("audioCodec"),
        resolution=f"{width}x{height}" if width and height else "",
        width_pixels=width,
        height_pixels=height,
        # 0 means that the encoder does not announce it
        frames_per_second=record.number("frameRate", low=0.0) or None,
    )
    return _deduplicated(metadata)


@lru_cache(maxsize=1024)
def _deduplicated(metadata: SubstreamMetadata) -> SubstreamMetadata:
    """Return one object for all equal metadata, because most publishes of a server have the same."""
    return metadata
