"""Read the streams of the statistics page, which is XML or one of three trees of JSON.

Sources: ``ngx_rtmp_stat_module.c`` of arut/nginx-rtmp-module from 2012 to 1.2.2, sergey-dryabzhinsky/nginx-rtmp-module
1.1.7.11 and winshining/nginx-http-flv-module 1.2.3 to 1.2.11; ``ngx_rtmp_relay_module.c`` and
``ngx_rtmp_auto_push_module.c`` for the marks of relays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from exporter.platforms.api import (
    MILLISECONDS,
    Reason,
    Record,
    Status,
    StreamReport,
    UpstreamError,
    application_stream_id,
    slim_report,
)

FEEDS = frozenset(
    {
        "application", "protocol", "session", "video_codec", "audio_codec", "resolution",
        "status", "live", "start_timestamp_seconds",
        "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second", "ingest_bytes", "egress_bytes",
        "viewers", "viewers_partial", "system_clients", "ingest_lag_seconds",
        "frames_per_second", "width_pixels", "height_pixels", "audio_sample_rate_hertz", "audio_channels", "recording",
    }
)  # fmt: skip
"""Fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)
StartTime = Callable[[str, float | None], float | None]
"""Returns the start time of a session from its key and its age in seconds."""

_ROOTS = ("rtmp", "http-flv")
_RELAY = "ngx-local-relay"
"""``flashver`` of the connections that a server makes itself, to push a stream to another server or process."""
_AUTO_PUSH_PAGE, _AUTO_PUSH_FLASHVER = "nginx-auto-push", "APSH "
"""Marks of a connection over which another worker process of the same server pushes a stream (``rtmp_auto_push``)."""
_UNIX_SOCKET = "unix:"
"""Start of the address of a connection between worker processes."""
_CLOCK_PERIOD = 2**32
"""RTMP timestamps are 32-bit milliseconds; the statistics page shows them as signed numbers."""
_AHEAD_SECONDS = 5.0
"""If the media clock is further ahead of the connection's age, it did not start with the connection."""
_STATUSES = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}
_VIDEO_CODECS = {"sorenson-h263": "h263", "screenvideo": "screen", "screenvideo2": "screen2", "on2-vp6": "vp6",
                 "on2-vp6-alpha": "vp6a", "h265": "hevc"}  # fmt: skip
_AUDIO_CODECS = {"linearle": "pcm", "uncompressed": "pcm", "g711a": "alaw", "g711u": "mulaw", "mp3-8k": "mp3",
                 "nellymoser8": "nellymoser", "nellymoser16": "nellymoser"}  # fmt: skip


class StatRow(msgspec.Struct, frozen=True):
    """A stream of one application."""

    application: str
    row: Record


def root_of(document: Record) -> Record:
    """Return the root of a statistics page. Raises ``UpstreamError`` (``bad_response``) if the document is another."""
    for name in _ROOTS:
        root = document.record(name)
        if root is not None and ("server" in root or "servers" in root):
            return root
    raise UpstreamError(Reason.BAD_RESPONSE, "not a statistics page of nginx-rtmp; check stat_path")


def stream_rows(root: Record) -> Iterator[StatRow | None]:
    """Yield the rows of all live applications; None for one that is unreadable."""
    for application in _applications(root):
        if application is None:
            yield None
            continue
        live = application.record("live")
        if live is None:
            # other applications have no such field
            if application.has_unreadable("live"):
                yield None
            continue
        name = application.text("name")
        if not live.is_text and "streams" not in live:
            yield None
        for row in _objects(live, "stream", "streams"):
            yield None if row is None else StatRow(name, row)


def count_file_players(root: Record) -> int:
    """Return the number of players of recorded files."""
    players = (application.record("play") for application in _applications(root) if application is not None)
    return sum(play.count("nclients") or 0 for play in players if play is not None)


def _applications(root: Record) -> Iterator[Record | None]:
    """Yield the applications of all servers; None for one that is unreadable.

    JSON has a list of lists of applications (1.2.3), a list of applications (1.2.4), or a list of servers with
    ``applications`` (1.2.11).
    """
    if "servers" not in root:
        for server in _objects(root, "server"):
            # a server without applications is an empty element
            if server is not None:
                yield from _objects(server, "application")
        return
    for item in root.items("servers"):
        applications = item.get("applications", [item]) if isinstance(item, dict) else item
        for application in applications if isinstance(applications, list) else [None]:
            yield root.sibling(application) if isinstance(application, dict) else None


def _objects(record: Record, *names: str) -> Iterator[Record | None]:
    """Yield the objects of the list with one of these names; None for each item that is not an object."""
    for name in names:
        if name in record:
            value = record.raw[name]
            readable = iter(record.records(name))
            for item in value if isinstance(value, list) else [value]:
                yield next(readable, None) if isinstance(item, dict) else None


# -- one stream --------------------------------------------------------------------------------------------------------


def read_stream(stat: StatRow, start_time: StartTime) -> StreamReport | None:
    """Return the report of one row; None if it does not identify its stream.

    A stream is live if it or one of its clients has the mark ``publishing``. The server's own rates (``bw_in``) are not
    used: they are 0 for the first 10 s of a stream, and keep the last rate for up to 22 s after the data stopped.
    """
    row = stat.row
    name = row.text("name", unique=True)
    if not stat.application or not name:
        return None
    stream_id = application_stream_id(stat.application, name)
    found = list(_objects(row, "client", "clients"))
    clients = [client for client in found if client is not None]
    publishers = [client for client in clients if _is_marked(client, "publishing")]
    publisher = min(publishers, key=_publisher_rank, default=None)
    live = _is_live(row, publishers, is_complete=len(clients) == len(found))
    age, session = None, ""
    if publisher is not None and not _is_auto_push(publisher):
        number = publisher.count("id")
        age, session = _age(publisher), "" if number is None else str(number)
    return Report(
        id=stream_id,
        application=stat.application,
        protocol="rtmp",
        session=session,
        status=_STATUSES[live],
        live=live,
        start_timestamp_seconds=start_time(f"{stream_id} {session}", age),
        ingest_bytes=_total(row, "bytes_in", "in"),
        egress_bytes=_total(row, "bytes_out", "out"),
        ingest_lag_seconds=None if publisher is None or age is None else _ingest_lag(publisher, age),
        recording=_is_recorded(row),
        **_audience(row, clients, is_complete=len(clients) == len(found)),
        **_media(row),
        health_unreadable=row.has_unreadable("bytes_in", "in", "meta.video.frame_rate", "meta.framerate"),
    )


def _is_live(row: Record, publishers: list[Record], *, is_complete: bool) -> bool | None:
    """Return whether somebody publishes; None if a mark is unreadable. ``is_complete``: all clients are readable."""
    if publishers or _is_marked(row, "publishing"):
        return True
    return False if is_complete and not row.has_unreadable("publishing", "clients.publishing") else None


def _is_marked(record: Record, name: str) -> bool:
    """Return whether a mark is set: an empty element in XML, true in JSON."""
    if record.is_text and record.raw.get(name) == "":
        return True
    return record.flag(name) is True


def _publisher_rank(client: Record) -> tuple[bool, bool, float]:
    """Prefer a publisher that sends media, then one that is no relay, then the oldest."""
    return not _is_marked(client, "active"), _is_relay(client), -(_age(client) or 0.0)


def _age(client: Record) -> float | None:
    return client.number("time", unit=MILLISECONDS, low=0.0)


def _is_relay(client: Record) -> bool:
    """Return whether a connection belongs to a server, which pushes or pulls the stream."""
    return client.text("flashver") == _RELAY or _is_auto_push(client)


def _is_auto_push(client: Record) -> bool:
    """Return whether a connection leads to another worker process of the same server."""
    if client.text("pageurl") == _AUTO_PUSH_PAGE or client.text("flashver").startswith(_AUTO_PUSH_FLASHVER):
        return True
    return client.text("flashver") == _RELAY and client.text("address").startswith(_UNIX_SOCKET)


def _audience(row: Record, clients: list[Record], *, is_complete: bool) -> dict[str, Any]:
    """Return the fields about viewers; nothing if the page does not list the clients, or one is unreadable."""
    if not is_complete or (not clients and row.count("nclients") != 0):
        return {}
    others = [client for client in clients if not _is_marked(client, "publishing")]
    system = sum(_is_relay(client) or _is_marked(client, "recording") for client in others)
    is_shared = any(_is_auto_push(client) for client in clients)
    return {
        "viewers": len(others) - system,
        "system_clients": system,
        "viewers_partial": True if is_shared else None,
    }


def _ingest_lag(publisher: Record, age: float) -> float | None:
    """Return the publisher's age minus its media clock, in seconds; None if the clock started before the connection."""
    timestamp = publisher.number("timestamp", low=-_CLOCK_PERIOD / 2, high=_CLOCK_PERIOD)
    if timestamp is None:
        return None
    half = _CLOCK_PERIOD / 2
    lag = ((age / MILLISECONDS - timestamp + half) % _CLOCK_PERIOD - half) * MILLISECONDS
    return lag if lag >= -_AHEAD_SECONDS else None


def _total(row: Record, name: str, old_name: str) -> float | None:
    return row.total(name if name in row else old_name)


def _is_recorded(row: Record) -> bool | None:
    """Return whether the stream is being recorded; None if the page does not tell (``rtmp_stat record``)."""
    if _is_marked(row, "recording"):
        return True
    if "records" not in row:
        return None
    records = row.record("records") if row.is_text else row
    found = [] if records is None else _objects(records, "record" if row.is_text else "records")
    return any(_is_marked(record, "recording") for record in found if record is not None)


def _media(row: Record) -> dict[str, Any]:
    """Return the fields about codecs and picture, which the encoder declares."""
    meta = row.record("meta")
    if meta is None:
        return {}
    if isinstance(meta.raw.get("video"), dict) or isinstance(meta.raw.get("audio"), dict):
        video, audio = meta.record("video"), meta.record("audio")
        video_codec, audio_codec = (part.word("codec") if part else "" for part in (video, audio))
        frame_rate = video.number("frame_rate", low=0.0) if video else None
    else:
        # versions until 2013
        video, audio = meta, None
        video_codec, audio_codec = meta.word("video"), meta.word("audio")
        frame_rate = meta.number("framerate", low=0.0)
    width = video.count("width") if video else None
    height = video.count("height") if video else None
    return {
        "video_codec": _VIDEO_CODECS.get(video_codec, video_codec),
        "audio_codec": _AUDIO_CODECS.get(audio_codec, audio_codec),
        "resolution": f"{width}x{height}" if width and height else "",
        # 0 means that the encoder does not declare it
        "width_pixels": width or None,
        "height_pixels": height or None,
        "frames_per_second": frame_rate or None,
        "audio_sample_rate_hertz": (audio.number("sample_rate", low=0.0) if audio else None) or None,
        "audio_channels": (audio.count("channels") if audio else None) or None,
    }
