"""Fetching media objects: sizes, ranges, compression, deadlines, faults and the load on servers; with real sockets."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter import __version__
from exporter.config.playback import RESERVED_HEADERS
from exporter.config.secrets import Secret
from exporter.http import media_hosts
from exporter.http.media import (
    HEAD_BYTES,
    PLAYLIST_BYTES,
    SEGMENT_BYTES,
    ByteRange,
    FetchError,
    FetchReason,
    MediaFetcher,
)
from exporter.http.media_body import MAX_GZIP_MEMBERS, MAX_SKIPPED_BYTES, STEP_BYTES
from exporter.http.media_hosts import KEEP_ALIVE_SECONDS, MediaServers
from exporter.http.rate_limit import LONGEST_PAUSE_SECONDS
from exporter.http.retry import DRAIN_SHARE
from exporter.model import Reason
from tests.fake_clock import FakeClock
from tests.http.loop_clock import LoopTime
from tests.http.media_fetching import LONG, Names, failure, fetcher_of, head, playlist, whole
from tests.http.raw_server import Observed, Request, Server, answering, http, read_request, serving

OBJECT = random.Random(0).randbytes(100_000)
LARGE_OBJECT = random.Random(1).randbytes(1_000_000)
"""Does not fit into the buffers of a response."""
DAY = "Sun, 06 Nov 1994 08:49:37 GMT"
REAL_SECONDS = 0.3
"""A timeout that is reached."""


def part(first: int, last: int, total: int | str = len(OBJECT), body: bytes | None = None, **headers: Any) -> bytes:
    """Return a response with a part of the object."""
    body = OBJECT[first : last + 1] if body is None else body
    return http(206, body, Content_Range=f"bytes {first}-{last}/{total}", **headers)


def chunked(body: bytes, **headers: Any) -> bytes:
    head, _, _ = http(200, b"", Content_Length="", Transfer_Encoding="chunked", **headers).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@asynccontextmanager
async def fetching(*answers: bytes | Callable[[Request], bytes]) -> AsyncIterator[tuple[MediaFetcher, Server]]:
    async with answering(*answers) as server, fetcher_of(server.url) as fetcher:
        yield fetcher, server


# -- the request and the result ----------------------------------------------------------------------------------------


async def test_playlist_is_returned_with_its_headers_and_url() -> None:
    answer = http(
        body=b"#EXTM3U\n", Content_Type="Application/vnd.apple.mpegURL; charset=utf-8", Age="7", Date=DAY,
        Connection="keep-alive",
    )  # fmt: skip
    async with fetching(answer) as (fetcher, server):
        found = await playlist(fetcher, f"{server.url}/a/b.m3u8?t=%2B~%zz+[x] y#fragment")
    assert found.url == f"{server.url}/a/b.m3u8?t=%2B~%zz+[x]%20y", "encoded as the document wrote it"
    assert (found.status, found.body, found.is_cut, found.total_bytes) == (200, b"#EXTM3U\n", False, 8)
    assert (found.content_type, found.age, found.date) == ("application/vnd.apple.mpegurl", 7.0, 784_111_777.0)
    (request,) = server.requests
    assert (request.method, request.target) == ("GET", "/a/b.m3u8?t=%2B~%zz+[x]%20y")
    assert request.headers["user-agent"] == f"stream-exporter/{__version__} (probe)"
    assert request.headers["accept-encoding"] == "gzip"
    assert not {"range", "cookie", "authorization", "referer"} & set(request.headers)


@pytest.mark.parametrize("age", ["x", "-1", "9" * 10, "1.5", "\xb2"])
async def test_unreadable_headers_are_none(age: str) -> None:
    async with fetching(http(Age=age, Date="yesterday", Content_Type="")) as (fetcher, server):
        found = await playlist(fetcher, server.url)
    assert (found.age, found.date, found.content_type) == (None, None, "")


async def test_times_are_measured_on_the_clock_including_redirects() -> None:
    clock = FakeClock()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        clock.advance(2.0)
        writer.write(http(302, b"", Location="/b"))
        await read_request(reader)
        clock.advance(3.0)
        answer = http(body=b"x" * 10)
        writer.write(answer[:-1])
        await reading.wait()
        clock.advance(5.0)
        writer.write(answer[-1:])

    reading = asyncio.Event()
    async with serving(handle) as port, fetcher_of(f"http://127.0.0.1:{port}", clock=clock) as fetcher:
        task = asyncio.create_task(playlist(fetcher, f"http://127.0.0.1:{port}/a"))
        while not fetcher._servers._servers or clock.monotonic() < 1005.0:  # noqa: ASYNC110 - the server's time
            await asyncio.sleep(0)
        for _ in range(30):
            await asyncio.sleep(0)
        reading.set()
        found = await task
    assert (found.first_byte_seconds, found.body_seconds, found.seconds) == (5.0, 5.0, 10.0)
    assert found.redirects == 1


async def test_requests_are_observed_with_status_or_reason() -> None:
    observed = Observed()
    async with (
        answering(http(302, b"", Location="/b"), http(), http(404)) as server,
        fetcher_of(server.url, observe=observed) as fetcher,
    ):
        await playlist(fetcher, server.url)
        await failure(playlist(fetcher, server.url), FetchReason.NOT_FOUND)
        await failure(playlist(fetcher, "http://unknown.example/"), FetchReason.CONNECT)
    assert observed.attempts == [("playlist", code) for code in ("302", "200", "404", "connect")]


@pytest.mark.parametrize("name", sorted(RESERVED_HEADERS))
def test_header_that_http_itself_sets_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be configured"):
        MediaFetcher(url="http://a.example", clock=FakeClock(), headers={name.title(): Secret.inline("x")})


@pytest.mark.parametrize("url", ["ftp://a.example", "http://user:hunter22@a.example", "http://0x7f.1"])
def test_configured_url_that_cannot_work_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        MediaFetcher(url="http://a.example", clock=FakeClock(), stream_urls=[url])
    assert "a.example" not in str(caught.value)
    assert "hunter22" not in str(caught.value)


# -- statuses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (304, FetchReason.BAD_RESPONSE),
        (400, FetchReason.BAD_RESPONSE),
        (401, FetchReason.AUTH),
        (403, FetchReason.FORBIDDEN),
        (404, FetchReason.NOT_FOUND),
        (410, FetchReason.NOT_FOUND),
        (416, FetchReason.BAD_RESPONSE),
        (429, FetchReason.RATE_LIMITED),
        (503, FetchReason.SERVER_ERROR),
    ],
)
async def test_refusal_is_an_error_with_status_and_keeps_the_connection(status: int, reason: FetchReason) -> None:
    body = b"" if status == 304 else b"<html>" * 30
    async with fetching(http(status, body), http(body=b"again")) as (fetcher, server):
        error = await failure(head(fetcher, f"{server.url}/x/seg-1.ts?token=1"), reason)
        assert (await whole(fetcher, server.url)).body == b"again"
    assert (error.status, error.is_inconclusive, error.retry_after) == (status, False, None)
    assert str(error) == f"segment 127.0.0.1:{server.port}/seg-1.ts: status {status}"
    assert server.connections == 1


async def test_endless_body_of_a_refusal_is_not_read(loop_time: LoopTime) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(404, b"x", Content_Length="1000"))
        await writer.drain()
        answered.set()
        await reader.read()
        closed.set()

    answered, closed = asyncio.Event(), asyncio.Event()
    async with serving(handle) as port, fetcher_of(f"http://127.0.0.1:{port}") as fetcher:
        task = asyncio.create_task(playlist(fetcher, f"http://127.0.0.1:{port}"))
        await answered.wait()
        await loop_time.advance(DRAIN_SHARE * LONG + 0.1)
        assert (await failure(task, FetchReason.NOT_FOUND)).status == 404
        await closed.wait()


async def test_large_body_of_a_refusal_closes_the_connection() -> None:
    async with fetching(http(404, b"x" * 200_000), http()) as (fetcher, server):
        await failure(playlist(fetcher, server.url), FetchReason.NOT_FOUND)
        await playlist(fetcher, server.url)
    assert server.connections == 2


# -- sizes and ranges --------------------------------------------------------------------------------------------------


async def test_head_is_requested_as_a_range_and_keeps_the_connection() -> None:
    async with fetching(part(0, HEAD_BYTES - 1)) as (fetcher, server):
        for _ in range(3):
            found = await head(fetcher, server.url)
    assert (found.status, found.body) == (206, OBJECT[:HEAD_BYTES])
    assert (found.is_cut, found.total_bytes) == (True, len(OBJECT))
    assert server.requests[0].headers["range"] == "bytes=0-16383"
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert server.connections == 1


async def test_head_of_a_short_segment_is_not_cut() -> None:
    async with fetching(part(0, 99, 100), http(body=OBJECT[:100])) as (fetcher, server):
        for _ in range(2):
            found = await head(fetcher, server.url)
            assert (found.body, found.is_cut, found.total_bytes) == (OBJECT[:100], False, 100)


@pytest.mark.parametrize("answer", [http(body=LARGE_OBJECT), chunked(LARGE_OBJECT)], ids=["length", "chunked"])
async def test_head_from_a_server_without_ranges_is_cut_and_closes_the_connection(answer: bytes) -> None:
    async with fetching(answer) as (fetcher, server):
        for _ in range(2):
            found = await head(fetcher, server.url)
    assert (found.status, found.body, found.is_cut) == (200, LARGE_OBJECT[:HEAD_BYTES], True)
    assert found.total_bytes == (len(LARGE_OBJECT) if b"Content-Length" in answer else None)
    assert server.connections == 2


async def test_server_without_ranges_sends_no_more_than_the_head_and_its_buffers() -> None:
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(http(body=b"", Content_Length=str(2**30)))
        while True:
            writer.write(OBJECT)
            await writer.drain()
            sent += len(OBJECT)

    async with serving(handle) as port, fetcher_of(f"http://127.0.0.1:{port}") as fetcher:
        found = await head(fetcher, f"http://127.0.0.1:{port}")
    assert (len(found.body), found.is_cut, found.total_bytes) == (HEAD_BYTES, True, 2**30)
    assert sent < 16 * 2**20, "the rest was in the buffers of both sides"


@pytest.mark.parametrize("supports_ranges", [True, False])
async def test_byte_range_of_an_object_is_read(supports_ranges: bool) -> None:
    wanted = ByteRange(5_000, 44_999)
    answers = [part(5_000, 44_999), part(5_000, 5_999)] if supports_ranges else [http(body=OBJECT)]
    async with fetching(*answers) as (fetcher, server):
        all_of_it = await whole(fetcher, server.url, wanted)
        start = await head(fetcher, server.url, wanted, max_bytes=1_000)
    assert (all_of_it.body, all_of_it.is_cut) == (OBJECT[5_000:45_000], False), "the range is what counts"
    assert (start.body, start.is_cut) == (OBJECT[5_000:6_000], True)
    assert (all_of_it.total_bytes, start.total_bytes) == (len(OBJECT), len(OBJECT))
    assert [request.headers["range"] for request in server.requests] == ["bytes=5000-44999", "bytes=5000-5999"]


async def test_unknown_total_size_is_none() -> None:
    async with fetching(part(0, HEAD_BYTES - 1, "*")) as (fetcher, server):
        found = await head(fetcher, server.url)
    assert (found.is_cut, found.total_bytes) == (True, None)


async def test_longer_part_than_requested_is_cut_and_closes_the_connection() -> None:
    last = len(LARGE_OBJECT) - 1
    async with fetching(part(0, last, last + 1, LARGE_OBJECT)) as (fetcher, server):
        for _ in range(2):
            found = await head(fetcher, server.url)
            assert (found.body, found.is_cut) == (LARGE_OBJECT[:HEAD_BYTES], True)
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (part(1, HEAD_BYTES), "another range"),
        (part(0, 99, 50, OBJECT[:100]), "another range"),
        (part(0, 99, body=OBJECT[:50]), "shorter than its Content-Range"),
        (http(206, OBJECT[:100]), "without a usable Content-Range"),
        (http(206, OBJECT[:100], Content_Range="bytes 0-/100"), "without a usable Content-Range"),
        (http(206, OBJECT[:100], Content_Range=f"bytes 0-{'9' * 5000}/*"), "without a usable Content-Range"),
        (http(206, b"--x", Content_Type="multipart/byteranges; boundary=x"), "without a usable Content-Range"),
        (part(0, 99, Content_Encoding="gzip"), "a compressed part"),
        (http(200, OBJECT[:100], Content_Encoding="br"), "unsupported content encoding"),
    ],
)
async def test_wrong_part_is_a_bad_response(answer: bytes, problem: str) -> None:
    async with fetching(answer) as (fetcher, server):
        assert problem in str(await failure(head(fetcher, server.url), FetchReason.BAD_RESPONSE))


async def test_part_that_was_not_requested_is_a_bad_response() -> None:
    async with fetching(part(0, 99)) as (fetcher, server):
        await failure(whole(fetcher, server.url), FetchReason.BAD_RESPONSE)


async def test_range_that_needs_too_much_skipping_is_a_bad_response() -> None:
    far = ByteRange(MAX_SKIPPED_BYTES + 1, MAX_SKIPPED_BYTES + 10)
    async with fetching(http(body=OBJECT)) as (fetcher, server):
        await failure(head(fetcher, server.url, far), FetchReason.BAD_RESPONSE)
        error = await failure(head(fetcher, server.url, ByteRange(len(OBJECT), 2**17)), FetchReason.BAD_RESPONSE)
    assert "ends before the requested range" in str(error)


@pytest.mark.parametrize("answer", [http(body=OBJECT), chunked(OBJECT)], ids=["length", "chunked"])
async def test_object_of_the_maximum_size_is_read_and_a_larger_one_is_an_error(answer: bytes) -> None:
    async with fetching(answer) as (fetcher, server):
        for fetch in (playlist, whole):
            found = await fetch(fetcher, server.url, max_bytes=len(OBJECT))
            sent = server.requests[-1].headers["accept-encoding"]
            assert sent == ("gzip" if fetch is playlist else "identity")
            assert (found.body, found.is_cut) == (OBJECT, False)
            error = await failure(fetch(fetcher, server.url, max_bytes=len(OBJECT) - 1), FetchReason.TOO_LARGE)
            assert str(error).endswith(f"the object exceeds {len(OBJECT) - 1} bytes")
        await failure(whole(fetcher, server.url, ByteRange(0, 99), max_bytes=99), FetchReason.TOO_LARGE)


async def test_files_of_a_real_server_are_read_whole_and_in_parts(tmp_path: Path) -> None:
    (tmp_path / "seg.ts").write_bytes(OBJECT)
    app = web.Application()
    app.router.add_static("/media", tmp_path)
    async with TestServer(app) as server, fetcher_of(str(server.make_url("/"))) as fetcher:
        url = str(server.make_url("/media/seg.ts"))
        assert (await whole(fetcher, url)).body == OBJECT
        found = await head(fetcher, url)
        assert (found.status, found.body, found.total_bytes) == (206, OBJECT[:HEAD_BYTES], len(OBJECT))
        last = await whole(fetcher, url, ByteRange(len(OBJECT) - 10, len(OBJECT) + 10))
        assert (last.body, last.is_cut) == (OBJECT[-10:], False)
        beyond = head(fetcher, url, ByteRange(len(OBJECT), len(OBJECT) + 10))
        assert (await failure(beyond, FetchReason.BAD_RESPONSE)).status == 416


# -- compression -------------------------------------------------------------------------------------------------------


def packed(body: bytes, **headers: Any) -> bytes:
    return http(body=body, Content_Encoding="gzip", **headers)


@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 1_500_000])
async def test_gzip_is_decompressed(size: int) -> None:
    text = (b"#EXTINF:2.0,\nsegment.ts\n" * 70_000)[:size]
    members = gzip.compress(text[:100]) + gzip.compress(text[100:])
    async with fetching(packed(gzip.compress(text)), packed(members)) as (fetcher, server):
        for _ in range(2):
            found = await playlist(fetcher, server.url)
            assert (found.body, found.is_cut) == (text, False)
            # the object as such, not its compressed form
            assert found.total_bytes is None


@pytest.mark.parametrize("zeros", [2**18 - 1, 2**18, 2**18 + 1, 2**21])
async def test_content_left_in_the_decoder_is_not_lost(zeros: int) -> None:
    async with fetching(packed(gzip.compress(b"\0" * zeros))) as (fetcher, server):
        assert len((await playlist(fetcher, server.url)).body) == zeros


async def test_gzip_bomb_ends_at_the_limit_and_does_not_block_the_event_loop() -> None:
    bomb = gzip.compress(b"\0" * 2**25, 9)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with fetching(packed(bomb)) as (fetcher, server):
        await failure(playlist(fetcher, server.url), FetchReason.TOO_LARGE)
        counting = asyncio.create_task(count_turns())
        await failure(whole(fetcher, server.url, max_bytes=2**24), FetchReason.TOO_LARGE)
        counting.cancel()
        assert (await head(fetcher, server.url)).body == bytes(HEAD_BYTES)
    assert turns >= 2**24 // STEP_BYTES, "other tasks ran after each step, which takes about a millisecond"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"#EXTM3U", "malformed"),
        (gzip.compress(OBJECT)[:-9], "truncated"),
        (gzip.compress(b"") * (MAX_GZIP_MEMBERS + 1), "too many members"),
    ],
)
async def test_damaged_gzip_is_a_bad_response(body: bytes, problem: str) -> None:
    async with fetching(packed(body)) as (fetcher, server):
        assert problem in str(await failure(playlist(fetcher, server.url), FetchReason.BAD_RESPONSE))


async def test_compressed_body_without_content_is_limited_too() -> None:
    # a stored block without content takes five bytes
    endless = gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 60_000
    async with fetching(packed(endless)) as (fetcher, server):
        await failure(playlist(fetcher, server.url, max_bytes=1_000), FetchReason.TOO_LARGE)


# -- faults and deadlines ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def served_by(handle: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[tuple[MediaFetcher, str]]:
    """Read each request and then call ``handle``; the connection stays open."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        handle(writer)
        await reader.read()

    async with serving(connected) as port, fetcher_of(f"http://127.0.0.1:{port}") as fetcher:
        yield fetcher, f"http://127.0.0.1:{port}"


async def test_truncated_body_is_a_bad_response() -> None:
    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(http(body=OBJECT, Content_Length=str(len(OBJECT) + 1)))
        writer.close()

    async with served_by(answer) as (fetcher, url):
        for fetch in (playlist, whole):
            await failure(fetch(fetcher, url), FetchReason.BAD_RESPONSE)


@pytest.mark.parametrize("start", [b"", http(body=OBJECT)[:50_000]], ids=["before", "in the body"])
async def test_connection_reset_is_an_error(start: bytes) -> None:
    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with served_by(answer) as (fetcher, url):
        with pytest.raises(FetchError, match=r"segment 127\.0\.0\.1:\d+/: ") as caught:
            await whole(fetcher, url)
    assert caught.value.fetch_reason in (FetchReason.CONNECT, FetchReason.BAD_RESPONSE)


async def test_closed_port_and_text_that_is_not_http_are_errors() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with served_by(lambda writer: writer.write(b"SSH-2.0-x\r\n")) as (fetcher, url):
            await failure(playlist(fetcher, f"http://127.0.0.1:{port}/"), FetchReason.CONNECT)
            await failure(playlist(fetcher, url), FetchReason.BAD_RESPONSE)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", http(body=OBJECT)[:1000]])
async def test_silent_server_ends_at_the_deadline(start: bytes) -> None:
    observed = Observed()
    async with served_by(lambda writer: writer.write(start)) as (fetcher, url):
        fetcher._observe = observed
        error = await failure(whole(fetcher, url, timeout=REAL_SECONDS), FetchReason.TIMEOUT)
    assert observed.attempts == [("segment", "200" if len(start) > 100 else "timeout")]
    assert not error.is_inconclusive
    assert str(error).endswith(": timed out")


async def test_slow_body_ends_at_the_deadline_however_often_it_sends(loop_time: LoopTime) -> None:
    clock = FakeClock()
    writers: list[asyncio.StreamWriter] = []

    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(http(body=OBJECT)[:-1000])
        writers.append(writer)

    async with served_by(answer) as (fetcher, url):
        fetcher._clock = clock
        task = asyncio.create_task(whole(fetcher, url, timeout=10.0))
        while not writers:  # noqa: ASYNC110 - the event loop's time does not move
            await asyncio.sleep(0)
        for _ in range(9):
            writers[0].write(b"x")
            clock.advance(1.0)
            await loop_time.advance(1.0)
            assert not task.done()
        clock.advance(1.1)
        await loop_time.advance(1.1)
        error = await failure(task, FetchReason.TIMEOUT)
    assert error.seconds == pytest.approx(10.1)
    assert error.reason is Reason.TIMEOUT


async def test_cancelled_fetch_closes_its_connection() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(body=OBJECT)[:-1])
        started.set()
        await reader.read()
        closed.set()

    started, closed = asyncio.Event(), asyncio.Event()
    observed = Observed()
    async with serving(handle) as port, fetcher_of(f"http://127.0.0.1:{port}", observe=observed) as fetcher:
        task = asyncio.create_task(whole(fetcher, f"http://127.0.0.1:{port}"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closed.wait()
    assert ("segment", "timeout") not in observed.attempts


# -- redirects ---------------------------------------------------------------------------------------------------------


async def test_chain_of_three_redirects_is_followed_with_the_range() -> None:
    targets = ["b?x=1", "/c/", "../d.ts"]
    answers = [http(status, b"moved", Location=to) for status, to in zip((301, 302, 307), targets, strict=True)]
    async with fetching(*answers, part(0, HEAD_BYTES - 1)) as (fetcher, server):
        found = await head(fetcher, f"{server.url}/a/a")
    assert [request.target for request in server.requests] == ["/a/a", "/a/b?x=1", "/c/", "/d.ts"]
    assert {request.headers["range"] for request in server.requests} == {"bytes=0-16383"}
    assert (found.url, found.redirects) == (f"{server.url}/d.ts", 3)
    assert server.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_loop_ends_after_three_redirects(status: int) -> None:
    async with fetching(http(status, b"", Location="/x")) as (fetcher, server):
        error = await failure(playlist(fetcher, server.url), FetchReason.REDIRECT)
    assert len(server.requests) == 4
    assert (error.status, error.reason) == (status, Reason.BAD_RESPONSE)


@pytest.mark.parametrize("location", ["", "http://[::1", "http://a b/", "http://a.example:99999/", "http://a..b/"])
async def test_redirect_without_a_usable_target_is_an_error(location: str) -> None:
    async with fetching(http(302, b"", Location=location)) as (fetcher, server):
        await failure(playlist(fetcher, f"{server.url}/a/"), FetchReason.REDIRECT)
    assert len(server.requests) == 1


# -- load on servers ---------------------------------------------------------------------------------------------------


class HeldServer:
    """Answers requests only when told to."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Event] = {}
        self.most = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            self.waiting[request.target] = event = asyncio.Event()
            self.most = max(self.most, len(self.waiting))
            await event.wait()
            del self.waiting[request.target]
            writer.write(http(body=request.target.encode()))

    async def until_waiting(self, *targets: str) -> None:
        while set(self.waiting) != set(targets):  # noqa: ASYNC110 - sockets
            await asyncio.sleep(0)


async def test_playlist_does_not_wait_for_slow_segments() -> None:
    held = HeldServer()
    async with serving(held.handle) as port, fetcher_of(f"http://127.0.0.1:{port}") as fetcher:
        url = f"http://127.0.0.1:{port}"
        segments = [asyncio.create_task(whole(fetcher, f"{url}/{number}.ts")) for number in range(3)]
        await held.until_waiting("/0.ts")
        first = asyncio.create_task(playlist(fetcher, f"{url}/a.m3u8"))
        second = asyncio.create_task(playlist(fetcher, f"{url}/b.m3u8"))
        await held.until_waiting("/0.ts", "/a.m3u8")
        held.waiting["/a.m3u8"].set()
        assert (await first).body == b"/a.m3u8"
        await held.until_waiting("/0.ts", "/b.m3u8")
        held.waiting["/b.m3u8"].set()
        await second
        for number in range(3):
            await held.until_waiting(f"/{number}.ts")
            held.waiting[f"/{number}.ts"].set()
        await asyncio.gather(*segments)
    assert held.most == 2


async def test_slow_server_does_not_delay_another_one() -> None:
    held = HeldServer()
    async with serving(held.handle) as port, fetching(http(body=OBJECT)) as (fetcher, server):
        slow = [asyncio.create_task(playlist(fetcher, f"http://127.0.0.1:{port}/{number}")) for number in range(5)]
        await held.until_waiting("/0", "/1")
        assert (await whole(fetcher, server.url)).body == OBJECT
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_wait_for_a_free_connection_shows_nothing_about_the_stream() -> None:
    held = HeldServer()
    async with serving(held.handle) as port, fetcher_of(f"http://127.0.0.1:{port}") as fetcher:
        slow = asyncio.create_task(whole(fetcher, f"http://127.0.0.1:{port}/0.ts"))
        await held.until_waiting("/0.ts")
        url = f"http://127.0.0.1:{port}/1.ts"
        error = await failure(whole(fetcher, url, timeout=0.01), FetchReason.TIMEOUT)
        held.waiting["/0.ts"].set()
        await slow
    assert error.is_inconclusive
    assert error.seconds == 0.0
    assert "before the request could be sent" in str(error)


async def test_total_of_concurrent_requests_is_limited() -> None:
    held = HeldServer()
    async with (
        serving(held.handle) as a,
        serving(held.handle) as b,
        serving(held.handle) as c,
        fetcher_of(f"http://127.0.0.1:{a}", max_requests=4, max_requests_per_server=2) as fetcher,
    ):
        urls = [f"http://127.0.0.1:{port}/{number}/{port}" for port in (a, b, c) for number in range(2)]
        tasks = [asyncio.create_task(playlist(fetcher, url)) for url in urls]
        targets = [f"/{number}/{port}" for port in (a, b, c) for number in range(2)]
        first, last = targets[:4], targets[4:]
        await held.until_waiting(*first)
        for target in first:
            held.waiting[target].set()
        await held.until_waiting(*last)
        for target in last:
            held.waiting[target].set()
        await asyncio.gather(*tasks)
    assert held.most == 4


@pytest.mark.parametrize(("total", "per_server"), [(64, 1), (3, 4)])
def test_limits_that_would_starve_playlists_are_refused(total: int, per_server: int) -> None:
    with pytest.raises(ValueError, match="at least 2 per server"):
        MediaServers(FakeClock(), max_requests=total, max_requests_per_server=per_server)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_pauses_all_requests_to_that_server(status: int) -> None:
    clock = FakeClock()
    refusal = http(status, b"", Retry_After="30")
    async with (
        answering(refusal, http()) as server,
        answering(http()) as other,
        fetcher_of(server.url, clock=clock) as fetcher,
    ):
        with pytest.raises(FetchError, match=f"status {status}") as caught:
            await playlist(fetcher, server.url)
        assert caught.value.retry_after == 30.0
        assert not caught.value.is_inconclusive
        clock.advance(10.0)
        paused = await failure(whole(fetcher, f"{server.url}/x.ts"), FetchReason.RATE_LIMITED)
        assert (paused.retry_after, paused.is_inconclusive, paused.status) == (20.0, True, None)
        await playlist(fetcher, other.url)
        clock.advance(20.0)
        await playlist(fetcher, server.url)
    assert len(server.requests) == 2


async def test_pause_is_limited_and_may_be_a_date() -> None:
    clock = FakeClock()
    later = http(503, b"", Date=DAY, Retry_After="Sun, 06 Nov 1994 08:49:47 GMT")
    async with (
        answering(later, http(429, b"", Retry_After="9" * 11), http(503, b"", Retry_After="soon")) as server,
        fetcher_of(server.url, clock=clock) as fetcher,
    ):
        for reason, seconds in (
            (FetchReason.SERVER_ERROR, 10.0),
            (FetchReason.RATE_LIMITED, LONGEST_PAUSE_SECONDS),
            (FetchReason.SERVER_ERROR, None),
            (FetchReason.SERVER_ERROR, None),
        ):
            assert (await failure(playlist(fetcher, server.url), reason)).retry_after == seconds
            clock.advance(seconds or 0.0)


async def test_connections_are_kept_to_a_limited_number_of_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_hosts, "MAX_KEPT_SERVERS", 1)
    clock = FakeClock()
    async with (
        answering(http()) as first,
        answering(http()) as second,
        fetcher_of(first.url, clock=clock) as fetcher,
    ):
        for _ in range(2):
            for server in (first, second):
                await playlist(fetcher, server.url)
        assert (first.connections, second.connections) == (1, 2)
        clock.advance(2 * KEEP_ALIVE_SECONDS + 1)
        for _ in range(2):
            await playlist(fetcher, second.url)
        assert second.connections == 3


async def test_number_of_remembered_servers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_hosts, "MAX_SERVERS", 3)
    monkeypatch.setattr(media_hosts, "MAX_KEPT_SERVERS", 1)
    clock = FakeClock()
    servers = MediaServers(clock, max_requests=10, max_requests_per_server=2)
    servers.pause_for("paused", 60.0)
    async with servers.slot("used", is_playlist=True):
        for number in range(10):
            async with servers.slot(f"host-{number}", is_playlist=False):
                pass
        assert len(servers) == 3
        assert servers.pause("paused") == 60.0, "calm servers are forgotten first"
    for number in range(10):
        servers.pause_for(f"host-{number}", 60.0)
    assert len(servers) == 3


def test_default_sizes() -> None:
    assert (PLAYLIST_BYTES, HEAD_BYTES, SEGMENT_BYTES) == (2 * 2**20, 16 * 2**10, 32 * 2**20)


async def test_name_that_is_not_found_is_a_connect_error() -> None:
    names = Names({"empty.example": [[]]})
    async with fetcher_of("http://origin.example", names=names) as fetcher:
        for host in ("origin.example", "empty.example"):
            error = await failure(playlist(fetcher, f"http://{host}/x.m3u8"), FetchReason.CONNECT)
            assert "host name not found" in str(error)
