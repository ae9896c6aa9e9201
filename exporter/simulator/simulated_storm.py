"""Simulated Storm Streaming Server 3.x API: login, single streams, batches, lists and substream metadata.

Two endpoints are optional because real servers differ: ``GET /streams``, which is undocumented, and
``GET /cluster/streams``, which only a cluster manager has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from aiohttp import web

from exporter.simulator.context import API_KEY, PASSWORD, TOKEN, USERNAME, Context
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.platform_app import UNKNOWN_STATE, bounded_int, json_body, json_response, platform_app
from exporter.simulator.prng import Purpose, random_bits
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.stream_conditions import LEVELS
from exporter.simulator.totals import IngestSession

TOKEN_SECONDS = 900.0
LOGINS_PER_MINUTE = 5
DEFAULT_ROWS, LARGEST_ROWS = 10, 1000
NO_DATA_SECONDS = 10.0
"""How long a new ingest session has no health score."""
_LARGEST_PAGE = 10**9
_SUBSTREAMS = {"native": 0, "720p": 720, "480p": 480}
_AUDIO_KILOBITS = 128
_NOT_FOUND = "Stream not found"


def error(status: int, message: str) -> web.Response:
    """Return ``{"message": text}``, Storm's error format."""
    return json_response({"message": message}, status=status)


def storm_app(context: Context) -> web.Application:
    """Make the application for ``/api``."""
    logins = _Logins(context)
    api = _StormApi(context)
    app = platform_app(context, Platform.STORM, error=error, check_credentials=logins.check_credentials)
    app.add_routes(
        [
            web.post("/auth/login", logins.login),
            web.post("/streams/batch", api.batch),
            web.get("/streams/{application}/{key}", api.stream),
            web.get("/streams/{application}/{key}/{substream}/metadata", api.metadata),
        ]
    )
    if context.options.storm_list:
        app.router.add_get("/streams", api.streams)
    if context.options.storm_cluster:
        app.router.add_get("/cluster/streams", api.cluster_streams)
    return app


class _Logins:
    """Valid credentials: a token from the login, a token that never expires, or the API key."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._expiry_times: dict[str, float] = {}
        self._attempts: dict[str, deque[float]] = {}

    def check_credentials(self, request: web.Request) -> web.Response | None:
        """Require a credential for everything except the login."""
        if request.match_info.handler == self.login or request.headers.get("X-Api-Key") == API_KEY:
            return None
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind == "Bearer" and (token == TOKEN or self._expiry_times.get(token, 0.0) > self._context.now()):
            return None
        return error(401, "Unauthorized")

    async def login(self, request: web.Request) -> web.Response:
        """``POST /auth/login``: at most five attempts per minute and address, successful or not."""
        now = self._context.now()
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
        self._expiry_times = {token: end for token, end in self._expiry_times.items() if end > now}
        token = f"{random_bits(self._context.fleet.seed, Purpose.TOKEN, int(now * 1000), len(self._expiry_times)):016x}"
        self._expiry_times[token] = now + TOKEN_SECONDS
        message = "Authentication successful"
        login = {
            "accessToken": token,
            "tokenType": "Bearer",
            "expireDate": int((now + TOKEN_SECONDS) * 1000),
            "remainingTime": int(TOKEN_SECONDS * 1000),
            "username": USERNAME,
            "message": message,
        }
        return json_response({"data": login, "meta": _meta(now), "message": message})


class _StormApi:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._fleet = context.fleet

    @cached_property
    def _by_batch_key(self) -> dict[str, Stream]:
        """Streams by ``application-key``, as a batch names them."""
        return {f"{stream.application}-{stream.name}": stream for stream in self._fleet.streams(Platform.STORM)}

    def _record(self, entry: tuple[Stream, IngestSession], now: float, *, single: bool = False) -> dict[str, Any]:
        """Return a live stream's record with injected faults applied."""
        stream, ingest = entry
        faults = self._fleet.faults
        measured_at = max(ingest.start, faults.measured_at(Platform.STORM, now))
        record = stream_record(stream, ingest, now, measured_at, single=single)
        record["state"] = self._state(stream, now)
        if record["state"] == UNKNOWN_STATE:
            # Remove the total too, so that no field shows whether media is arriving.
            del record["inTotalBytes"]
        return record

    def _state(self, stream: Stream, now: float) -> str:
        faults = self._fleet.faults
        if faults.has_unknown_state(Platform.STORM, stream.index, now):
            return UNKNOWN_STATE
        return "ERROR" if faults.has_stream_fault(stream.index, FaultKind.ERROR, now) else "PUBLISHED"

    def _data_response(self, data: Any) -> web.Response:
        return json_response({"data": data, "meta": _meta(self._context.now())})

    def _live_entry(self, stream: Stream | None) -> tuple[Stream, IngestSession] | None:
        now = self._context.now()
        if stream is None or not (ingest := self._fleet.latest_ingest(stream, now)).is_live(now):
            return None
        return stream, ingest

    def _requested_stream(self, request: web.Request) -> tuple[Stream, IngestSession]:
        info = request.match_info
        found = self._live_entry(self._fleet.by_id(Platform.STORM, f"{info['application']}/{info['key']}"))
        if found is None:
            raise web.HTTPNotFound(reason=_NOT_FOUND)
        return found

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /streams/{appName}/{streamKey}``: 404 while off air."""
        return self._data_response(self._record(self._requested_stream(request), self._context.now(), single=True))

    async def batch(self, request: web.Request) -> web.Response:
        """``POST /streams/batch``: the live streams, and the names of the others."""
        body = await json_body(request) or {}
        data = body.get("data")
        names = data.get("streamKeyIds") if isinstance(data, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return error(400, "streamKeyIds must be an array of strings")
        found = {name: self._live_entry(self._by_batch_key.get(name)) for name in names}
        now = self._context.now()
        return self._data_response(
            {
                "found": [self._record(pair, now) for pair in found.values() if pair],
                "notFound": [name for name, pair in found.items() if pair is None],
            }
        )

    async def streams(self, request: web.Request) -> web.Response:
        """``GET /streams``: the live streams, in pages."""
        now = self._context.now()
        live = self._fleet.live_streams(Platform.STORM, now)
        return self._data_response(self._page_fields(request, live, lambda pair: self._record(pair, now)))

    async def cluster_streams(self, request: web.Request) -> web.Response:
        """``GET /cluster/streams``: the live streams with their source servers."""
        now = self._context.now()
        live = self._fleet.live_streams(Platform.STORM, now)
        applications = sorted({stream.application for stream, _ in live})
        lists = {
            "stateList": ["PUBLISHED"],
            "applicationList": [
                {"id": f"ca_{name}", "name": name, "serverName": "origin-1", "type": "ORIGIN"} for name in applications
            ],
        }
        page = self._page_fields(request, live, lambda pair: _cluster_record(*pair, self._state(pair[0], now), now))
        return self._data_response({**page, **lists})

    def _page_fields(
        self,
        request: web.Request,
        rows: Sequence[tuple[Stream, IngestSession]],
        record: Callable[[tuple[Stream, IngestSession]], dict[str, Any]],
    ) -> dict[str, Any]:
        page = _page_fields(request, rows, record)
        if self._fleet.faults.upstream_fault(Platform.STORM, self._context.now()) is FaultKind.DOUBTFUL_LIST:
            page["totalItems"] += 1
        return page

    async def metadata(self, request: web.Request) -> web.Response:
        """``GET /streams/{appName}/{streamKey}/{substream}/metadata``: codecs and formats of video and audio."""
        stream, ingest = self._requested_stream(request)
        height = _SUBSTREAMS.get(request.match_info["substream"])
        if height is None or height >= stream.height:
            return error(404, "Substream not found")
        height = height or stream.height
        level = LEVELS[ingest.condition(self._context.now())]
        share = (height / stream.height) ** 2
        return self._data_response(
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


def stream_record(
    stream: Stream, ingest: IngestSession, now: float, measured_at: float, *, single: bool = False
) -> dict[str, Any]:
    """Return a live stream, with its statistics of ``measured_at``; a ``single`` stream has more fields."""
    totals = ingest.totals(measured_at)
    bitrate = ingest.bitrate(measured_at)
    score, grade = _health_score(stream, ingest, measured_at)
    record = {
        "id": stream.name,
        "state": "PUBLISHED",
        "type": "NATIVE_STREAM",
        "application": stream.application,
        "streamKey": stream.name,
        "startTime": int(ingest.start * 1000),
        "duration": int(now * 1000) - int(ingest.start * 1000),
        "viewerCount": ingest.viewers(measured_at),
        "inBandwidth": int(bitrate),
        "outBandwidth": int(bitrate * ingest.audience(measured_at)),
        "inTotalBytes": int(totals.bytes),
        "outTotalBytes": int(totals.egress_bytes),
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


def _health_score(stream: Stream, ingest: IngestSession, now: float) -> tuple[float, str]:
    """Return the score, which varies a little, and its grade (the real limits are not documented)."""
    if now < ingest.start + NO_DATA_SECONDS:
        return 0.0, "No Data"
    # The score varies with the bitrate, by up to five points.
    level = LEVELS[ingest.condition(now)]
    nominal = stream.bitrate * level.bitrate
    swing = (ingest.bitrate(now) / nominal - 1) * 80 if nominal else 0.0
    score = max(0.0, min(100.0, level.score + swing))
    return score, "Very Good" if score >= 80 else "Good" if score >= 60 else "Bad"


def _cluster_record(stream: Stream, ingest: IngestSession, state: str, now: float) -> dict[str, Any]:
    source = {
        "id": f"cs_{stream.index}",
        "state": state,
        "applicationType": "ORIGIN",
        "applicationId": f"ca_{stream.application}",
        "applicationName": stream.application,
        "serverName": "origin-1",
        "bitrate": int(ingest.bitrate(now)),
    }
    return {"streamKey": stream.name, "sourceList": [source]}


def _page_fields(
    request: web.Request,
    rows: Sequence[tuple[Stream, IngestSession]],
    record: Callable[[tuple[Stream, IngestSession]], dict[str, Any]],
) -> dict[str, Any]:
    """Return Storm's paging fields with the page's records as ``list``."""
    size = bounded_int(request.query.get("rowsPerPage"), DEFAULT_ROWS, 1, LARGEST_ROWS)
    page = bounded_int(request.query.get("page"), 1, 1, _LARGEST_PAGE)
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
