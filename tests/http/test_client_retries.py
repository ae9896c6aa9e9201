"""Retries of safe requests, pauses that a platform asks for, and request limits."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest

from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from tests.fake_clock import FakeClock
from tests.http.loop_clock import POLL_SECONDS, LoopTime
from tests.http.raw_server import Observed, Request, Server, answering, client_of, http, read_request, serving

LONG = 60.0
UNIX = 1_726_000_000.0


@asynccontextmanager
async def asking(
    *answers: bytes | Callable[[Request], bytes], timeout: float = LONG
) -> AsyncIterator[tuple[Requests, Server, FakeClock]]:
    clock = FakeClock(UNIX, auto_advance=True)
    async with answering(*answers) as server, client_of(server.url, clock=clock) as client:
        yield client.requests(timeout), server, clock


async def failure(requests: Requests) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await requests.get("GET /x")
    return caught.value


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_transient_error_is_retried(status: int) -> None:
    async with asking(http(status), http(status), http(body=b"1")) as (requests, server, clock):
        assert (await requests.get("GET /x")).data == 1
    assert (len(server.requests), requests.count) == (3, 3)
    first, second = clock.slept
    assert 0 <= first <= 0.2
    assert 0 <= second <= 0.4


@pytest.mark.parametrize("status", [400, 403, 404, 429, 501])
async def test_permanent_error_is_not_retried(status: int) -> None:
    async with asking(http(status)) as (requests, server, _):
        assert (await failure(requests)).status == status
    assert len(server.requests) == 1


@pytest.mark.parametrize("statuses", [[500], [500, 503], [500, 503, 500], [503, 500], [503, 503, 500]])
async def test_500_is_retried_only_as_the_first_fault_of_a_request(statuses: list[int]) -> None:
    async with asking(*map(http, statuses), http(body=b"1")) as (requests, server, _):
        if 500 in statuses[1:]:
            assert (await failure(requests)).status == 500
            assert len(server.requests) == len(statuses)
        else:
            assert (await requests.get("GET /x")).data == 1


async def test_permanent_500s_leave_retries_for_other_requests() -> None:
    passing = iter([http(503), http(502), http(body=b"1")])

    def answer(request: Request) -> bytes:
        return next(passing) if request.target == "/other" else http(500)

    async with asking(answer) as (requests, server, _):
        await requests.map(lambda n: requests.get("GET /{n}", n=str(n)), range(20))
        assert len(server.requests) == 20 + 5
        assert (await requests.get("GET /other")).data == 1


async def test_request_is_retried_at_most_twice() -> None:
    async with asking(http(503)) as (requests, server, _):
        assert (await failure(requests)).reason is Reason.SERVER_ERROR
    assert len(server.requests) == 3


async def test_poll_has_at_most_ten_retries() -> None:
    async with asking(http(503)) as (requests, server, _):
        await requests.map(lambda n: requests.get("GET /{n}", n=str(n)), range(20))
    assert len(server.requests) == 30


@pytest.mark.parametrize(
    ("safe", "status", "times"), [(False, 503, 1), (True, 503, 3), (False, 500, 1), (True, 500, 2)]
)
async def test_post_is_retried_only_if_it_is_safe(safe: bool, status: int, times: int) -> None:
    async with asking(http(status)) as (requests, server, _):
        with pytest.raises(UpstreamError):
            await requests.post("POST /x", body={}, safe=safe)
    assert len(server.requests) == times


async def test_pause_does_not_count_as_a_stall(loop_time: LoopTime, short_silence: float) -> None:
    clock = FakeClock(UNIX)
    async with answering(http(503, Retry_After="5"), http()) as server, client_of(server.url, clock=clock) as client:
        asking = asyncio.create_task(client.requests(POLL_SECONDS).get("GET /x"))
        await loop_time.advance(2 * short_silence)
        assert len(clock.slept) == 1
        clock.advance(10.0)
        assert (await asking).data == {}


async def test_pause_beyond_the_deadline_is_not_waited_for() -> None:
    async with asking(http(503, Retry_After="10"), timeout=10.0) as (requests, server, clock):
        assert (await failure(requests)).retry_after == 10.0
    assert (len(server.requests), clock.slept) == (1, [])


@pytest.mark.parametrize("safe", [False, True])
async def test_request_on_a_lost_connection_is_retried_only_if_it_is_safe(safe: bool) -> None:
    """The server reads a request on a reused connection and closes it, so it may have processed the request."""
    served = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answers in (True, False):
            request = await read_request(reader)
            served.append(request.target)
            if answers:
                writer.write(http())
                await writer.drain()

    async with serving(handle) as port, client_of(f"http://127.0.0.1:{port}") as client:
        requests = client.requests(LONG)
        await requests.post("POST /1", body={}, safe=safe)
        if safe:
            await requests.post("POST /2", body={}, safe=True)
        else:
            with pytest.raises(UpstreamError) as caught:
                await requests.post("POST /2", body={})
            assert caught.value.reason is Reason.CONNECT
    assert served == (["/1", "/2", "/2"] if safe else ["/1", "/2"])


# -- bodies ------------------------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
CUT_OFF = {
    "length": http(body=b"[1, 2]")[:-2],
    "no-body": http(body=b"[1, 2]")[:-6],
    "chunk": CHUNKED + b"6\r\n[1, ",
    "last-chunk": CHUNKED + b"6\r\n[1, 2]\r\n",
    "gzip": http(body=gzip.compress(b"[1, 2]"), Content_Encoding="gzip")[:-4],
}
MALFORMED = {
    "json": http(body=b"[1, "),
    "html": http(body=b"<html>", Content_Type="text/html"),
    "gzip": http(body=gzip.compress(b"[1, 2]")[:-4], Content_Encoding="gzip"),
    "no-length": b"HTTP/1.1 200 X\r\n\r\n[1, ",
    "chunk-size": CHUNKED + b"lies\r\n[1, 2]\r\n0\r\n\r\n",
}


@asynccontextmanager
async def closing_after(*answers: bytes) -> AsyncIterator[tuple[Requests, list[str]]]:
    """Send one response per connection, the last one repeatedly; yield the requests and the requested targets."""
    targets: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets.append((await read_request(reader)).target)
        writer.write(answers[min(len(targets), len(answers)) - 1])
        await writer.drain()

    clock = FakeClock(UNIX, auto_advance=True)
    async with serving(handle) as port, client_of(f"http://127.0.0.1:{port}", clock=clock) as client:
        yield client.requests(LONG), targets


@pytest.mark.parametrize("answer", CUT_OFF.values(), ids=CUT_OFF)
async def test_truncated_body_is_requested_again(answer: bytes) -> None:
    async with closing_after(answer, answer, http(body=b"[1, 2]")) as (requests, targets):
        assert (await requests.get("GET /x")).data == [1, 2]
    assert targets == ["/x"] * 3


@pytest.mark.parametrize("answer", CUT_OFF.values(), ids=CUT_OFF)
async def test_body_that_is_always_truncated_is_a_bad_response(answer: bytes) -> None:
    async with closing_after(answer) as (requests, targets):
        assert (await failure(requests)).reason is Reason.BAD_RESPONSE
    assert targets == ["/x"] * 3


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
async def test_complete_but_malformed_body_is_not_requested_again(answer: bytes) -> None:
    async with closing_after(answer, http(body=b"[1, 2]")) as (requests, targets):
        assert (await failure(requests)).reason is Reason.BAD_RESPONSE
    assert targets == ["/x"]


async def test_unsafe_request_with_a_truncated_response_is_not_sent_again() -> None:
    async with closing_after(CUT_OFF["length"], http()) as (requests, targets):
        with pytest.raises(UpstreamError):
            await requests.post("POST /x", body={})
    assert targets == ["/x"]


# -- pauses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": formatdate(UNIX + 9, usegmt=True)}, 9),
        ({"Retry-After": formatdate(500 + 4, usegmt=True), "Date": formatdate(500, usegmt=True)}, 4),
        ({"Retry-After": formatdate(UNIX - 9, usegmt=True)}, 0),
        ({"Retry-After": "Tuesday, 10-Sep-24 20:26:45 GMT"}, 5),
        ({"Retry-After": "Tue Sep 10 20:26:46 2024"}, 6),
    ],
)
async def test_pause_before_the_deadline_is_waited_for(status: int, headers: dict[str, str], seconds: float) -> None:
    async with asking(http(status, given=headers), http(body=b"1")) as (requests, server, clock):
        assert (await requests.get("GET /x")).data == 1
    assert len(server.requests) == 2
    assert seconds <= sum(clock.slept) <= seconds + 0.2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [61, 10**6, 10**40])
async def test_pause_beyond_the_deadline_applies_to_all_requests(status: int, seconds: int) -> None:
    async with asking(http(status, Retry_After=str(seconds))) as (requests, server, clock):
        error = await failure(requests)
        assert error.reason is (Reason.RATE_LIMITED if status == 429 else Reason.SERVER_ERROR)
        assert error.retry_after is not None
        assert error.retry_after == min(seconds, 900)
        # the next request is not even sent
        error = await failure(requests)
        assert (error.reason, error.retry_after) == (Reason.RATE_LIMITED, min(seconds, 900))
        assert requests.budget() == 0
        assert len(server.requests) == 1
        clock.advance(900)
        assert requests.budget() is None
        requests = requests._client.requests(LONG)
        assert (await failure(requests)).status == status
        assert len(server.requests) == 2


async def test_pause_before_the_deadline_applies_to_all_requests() -> None:
    async with asking(http(429, Retry_After="5"), http(body=b"1")) as (requests, server, clock):
        with pytest.raises(UpstreamError):
            await requests.post("POST /x", body={})
        assert (await requests.get("GET /x")).data == 1
    assert (len(server.requests), clock.slept) == (2, [5.0])


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "", "Tue, 99 Sep 2024 20:26:45 GMT"])
async def test_invalid_retry_after_is_ignored(value: str) -> None:
    async with asking(http(429, Retry_After=value)) as (requests, server, _):
        error = await failure(requests)
    assert (error.reason, error.retry_after, len(server.requests)) == (Reason.RATE_LIMITED, None, 1)


async def test_429_without_retry_after_pauses_until_the_reset() -> None:
    headers = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(UNIX) + 40)}
    async with asking(http(429, given=headers), timeout=10.0) as (requests, _, clock):
        error = await failure(requests)
    assert (error.reason, error.retry_after) == (Reason.RATE_LIMITED, 40.0)
    assert requests._client.rate_limit.pause(clock.monotonic()) == 40


# -- the request limit -------------------------------------------------------------------------------------------------


async def exhausted(client: UpstreamClient) -> UpstreamError:
    return await failure(client.requests(LONG))


async def test_exhausted_limit_is_respected_without_a_request() -> None:
    clock, observed = FakeClock(UNIX), Observed()
    headers = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(int(UNIX) + 40)}
    async with (
        answering(http(given=headers)) as server,
        client_of(server.url, clock=clock, observe=observed) as client,
    ):
        requests = client.requests(LONG)
        assert requests.budget() is None
        await requests.get("GET /x")
        assert requests.budget() == 0
        error = await exhausted(client)
        assert (error.reason, error.status, error.retry_after) == (Reason.RATE_LIMITED, None, 40.0)
        assert (len(server.requests), len(observed.attempts)) == (1, 1)
        clock.advance(40)
        assert client.requests(LONG).budget() == 57
        await client.requests(LONG).get("GET /x")
    assert len(server.requests) == 2


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_setting_the_wall_clock_neither_prolongs_nor_ends_a_pause(step: float) -> None:
    clock = FakeClock(UNIX)
    async with answering(http(429, Retry_After="20"), http()) as server, client_of(server.url, clock=clock) as client:
        assert (await failure(client.requests(5.0))).retry_after == 20
        clock.step(step)
        clock.advance(10)
        assert (await failure(client.requests(5.0))).retry_after == 10
        assert client.requests(5.0).budget() == 0
        clock.advance(10)
        assert (await client.requests(LONG).get("GET /x")).data == {}


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
@pytest.mark.parametrize("reset", [int(UNIX) + 40, 40])
async def test_setting_the_wall_clock_does_not_move_the_end_of_the_window(step: float, reset: int) -> None:
    clock = FakeClock(UNIX)
    date = formatdate(UNIX, usegmt=True)
    headers = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset), "Date": date}
    async with answering(http(given=headers)) as server, client_of(server.url, clock=clock) as client:
        requests = client.requests(LONG)
        await requests.get("GET /x")
        clock.step(step)
        assert (await exhausted(client)).retry_after == 40
        assert requests.server_time == UNIX
        clock.advance(40)
        # the reset is on the platform's clock, as measured before ours was set
        await requests.get("GET /x")
    assert len(server.requests) == 2


async def test_limit_of_two_per_second_slows_a_poll_down_instead_of_failing_it() -> None:
    headers = {"x-ratelimit-limit": "2, 2;w=1", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1"}
    async with asking(http(given=headers)) as (requests, server, clock):
        for _ in range(5):
            await requests.get("GET /x")
    assert len(server.requests) == 5
    assert clock.slept == [1.0] * 4


async def test_new_window_after_the_deadline_is_not_waited_for() -> None:
    headers = {"x-ratelimit-limit": "2, 2;w=1", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1"}
    async with asking(http(given=headers), timeout=1.0) as (requests, server, clock):
        await requests.get("GET /x")
        assert (await failure(requests)).reason is Reason.RATE_LIMITED
    assert (len(server.requests), clock.slept) == (1, [])


async def test_remainder_without_limit_and_reset_is_ignored() -> None:
    async with asking(http(given={"X-RateLimit-Remaining": "0"})) as (requests, server, _):
        for _ in range(3):
            await requests.get("GET /x")
    assert len(server.requests) == 3
