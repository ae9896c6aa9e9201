"""Parse the sources in Icecast's statistics to reports.

Sources: Icecast 2.4 and 2.5, ``src/stats.c``, ``src/source.c``, ``src/admin.c`` and ``src/xml2json.c``; Icecast-KH,
``src/stats.c``, ``src/source.c`` and ``src/fserve.c``; a running 2.4.4; published responses of a 2.5.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from typing import Any

from exporter.platforms.api import (
    BITS_PER_SECOND,
    DropCounter,
    Reason,
    Record,
    ServerFacts,
    Status,
    StreamReport,
    UpstreamError,
    slim_report,
)
from exporter.platforms.icecast.media_facts import AudioFacts, codecs, frame_size, text

PROTOCOL = "icecast"
FEEDS = frozenset(
    {
        "protocol", "video_codec", "audio_codec", "resolution", "status", "live", "start_timestamp_seconds",
        "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second", "nominal_bitrate_bytes_per_second",
        "ingest_bytes", "egress_bytes", "viewers", "viewers_peak", "slow_viewers", "fallback_active",
        "frames_per_second", "width_pixels", "height_pixels", "audio_sample_rate_hertz", "audio_channels",
    }
)  # fmt: skip
"""Fields of ``StreamReport`` that the platform can fill."""
Report = slim_report(FEEDS)
ROOT = "icestats"
_SERVER_FIELDS = ("server_id", "server_start", "server_start_iso8601", "host", "location", "admin")
"""Fields of every Icecast; a document without them and without sources is not Icecast's."""
_NAME = "Icecast "
"""Start of ``server_id``; the version follows."""
_STARTED = ("stream_start_iso8601", "stream_start", "connected", "content-type")
"""Fields that a mount has only while a source feeds it. ``connected``: Icecast-KH. ``content-type``: 2.5."""
_OF_A_SOURCE = ("server_type", "server_name", "source_ip", "user_agent", "public", "max_listeners")
"""Fields of a mount that an encoder or a relay feeds; a file that the server plays as a fallback has none of them."""
_OF_AN_ENCODER = ("server_type", "server_name", "source_ip", "user_agent")
"""Fields that a mount has from a source's login on."""
_OF_A_RELAY = ("listener_peak", "public", "on_demand")
"""Further fields of a mount for which the server holds a source, such as a relay that waits for a listener."""
_FILE_PREFIXES = ("fallback-", "file-")
_CLF_TIME = re.compile(r"([0-9]{2})/([A-Za-z]{3})/([0-9]{4}):([0-9:]{8}) ([-+][0-9]{4})")
"""Icecast-KH's format of times."""


class Statistics:
    """One response: Icecast's XML, the JSON of ``status-json.xsl``, or the JSON of 2.5's ``publicstats``."""

    def __init__(self, document: Record, drops: DropCounter) -> None:
        """Raises ``UpstreamError`` (``bad_response``) if the document is not one of these."""
        self._drops = drops
        items = document.raw.get("items")
        self._is_keyed = isinstance(items, list)
        """Whether the sources are an object by mount, as in the JSON of ``publicstats``."""
        if isinstance(items, list):
            found = next((item for item in items if isinstance(item, dict) and _is_icecast(item)), None)
            if found is None:
                raise _not_icecast()
            self._root = Record(found, drops)
        else:
            self._root = document.required_record(ROOT)
            if not _is_icecast(self._root.raw):
                raise _not_icecast()

    @property
    def server(self) -> ServerFacts:
        """The version; unknown if the server's configuration (``server-id``) hides it."""
        server_id = text(self._root, "server_id")
        return ServerFacts(version=server_id.removeprefix(_NAME) if server_id.startswith(_NAME) else "")

    def rows(self) -> Iterator[tuple[str, Record | None]]:
        """Yield mount and source; the mount is empty and the source is None if they are unreadable.

        One source is an object, several are a list, and without sources the field is missing.
        """
        if "source" not in self._root.raw:
            return
        found = self._root.raw["source"]
        if self._is_keyed:
            for mount, item in found.items() if isinstance(found, dict) else [("", None)]:
                yield mount, self._record(item)
            return
        for item in found if isinstance(found, list) else [found]:
            row = self._record(item)
            yield ("", None) if row is None else (_mount(row), row)

    def _record(self, item: Any) -> Record | None:
        return Record(item, self._drops, "source.", is_text=self._root.is_text) if isinstance(item, dict) else None


def _is_icecast(root: dict[str, Any]) -> bool:
    return any(root.get(name) is not None for name in ("source", *_SERVER_FIELDS))


def _not_icecast() -> UpstreamError:
    return UpstreamError(Reason.BAD_RESPONSE, "the response does not contain Icecast's statistics")


def _mount(row: Record) -> str:
    """Return the mount: an attribute in XML; in ``status-json.xsl``, only the path of ``listenurl``."""
    if row.is_text:
        return row.text("@mount", unique=True)
    return mount_of_url(row.text("listenurl", unique=True))


def mount_of_url(url: str) -> str:
    """Return the mount in a ``listenurl``, which the server does not escape; empty if there is none."""
    _, found, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"/{path}" if found and host and slash else ""


def is_file(mount: str, row: Record) -> bool:
    """Return whether a mount is a file that the server plays, and so no stream.

    Icecast-KH lists files as ``fallback-/…`` and ``file-/…``. Icecast 2.4 gives a fallback file a mount of its own,
    with a start time, but never counts bytes for it.
    """
    if mount.startswith(_FILE_PREFIXES):
        return True
    return row.raw.get("total_bytes_read") in ("0", 0) and not _has_any(row, _OF_A_SOURCE)


def parse_source(mount: str, row: Record, *, with_fallback: Set[str], is_public: bool) -> StreamReport:
    """Return the report of one mount.

    ``with_fallback``: mounts that are known to have a fallback. ``is_public``: whether this is a response of
    ``publicstats``, which leaves out most fields.
    """
    if is_public and "listenurl" in row and mount_of_url(text(row, "listenurl")) != mount:
        # 2.5's JSON may repeat the first source under every mount (render_node_legacystats in src/xml2json.c)
        return Report(id=mount, protocol=PROTOCOL)
    if not _has_any(row, _STARTED):
        return _parse_without_source(mount, row, is_public=is_public)
    video, audio = codecs(row)
    facts, size = AudioFacts(row), frame_size(row)
    return Report(
        id=mount,
        protocol=PROTOCOL,
        status=Status.LIVE,
        live=True,
        start_timestamp_seconds=_start(row),
        video_codec=video,
        audio_codec=audio,
        resolution=f"{size[0]}x{size[1]}" if size else "",
        width_pixels=size[0] if size else None,
        height_pixels=size[1] if size else None,
        frames_per_second=row.number("frame_rate", low=0.0) or None,
        audio_channels=facts.channels,
        audio_sample_rate_hertz=facts.sample_rate_hertz,
        nominal_bitrate_bytes_per_second=facts.bitrate,
        ingest_bytes=row.total("total_bytes_read"),
        ingest_bitrate_bytes_per_second=row.total("incoming_bitrate", BITS_PER_SECOND),
        egress_bytes=row.total("total_bytes_sent"),
        viewers=row.count("listeners"),
        viewers_peak=row.count("listener_peak"),
        slow_viewers=row.total("slow_listeners"),
        fallback_active=False if mount in with_fallback else None,
        health_unreadable=row.has_unreadable("total_bytes_read", "incoming_bitrate", "frame_rate"),
    )


def _parse_without_source(mount: str, row: Record, *, is_public: bool) -> StreamReport:
    """Return the report of a mount that no source feeds.

    The server lists such a mount for one of three reasons: a source is logging in; a relay waits for a listener (on
    demand); or the mount is only configured and has a fallback that is running, to which its listeners were moved.
    """
    if _has_any(row, _OF_AN_ENCODER):
        status = Status.CONNECTING
    elif _has_any(row, ("listeners",)):
        status = Status.IDLE
    else:
        return Report(id=mount, protocol=PROTOCOL)
    is_configured_only = not _has_any(row, (*_OF_AN_ENCODER, *_OF_A_RELAY))
    return Report(
        id=mount,
        protocol=PROTOCOL,
        status=status,
        live=False,
        # a total that rises contradicts the state
        ingest_bytes=row.total("total_bytes_read"),
        viewers_peak=row.count("listener_peak"),
        # publicstats leaves out the fields that tell a relay from a mount that is only configured
        fallback_active=True if is_configured_only and not is_public else None,
    )


def _has_any(row: Record, names: Iterable[str]) -> bool:
    return any(row.raw.get(name) not in (None, "") for name in names)


def _start(row: Record) -> float | None:
    """Return the time at which the source connected, in unix seconds on the server's clock."""
    start = row.time_iso("stream_start_iso8601")
    if start is not None:
        return start
    match = _CLF_TIME.fullmatch(text(row, "stream_start"))
    if match:
        day, month, year, time, offset = match.groups()
        row = row.sibling({"stream_start": f"{day} {month} {year} {time} {offset}"})
    return row.time_http("stream_start")


def mounts_with_fallback(document: Record) -> frozenset[str]:
    """Return the running mounts that have a fallback, from ``/admin/listmounts``; it is empty without sources."""
    root = document.record(ROOT)
    rows = root.records("source") if root else []
    return frozenset(row.text("@mount", unique=True) for row in rows if row.text("fallback"))
