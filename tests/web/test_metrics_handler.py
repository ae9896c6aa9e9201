"""/metrics over real sockets, with a fake renderer."""

import asyncio
import gzip
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import UpstreamState
from exporter.web.metrics_handler import CONTENT_TYPE, PARTS, MetricsHandler, accepts_gzip, wanted_parts
from exporter.web.protocols import Renderer
from tests.metrics.generated_views import view

BODY = b"# TYPE a gauge\na 1\n"
Render = Callable[[frozenset[str]], bytes]


class FakeRenderer:
    """Renders with a function that the test provides."""

    def __init__(self, render: Render) -> None:
        self.pieces = lambda parts: [render(parts)]
        self.packed = lambda parts: [gzip.compress(render(parts))]
        self.prepared: list[tuple[UpstreamState, str]] = []

    def prepare(self, state: UpstreamState) -> None:
        self.prepared.append((state, threading.current_thread().name))


@asynccontextmanager
async def serving(render: Render | Renderer) -> AsyncIterator[int]:
    scrapes = MetricsHandler(FakeRenderer(render) if callable(render) else render)
    app = web.Application()
    scrapes.add_routes(app, "/metrics")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def client(port: int) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}", auto_decompress=False)


async def raw(port: int, head: str) -> bytes:
    """Return the raw response to one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    ],
)
async def test_format_is_text_0_0_4_for_any_accept_header(accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    async with (
        serving(lambda _: BODY) as port,
        client(port) as session,
        session.get("/metrics", headers=headers) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


async def test_body_is_compressed_only_if_accepted() -> None:
    async with serving(lambda _: BODY) as port, client(port) as session:
        async with session.get("/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert gzip.decompress(await answer.read()) == BODY
        async with session.get("/metrics", headers={"Accept-Encoding": "gzip;q=0, identity"}) as answer:
            assert "Content-Encoding" not in answer.headers
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert await answer.read() == BODY


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_head_response_has_the_headers_and_no_body(encoding: str) -> None:
    async with serving(lambda _: BODY) as port:
        heads = []
        for method in ("GET", "HEAD"):
            answer = await raw(port, f"{method} /metrics HTTP/1.1\r\nAccept-Encoding: {encoding}")
            head, _, body = answer.partition(b"\r\n\r\n")
            heads.append([line for line in head.splitlines() if not line.startswith(b"Date:")])
        assert heads[0] == heads[1]
        assert any(line.startswith(b"Content-Length: ") for line in heads[1])
        assert body == b""


async def test_body_in_pieces_arrives_whole() -> None:
    pieces = [bytes([65 + n % 26]) * size for n, size in enumerate([1, 700_000, 700_000, 3 << 20, 0, 5] * 4)]

    class Pieces:
        def pieces(self, _: frozenset[str]) -> list[bytes]:
            return pieces

        def packed(self, _: frozenset[str]) -> list[bytes]:
            raise AssertionError

        def prepare(self, state: UpstreamState) -> None:
            raise AssertionError

    plain = {"Accept-Encoding": "identity"}
    async with (
        serving(Pieces()) as port,
        client(port) as session,
        session.get("/metrics", headers=plain) as answer,
    ):
        assert answer.content_length == sum(map(len, pieces))
        assert await answer.read() == b"".join(pieces)


async def test_collect_selects_parts() -> None:
    seen: list[frozenset[str]] = []

    def render(parts: frozenset[str]) -> bytes:
        seen.append(parts)
        return BODY

    async with serving(render) as port, client(port) as session:
        for query in ("", "?collect[]=exporter", "?collect[]=streams&collect[]=upstreams", "?collect%5B%5D=streams"):
            async with session.get(f"/metrics{query}") as answer:
                assert answer.status == 200
    assert seen == [frozenset(PARTS), {"exporter"}, {"streams", "upstreams"}, {"streams"}]


async def test_unknown_part_is_refused_and_allowed_parts_are_listed() -> None:
    async with serving(lambda _: BODY) as port, client(port) as session:
        for value in ("nothing", "", "%0a%22"):
            async with session.get(f"/metrics?collect[]={value}") as answer:
                assert answer.status == 400
                assert answer.content_type == "text/plain"
                text = await answer.text()
                assert text.endswith("allowed: exporter, upstreams, streams\n")
                assert text.count("\n") == 1


def test_long_part_name_is_truncated_in_the_error() -> None:
    with pytest.raises(ValueError) as failure:
        wanted_parts(["x" * 10_000])
    assert len(str(failure.value)) < 200


class BlockingRender:
    """A render function that blocks until ``proceed`` is set."""

    def __init__(self) -> None:
        self.started, self.proceed = threading.Event(), threading.Event()
        self.count = 0

    def __call__(self, _: frozenset[str]) -> bytes:
        self.count += 1
        self.started.set()
        assert self.proceed.wait(30)
        return BODY


async def test_event_loop_is_free_while_rendering() -> None:
    render = BlockingRender()
    async with serving(render) as port, client(port) as session:
        scrape = asyncio.create_task(raw(port, "GET /metrics HTTP/1.1"))
        assert await asyncio.to_thread(render.started.wait, 30)
        async with session.get("/metrics?collect[]=unknown") as answer:
            assert answer.status == 400
        assert not scrape.done()
        render.proceed.set()
        assert (await scrape).endswith(BODY)


async def test_equal_scrapes_share_a_rendering_that_survives_a_disconnect() -> None:
    render = BlockingRender()
    scrapes = MetricsHandler(FakeRenderer(render))
    everything = frozenset(PARTS)
    leaving, staying, late = [asyncio.create_task(scrapes.body(everything, compressed=False)) for _ in range(3)]
    other = asyncio.create_task(scrapes.body(everything, compressed=True))
    assert await asyncio.to_thread(render.started.wait, 30)
    leaving.cancel()
    render.proceed.set()
    assert await staying == await late == [BODY]
    assert gzip.decompress(b"".join(await other)) == BODY
    assert leaving.cancelled()
    assert render.count == 2
    assert await scrapes.body(everything, compressed=False) == [BODY]
    assert render.count == 3
    scrapes.close()


def test_published_state_is_prepared_in_a_worker() -> None:
    made = FakeRenderer(lambda _: BODY)
    scrapes = MetricsHandler(made)
    published = view()
    scrapes.prepare(published)
    while not made.prepared:
        time.sleep(0.001)
    ((prepared, thread),) = made.prepared
    assert prepared is published
    assert thread != threading.current_thread().name
    scrapes.close()
    scrapes.prepare(view())
    assert len(made.prepared) == 1


async def test_failed_rendering_is_a_500_and_the_next_scrape_works() -> None:
    broken = True

    def render(_: frozenset[str]) -> bytes:
        if broken:
            raise RuntimeError("broken")
        return BODY

    async with serving(render) as port, client(port) as session:
        async with session.get("/metrics") as answer:
            assert answer.status == 500
            assert "broken" not in await answer.text()
        broken = False
        async with session.get("/metrics") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("is_accepted", "headers"),
    [
        (True, ["gzip", "GZIP", "x-gzip", "*", "deflate, gzip;q=0.5", "gzip ; Q=1.0", "identity, *;q=0.1", "br,gzip"]),
        (
            False,
            ["", "identity", "gzip;q=0", "gzip;q=0.000", "*;q=0", "gzip;q=0, *", "deflate", "gzip;q=nan", "gzipped"],
        ),
        (False, ["gzip;q=much"]),
    ],
)
def test_accept_encoding_is_parsed(is_accepted: bool, headers: list[str]) -> None:
    for header in headers:
        assert accepts_gzip(header) == is_accepted, header


@given(st.text(alphabet='gzip*;q=0.1, "\\x', max_size=60))
def test_any_accept_encoding_is_parsed(header: str) -> None:
    assert accepts_gzip(header) in (True, False)
