"""What node-media-server says of its streams, as reports: the list of version 2 and that of version 4.

Source: node-media-server 2.7.4, ``src/api/controllers/streams.js``; 4.2.4 to 4.4.3, ``src/api/handlers/streams.js``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from exporter.http.errors import UpstreamError
from exporter.model import Reason, Status, StreamReport
from exporter.platforms.node_media_server.flv_codecs import audio_codec, video_codec
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.slim_report import slim_report

KIND = "stream"
UNREADABLE = frozenset({"stream", "name"})
"""What is counted, in version 2 and 4, for an entry that can't be read at all."""
_STATUSES = {"publishing": Status.LIVE, "reconnecting": Status.CONNECTING, "idle": Status.IDLE}
"""Version 4.3 and later. ``reconnecting``: the publisher is gone, for 30 s the server holds its place."""
FEEDS = frozenset(
    {
        "application", "protocol", "session", "kind", "video_codec", "audio_codec", "resolution",
        "status", "live", "start_timestamp_seconds",
        "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second", "ingest_bytes",
        "viewers", "system_clients", "frames_per_second", "width_pixels", "height_pixels", "recording",
    }
)  # fmt: skip
"""The fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)


def read_version_2(answer: Any, drops: DropCounter) -> Iterator[StreamReport]:
    """``{application: {key: {publisher, subscribers}}}``; what is no such object is counted and left out."""
    for application, streams in _objects(Record.from_response(answer, drops), drops):
        for key, record in _objects(streams, drops):
            yield _read_version_2(application, key, record)


def _objects(record: Record, drops: DropCounter) -> Iterator[tuple[str, Record]]:
    for name, raw in record.raw.items():
        if isinstance(raw, dict):
            yield name, record.sibling(raw)
        else:
            # not under its own name: that is a stream's, and may be a secret
            drops.drop("stream")


def _read_version_2(application: str, key: str, record: Record) -> StreamReport:
    publisher = record.record("publisher")
    subscribers = record.records("subscribers") if "subscribers" in record else None
    watched = Report(
        id=sys.intern(f"{application}/{key}"),
        application=application,
        kind=KIND,
        status=Status.IDLE,
        live=False,
        viewers=None if subscribers is None else len(subscribers),
    )
    if publisher is None:
        return watched
    video, audio = publisher.record("video"), publisher.record("audio")
    width = video.count("width") if video else None
    height = video.count("height") if video else None
    return msgspec.structs.replace(
        watched,
        status=Status.LIVE,
        live=True,
        # whoever publishes to version 2 does so over RTMP, its own relays too
        protocol="rtmp",
        session=publisher.text("clientId"),
        start_timestamp_seconds=publisher.time_iso("connectCreated"),
        ingest_bytes=publisher.total("bytes"),
        video_codec=video.word("codec") if video else "",
        audio_codec=audio.word("codec") if audio else "",
        frames_per_second=(video.number("fps", low=0.0) or None) if video else None,
        **_picture(width, height),
    )


def read_version_4(answer: Any, drops: DropCounter) -> Iterator[StreamReport]:
    """``{data: {streams: [...]}}``; an entry that does not say which stream it is about is counted and left out.

    Raises ``UpstreamError`` (``bad_response``) where there is no list, or none of its entries says so: that must not
    pass for a server without streams.
    """
    data = Record.from_response(answer, drops).record("data")
    if data is None or not isinstance(data.raw.get("streams"), list):
        raise UpstreamError(Reason.BAD_RESPONSE, "no list of streams in the answer")
    read = 0
    for record in data.records("streams"):
        application, name = record.text("app"), record.text("name", unique=True)
        if application and name:
            read += 1
            yield _read_version_4(application, name, record)
        else:
            drops.drop("name")
    if data.raw["streams"] and not read:
        raise UpstreamError(Reason.BAD_RESPONSE, "no entry of the list says which stream it is about")


def _read_version_4(application: str, name: str, record: Record) -> StreamReport:
    publisher = record.record("publisher")
    recording = record.flag("recording")
    subscribers = record.count("subscribers")
    # a recording is a subscriber to the server, and no viewer
    recorders = None if recording is None else int(recording)
    status = _STATUSES.get(record.text("status"), Status.LIVE) if publisher else Status.IDLE
    live = status is Status.LIVE
    report = Report(
        id=sys.intern(f"{application}/{name}"),
        application=application,
        kind=KIND,
        status=status,
        live=live,
        viewers=None if subscribers is None else max(0, subscribers - (recorders or 0)),
        system_clients=recorders,
        recording=recording,
        **(_publish(publisher) if publisher else {}),
    )
    if not live:
        return report
    ingest, egress = record.number("inBps", low=0.0), record.number("outBps", low=0.0)
    if report.ingest_bytes is None:
        # the server's own figures start again at 0 whenever a viewer leaves: they only count beside the total
        return report
    return msgspec.structs.replace(
        report, ingest_bitrate_bytes_per_second=ingest, egress_bitrate_bytes_per_second=egress
    )


def _publish(publisher: Record) -> dict[str, Any]:
    """What version 4 says of a publisher; picture and codecs are what it announced, 0 or missing when it did not."""
    return {
        "protocol": publisher.word("protocol"),
        "session": publisher.text("id"),
        "start_timestamp_seconds": publisher.time_ms("createTime"),
        "ingest_bytes": publisher.total("inBytes"),
        "video_codec": video_codec(publisher.raw.get("videoCodec")),
        "audio_codec": audio_codec(publisher.raw.get("audioCodec")),
        "frames_per_second": publisher.number("videoFramerate", low=0.0) or None,
        **_picture(publisher.count("videoWidth"), publisher.count("videoHeight")),
    }


def _picture(width: int | None, height: int | None) -> dict[str, Any]:
    return {
        "width_pixels": width or None,
        "height_pixels": height or None,
        "resolution": sys.intern(f"{width}x{height}") if width and height else "",
    }
