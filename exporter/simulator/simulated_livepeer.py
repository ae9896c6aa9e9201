"""Simulated Livepeer Studio API (https://livepeer.studio/api): streams, sessions, viewership and health.

It reproduces the quirks of Studio's published code: statistics are flushed every 50 s, ``ingestRate`` keeps its last
value during a stall, session lists contain default flags without meaning, and a 401 quotes the key.
"""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import Any, NamedTuple

from aiohttp import web

from exporter.simulator.context import TOKEN, Context
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.incremental_list import IncrementalList
from exporter.simulator.platform_app import bounded_int, json_response, platform_app
from exporter.simulator.simulated_livepeer_records import (
    Broadcast,
    health_record,
    latest_broadcast,
    session_record,
    static_fields,
    stream_record,
)
from exporter.simulator.simulated_streams import Platform, Stream

DEFAULT_LIMIT, LARGEST_LIMIT = 20, 1000
_CURSOR = "skip"
_TRUE = ("1", "true")


def error(status: int, message: str) -> web.Response:
    """Return ``{"errors": [text]}``, Studio's error format."""
    return json_response({"errors": [message]}, status=status)


def livepeer_app(context: Context) -> web.Application:
    """Make the application for ``/api``."""
    api = _LivepeerApi(context)
    app = platform_app(context, Platform.LIVEPEER, error=error, check_credentials=_check_credentials)
    app.add_routes(
        [
            web.get("/stream", api.streams),
            web.get("/stream/{id}", api.stream),
            web.get("/stream/{id}/sessions", api.sessions),
            web.get("/session/{id}", api.session),
            web.get("/data/views/now", api.views_now),
            web.get("/data/stream/{id}/health", api.health),
        ]
    )
    return app


def _check_credentials(request: web.Request) -> web.Response | None:
    header = request.headers.get("Authorization", "")
    kind, _, key = header.partition(" ")
    if not header:
        return error(401, "not authenticated")
    if kind.lower() != "bearer":
        return error(401, f"unsupported authorization header {header}")
    return None if key == TOKEN else error(401, f"no token {key} found")


class _LivepeerApi:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._fleet = context.fleet
        self._stream_list = StreamList(context.fleet)
        self._static_fields: dict[int, dict[str, Any]] = {}

    def _broadcast(self, stream: Stream) -> Broadcast:
        return latest_broadcast(self._fleet, stream, self._context.now())

    def _requested_stream(self, request: web.Request) -> Stream:
        stream = self._fleet.by_id(Platform.LIVEPEER, request.match_info["id"])
        if stream is None:
            raise web.HTTPNotFound(reason="not found")
        return stream

    async def streams(self, request: web.Request) -> web.Response:
        """``GET /stream``: a page of streams, most recently seen first, with a Link header to the next page."""
        now = self._context.now()
        rows = self._stream_list.rows_at(now, only_active=request.query.get("active") in _TRUE)
        limit, skip = _parse_page(request)
        page = rows[skip : skip + limit]
        headers = {}
        is_doubtful = self._fleet.faults.upstream_fault(Platform.LIVEPEER, now) is FaultKind.DOUBTFUL_LIST
        if len(page) == limit or is_doubtful:
            next_page = request.url.update_query(cursor=f"{_CURSOR}{skip + limit}")
            headers["Link"] = f'<{next_page}>; rel="next"'
        if request.query.get("count") in _TRUE:
            headers["X-Total-Count"] = str(len(rows))
        records = [self._record(latest_broadcast(self._fleet, row.stream, now)) for row in page]
        return json_response(records, headers=headers)

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /stream/{id}``."""
        return json_response(self._record(self._broadcast(self._requested_stream(request))))

    def _record(self, broadcast: Broadcast) -> dict[str, Any]:
        index = broadcast.stream.index
        fields = self._static_fields.get(index)
        if fields is None:
            fields = self._static_fields[index] = static_fields(broadcast)
        return stream_record(broadcast, fields)

    async def sessions(self, request: web.Request) -> web.Response:
        """``GET /stream/{parentId}/sessions``: newest first, without Link header or sessions without statistics."""
        stream, now = self._requested_stream(request), self._context.now()
        broadcasts = (Broadcast(self._fleet, stream, past, now) for past in self._fleet.past_ingests(stream, now))
        record = request.query.get("record")
        records = [session_record(broadcast) for broadcast in broadcasts if broadcast.statistics.media_seconds]
        if record in ("0", "1", "false", "true"):
            records = [session for session in records if session["record"] is (record in _TRUE)]
        limit, skip = _parse_page(request)
        # The real list adds these defaults to every session, whatever its state.
        filled = [
            {**session, "isActive": False, "suspended": False, "lastTerminatedAt": None}
            for session in records[skip : skip + limit]
        ]
        return json_response(filled)

    async def session(self, request: web.Request) -> web.Response:
        """``GET /session/{id}``."""
        now = self._context.now()
        stream = self._stream_of_session(request.match_info["id"])
        for past in self._fleet.past_ingests(stream, now) if stream else ():
            broadcast = Broadcast(self._fleet, past.course.stream, past, now)
            if broadcast.session_id == request.match_info["id"]:
                return json_response(session_record(broadcast))
        return error(404, "Session not found")

    def _stream_of_session(self, text: str) -> Stream | None:
        """Find a session's stream by the fleet index in its id, so that no table of sessions is needed."""
        try:
            index = Broadcast.stream_index_of(uuid.UUID(text))
        except ValueError:
            return None
        if index >= self._fleet.size:
            return None
        stream = self._fleet.by_index(index)
        return stream if stream.platform is Platform.LIVEPEER else None

    async def views_now(self, request: web.Request) -> web.Response:
        """``GET /data/views/now``: a row for each group with viewers, or exactly one row without grouping."""
        query = request.query
        if query.keys() & {"from", "to", "timeStep"}:
            return error(400, "from, to and timeStep are not supported on realtime viewership")
        groups = query.getall("breakdownBy[]", [])
        if set(groups) - {"playbackId"}:
            return error(400, "unsupported breakdownBy")
        viewer_counts = self._viewer_counts(query.get("playbackId"), query.get("streamId"))
        if not groups and "playbackId" not in query and "streamId" not in query:
            return json_response([{"viewCount": sum(count for _, count in viewer_counts), "errorRate": 0}])
        rows: list[dict[str, Any]] = [
            {
                **({"playbackId": stream.playback_id} if groups else {}),
                "viewCount": count,
                "errorRate": round(stream.index % 4 / 100, 2),
            }
            for stream, count in viewer_counts
        ]
        return json_response(rows[:LARGEST_LIMIT])

    def _viewer_counts(self, playback_id: str | None, stream_id: str | None) -> list[tuple[Stream, int]]:
        now = self._context.now()
        return [
            (stream, viewers)
            for stream, ingest in self._fleet.live_streams(Platform.LIVEPEER, now)
            if playback_id in (None, stream.playback_id)
            and stream_id in (None, stream.id)
            and (viewers := ingest.viewers(now))
        ]

    async def health(self, request: web.Request) -> web.Response:
        """``GET /data/stream/{id}/health``: 404 if there are no events."""
        record = health_record(self._broadcast(self._requested_stream(request)))
        return error(404, "no events found for stream") if record is None else json_response(record)


def _parse_page(request: web.Request) -> tuple[int, int]:
    """Return limit and offset; the cursor contains an offset."""
    limit = bounded_int(request.query.get("limit"), DEFAULT_LIMIT, 1, LARGEST_LIMIT)
    cursor = request.query.get("cursor", "")
    return limit, bounded_int(cursor.removeprefix(_CURSOR), 0, 0, 2**53)


class Row(NamedTuple):
    """A stream in the list; rows sort in the order of the list."""

    age: int
    """Smaller if the stream was seen more recently."""
    number: int
    """Index of the stream, so that no two rows are equal."""
    active: bool
    stream: Stream


class StreamList:
    """The ordered list of streams; only rows that changed are evaluated and sorted again."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._rows: list[Row] = []
        self._active: list[Row] = []

    @cached_property
    def entries(self) -> IncrementalList[Row]:
        """The row of every stream."""
        return IncrementalList(self._fleet.streams(Platform.LIVEPEER), self._fleet.faults, self._row)

    def rows_at(self, now: float, *, only_active: bool) -> list[Row]:
        """Return all rows, or only those of streams that the platform considers active."""
        places = self.entries.refresh(now)
        if places:
            moved = {self.entries.values[place].number for place in places}
            rows = [row for row in self._rows if row.number not in moved]
            rows += [self.entries.values[place] for place in places]
            # This is fast, because most of the list is sorted already.
            rows.sort()
            self._rows = rows
            self._active = [row for row in rows if row.active]
        return self._active if only_active else self._rows

    def _row(self, stream: Stream, now: float) -> tuple[Row, float]:
        broadcast = latest_broadcast(self._fleet, stream, now)
        return Row(-broadcast.last_seen, stream.index, broadcast.active, stream), broadcast.unchanged_until
