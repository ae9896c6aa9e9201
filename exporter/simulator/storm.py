"""Storm Streaming Server's API (3.x) over the fleet: login, single streams, batches, pages, and substream metadata.

Two answers differ between real servers and can be chosen: ``GET /streams``, which the documents do not show, and
``GET /cluster/streams``, which only a cluster manager has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from aiohttp import web

from exporter.simulator.conditions import LEVELS
from exporter.simulator.configuration import API_KEY, PASSWORD, TOKEN, USERNAME
from exporter.simulator.context import Context
from exporter.simulator.prng import Purpose, roll
from exporter.simulator.serving import json_answer, json_body, platform_app, whole_number
from exporter.simulator.streams import Platform, Stream
from exporter.simulator.totals import Publish

TOKEN_SECONDS = 900.0
LOGINS_PER_MINUTE = 5
DEFAULT_ROWS, LARGEST_ROWS = 10, 1000
NO_DATA_SECONDS = 10.0
"""A new publish has nothing to score for so long."""
_LARGEST_PAGE = 10**9
_SUBSTREAMS = {"native": 0, "720p": 720, "480p": 480}
_AUDIO_KILOBITS = 128
_NOT_FOUND = "Stream not found"


def error(status: int, message: str) -> web.Response:
    """``{"message": text}``."""
    return json_answer({"message": message}, status=status)


def storm_app(world: Context) -> web.Application:
    """What stands below ``/api``."""
    logins = _Logins(world)
    api = _Storm(world)
    app = platform_app(world, Platform.STORM, error=error, guard=logins.guard)
    app.add_routes(
        [
            web.post("/auth/login", logins.login),
            web.post("/streams/batch", api.batch),
            web.get("/streams/{application}/{key}", api.stream),
            web.get("/streams/{application}/{key}/{substream}/metadata", api.metadata),
        ]
    )
    if world.options.storm_list:
        app.router.add_get("/streams", api.streams)
    if world.options.storm_cluster:
        app.router.add_get("/cluster/streams", api.cluster_streams)
    return app


class _Logins:
    """Who may ask: a token of the login, a token that never ends, or the API key."""

    def __init__(self, world: Context) -> None:
        self._world = world
        self._ends: dict[str, float] = {}
        self._attempts: dict[str, deque[float]] = {}

    def guard(self, request: web.Request) -> web.Response | None:
        """Everything but the login asks for a credential."""
        if request.match_info.handler == self.login or request.headers.get("X-Api-Key") == API_KEY:
            return None
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind == "Bearer" and (token == TOKEN or self._ends.get(token, 0.0) > self._world.now()):
            return None
        return error(401, "Unauthorized")

    async def login(self, request: web.Request) -> web.Response:
        """``POST /auth/login``: at most five attempts in a minute and address, good or bad."""
        now = self._world.now()
        attempts = self._attempts.setdefault(request.remote or "", deque())
        while attempts and attempts[0] <= now - 60:
            attempts.popleft()
        if len(attempts) >= LOGINS_PER_MINUTE:
            return error(429, "Too many login attempts")
        attempts.append(now)
        body = await json_body(request)
        if body is None:
            return error(400, "Invalid request body")
        if (body.get("username"), body.get("password")) != (USERNAME, PASSWORD):
            return error(401, "Username or password is incorrect")
        self._ends = {token: end for token, end in self._ends.items() if end > now}
        token = f"{roll(self._world.fleet.seed, Purpose.TOKEN, int(now * 1000), len(self._ends)):016x}"
        self._ends[token] = now + TOKEN_SECONDS
        message = "Authentication successful"
        login = {
            "accessToken": token,
            "tokenType": "Bearer",
            "expireDate": int((now + TOKEN_SECONDS) * 1000),
            "remainingTime": int(TOKEN_SECONDS * 1000),
            "username": USERNAME,
            "message": message,
        }
        return json_answer({"data": login, "meta": _meta(now), "message": message})


class _Storm:
    def __init__(self, world: Context) -> None:
        self._world = world
        self._fleet = world.fleet

    @cached_property
    def _by_batch_key(self) -> dict[str, Stream]:
        """A batch names streams as ``application-key``."""
        return {f"{stream.application}-{stream.name}": stream for stream in self._fleet.of(Platform.STORM)}

    def _answer(self, data: Any) -> web.Response:
        return json_answer({"data": data, "meta": _meta(self._world.now())})

    def _on_air(self, stream: Stream | None) -> tuple[Stream, Publish] | None:
        now = self._world.now()
        if stream is None or not (publish := self._fleet.publish(stream, now)).live(now):
            return None
        return stream, publish

    def _asked_for(self, request: web.Request) -> tuple[Stream, Publish]:
        info = request.match_info
        found = self._on_air(self._fleet.by_id(Platform.STORM, f"{info['application']}/{info['key']}"))
        if found is None:
            raise web.HTTPNotFound(reason=_NOT_FOUND)
        return found

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /streams/{appName}/{streamKey}``: 404 while nobody publishes."""
        stream, publish = self._asked_for(request)
        return self._answer(stream_record(stream, publish, self._world.now(), single=True))

    async def batch(self, request: web.Request) -> web.Response:
        """``POST /streams/batch``: what is on the air, and the names of the rest."""
        body = await json_body(request) or {}
        data = body.get("data")
        names = data.get("streamKeyIds") if isinstance(data, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return error(400, "streamKeyIds must be an array of strings")
        found = {name: self._on_air(self._by_batch_key.get(name)) for name in names}
        now = self._world.now()
        return self._answer(
            {
                "found": [stream_record(*pair, now) for pair in found.values() if pair],
                "notFound": [name for name, pair in found.items() if pair is None],
            }
        )

    async def streams(self, request: web.Request) -> web.Response:
        """``GET /streams``: what is on the air, in pages."""
        now = self._world.now()
        live = self._fleet.live_streams(Platform.STORM, now)
        return self._answer(_paged(request, live, lambda pair: stream_record(*pair, now)))

    async def cluster_streams(self, request: web.Request) -> web.Response:
        """``GET /cluster/streams``: as a cluster manager sees them, each with the servers that it comes from."""
        now = self._world.now()
        live = self._fleet.live_streams(Platform.STORM, now)
        applications = sorted({stream.application for stream, _ in live})
        lists = {
            "stateList": ["PUBLISHED"],
            "applicationList": [
                {"id": f"ca_{name}", "name": name, "serverName": "origin-1", "type": "ORIGIN"} for name in applications
            ],
        }
        return self._answer({**_paged(request, live, lambda pair: _cluster_record(*pair, now)), **lists})

    async def metadata(self, request: web.Request) -> web.Response:
        """``GET /streams/{appName}/{streamKey}/{substream}/metadata``: what the picture and the sound are made of."""
        stream, publish = self._asked_for(request)
        height = _SUBSTREAMS.get(request.match_info["substream"])
        if height is None or height >= stream.height:
            return error(404, "Substream not found")
        height = height or stream.height
        level = LEVELS[publish.condition(self._world.now())]
        share = (height / stream.height) ** 2
        return self._answer(
            {
                "encoderName": "Lavf60.16.100",
                "legacyEncoder": "",
                "duration": 0,
                "videoCodec": "H264",
                "videoCodecID": 7,
                "videoDataRate": int(stream.bitrate * 8 / 1000 * share) - _AUDIO_KILOBITS,
                "videoTimeScale": 1000,
                "width": height * 16 // 9,
                "height": height,
                "frameRate": round(stream.frame_rate * level.frame_rate, 2),
                "frameRateSpecified": True,
                "audioCodec": "AAC",
                "audioCodecID": 10,
                "audioDataRate": _AUDIO_KILOBITS,
                "audioSampleRate": 48000,
                "audioSampleSize": 16,
                "audioChannels": 2,
            }
        )


def stream_record(stream: Stream, publish: Publish, now: float, *, single: bool = False) -> dict[str, Any]:
    """A stream that is on the air; some fields only the answer for a ``single`` stream has."""
    amounts = publish.amounts(now)
    bitrate = publish.bitrate(now)
    score, grade = _score(stream, publish, now)
    record = {
        "id": stream.name,
        "state": "PUBLISHED",
        "type": "NATIVE_STREAM",
        "application": stream.application,
        "streamKey": stream.name,
        "startTime": int(publish.start * 1000),
        "duration": int(now * 1000) - int(publish.start * 1000),
        "viewerCount": publish.viewers(now),
        "inBandwidth": int(bitrate),
        "outBandwidth": int(bitrate * publish.audience(now)),
        "inTotalBytes": int(amounts.bytes),
        "outTotalBytes": int(amounts.egress_bytes),
        "healthScore": score,
        "healthGrade": grade,
        "allowedToPublish": True,
        "isAutoRemovable": True,
        "thumbnailPath": None,
        "thumbnailTimestamp": 0,
        "subStreams": [
            {"streamKey": f"{stream.name}_{height}" if height else stream.name, "name": name}
            for name, height in _SUBSTREAMS.items()
            if height < stream.height
        ],
    }
    if single:
        record |= {"systemClientCount": stream.index % 3, "canRecord": True, "isRecording": stream.index % 5 == 0}
    return record


def _score(stream: Stream, publish: Publish, now: float) -> tuple[float, str]:
    """The score, which swings a little, and its grade. Where the real grades begin is not documented."""
    if now < publish.start + NO_DATA_SECONDS:
        return 0.0, "No Data"
    # As the bitrate swings, so does the score, by up to five points.
    level = LEVELS[publish.condition(now)]
    nominal = stream.bitrate * level.bitrate
    swing = (publish.bitrate(now) / nominal - 1) * 80 if nominal else 0.0
    score = max(0.0, min(100.0, level.score + swing))
    return score, "Very Good" if score >= 80 else "Good" if score >= 60 else "Bad"


def _cluster_record(stream: Stream, publish: Publish, now: float) -> dict[str, Any]:
    source = {
        "id": f"cs_{stream.index}",
        "state": "PUBLISHED",
        "applicationType": "ORIGIN",
        "applicationId": f"ca_{stream.application}",
        "applicationName": stream.application,
        "serverName": "origin-1",
        "bitrate": int(publish.bitrate(now)),
    }
    return {"streamKey": stream.name, "sourceList": [source]}


def _paged(
    request: web.Request,
    rows: Sequence[tuple[Stream, Publish]],
    record: Callable[[tuple[Stream, Publish]], dict[str, Any]],
) -> dict[str, Any]:
    """Storm's page block with the page's records as ``list``."""
    size = whole_number(request.query.get("rowsPerPage"), DEFAULT_ROWS, 1, LARGEST_ROWS)
    page = whole_number(request.query.get("page"), 1, 1, _LARGEST_PAGE)
    pages = -(-len(rows) // size)
    return {
        "totalItems": len(rows),
        "itemsPerPage": size,
        "totalPages": pages,
        "currentPage": page,
        "hasPrevious": page > 1,
        "hasNext": page < pages,
        "list": [record(row) for row in rows[(page - 1) * size : page * size]],
    }


def _meta(now: float) -> dict[str, int]:
    return {"executionTime": 1, "generatedAt": int(now * 1000)}
