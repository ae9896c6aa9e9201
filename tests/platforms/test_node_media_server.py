"""node-media-server: recorded responses, and a local server that behaves like its API."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.streams import ApplicationStream
from exporter.config.upstream import AuthSettings
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Listing, PollResult, Reason, Status, StreamReport
from exporter.platforms.node_media_server import PLATFORM, NodeMediaServerSettings
from exporter.platforms.node_media_server.nms_login import TOKEN_LIFE_SECONDS, token_life
from exporter.platforms.node_media_server.nms_streams import (
    Report,
    StreamList,
    parse_version_2,
    parse_version_4,
    video_codec,
)
from exporter.platforms.parsing import DropCounter
from exporter.platforms.testing import Recording, expose
from tests.fake_clock import FakeClock

FIXTURES = Path(__file__).parent / "responses" / "node_media_server"
USER, PASSWORD = "exporter", "a password of some length"
TOKEN = "header.eyJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMH0.signature"
"""Claims: iat 1700000000, exp an hour later."""


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


Read = Callable[[Any, DropCounter, int], Coroutine[Any, Any, StreamList]]


def parsed(read: Read, response: Any, drops: DropCounter | None = None, max_streams: int = 10_000) -> StreamList:
    return asyncio.run(read(response, drops or DropCounter(), max_streams))


class Api:
    """The endpoints of both versions that the exporter uses."""

    def __init__(self, version: str = "2.7.4") -> None:
        self.version = version
        self.password: str | None = None
        self.challenges = False
        self.streams: Any = {}
        self.requested: list[str] = []
        self.token = TOKEN
        self.broken: Mapping[str, web.Response] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.respond)
        return app

    async def respond(self, request: web.Request) -> web.Response:
        self.requested.append(f"{request.method} {request.path}")
        broken = self.broken.get(request.path)
        if broken is not None:
            # aiohttp can send a response object only once
            return web.Response(status=broken.status, headers=broken.headers, body=broken.body)
        return await (self._version_4(request) if self.version[0] == "4" else self._version_2(request))

    async def _version_2(self, request: web.Request) -> web.Response:
        if self.password is not None:
            expected = "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()
            if request.headers.get("Authorization") != expected:
                return web.Response(status=401)
        if request.path == "/api/server":
            return web.json_response({**fixture("2.7.4-server.json"), "version": self.version})
        if request.path == "/api/streams":
            return web.json_response(self.streams)
        return web.Response(status=404)

    async def _version_4(self, request: web.Request) -> web.Response:
        if request.path == "/api/v1/health":
            data = {"status": "ok", "version": self.version}
            return web.json_response({"success": True, "data": data, "message": "Server is healthy"})
        if request.path == "/api/v1/login":
            return self._login(await request.json())
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"success": False, "code": "UNAUTHORIZED"}, status=401)
        assert request.path == "/api/v1/streams"
        return web.json_response({"success": True, "data": {"streams": self.streams, "total": len(self.streams)}})

    def _login(self, body: dict[str, str]) -> web.Response:
        assert self.password is not None
        if self.challenges and "challenge" not in body:
            return web.json_response({"success": True, "data": {"challenge": "c0ffee"}})
        if self.challenges:
            signed = hmac.new(self.password.encode(), b"c0ffee", hashlib.sha256).hexdigest()
            is_right = body == {"username": USER, "challenge": "c0ffee", "response": signed}
        elif "password" not in body:
            return web.json_response({"success": False, "data": {}}, status=400)
        else:
            is_right = body == {"username": USER, "password": self.password}
        if not is_right:
            return web.json_response({"success": False, "data": {}}, status=401)
        return web.json_response({"success": True, "data": {"token": self.token, "expiresIn": "1h"}})


class Upstream:
    """A platform that polls the local server."""

    def __init__(self, api: Api, url: str, auth: AuthSettings) -> None:
        self.api = api
        self.clock = FakeClock(auto_advance=True)
        settings = NodeMediaServerSettings(name="origin", url=url, auth=auth)
        self.client = UpstreamClient.from_settings(settings, self.clock, lambda endpoint, code, seconds: None)
        self.platform = PLATFORM(settings, self.client, self.clock)

    async def poll(self, after: float = 15.0) -> PollResult:
        self.clock.advance(after)
        self.api.requested.clear()
        return await self.platform.poll(self.client.requests(10.0))

    async def stream(self, after: float = 15.0) -> StreamReport:
        """Return the one stream of a poll."""
        (report,) = (await self.poll(after)).streams
        return report

    async def failure(self, after: float = 15.0) -> UpstreamError:
        with pytest.raises(UpstreamError) as failed:
            await self.poll(after)
        return failed.value


@pytest.fixture
async def version_2() -> AsyncIterator[Upstream]:
    async with polled(Api("2.7.4"), AuthSettings()) as upstream:
        yield upstream


@pytest.fixture
async def version_4() -> AsyncIterator[Upstream]:
    api = Api("4.4.3")
    api.password, api.streams = PASSWORD, []
    async with polled(api, AuthSettings(username=USER, password=PASSWORD)) as upstream:
        yield upstream


@asynccontextmanager
async def polled(api: Api, auth: AuthSettings) -> AsyncIterator[Upstream]:
    async with TestServer(api.app()) as server:
        upstream = Upstream(api, str(server.make_url("")), auth)
        try:
            yield upstream
        finally:
            await upstream.client.close()


# -- responses -----------------------------------------------------------------------------------------------------


def test_version_2_publisher_is_read() -> None:
    (report,) = parsed(parse_version_2, fixture("2.7.4-streams.json")).reports
    assert report == Report(
        id="live/test",
        application="live",
        kind="stream",
        protocol="rtmp",
        session="OHL0W6JV",
        video_codec="h264",
        audio_codec="aac",
        resolution="640x360",
        status=Status.LIVE,
        live=True,
        start_timestamp_seconds=1795225451.38,
        ingest_bytes=869662,
        viewers=2,
        frames_per_second=30,
        width_pixels=640,
        height_pixels=360,
    )
    assert report.ingest_bitrate_bytes_per_second is None


def test_version_2_stream_without_a_publisher_is_idle() -> None:
    (report,) = parsed(parse_version_2, {"live": {"test": {"publisher": None, "subscribers": [{}]}}}).reports
    assert report == Report(
        id="live/test", application="live", kind="stream", status=Status.IDLE, live=False, viewers=1
    )


def test_version_2_publisher_without_metadata_is_live() -> None:
    publisher = {"clientId": "A", "bytes": 0, "audio": None, "video": None}
    (report,) = parsed(parse_version_2, {"live": {"test": {"publisher": publisher}}}).reports
    assert (report.live, report.video_codec, report.frames_per_second) == (True, "", None)
    assert report.viewers is None


def test_version_2_bad_rows_are_counted_and_left_out() -> None:
    drops = DropCounter()
    good: dict[str, Any] = {"publisher": None, "subscribers": []}
    response = {"text": "?", "live": {"good": good, "bad": 5, "better": good}}
    assert [report.id for report in parsed(parse_version_2, response, drops).reports] == ["live/good", "live/better"]
    assert drops.counts == {"stream": 2}


def test_version_4_publisher_is_read() -> None:
    (report,) = parsed(parse_version_4, fixture("4.4.3-streams.json")).reports
    assert report == Report(
        id="live/test",
        application="live",
        kind="stream",
        protocol="rtmp",
        session="mwpqwtqatt94fneg",
        video_codec="h264",
        audio_codec="aac",
        resolution="640x360",
        status=Status.LIVE,
        live=True,
        start_timestamp_seconds=1795225500804 * 0.001,
        ingest_bytes=819140,
        viewers=2,
        system_clients=0,
        frames_per_second=30,
        width_pixels=640,
        height_pixels=360,
        recording=False,
        ingest_bitrate_bytes_per_second=112595,
        egress_bitrate_bytes_per_second=225999,
    )


def test_version_4_stream_without_a_publisher_is_idle() -> None:
    (report,) = parsed(parse_version_4, fixture("4.4.3-streams-publisher-gone.json")).reports
    assert (report.status, report.live, report.viewers, report.session) == (Status.IDLE, False, 1, "")
    rates = report.ingest_bitrate_bytes_per_second, report.egress_bitrate_bytes_per_second
    assert (report.ingest_bytes, *rates) == (None, None, None)


def make_row(**changes: Any) -> dict[str, Any]:
    stream: dict[str, Any] = fixture("4.4.3-streams.json")["data"]["streams"][0]
    return stream | changes


def parse_rows_4(*rows: Any, drops: DropCounter | None = None) -> list[StreamReport]:
    response = {"success": True, "data": {"streams": list(rows)}}
    return parsed(parse_version_4, response, drops).reports


def test_reconnecting_publisher_is_not_live() -> None:
    (report,) = parse_rows_4(make_row(status="reconnecting"))
    assert (report.status, report.live, report.ingest_bytes) == (Status.CONNECTING, False, 819140)


def test_stream_without_a_status_is_live_if_it_has_a_publisher() -> None:
    old = make_row()
    for name in ("status", "outBytes", "inBps", "outBps", "recording"):
        del old[name]
    (report,) = parse_rows_4(old)
    assert (report.live, report.viewers, report.recording, report.system_clients) == (True, 2, None, None)
    (report,) = parse_rows_4(old | {"publisher": None})
    assert (report.live, report.status) == (False, Status.IDLE)


def test_recording_is_not_counted_as_a_viewer() -> None:
    (report,) = parse_rows_4(make_row(recording=True, subscribers=3))
    assert (report.viewers, report.system_clients, report.recording) == (2, 1, True)


def test_unannounced_codecs_and_picture_size_are_missing() -> None:
    publisher = {"id": "a", "videoCodec": 0, "videoWidth": 0, "videoHeight": 0, "videoFramerate": 0, "audioCodec": None}
    (report,) = parse_rows_4(make_row(publisher=publisher))
    assert (report.video_codec, report.audio_codec, report.resolution) == ("", "", "")
    assert (report.width_pixels, report.height_pixels, report.frames_per_second) == (None, None, None)


def test_version_4_rows_without_a_name_are_counted() -> None:
    drops = DropCounter()
    assert [s.id for s in parse_rows_4(make_row(app=None), make_row(name=7), make_row(), drops=drops)] == ["live/test"]
    assert sum(drops.counts.values()) >= 2


# -- codecs ----------------------------------------------------------------------------------------------------------


VIDEO_CODECS = [
    (7, "h264"), (7.0, "h264"), (12, "hevc"), ("avc1", "h264"), ("hvc1", "hevc"), (0x68766331, "hevc"),
    (0x61763031, "av1"), ("H265", "h265"), (99, "99"), (0, ""), (None, ""), (True, ""), (-1, ""), (2**40, ""),
]  # fmt: skip
AUDIO_CODECS = [(10, "aac"), (2, "mp3"), ("mp4a", "aac"), ("Opus", "opus"), ([], "")]


@pytest.mark.parametrize(
    ("field", "label", "codecs"),
    [("videoCodec", "video_codec", VIDEO_CODECS), ("audioCodec", "audio_codec", AUDIO_CODECS)],
)
def test_announced_codec_is_exported_by_name(field: str, label: str, codecs: list[tuple[Any, str]]) -> None:
    rows = [make_row(name=f"s{n}", publisher={"id": "p", field: codec}) for n, (codec, _) in enumerate(codecs)]
    health = {"data": {"version": "4.4.3"}}
    responses = {"GET /api/v1/health": health, "GET /api/v1/streams": {"data": {"streams": rows}}}
    text = expose(PLATFORM, Recording(responses))
    found = re.findall(rf'^stream_info\{{.*stream="live/s(\d+)".*{label}="(.*?)"', text, re.MULTILINE)
    assert dict(found) == {str(number): name for number, (_, name) in enumerate(codecs)}


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_any_announced_codec_is_read_without_an_error(announced: Any) -> None:
    assert isinstance(video_codec(announced), str)


# -- versions --------------------------------------------------------------------------------------------------------


async def test_version_2_is_detected_once(version_2: Upstream) -> None:
    result = await version_2.poll()
    assert (result.version, result.listing, result.streams) == ("2.7.4", Listing.COMPLETE, ())
    assert version_2.api.requested == ["GET /api/v1/health", "GET /api/server", "GET /api/streams"]
    await version_2.poll()
    assert version_2.api.requested == ["GET /api/streams"]


async def test_version_4_is_detected_once(version_4: Upstream) -> None:
    assert (await version_4.poll()).version == "4.4.3"
    assert version_4.api.requested == [
        "GET /api/v1/health", "POST /api/v1/login", "POST /api/v1/login", "GET /api/v1/streams",
    ]  # fmt: skip
    await version_4.poll()
    assert version_4.api.requested == ["GET /api/v1/streams"]


async def test_version_is_detected_again_after_a_failed_poll(version_4: Upstream) -> None:
    await version_4.poll()
    version_4.api.version, version_4.api.streams = "2.7.5", {}
    assert (await version_4.failure()).reason in (Reason.AUTH, Reason.NOT_FOUND)
    assert (await version_4.poll()).version == "2.7.5"


async def test_version_2_uses_basic_authentication(version_4: Upstream) -> None:
    version_4.api.version, version_4.api.streams = "2.7.4", {}
    assert (await version_4.poll()).version == "2.7.4"
    version_4.api.password = "another"
    assert (await version_4.failure()).reason is Reason.AUTH


async def test_server_without_an_api_is_not_found(version_2: Upstream) -> None:
    version_2.api.broken = {path: web.Response(status=404) for path in ("/api/v1/health", "/api/server")}
    failure = await version_2.failure()
    assert failure.reason is Reason.NOT_FOUND
    assert "neither" in str(failure)


async def test_failed_version_request_does_not_fail_the_poll(version_2: Upstream) -> None:
    version_2.api.broken = {"/api/server": web.Response(status=500)}
    assert (await version_2.poll()).version == ""


async def test_other_server_is_a_bad_response(version_2: Upstream) -> None:
    version_2.api.broken = {"/api/v1/health": web.json_response({"status": "ok"})}
    assert (await version_2.failure()).reason is Reason.BAD_RESPONSE


async def test_server_error_is_not_taken_for_version_2(version_2: Upstream) -> None:
    version_2.api.broken = {"/api/v1/health": web.Response(status=500)}
    assert (await version_2.failure()).reason is Reason.SERVER_ERROR
    assert "GET /api/server" not in version_2.api.requested


async def test_response_without_streams_fails_the_poll(version_2: Upstream) -> None:
    version_2.api.streams = [1, 2]
    assert (await version_2.failure()).reason is Reason.BAD_RESPONSE


# -- logins ----------------------------------------------------------------------------------------------------------


async def test_password_is_not_sent_to_a_server_with_a_challenge(version_4: Upstream) -> None:
    version_4.api.challenges = True
    assert (await version_4.poll()).version == "4.4.3"


async def test_version_4_without_credentials_is_an_auth_failure() -> None:
    async with polled(Api("4.4.3"), AuthSettings()) as upstream:
        assert (await upstream.failure()).reason is Reason.AUTH


async def test_refused_login_is_not_retried_soon(version_4: Upstream) -> None:
    version_4.api.password = "another"
    logins = []
    for _ in range(10):
        assert (await version_4.failure(after=60.0)).reason is Reason.AUTH
        logins.append(version_4.api.requested.count("POST /api/v1/login"))
    assert logins == [2, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    # wrong again: wait for ten minutes, then fifteen from then on
    waits = [await _minutes_until_login(version_4) for _ in range(3)]
    assert waits == [6, 15, 15]
    version_4.api.password = PASSWORD
    await _minutes_until_login(version_4)
    assert (await version_4.poll()).version == "4.4.3"


async def _minutes_until_login(upstream: Upstream) -> int:
    for minutes in range(1, 60):
        with contextlib.suppress(UpstreamError):
            await upstream.poll(after=60.0)
        if "POST /api/v1/login" in upstream.api.requested:
            return minutes
    raise AssertionError("no login within an hour")


async def test_changed_password_is_tried_at_once(tmp_path: Path) -> None:
    api = Api("4.4.3")
    api.password, api.streams = PASSWORD, []
    file = tmp_path / "password"
    file.write_text("wrong\n")
    async with polled(api, AuthSettings.model_validate({"username": USER, "password_file": str(file)})) as upstream:
        assert (await upstream.failure()).reason is Reason.AUTH
        assert (await upstream.failure()).reason is Reason.AUTH
        assert "POST /api/v1/login" not in api.requested
        file.write_text(PASSWORD + "\n")
        await upstream.poll(after=60.0)


async def test_rejected_token_is_replaced(version_4: Upstream) -> None:
    await version_4.poll()
    version_4.api.token = "another-token-of-4.4.3"
    await version_4.poll(after=60.0)
    assert version_4.api.requested.count("GET /api/v1/streams") == 2


async def test_login_response_without_a_token_is_an_error(version_4: Upstream) -> None:
    version_4.api.token = ""
    assert (await version_4.failure()).reason is Reason.BAD_RESPONSE


async def test_login_that_failed_with_a_server_error_is_retried(version_4: Upstream) -> None:
    version_4.api.broken = {"/api/v1/login": web.Response(status=500)}
    assert (await version_4.failure()).reason is Reason.SERVER_ERROR
    version_4.api.broken = {}
    await version_4.poll(after=60.0)


async def test_locked_user_is_an_auth_failure(version_4: Upstream) -> None:
    version_4.api.broken = {"/api/v1/login": web.Response(status=429)}
    failure = await version_4.failure()
    assert failure.reason is Reason.AUTH
    assert PASSWORD not in str(failure)


async def test_rate_limited_login_is_retried(version_4: Upstream) -> None:
    version_4.api.broken = {"/api/v1/login": web.Response(status=429, headers={"Retry-After": "40"})}
    assert (await version_4.failure()).reason is Reason.RATE_LIMITED
    version_4.api.broken = {}
    assert (await version_4.poll(after=60.0)).version == "4.4.3"


def test_token_life_is_read_from_its_claims() -> None:
    assert token_life(TOKEN) == 3600


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.!!.c", "a.W10.c", "a.e30.c", "a.eyJpYXQiOjEsImV4cCI6MX0.c"])
def test_token_without_claims_has_the_default_life(token: str) -> None:
    assert token_life(token) == TOKEN_LIFE_SECONDS


# -- bitrates --------------------------------------------------------------------------------------------------------


async def test_bitrate_is_derived_from_bytes_and_zero_after_three_still_polls(version_2: Upstream) -> None:
    def set_total(total: int) -> None:
        publisher = {"clientId": "A", "bytes": total}
        version_2.api.streams = {"live": {"main": {"publisher": publisher, "subscribers": []}}}

    bitrates = []
    for total in (1000, 151_000, 301_000, 301_000, 301_000, 301_000, 316_000):
        set_total(total)
        bitrates.append((await version_2.stream()).ingest_bitrate_bytes_per_second)
    assert bitrates[:6] == [None, 10_000, 10_000, 10_000, 10_000, 0]
    assert bitrates[6] is not None
    assert bitrates[6] > 0


async def test_new_publish_restarts_the_bitrate(version_4: Upstream) -> None:
    def set_publisher(session: str, total: int, rate: int) -> None:
        publisher = {"id": session, "inBytes": total}
        version_4.api.streams = [make_row(publisher=publisher, inBps=rate, outBps=7)]

    set_publisher("a", 1_000_000, 0)
    assert (await version_4.stream()).ingest_bitrate_bytes_per_second is None
    set_publisher("a", 1_150_000, 9_999)
    assert (await version_4.stream()).ingest_bitrate_bytes_per_second == 10_000
    set_publisher("b", 1_200_000, 8_888)
    assert (await version_4.stream()).ingest_bitrate_bytes_per_second == 8_888


async def test_rates_that_the_server_restarted_are_left_out(version_4: Upstream) -> None:
    def set_rates(total: int, ingest: int, egress: int) -> None:
        version_4.api.streams = [make_row(publisher={"id": "a", "inBytes": total}, inBps=ingest, outBps=egress)]

    set_rates(0, 10_000, 20_000)
    assert (await version_4.stream()).egress_bitrate_bytes_per_second == 20_000
    set_rates(150_000, 0, 0)
    report = await version_4.stream()
    assert (report.ingest_bitrate_bytes_per_second, report.egress_bitrate_bytes_per_second) == (10_000, None)
    set_rates(300_000, 10_000, 0)
    assert (await version_4.stream()).egress_bitrate_bytes_per_second == 0


async def test_stream_that_is_not_live_has_no_bitrate(version_4: Upstream) -> None:
    version_4.api.streams = [make_row(status="reconnecting")]
    for _ in range(2):
        report = await version_4.stream()
        assert (report.ingest_bitrate_bytes_per_second, report.egress_bitrate_bytes_per_second) == (None, None)


# -- settings --------------------------------------------------------------------------------------------------------


def test_settings_have_streams_and_cost_one_request_per_poll() -> None:
    settings = NodeMediaServerSettings(
        name="origin", url="http://127.0.0.1:8000", streams=(ApplicationStream(application="live", key="main"),)
    )
    assert [stream.id for stream in settings.configured_streams()] == ["live/main"]
    assert PLATFORM.requests_per_minute(settings) == 4


@pytest.mark.parametrize("auth", [{"bearer_token": "t"}, {"api_key": "k"}])
def test_bearer_tokens_and_api_keys_are_refused(auth: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="username with password"):
        NodeMediaServerSettings.model_validate({"name": "origin", "url": "http://127.0.0.1:8000", "auth": auth})
