"""WAVE: optional endpoints have their own interval, fail alone and accept any response."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from exporter.http.errors import UpstreamError
from exporter.metrics.passthrough import parse_passthrough
from exporter.model import PassthroughMetrics, PassthroughText, PlatformMetric, Reason
from exporter.platforms.wave import PLATFORM
from exporter.platforms.wave.measurements import numbers_inside
from exporter.platforms.wave.request_budget import RequestPace, SentRequests
from exporter.platforms.wave.wave_settings import WaveSettings
from tests.fake_clock import FakeClock
from tests.platforms.platform_harness import Polled, polled
from tests.platforms.scripted_api import Reply, ScriptedApi, scripted_api

SESSION = "GET /streaming/sessions/s"
FIGURES = "GET /analytics/stream/str_1"
DASHBOARDS = "GET /analytics/dashboards"
RESPONSE = {"streamId": "str_1", "totalViewers": 9, "peakViewers": 4, "avgWatchTime": 61.5, "totalDuration": 3600}


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with scripted_api() as api:
        api.on(SESSION, {"sessionId": "s", "status": "live"})
        api.on(FIGURES, RESPONSE)
        api.on(DASHBOARDS, {"period": "7d", "metrics": {"a": {"b": 1}}})
        yield api


def settings(url: str = "https://wave.example", **given_: Any) -> WaveSettings:
    base = {"name": "wave", "platform": "wave", "url": url, "auth": {"bearer_token": "wave_live_key"}}
    return WaveSettings.model_validate({**base, **given_})


def wave(api: ScriptedApi, clock: FakeClock | None = None, **given_: Any) -> AbstractAsyncContextManager[Polled]:
    return polled(PLATFORM, settings(api.url, **given_), clock or FakeClock())


# -- intervals, staleness, failures ------------------------------------------------------------------------------------


async def test_analytics_are_requested_at_their_own_interval(api: ScriptedApi) -> None:
    clock = FakeClock()
    async with wave(api, clock, sessions=["s"], analytics={"streams": ["str_1"], "dashboards": True}) as upstream:
        for _ in range(21):
            assert len((await upstream.poll()).analytics) == 2
            clock.advance(30)
    assert (api.paths().count(FIGURES), api.paths().count(DASHBOARDS), api.paths().count(SESSION)) == (3, 3, 21)


async def test_failing_analytics_are_kept_until_stale_and_logged_once(api: ScriptedApi) -> None:
    clock = FakeClock()
    async with wave(api, clock, sessions=["s"], analytics={"streams": ["str_1"], "interval": "1m"}) as upstream:
        (figures,) = (await upstream.poll()).analytics
        assert figures.stale_at == clock.monotonic() + 180
        api.on(FIGURES, {}, status=403)
        with capture_logs() as logs:
            for left in (True, True, True, False, False):
                clock.advance(59.9 if left else 60)
                result = await upstream.poll()
                assert bool(result.analytics) is left
                assert [report.id for report in result.streams] == ["s"]
                assert result.failures == {}
        assert [(entry["event"], entry.get("stream")) for entry in logs] == [("optional endpoint fails", "str_1")]
        api.on(FIGURES, RESPONSE)
        clock.advance(60)
        with capture_logs() as logs:
            assert (await upstream.poll()).analytics
        assert [entry["event"] for entry in logs] == ["optional endpoint is back"]


async def test_hidden_id_is_not_logged(api: ScriptedApi) -> None:
    api.on(FIGURES, {}, status=404)
    hashed: dict[str, Any] = {"stream_label": "hash", "stream_hash_key": "any-hash-key"}
    async with wave(api, sessions=["s"], analytics={"streams": ["str_1"]}, **hashed) as upstream:
        with capture_logs() as logs:
            await upstream.poll()
    assert "str_1" not in repr(logs)


@pytest.mark.parametrize("response", [[], "text", {"streamId": "another"}, None])
async def test_bad_response_for_a_stream_drops_only_its_analytics(api: ScriptedApi, response: Any) -> None:
    api.on(FIGURES, lambda _: Reply(response))
    async with wave(api, sessions=["s"], analytics={"streams": ["str_1"], "dashboards": True}) as upstream:
        result = await upstream.poll()
    assert [figures.stream for figures in result.analytics] == [""]
    assert result.failures == {}


@pytest.mark.parametrize("response", [[], {}, {"metrics": 7}, {"metrics": None}])
async def test_dashboards_without_metrics_are_left_out(api: ScriptedApi, response: Any) -> None:
    api.on(DASHBOARDS, lambda _: Reply(response))
    async with wave(api, sessions=["s"], analytics={"dashboards": True}) as upstream:
        assert (await upstream.poll()).analytics == ()


async def test_bad_analytics_fields_are_dropped_alone(api: ScriptedApi) -> None:
    api.on(FIGURES, {**RESPONSE, "totalViewers": -1, "avgWatchTime": "long", "quality": "good", "extra": {"n": 1.5}})
    async with wave(api, analytics={"streams": ["str_1"]}) as upstream:
        result = await upstream.poll()
    (figures,) = result.analytics
    assert (figures.viewers, figures.peak_viewers, figures.average_watch_seconds) == (None, 4, None)
    assert result.dropped_fields == {"totalViewers": 1, "avgWatchTime": 1}
    assert figures.platform_metrics == (
        PlatformMetric("extra.n", 1.5, "24h"),
        PlatformMetric("totalDuration", 3600.0, "24h"),
    )


async def test_poll_without_sessions_fails_if_all_optional_endpoints_fail(api: ScriptedApi) -> None:
    clock = FakeClock(auto_advance=True)
    async with wave(api, clock, analytics={"streams": ["str_1"]}) as upstream:
        assert (await upstream.poll()).analytics
        api.on(FIGURES, {}, status=500)
        clock.advance(300)
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
        assert error.value.reason is Reason.SERVER_ERROR
        clock.advance(30)
        with pytest.raises(UpstreamError):
            # nothing is due, so the last error still applies
            await upstream.poll()
        api.on(FIGURES, {"error": {"code": "NOT_FOUND"}}, status=404)
        clock.advance(270)
        await upstream.poll()


async def test_optional_endpoints_stay_due_during_a_retry_after_pause(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.on(FIGURES, {}, status=429, headers={"Retry-After": "45"})
    async with wave(
        api, clock, sessions=["s"], analytics={"streams": ["str_1", "str_2"]}, max_concurrent_requests=1
    ) as upstream:
        await upstream.poll()
        sent = api.paths().count(FIGURES)
        api.on(FIGURES, RESPONSE)
        api.on("GET /analytics/stream/str_2", {**RESPONSE, "streamId": "str_2"})
        clock.advance(60)
        assert [figures.stream for figures in (await upstream.poll()).analytics] == ["str_2"]
        assert sent == api.paths().count(FIGURES)
        clock.advance(240)
        assert len((await upstream.poll()).analytics) == 2


def test_pace_and_sent_requests_determine_the_optional_budget() -> None:
    assert RequestPace(57, 60.0, 30.0).remaining(7) == 43
    assert RequestPace(57, 60.0, 30.0).remaining(100) == 1
    assert RequestPace(57, 60.0, 300.0).remaining(100) == 0
    assert RequestPace(57, 60.0, 1.0).remaining(1) == 0
    sent = SentRequests()
    sent.add(0, 0.0)
    sent.add(3, 0.0)
    sent.add(2, 30.0)
    assert [sent.count_within(60.0, now) for now in (30.0, 59.9, 60.0, 90.0)] == [5, 5, 2, 0]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_are_named_by_path_and_limited() -> None:
    inside = {
        "b": {"c": {"d": {"e": {"f": 1}}}},
        "a": {"b": {"c": {"d": 2}}},
        "t": True,
        "s": "5",
        "n": math.nan,
        "l": [1],
        "z": 0,
    }
    assert numbers_inside(inside, period="7d", limit=10) == (
        PlatformMetric("a.b.c.d", 2.0, "7d"),
        PlatformMetric("z", 0.0, "7d"),
    )
    assert len(numbers_inside({str(n): n for n in range(50)}, period="", limit=9)) == 9


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inside: st.dictionaries(st.text(max_size=3), inside, max_size=4),
        max_leaves=30,
    )
)
def test_any_contents_are_read_without_an_error(inside: Any) -> None:
    numbers = numbers_inside({"a": inside}, period="", limit=20)
    assert len(numbers) <= 20
    assert all(math.isfinite(number.value) for number in numbers)


# -- the export --------------------------------------------------------------------------------------------------------


class ExportServer:
    """WAVE with an export and one session; records the requests."""

    def __init__(self) -> None:
        self.text = "# TYPE a gauge\na 1\n"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if request.path.endswith("/prometheus"):
            return web.Response(text=self.text, status=self.status, headers=self.headers)
        limit = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59"}
        return web.json_response({"sessionId": "s", "status": "live"}, headers=limit)

    def exports(self) -> list[web.Request]:
        return [request for request in self.requests if request.path.endswith("/prometheus")]


@pytest.fixture
async def server() -> AsyncIterator[tuple[ExportServer, str]]:
    export_server = ExportServer()
    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", export_server.handle)
    async with TestServer(app) as running:
        yield export_server, str(running.make_url(""))


ENDPOINT = "GET /streaming/analytics/prometheus"
EXPORT = {"enabled": True, "api_key": "export-key"}


async def test_export_has_its_own_key_and_limit(server: tuple[ExportServer, str]) -> None:
    export_server, url = server
    export_server.headers = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "2"}
    made = settings(url, sessions=["s"], prometheus={**EXPORT, "stream_id": "str_1", "period": "15min"})
    async with polled(PLATFORM, made, FakeClock()) as upstream:
        await upstream.poll()
        assert upstream.client.rate_limit.limit == 60
    (request,) = export_server.exports()
    assert request.headers["X-API-Key"] == "export-key"
    assert "Authorization" not in request.headers
    assert request.query == {"streamId": "str_1", "period": "15min"}
    assert all("X-API-Key" not in other.headers for other in export_server.requests if other is not request)


async def test_bad_export_keeps_the_last_one_until_stale(server: tuple[ExportServer, str]) -> None:
    export_server, url = server
    clock = FakeClock()
    async with polled(PLATFORM, settings(url, sessions=["s"], prometheus=EXPORT), clock) as upstream:
        first = (await upstream.poll()).passthrough
        assert first is not None
        assert first.stale_at == clock.monotonic() + 90
        export_server.text = "<html>"
        with capture_logs() as logs:
            for expected in (first, first, None):
                clock.advance(30)
                result = await upstream.poll()
                assert result.passthrough is expected
                assert [report.id for report in result.streams] == ["s"]
    assert len(export_server.exports()) == 4
    assert [(entry["event"], entry["reason"], entry["error"]) for entry in logs] == [
        ("optional endpoint fails", "bad_response", f"{ENDPOINT}: not in Prometheus text format")
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_refused_export_fails_alone(server: tuple[ExportServer, str], status: int) -> None:
    export_server, url = server
    export_server.status = status
    export_server.headers = {"Retry-After": "600"} if status == 429 else {}
    clock = FakeClock(auto_advance=True)
    async with polled(PLATFORM, settings(url, sessions=["s"], prometheus=EXPORT), clock) as upstream:
        for _ in range(3):
            result = await upstream.poll()
            assert (len(result.streams), result.passthrough) == (1, None)
            clock.advance(30)
    # the pause after a 429 includes the next polls, and a 500 is retried
    assert len(export_server.exports()) == {429: 1, 500: 6}.get(status, 3)


async def test_too_large_export_fails_alone(server: tuple[ExportServer, str]) -> None:
    export_server, url = server
    export_server.text = "a 1\n" * 1000
    made = settings(url, sessions=["s"], prometheus=EXPORT, max_body_bytes="2kB")
    async with polled(PLATFORM, made, FakeClock()) as upstream:
        with capture_logs() as logs:
            result = await upstream.poll()
    assert (len(result.streams), result.passthrough) == (1, None)
    assert [entry["reason"] for entry in logs] == ["too_large"]


async def test_parsing_of_an_export_ends_at_the_polls_deadline(server: tuple[ExportServer, str]) -> None:
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def never_parse(exported: PassthroughText) -> PassthroughMetrics:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
        return parse_passthrough(exported)

    _, url = server
    made = settings(url, sessions=["s"], prometheus=EXPORT, timeout="1s")
    async with polled(PLATFORM, made, FakeClock()) as upstream:
        upstream.platform.passthrough_parser = never_parse
        with capture_logs() as logs:
            result = await upstream.poll()
        released.set()
    assert (len(result.streams), result.passthrough) == (1, None)
    assert [entry["reason"] for entry in logs] == ["timeout"]


async def test_large_export_does_not_block_the_event_loop(server: tuple[ExportServer, str]) -> None:
    export_server, url = server
    export_server.text = "# TYPE a gauge\n" + "".join(f'a{{n="{n}"}} 1\n' for n in range(20_000))
    made = settings(url, prometheus={**EXPORT, "max_series": 20_000})
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with polled(PLATFORM, made, FakeClock()) as upstream:
        counting = asyncio.create_task(count())
        passthrough = (await upstream.poll()).passthrough
        counting.cancel()
    assert passthrough is not None
    assert len(passthrough.families[0].samples) == 20_000
    assert turns > 20


def test_requests_per_minute_include_the_optional_endpoints() -> None:
    made = settings(sessions=["a"], analytics={"streams": ["x", "y"], "dashboards": True}, prometheus=EXPORT)
    assert PLATFORM.requests_per_minute(made) == pytest.approx(2 + 1 + 3 / 5 + 2)
    off = settings(sessions=["a"], ice_candidates=False, prometheus={"enabled": False}, analytics={})
    assert PLATFORM.requests_per_minute(off) == pytest.approx(2)


def test_duplicate_analytics_streams_are_refused() -> None:
    made = settings(analytics={"streams": ["a", {"id": "b", "name": "main"}]})
    assert made.analytics is not None
    assert [(stream.id, stream.name) for stream in made.analytics.streams] == [("a", None), ("b", "main")]
    for streams in (["a", "a"], ["a", {"id": "b", "name": "a"}], [{"id": "a", "name": "n"}, {"id": "b", "name": "n"}]):
        with pytest.raises(ValidationError):
            settings(analytics={"streams": streams})
