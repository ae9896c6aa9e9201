"""Livepeer Studio's API (https://livepeer.studio/api) over the fleet: streams, sessions, viewership, health.

Its oddities are those of Studio's published code: statistics reach the answers every 50 s, ``ingestRate`` keeps its
last value through a stall, a session list is default-filled with flags that mean nothing there, and a 401 quotes the
key.
"""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from exporter.simulator.configuration import TOKEN
from exporter.simulator.context import Context
from exporter.simulator.livepeer_health import health_record
from exporter.simulator.livepeer_listing import Listing
from exporter.simulator.livepeer_records import Broadcast, broadcast_of, lasting_record, session_record, stream_record
from exporter.simulator.serving import json_answer, platform_app, whole_number
from exporter.simulator.streams import Platform, Stream

DEFAULT_LIMIT, LARGEST_LIMIT = 20, 1000
_CURSOR = "skip"
_TRUE = ("1", "true")


def error(status: int, message: str) -> web.Response:
    """``{"errors": [text]}``, the shape of all of Studio's errors."""
    return json_answer({"errors": [message]}, status=status)


def livepeer_app(world: Context) -> web.Application:
    """What stands below ``/api``."""
    api = _Livepeer(world)
    app = platform_app(world, Platform.LIVEPEER, error=error, guard=_guard)
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


def _guard(request: web.Request) -> web.Response | None:
    header = request.headers.get("Authorization", "")
    kind, _, key = header.partition(" ")
    if not header:
        return error(401, "not authenticated")
    if kind.lower() != "bearer":
        return error(401, f"unsupported authorization header {header}")
    return None if key == TOKEN else error(401, f"no token {key} found")


class _Livepeer:
    def __init__(self, world: Context) -> None:
        self._world = world
        self._fleet = world.fleet
        self._listing = Listing(world.fleet)
        self._lasting: dict[int, dict[str, Any]] = {}

    def _broadcast(self, stream: Stream) -> Broadcast:
        return broadcast_of(self._fleet, stream, self._world.now())

    def _named(self, request: web.Request) -> Stream:
        stream = self._fleet.by_id(Platform.LIVEPEER, request.match_info["id"])
        if stream is None:
            raise web.HTTPNotFound(reason="not found")
        return stream

    async def streams(self, request: web.Request) -> web.Response:
        """``GET /stream``: newest sign of life first, a page at a time, the next one announced by a Link header."""
        now = self._world.now()
        listed = self._listing.at(now, only_active=request.query.get("active") in _TRUE)
        limit, skip = _page(request)
        page = listed[skip : skip + limit]
        headers = {}
        if len(page) == limit:
            following = request.url.update_query(cursor=f"{_CURSOR}{skip + limit}")
            headers["Link"] = f'<{following}>; rel="next"'
        if request.query.get("count") in _TRUE:
            headers["X-Total-Count"] = str(len(listed))
        records = [self._record(broadcast_of(self._fleet, row.stream, now)) for row in page]
        return json_answer(records, headers=headers)

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /stream/{id}``."""
        return json_answer(self._record(self._broadcast(self._named(request))))

    def _record(self, broadcast: Broadcast) -> dict[str, Any]:
        index = broadcast.stream.index
        lasting = self._lasting.get(index)
        if lasting is None:
            lasting = self._lasting[index] = lasting_record(broadcast)
        return stream_record(broadcast, lasting)

    async def sessions(self, request: web.Request) -> web.Response:
        """``GET /stream/{parentId}/sessions``: newest first, no Link header, hidden until its first statistics."""
        stream, now = self._named(request), self._world.now()
        found = (Broadcast(self._fleet, stream, past, now) for past in self._fleet.past_publishes(stream, now))
        record = request.query.get("record")
        records = [session_record(broadcast) for broadcast in found if broadcast.statistics.media_seconds]
        if record in ("0", "1", "false", "true"):
            records = [session for session in records if session["record"] is (record in _TRUE)]
        limit, skip = _page(request)
        # The list's own defaults, which say nothing about a session.
        filled = [
            {**session, "isActive": False, "suspended": False, "lastTerminatedAt": None}
            for session in records[skip : skip + limit]
        ]
        return json_answer(filled)

    async def session(self, request: web.Request) -> web.Response:
        """``GET /session/{id}``."""
        now = self._world.now()
        stream = self._stream_of_session(request.match_info["id"])
        for past in self._fleet.past_publishes(stream, now) if stream else ():
            broadcast = Broadcast(self._fleet, past.course.stream, past, now)
            if broadcast.session_id == request.match_info["id"]:
                return json_answer(session_record(broadcast))
        return error(404, "Session not found")

    def _stream_of_session(self, text: str) -> Stream | None:
        """A session's id carries its stream's place in the fleet, so that no table of sessions is needed."""
        try:
            index = Broadcast.index_in(uuid.UUID(text))
        except ValueError:
            return None
        if index >= self._fleet.size:
            return None
        stream = self._fleet.by_index(index)
        return stream if stream.platform is Platform.LIVEPEER else None

    async def views_now(self, request: web.Request) -> web.Response:
        """``GET /data/views/now``: a row for each group that has viewers; ungrouped always exactly one."""
        query = request.query
        if query.keys() & {"from", "to", "timeStep"}:
            return error(400, "from, to and timeStep are not supported on realtime viewership")
        groups = query.getall("breakdownBy[]", [])
        if set(groups) - {"playbackId"}:
            return error(400, "unsupported breakdownBy")
        watched = self._watched(query.get("playbackId"), query.get("streamId"))
        if not groups and "playbackId" not in query and "streamId" not in query:
            return json_answer([{"viewCount": sum(count for _, count in watched), "errorRate": 0}])
        rows: list[dict[str, Any]] = [
            {
                **({"playbackId": stream.playback_id} if groups else {}),
                "viewCount": count,
                "errorRate": round(stream.index % 4 / 100, 2),
            }
            for stream, count in watched
        ]
        return json_answer(rows[:LARGEST_LIMIT])

    def _watched(self, playback_id: str | None, stream_id: str | None) -> list[tuple[Stream, int]]:
        now = self._world.now()
        return [
            (stream, viewers)
            for stream, publish in self._fleet.live_streams(Platform.LIVEPEER, now)
            if playback_id in (None, stream.playback_id)
            and stream_id in (None, stream.id)
            and (viewers := publish.viewers(now))
        ]

    async def health(self, request: web.Request) -> web.Response:
        """``GET /data/stream/{id}/health``: 404 while there are no events."""
        record = health_record(self._broadcast(self._named(request)))
        return error(404, "no events found for stream") if record is None else json_answer(record)


def _page(request: web.Request) -> tuple[int, int]:
    """Limit and offset; the cursor is an offset in disguise."""
    limit = whole_number(request.query.get("limit"), DEFAULT_LIMIT, 1, LARGEST_LIMIT)
    cursor = request.query.get("cursor", "")
    return limit, whole_number(cursor.removeprefix(_CURSOR), 0, 0, 2**53)
