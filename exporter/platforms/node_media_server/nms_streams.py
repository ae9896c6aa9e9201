"""Parse the stream lists of node-media-server 2 and 4 to reports.

Sources: node-media-server 2.7.4, ``src/api/controllers/streams.js``; 4.2.4 to 4.4.3, ``src/api/handlers/streams.js``.
Codecs: Adobe Flash Video File Format 10.1, E.4.2.1 and E.4.3.1; Enhanced RTMP 1 and 2 for the four-letter codes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from exporter.platforms.api import (
    DropCounter,
    ListFacts,
    Paging,
    Reason,
    Record,
    RowReader,
    Status,
    StreamReport,
    UpstreamError,
    application_stream_id,
    meanings,
    slim_report,
)

KIND = "stream"
STREAMS_4 = "GET /api/v1/streams"
STREAMS_2 = "GET /api/streams"
_STATUSES = meanings({"publishing": Status.LIVE, "reconnecting": Status.CONNECTING, "idle": Status.IDLE})
"""Status words of version 4.3 and later. ``reconnecting``: the publisher is gone, its slot is held for 30 s."""
FEEDS = frozenset(
    {
        "application", "protocol", "session", "kind", "video_codec", "audio_codec", "resolution",
        "status", "live", "start_timestamp_seconds",
        "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second", "ingest_bytes",
        "viewers", "system_clients", "frames_per_second", "width_pixels", "height_pixels", "recording",
    }
)  # fmt: skip
"""Fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)
_VIDEO_NUMBERS = {2: "h263", 3: "screen", 4: "vp6", 5: "vp6a", 6: "screen2", 7: "h264", 12: "hevc"}
"""12 is not part of Adobe's specification, but many servers and encoders use it."""
_AUDIO_NUMBERS = {1: "adpcm", 2: "mp3", 3: "pcm", 5: "nellymoser", 6: "nellymoser", 7: "alaw", 8: "mulaw", 10: "aac",
                  11: "speex", 13: "opus", 14: "mp3"}  # fmt: skip
_FOUR_LETTERS = {"avc1": "h264", "hvc1": "hevc", "hev1": "hevc", "vvc1": "vvc", "av01": "av1", "vp08": "vp8",
                 "vp09": "vp9", "mp4a": "aac", ".mp3": "mp3", "flac": "flac", "opus": "opus", "ac-3": "ac3",
                 "ec-3": "eac3"}  # fmt: skip


# -- version 2 ---------------------------------------------------------------------------------------------------------


class StreamList(msgspec.Struct, frozen=True):
    """A parsed list of streams."""

    reports: list[StreamReport]
    facts: ListFacts


async def parse_version_2(response: Any, drops: DropCounter, max_streams: int) -> StreamList:
    """Parse ``{application: {key: {publisher, subscribers}}}``.

    A row without these two fields is not a stream and is counted as unreadable. Raises ``UpstreamError``
    (``bad_response``) if no row is readable.
    """
    rows: RowReader[StreamReport] = RowReader(STREAMS_2, drops, "stream", max_streams=max_streams)
    async for application, key, raw in rows.in_steps(_rows_2(Record.from_response(response, drops).raw)):
        record = rows.record(raw)
        if record is not None:
            is_stream = any(name in record.raw for name in _STREAM_2)
            rows.add(_parse_stream_2(application, key, record) if is_stream else None)
    return StreamList(rows.found, rows.facts())


def _rows_2(applications: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield application, key and stream.

    The server lists no application without streams, so one without any is a single unreadable row.
    """
    for application, streams in applications.items():
        for key, stream in streams.items() if isinstance(streams, dict) and streams else [("", None)]:
            yield application, key, stream


_STREAM_2 = ("publisher", "subscribers")
"""Fields of every stream in version 2."""


def _parse_stream_2(application: str, key: str, record: Record) -> StreamReport:
    publisher = record.record("publisher")
    subscribers = record.records("subscribers") if "subscribers" in record else None
    # a stream without a publisher has a list of subscribers, which may be empty
    is_readable = not record.has_unreadable("publisher") and any(name in record for name in _STREAM_2)
    report = Report(
        id=sys.intern(application_stream_id(application, key)),
        application=application,
        kind=KIND,
        status=Status.IDLE if is_readable else Status.UNKNOWN,
        live=False if is_readable else None,
        viewers=None if subscribers is None else len(subscribers),
    )
    if publisher is None or not any(value is not None for value in publisher.raw.values()):
        unknown = publisher is not None
        return msgspec.structs.replace(report, status=Status.UNKNOWN, live=None) if unknown else report
    video, audio = publisher.record("video"), publisher.record("audio")
    width = video.count("width") if video else None
    height = video.count("height") if video else None
    return msgspec.structs.replace(
        report,
        status=Status.LIVE,
        live=True,
        # version 2 accepts only RTMP, and its own relays also publish over RTMP
        protocol="rtmp",
        session=publisher.text("clientId"),
        start_timestamp_seconds=publisher.time_iso("connectCreated"),
        ingest_bytes=publisher.total("bytes"),
        video_codec=video.word("codec") if video else "",
        audio_codec=audio.word("codec") if audio else "",
        frames_per_second=(video.number("fps", low=0.0) or None) if video else None,
        health_unreadable=record.has_unreadable("publisher.bytes", "publisher.video.fps"),
        **_picture_fields(width, height),
    )


# -- version 4 ---------------------------------------------------------------------------------------------------------


async def parse_version_4(response: Any, drops: DropCounter, max_streams: int) -> StreamList:
    """Parse ``{data: {streams: [...], total}}``. Raises ``UpstreamError`` (``bad_response``) without a list."""
    data = Record.from_response(response, drops).required_record("data")
    rows: RowReader[StreamReport] = RowReader(STREAMS_4, drops, "name", max_streams=max_streams)
    listed = data.items("streams")
    async for row in rows.in_steps(listed):
        record = rows.record(row, prefix="data.streams.")
        if record is not None:
            rows.add(parse_stream_4(record))
    paging = Paging()
    paging.has_next(len(listed), has_next=False, total=data.count("total"))
    return StreamList(rows.found, rows.facts(paging))


def parse_single_4(response: Any, drops: DropCounter) -> StreamReport:
    """Parse ``{data: {app, name, ...}}``. Raises ``UpstreamError`` (``bad_response``) if it identifies no stream."""
    report = parse_stream_4(Record.from_response(response, drops).required_record("data"))
    if report is None:
        raise UpstreamError(Reason.BAD_RESPONSE, "the response does not identify its stream")
    return report


def missing_stream(stream_id: str, application: str) -> StreamReport:
    """Return the report of a stream that the server does not know."""
    return Report(id=stream_id, application=application, kind=KIND, status=Status.IDLE, live=False)


def parse_stream_4(record: Record) -> StreamReport | None:
    """Return the report of a stream object; None if it does not identify its stream."""
    application, name = record.text("app"), record.text("name", unique=True)
    if not application or not name:
        return None
    publisher = record.record("publisher")
    recording = record.flag("recording")
    subscribers = record.count("subscribers")
    # the server counts a recording as a subscriber
    recorders = None if recording is None else int(recording)
    status = _status_4(record, publisher)
    live = None if status is Status.UNKNOWN else status is Status.LIVE
    report = Report(
        id=sys.intern(application_stream_id(application, name)),
        application=application,
        kind=KIND,
        status=status,
        live=live,
        viewers=None if subscribers is None else max(0, subscribers - (recorders or 0)),
        system_clients=recorders,
        recording=recording,
        **(_publisher_fields(publisher) if publisher else {}),
    )
    if live is False:
        return report
    ingest, egress = record.number("inBps", low=0.0), record.number("outBps", low=0.0)
    if report.ingest_bytes is None:
        # the server's own rates restart at 0 whenever a viewer leaves, so they are useless without the total
        return report
    return msgspec.structs.replace(
        report,
        ingest_bitrate_bytes_per_second=ingest,
        egress_bitrate_bytes_per_second=egress,
        health_unreadable=record.has_unreadable("inBps", "publisher.inBytes", "publisher.videoFramerate"),
    )


def _status_4(record: Record, publisher: Record | None) -> Status:
    """Return the status. Versions before 4.3 report none, but have a ``publisher`` exactly while one is connected."""
    if "status" in record:
        status = record.meaning("status", _STATUSES)
        contradicts = status is Status.LIVE and publisher is None and not record.has_unreadable("publisher")
        return Status.UNKNOWN if status is None or contradicts else status
    if record.has_unreadable("publisher") or not any(name in record for name in ("publisher", "subscribers")):
        return Status.UNKNOWN
    return Status.IDLE if publisher is None else Status.LIVE


def _publisher_fields(publisher: Record) -> dict[str, Any]:
    """Return the fields about the publisher. Picture size and codecs are as announced, or 0 or missing."""
    return {
        "protocol": publisher.word("protocol"),
        "session": publisher.text("id"),
        "start_timestamp_seconds": publisher.time_ms("createTime"),
        "ingest_bytes": publisher.total("inBytes"),
        "video_codec": video_codec(publisher.raw.get("videoCodec")),
        "audio_codec": audio_codec(publisher.raw.get("audioCodec")),
        "frames_per_second": publisher.number("videoFramerate", low=0.0) or None,
        **_picture_fields(publisher.count("videoWidth"), publisher.count("videoHeight")),
    }


# -- both --------------------------------------------------------------------------------------------------------------


def _picture_fields(width: int | None, height: int | None) -> dict[str, Any]:
    return {
        "width_pixels": width or None,
        "height_pixels": height or None,
        "resolution": sys.intern(f"{width}x{height}") if width and height else "",
    }


def video_codec(announced: Any) -> str:
    """Return the codec's name, such as ``h264`` for 7, ``avc1`` or that FourCC as a number; empty if not announced."""
    return _codec(announced, _VIDEO_NUMBERS)


def audio_codec(announced: Any) -> str:
    """Return the codec's name, such as ``aac`` for 10, ``mp4a`` or that FourCC as a number; empty if not announced."""
    return _codec(announced, _AUDIO_NUMBERS)


def _codec(announced: Any, numbers: dict[int, str]) -> str:
    if isinstance(announced, str):
        name = announced.lower()
        return _FOUR_LETTERS.get(name, name)
    if isinstance(announced, bool) or not isinstance(announced, int | float) or not 0 < announced < 2**32:
        return ""
    number = int(announced)
    letters = number.to_bytes(4, "big").decode("latin-1")
    if number > 0xFFFFFF and letters.isascii() and letters.isprintable():
        return _codec(letters, numbers)
    return numbers.get(number, str(number))
