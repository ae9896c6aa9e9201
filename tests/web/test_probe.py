"""/probe over a real service and real sockets."""

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web
from multidict import MultiDict
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.exposition import MAX_ROWS
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES
from exporter.model import Reason
from exporter.polling import on_demand
from exporter.polling.coordinator import Coordinator
from exporter.polling.on_demand import OnDemandPolls, UnknownUpstreamError
from exporter.runtime.clock import Clock
from exporter.web.probe_handler import BadProbeError, parse_target, parse_time_limit
from tests.platforms.studio_server import KEY as STUDIO_KEY
from tests.real.prometheus import check_metrics
from tests.service.exporter_harness import Exporter, exporting, serving

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
T = TypeVar("T")
USER, PASSWORD, TOKEN = "exporter", "canary-password", "canary-token-of-a-login"


class Origin:
    """The endpoints of node-media-server 4 that the exporter requests."""

    def __init__(self) -> None:
        self.names = ["main", "side"]
        self.asked: list[str] = []
        self.is_broken = False
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.begun = asyncio.Semaphore(0)

    @property
    def polls(self) -> int:
        return self.asked.count("/api/v1/streams")

    async def hold(self, caller: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Return a task whose poll is in progress; it is not answered until ``let_go`` is set."""
        while not self.begun.locked():
            await self.begun.acquire()
        self.let_go.clear()
        task = asyncio.create_task(caller)
        await self.begun.acquire()
        return task

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        if request.path == "/api/v1/health":
            return _data({"status": "ok", "version": "4.4.3"})
        if request.path == "/api/v1/login":
            given = await request.json()
            return _data({"token": TOKEN}) if "password" in given else web.json_response({}, status=400)
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        self.begun.release()
        await self.let_go.wait()
        if self.is_broken:
            return web.Response(status=503)
        streams = [
            {"app": "live", "name": name, "publisher": {"id": name, "createTime": 1_726_000_000_000}, "isActive": True}
            for name in self.names
        ]
        return _data({"streams": streams, "total": len(streams)})

    @property
    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app


def _data(data: dict[str, Any]) -> web.Response:
    return web.json_response({"success": True, "data": data})


def configured(url: str, **changes: Any) -> dict[str, Any]:
    origin = {
        "name": "origin",
        "platform": "node_media_server",
        "url": url,
        "auth": {"username": USER, "password": PASSWORD},
        "interval": "1h",
        "timeout": "30s",
        "streams": [{"application": "live", "key": "main", "expected": True}],
    }
    return {"upstreams": [origin | changes]}


@pytest.fixture
async def origin() -> Origin:
    return Origin()


@pytest.fixture
async def exporter(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Exporter]:
    """An exporter that has polled once and will not poll again for an hour. Probes do not reuse results."""
    monkeypatch.setattr(on_demand, "REUSE_SHARE", 0.0)
    async with serving(origin.app) as url, exporting(tmp_path, configured(url)) as running:
        await running.reaches(1, "stream_upstream_up", upstream="origin")
        yield running
        origin.let_go.set()


async def probe(exporter: Exporter, query: str = "upstream=origin", **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{exporter.url}/probe?{query}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


def series(text: str) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, stream: str = "") -> float | None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels.get("stream", "") == stream:
                return float(sample.value)
    return None


# -- responses --------------------------------------------------------------------------------------------------------


@pytest.mark.real
async def test_probe_polls_and_returns_the_families_of_the_upstream(exporter: Exporter, origin: Origin) -> None:
    origin.names.append("new")
    status, text = await probe(exporter)
    assert (status, origin.polls) == (200, 2)
    names = {family.name for family in STREAM_FAMILIES} | {family.name for family in UPSTREAM_FAMILIES}
    heads = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert heads <= names - {"stream_restarts_total"}
    assert value(text, "stream_live", "live/new") == 1
    served = series(await exporter.get("/metrics"))
    assert {key for key in series(text) if "live/new" not in key} <= served.keys()
    check_metrics(text)


async def test_probe_supports_get_and_head_with_and_without_gzip(exporter: Exporter) -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for encoding in ("identity", "gzip"):
            heads = []
            for method in ("GET", "HEAD"):
                async with session.request(
                    method, f"{exporter.url}/probe?upstream=origin", headers={"Accept-Encoding": encoding}
                ) as answer:
                    body = await answer.read()
                    heads.append((answer.status, answer.content_type, answer.headers.get("Content-Encoding")))
                    if method == "GET":
                        plain = gzip.decompress(body) if encoding == "gzip" else body
                        assert b"stream_upstream_up{" in plain
                        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                    else:
                        assert body == b""
                        assert int(answer.headers["Content-Length"]) > 100
            assert heads[0] == heads[1]


async def test_probe_of_one_stream_returns_only_that_stream(exporter: Exporter) -> None:
    status, text = await probe(exporter, "upstream=origin&stream=live/side")
    assert status == 200
    assert {sample.labels.get("stream") for f in text_string_to_metric_families(text) for sample in f.samples} == {
        None,
        "live/side",
    }
    assert value(text, "stream_upstream_streams") == 2


async def test_probe_of_one_stream_returns_nothing_about_others(origin: Origin, tmp_path: Path) -> None:
    work = [{"from": "2026-01-01T00:00Z", "to": "2090-01-01T00:00Z"}]
    streams = [{"application": "live", "key": key, "maintenance": work} for key in ("main", "side")]
    async with serving(origin.app) as url, exporting(tmp_path, configured(url, streams=streams)) as exporter:
        _, text = await probe(exporter, "upstream=origin&stream=live/side")
        assert value(text, "stream_maintenance", "live/side") == 1
        assert "live/main" not in text


async def test_probe_of_one_stream_returns_its_overrides_and_those_of_the_upstream(
    origin: Origin, tmp_path: Path
) -> None:
    alerts = {"StreamJitterHigh": 0.5, "StreamVanished": "off", "StreamUpstreamUnstable": "off"}
    async with serving(origin.app) as url, exporting(tmp_path, configured(url, alerts=alerts)) as exporter:
        _, text = await probe(exporter, "upstream=origin&stream=live/side")
        assert {"stream_alert_threshold", "stream_alert_off"} <= {f.name for f in text_string_to_metric_families(text)}
        assert value(text, "stream_alert_threshold", "live/side") == 0.5
        assert value(text, "stream_alert_threshold", "live/main") is None
        assert value(text, "stream_alert_off", "live/main") is None
        assert value(text, "stream_alert_off") == 1


async def test_probe_of_many_streams_has_the_format_of_few(exporter: Exporter, origin: Origin) -> None:
    few = (await probe(exporter))[1]
    origin.names += [f"more-{index}" for index in range(MAX_ROWS)]
    text = (await probe(exporter))[1]
    assert value(text, "stream_live", "live/more-7") == 1
    assert series(text).keys() >= series(few).keys()
    for stream in ("live/main", "live/side", "live/main"):
        assert value((await probe(exporter, f"upstream=origin&stream={stream}"))[1], "stream_live", stream) == 1
    del origin.names[2:]
    origin.names.reverse()
    again = [series((await probe(exporter, f"upstream=origin&stream={stream}"))[1]) for stream in 2 * ["live/side"]]
    assert again[0].keys() == again[1].keys() < series(text).keys()


BAD_TARGETS = (
    ("", 400, "missing parameter: upstream"),
    ("upstream=", 400, "missing parameter: upstream"),
    ("target=origin", 400, "missing parameter: upstream"),
    ("upstream=origin&upstream=origin", 400, "only once"),
    ("upstream=origin&stream=a&stream=b", 400, "only once"),
    ("upstream=other", 404, "unknown upstream 'other'"),
    ("upstream=http://127.0.0.1:9/", 404, "unknown upstream"),
    ("upstream=origin%2F..", 404, "unknown upstream"),
    ("upstream=%0d%0aX-A:%201", 404, r"unknown upstream '\r\nX-A: 1'"),
)


async def test_bad_or_unknown_target_is_refused_without_a_poll(exporter: Exporter, origin: Origin) -> None:
    before = len(origin.asked)
    for query, expected_status, expected_text in BAD_TARGETS:
        status, text = await probe(exporter, query)
        assert (status, text.count("\n")) == (expected_status, 1)
        assert expected_text in text
    assert len(origin.asked) == before


async def test_unknown_stream_is_404_after_the_poll(exporter: Exporter) -> None:
    for stream, expected_text in (
        ("live/none", "stream 'live/none' of upstream origin\n"),
        ("x" * 999, f"'{'x' * 64}'"),
        ("", "''"),
    ):
        status, text = await probe(exporter, f"upstream=origin&stream={stream}")
        assert (status, expected_text in text) == (404, True)


async def test_query_never_reaches_a_url(exporter: Exporter, origin: Origin) -> None:
    await probe(exporter, "upstream=origin&stream=..%2F..%2Fcanary&url=canary&target=canary")
    assert set(origin.asked) == {"/api/v1/health", "/api/v1/login", "/api/v1/streams"}


async def test_failed_poll_returns_up_0(exporter: Exporter, origin: Origin) -> None:
    origin.is_broken = True
    status, text = await probe(exporter)
    assert (status, value(text, "stream_upstream_up")) == (200, 0)
    assert value(text, "stream_expected", "live/main") == 1
    assert value(text, "stream_live", "live/main") is None
    origin.is_broken = False
    assert value((await probe(exporter))[1], "stream_live", "live/main") == 1
    origin.is_broken = True
    status, text = await probe(exporter, "upstream=origin&stream=live/unknown")
    assert (status, value(text, "stream_upstream_up")) == (200, 0)
    assert value((await probe(exporter))[1], "stream_live", "live/main") == 1


# -- timeouts and concurrent probes -----------------------------------------------------------------------------------


async def test_concurrent_probes_share_a_poll(exporter: Exporter, origin: Origin) -> None:
    await probe(exporter)
    origin.let_go.clear()
    before = origin.polls
    queries = ["upstream=origin", "upstream=origin&stream=live/side", "upstream=origin"]
    probes = [asyncio.create_task(probe(exporter, query)) for query in queries]
    while origin.polls == before:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert value(await exporter.get("/metrics"), "stream_upstream_up") == 1
    origin.let_go.set()
    assert [status for status, _ in await asyncio.gather(*probes)] == [200] * 3
    assert origin.polls == before + 1


async def test_probe_ends_at_the_scrape_timeout_and_the_next_one_works(exporter: Exporter, origin: Origin) -> None:
    await probe(exporter)
    origin.let_go.clear()
    status, text = await probe(exporter, **{TIMEOUT_HEADER: "0.2"})
    assert (status, value(text, "stream_upstream_up")) == (200, 0)
    assert value(text, "stream_expected", "live/main") == 1
    origin.let_go.set()
    assert value((await probe(exporter))[1], "stream_upstream_up") == 1


async def test_probe_with_less_time_than_the_shared_poll_times_out_alone(exporter: Exporter, origin: Origin) -> None:
    patient = await origin.hold(probe(exporter))
    status, text = await probe(exporter, **{TIMEOUT_HEADER: "0.2"})
    assert (status, value(text, "stream_upstream_up")) == (200, 0)
    assert value(text, "stream_upstream_streams") == 0
    assert not patient.done()
    origin.let_go.set()
    assert value((await patient)[1], "stream_upstream_up") == 1
    assert origin.polls == 2


async def test_poll_continues_if_the_caller_that_started_it_is_cancelled(exporter: Exporter, origin: Origin) -> None:
    probes = exporter.service.probes
    first = await origin.hold(probes.poll("origin"))
    waiting = asyncio.create_task(probes.poll("origin"))
    await asyncio.sleep(0)
    first.cancel()
    origin.let_go.set()
    assert (await waiting).up
    assert first.cancelled()
    assert origin.polls == 2


async def test_probes_of_all_streams_share_a_result_for_half_an_interval(
    exporter: Exporter, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    before = origin.polls
    whole = (await probe(exporter))[1]
    origin.names.append("new")
    assert (await probe(exporter))[1] == whole
    assert value((await probe(exporter, "upstream=origin&stream=live/side"))[1], "stream_live", "live/side") == 1
    assert (await probe(exporter, "upstream=origin&stream=live/new"))[0] == 404
    assert value((await probe(exporter, **{TIMEOUT_HEADER: "0.2"}))[1], "stream_upstream_up") == 1
    assert origin.polls == before + 1


async def test_malformed_scrape_timeout_is_refused(exporter: Exporter) -> None:
    for given in ("soon", "nan", "inf", "-1", "0", ""):
        status, text = await probe(exporter, **{TIMEOUT_HEADER: given})
        assert (status, text) == (400, f"{TIMEOUT_HEADER} must be a positive number of seconds\n")


def test_scrape_timeout_leaves_half_a_second_for_the_response() -> None:
    assert parse_time_limit(None) is None
    assert parse_time_limit("10") == 9.5
    assert parse_time_limit("0.6") == 0.3
    assert parse_target(MultiDict({"upstream": "a"})) == ("a", None)
    with pytest.raises(BadProbeError):
        parse_target(MultiDict())


# -- probes and scheduled polls ----------------------------------------------------------------------------------------


async def test_probe_does_not_affect_background_polls(exporter: Exporter, origin: Origin) -> None:
    served = exporter.service.store.get("origin")
    own_metrics = exporter.service.metrics.render_upstreams()
    histograms = await exporter.get("/metrics?collect[]=streams")
    published: list[object] = []
    exporter.service.store.subscribe(published.append)
    for names in (["main"], [], ["main", "side"]):
        origin.names = names
        for _ in range(2):
            assert (await probe(exporter))[0] == 200
    origin.is_broken = True
    await probe(exporter)
    assert exporter.service.store.get("origin") is served
    assert exporter.service.metrics.render_upstreams() == own_metrics
    assert await exporter.get("/metrics?collect[]=streams") == histograms
    assert published == []


async def test_probe_shares_the_login_of_background_polls(exporter: Exporter, origin: Origin) -> None:
    for _ in range(3):
        await probe(exporter)
    # A login takes two requests: a challenge and the password.
    assert origin.asked.count("/api/v1/login") == 2


async def test_probe_labels_equal_those_of_metrics_in_any_order(tmp_path: Path) -> None:
    rows = [{"id": f"{letter * 8}-0000", "name": "twin", "isActive": True, "lastSeen": 0} for letter in ("a", "b", "c")]

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(rows if request.path == "/stream" else [])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    settings = {"name": "studio", "platform": "livepeer", "interval": "1h", "auth": {"bearer_token": STUDIO_KEY}}
    async with (
        serving(app) as url,
        exporting(tmp_path, {"upstreams": [settings | {"url": url, "viewership": False}]}) as exporter,
    ):
        await exporter.reaches(3, "stream_upstream_streams")
        rows.reverse()
        _, text = await probe(exporter, "upstream=studio")
        served = await exporter.get("/metrics")
    for content in (text, served):
        ids = {
            s.labels["stream"] for f in text_string_to_metric_families(content) for s in f.samples if "name" in s.labels
        }
        digests = [hashlib.sha256(str(row["id"]).encode()).hexdigest()[:8] for row in rows]
        assert ids == {f"twin#{digest}" for digest in digests}
    infos = [{line for line in content.splitlines() if line.startswith("stream_info")} for content in (text, served)]
    assert infos[0] == infos[1]


# -- reload and shutdown ----------------------------------------------------------------------------------------------


async def test_reload_replaces_changed_probe_targets(exporter: Exporter, origin: Origin) -> None:
    await probe(exporter)
    url = exporter.service.settings.upstreams[0].url
    under_way = await origin.hold(probe(exporter))
    exporter.write(configured(url, ended_ttl="1m"))
    await exporter.service.reload()
    origin.let_go.set()
    _, text = await probe(exporter)
    assert value(text, "stream_upstream_up") == 1
    assert (await under_way)[0] == 200
    exporter.write(configured(url, name="renamed"))
    await exporter.service.reload()
    assert (await probe(exporter))[0] == 404
    assert (await probe(exporter, "upstream=renamed"))[0] == 200


async def test_shutdown_does_not_wait_for_a_probe(exporter: Exporter, origin: Origin) -> None:
    under_way = await origin.hold(probe(exporter))
    await exporter.service.stop()
    status, text = await under_way
    assert (status, value(text, "stream_upstream_up")) == (200, 0)
    assert (await probe(exporter))[0] == 404


async def test_probe_before_the_start_is_an_unknown_upstream() -> None:
    def build(*_: Any) -> Coordinator:
        raise AssertionError

    with pytest.raises(UnknownUpstreamError):
        await OnDemandPolls(lambda _: None, build, Clock()).poll("origin")


async def test_internal_error_is_a_failed_probe(exporter: Exporter, caplog: pytest.LogCaptureFixture) -> None:
    running = exporter.service.coordinator("origin")
    await probe(exporter)
    (target,) = exporter.service.probes._targets.values()
    target._store.publish = None  # type: ignore[assignment, method-assign]
    probes = exporter.service.probes
    views = await asyncio.gather(probes.poll("origin"), probes.poll("origin"))
    assert running is not None
    assert [(view.up, view.last_error_reason) for view in views] == 2 * [(False, Reason.INTERNAL)]
