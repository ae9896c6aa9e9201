"""The streams of node-media-server as reports: the list of version 2 and that of version 4.

Sources: node-media-server 2.7.4, ``src/api/controllers/streams.js``; 4.2.4 to 4.4.3, ``src/api/handlers/streams.js``.
Codecs: Adobe Flash Video File Format 10.1, E.4.2.1 and E.4.3.1; Enhanced RTMP 1 and 2 for the four-letter codes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from exporter.platforms.api import DropCounter, Reason, Record, Status, StreamReport, UpstreamError, slim_report

KIND = "stream"
UNREADABLE_ROW = ("stream", "name")
"""The field under which a row that does not tell which stream it is about is counted, in version 2 and 4."""
_STATUSES = {"publishing": Status.LIVE, "reconnecting": Status.CONNECTING, "idle": Status.IDLE}
"""Version 4.3 and later. ``reconnecting``: the publisher is gone; the server holds its place for 30 s."""
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
_VIDEO_NUMBERS = {2: "h263", 3: "screen", 4: "vp6", 5: "vp6a", 6: "screen2", 7: "h264", 12: "hevc"}
"""12 is not Adobe's, but many servers and encoders use it."""
_AUDIO_NUMBERS = {1: "adpcm", 2: "mp3", 3: "pcm", 5: "nellymoser", 6: "nellymoser", 7: "alaw", 8: "mulaw", 10: "aac",
                  11: "speex", 13: "opus", 14: "mp3"}  # fmt: skip
_FOUR_LETTERS = {"avc1": "h264", "hvc1": "hevc", "hev1": "hevc", "vvc1": "vvc", "av01": "av1", "vp08": "vp8",
                 "vp09": "vp9", "mp4a": "aac", ".mp3": "mp3", "flac": "flac", "opus": "opus", "ac-3": "ac3",
                 "ec-3": "eac3"}  # fmt: skip


# -- version 2 ---------------------------------------------------------------------------------------------------------


def parse_version_2(response: Any, drops: DropCounter) -> Iterator[StreamReport]:
    """Parse ``{application: {key: {publisher, subscribers}}}``; a row that is not an object is counted and left out."""
    for application, streams in _nested_objects(Record.from_response(response, drops), drops):
        for key, record in _nested_objects(streams, drops):
            yield _parse_stream_2(application, key, record)


def _nested_objects(record: Record, drops: DropCounter) -> Iterator[tuple[str, Record]]:
    for name, raw in record.raw.items():
        if isinstance(raw, dict):
            yield name, record.sibling(raw)
        else:
            # not under its own name, which is a stream's and may be a secret
            drops.drop("stream")


def _parse_stream_2(application: str, key: str, record: Record) -> StreamReport:
    publisher = record.record("publisher")
    subscribers = record.records("subscribers") if "subscribers" in record else None
    report = Report(
        id=sys.intern(f"{application}/{key}"),
        application=application,
        kind=KIND,
        status=Status.IDLE,
        live=False,
        viewers=None if subscribers is None else len(subscribers),
    )
    if publisher is None:
        return report
    video, audio = publisher.record("video"), publisher.record("audio")
    width = video.count("width") if video else None
    height = video.count("height") if video else None
    return msgspec.structs.replace(
        report,
        status=Status.LIVE,
        live=True,
        # everything is published to version 2 over RTMP, by its own relays too
        protocol="rtmp",
        session=publisher.text("clientId"),
        start_timestamp_seconds=publisher.time_iso("connectCreated"),
        ingest_bytes=publisher.total("bytes"),
        video_codec=video.word("codec") if video else "",
        audio_codec=audio.word("codec") if audio else "",
        frames_per_second=(video.number("fps", low=0.0) or None) if video else None,
        **_picture_fields(width, height),
    )


# -- version 4 ---------------------------------------------------------------------------------------------------------


def parse_version_4(response: Any, drops: DropCounter) -> Iterator[StreamReport]:
    """Parse ``{data: {streams: [...]}}``; a row that does not tell which stream it is about is counted and left out.

    Raises ``UpstreamError`` (``bad_response``) where there is no list, or no row tells which stream it is about: that
    must not pass for a server without streams.
    """
    data = Record.from_response(response, drops).record("data")
    if data is None or not isinstance(data.raw.get("streams"), list):
        raise UpstreamError(Reason.BAD_RESPONSE, "no list of streams in the answer")
    read = 0
    for record in data.records("streams"):
        application, name = record.text("app"), record.text("name", unique=True)
        if application and name:
            read += 1
            yield _parse_stream_4(application, name, record)
        else:
            drops.drop("name")
    if data.raw["streams"] and not read:
        raise UpstreamError(Reason.BAD_RESPONSE, "no entry of the list says which stream it is about")


def _parse_stream_4(application: str, name: str, record: Record) -> StreamReport:
    publisher = record.record("publisher")
    recording = record.flag("recording")
    subscribers = record.count("subscribers")
    # the server counts a recording as a subscriber, but it is no viewer
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
        **(_publisher_fields(publisher) if publisher else {}),
    )
    if not live:
        return report
    ingest, egress = record.number("inBps", low=0.0), record.number("outBps", low=0.0)
    if report.ingest_bytes is None:
        # the server's own figures restart at 0 whenever a viewer leaves: they only count beside the total
        return report
    return msgspec.structs.replace(
        report, ingest_bitrate_bytes_per_second=ingest, egress_bitrate_bytes_per_second=egress
    )


def _publisher_fields(publisher: Record) -> dict[str, Any]:
    """Return the fields about the publisher; picture and codecs are as announced, 0 or missing when they were not."""
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
    """Return ``h264`` for 7, ``avc1`` or the number that spells it; empty when none is announced."""
    return _codec(announced, _VIDEO_NUMBERS)


def audio_codec(announced: Any) -> str:
    """Return ``aac`` for 10, ``mp4a`` or the number that spells it; empty when none is announced."""
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
