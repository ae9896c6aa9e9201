"""Requests that the client sends, and responses that it reads."""

import asyncio
import gzip
import socket
from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from exporter import __version__
from exporter.config.upstream import AuthSettings, UpstreamSettings
from exporter.http.auth import Header, NoAuth
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.storm import StormSettings
from tests.fake_clock import FakeClock
from tests.http.raw_server import Observed, Request, answering, client_of, http, serving

LONG = 20.0


async def test_every_request_has_the_same_headers() -> None:
    async with answering(http(Set_Cookie="a=b")) as server, client_of(server.url) as client:
        for _ in range(2):
            await client.requests(LONG).get("GET /x")
    headers = server.requests[1].headers
    assert headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": f"stream-exporter/{__version__}",
        "accept": "application/json, */*;q=0.5",
        "accept-encoding": "gzip",
    }
    assert server.connections == 1


@pytest.mark.parametrize(
    ("params", "query"),
    [
        (None, ""),
        ({}, ""),
        ({"a": "1 2", "breakdownBy[]": "x&y"}, "?a=1%202&breakdownBy%5B%5D=x%26y"),
        ([("a", "1"), ("a", "2")], "?a=1&a=2"),
        ({"half": "\ud800"}, "?half=%ED%A0%80"),
        ({"bytes": "a\udce9"}, "?bytes=a%E9"),
    ],
)
async def test_query_parameters_are_encoded(
    params: Mapping[str, str] | Sequence[tuple[str, str]] | None, query: str
) -> None:
    async with answering(http()) as server, client_of(server.url + "/base/") as client:
        await client.requests(LONG).get("GET /x", params=params)
    assert server.requests[0].target == "/base/x" + query


@pytest.mark.parametrize(
    ("key", "segment"),
    [
        ("f1", "f1"),
        ("../../admin", "..%2F..%2Fadmin"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("ä %", "%C3%A4%20%25"),
        ("a\udce9", "a%E9"),
        ("...", "..."),
    ],
)
async def test_path_value_is_encoded_as_one_segment(key: str, segment: str) -> None:
    async with answering(http()) as server, client_of(server.url) as client:
        await client.requests(LONG).get("GET /streams/{app}/{key}/now", app="a", key=key)
    assert server.requests[0].target == f"/streams/a/{segment}/now"


@pytest.mark.parametrize("key", ["", ".", "..", "\ud800", "a\udce9\udbff"])
async def test_invalid_path_value_is_not_sent(key: str) -> None:
    async with answering(http()) as server, client_of(server.url) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.requests(LONG).get("GET /streams/{key}", key=key)
    assert (caught.value.reason, server.requests) == (Reason.NOT_FOUND, [])


@pytest.mark.parametrize("endpoint", ["/x", "GET x", "get /x", "GET /x y"])
async def test_malformed_endpoint_template_is_rejected(endpoint: str) -> None:
    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="not an endpoint"):
            await client.requests(LONG).get(endpoint)


async def test_ipv6_host_is_accepted() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with client_of("http://[::1]:1/base") as client:
        assert str(client.url_of("/x", {"a": "b"})) == "http://[::1]:1/base/x?a=b"


async def test_base_url_with_credentials_is_rejected_without_showing_them() -> None:
    with pytest.raises(ValueError, match="must not contain credentials") as caught:
        async with client_of("http://user:canary@127.0.0.1:1"):
            pass
    assert "canary" not in str(caught.value)


async def test_non_ascii_host_is_sent_as_punycode() -> None:
    async with client_of("http://bücher.example/") as client:
        assert str(client.url_of("/x", None)) == "http://xn--bcher-kva.example/x"


async def test_body_is_sent_as_json() -> None:
    async with answering(http(body=b"[1]")) as server, client_of(server.url) as client:
        requests = client.requests(LONG)
        answer = await requests.post("POST /streams/batch", body={"ids": ["a"]}, headers={"X-More": "1"})
        await requests.request("DELETE /x")
    batch, delete = server.requests
    assert (batch.method, batch.body) == ("POST", b'{"ids":["a"]}')
    assert (batch.headers["content-type"], batch.headers["x-more"]) == ("application/json", "1")
    assert (delete.method, delete.body, "content-type" in delete.headers) == ("DELETE", b"", False)
    assert (answer.data, answer.status, answer.body, repr(answer)) == ([1], 200, b"", "<Response 200>")


async def test_ids_with_lone_surrogates_are_sent_back_unchanged() -> None:
    async with (
        answering(http(body=b'["a\xe9", "b\\ud83d", "\xc3\xa4"]'), http()) as server,
        client_of(server.url) as client,
    ):
        requests = client.requests(LONG)
        ids = (await requests.get("GET /ids")).data
        await requests.get("GET /stream/{id}", id=ids[0])
        await requests.post("POST /batch", body={"ids": ids[1:]})
    assert server.requests[1].target == "/stream/a%E9"
    assert server.requests[2].body == b'{"ids": ["b\\ud83d", "\\u00e4"]}'


async def test_response_without_a_body_has_no_data() -> None:
    async with answering(b"HTTP/1.1 204 X\r\n\r\n", http(200, b"")) as server, client_of(server.url) as client:
        requests = client.requests(LONG)
        assert (await requests.get("GET /x")).data is None
        assert (await requests.request("DELETE /x")).data is None


async def test_body_is_kept_as_text_if_json_is_not_requested() -> None:
    async with answering(http(body="ä 1".encode()), http(body=b"\xff")) as server, client_of(server.url) as client:
        requests = client.requests(LONG)
        answer = await requests.get("GET /x", json=False)
        assert (answer.text, answer.body, answer.data) == ("ä 1", "ä 1".encode(), None)
        answer = await requests.get("GET /x", json=False)
        assert (answer.text, answer.body) == ("\ufffd", b"\xff")


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b'{"a": 1}'), gzip.compress(b'{"a"') + gzip.compress(b": 1}"), gzip.compress(b'{"a": 1}', 0)],
    ids=["one", "members", "stored"],
)
@pytest.mark.parametrize("name", ["gzip", "GZIP", "x-gzip"])
async def test_gzip_body_is_decompressed(body: bytes, name: str) -> None:
    async with answering(http(body=body, Content_Encoding=name)) as server, client_of(server.url) as client:
        assert (await client.requests(LONG).get("GET /x")).data == {"a": 1}


async def test_chunked_body_up_to_the_limit_is_read() -> None:
    parts = [b'{"a": "', b"x" * 50_000, b"y" * 40_000, b'"}']
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with answering(head + chunked) as server, client_of(server.url, max_body_bytes=90_009) as client:
        assert len((await client.requests(LONG).get("GET /x")).data["a"]) == 90_000


async def test_values_out_of_range_do_not_affect_the_others() -> None:
    body = (
        b'{"a": 1e999, "b": %s, "c": -%s, "d": "half \\ud83d", "e": 1, "f": "\xc3\xa4", "g": 12345678901234567890123}'
    )
    async with (
        answering(http(body=body % (b"9" * 5000, b"9" * 5000))) as server,
        client_of(server.url) as client,
    ):
        data = (await client.requests(LONG).get("GET /x")).data
    assert data == {
        "a": float("inf"),
        "b": float("inf"),
        "c": float("-inf"),
        "d": "half \ud83d",
        "e": 1,
        "f": "ä",
        "g": 12345678901234567890123,
    }


async def test_requests_are_counted_and_observed() -> None:
    observed = Observed()
    async with (
        answering(http(), http(404, b'{"error": "x"}'), http(404), http(501), http(body=b"<")) as server,
        client_of(server.url, observe=observed) as client,
    ):
        requests = client.requests(LONG)
        await requests.get("GET /a/{b}", b="c")
        for _ in range(4):
            with pytest.raises(UpstreamError):
                await requests.get("GET /a/{b}", b="c")
    assert (requests.count, requests.usable) == (5, 2)
    assert observed.attempts == [("GET /a/{b}", code) for code in ("200", "404", "404", "501", "200")]


# -- concurrent requests -----------------------------------------------------------------------------------------------


class Crowd:
    """Responds only once ``size`` requests are waiting, then to all of them."""

    def __init__(self, size: int) -> None:
        self.waiting = self.most = 0
        self.size = size
        self.full = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            if self.waiting >= self.size:
                self.full.set()
            await self.full.wait()
            self.waiting -= 1
            writer.write(http())
            await writer.drain()


async def test_concurrent_requests_are_limited() -> None:
    crowd = Crowd(3)
    async with (
        serving(crowd.handle) as port,
        client_of(f"http://127.0.0.1:{port}", max_concurrent_requests=3) as client,
    ):
        client.rate_limit.start_request()
        client.rate_limit.finish_request()
        requests = client.requests(LONG)
        await asyncio.gather(*(requests.map(lambda n: requests.get("GET /{n}", n=str(n)), range(10)) for _ in range(2)))
    assert crowd.most == 3


async def test_first_request_is_sent_alone() -> None:
    seen = []

    def answer(request: Request) -> bytes:
        seen.append(request.target)
        return http()

    async with answering(answer) as server, client_of(server.url) as client:
        requests = client.requests(LONG)
        await requests.map(lambda n: requests.get("GET /{n}", n=str(n)), range(4))
        assert seen[0] == "/0"
        assert sorted(seen) == ["/0", "/1", "/2", "/3"]


async def test_map_returns_results_and_errors_in_order() -> None:
    def answer(request: Request) -> bytes:
        return http(404) if request.target == "/2" else http(body=request.target[1:].encode())

    async def ask(n: int) -> object:
        if n == 3:
            raise KeyError("a text that may hold anything")
        return (await requests.get("GET /{n}", n=str(n))).data

    async with answering(answer) as server, client_of(server.url) as client:
        requests = client.requests(LONG)
        with capture_logs() as logs:
            results = await requests.map(ask, [5, 2, 3, 4, 3])
        assert await requests.map(ask, []) == []
    assert [item for item, _ in results] == [5, 2, 3, 4, 3]
    outcomes = [result.reason if isinstance(result, UpstreamError) else result for _, result in results]
    assert outcomes == [5, Reason.NOT_FOUND, Reason.INTERNAL, 4, Reason.INTERNAL]
    assert str(results[2][1]) == "internal error: KeyError"
    # once per poll, without the exception's text
    assert [(log["error"], log["at"].rpartition(":")[0]) for log in logs] == [("KeyError", __file__)]
    assert "anything" not in repr(logs)


async def test_invalid_header_is_an_internal_error() -> None:
    async with answering(http()) as server, client_of(server.url) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.requests(LONG).get("GET /x", headers={"X-Key": "canary\r\n"})
    assert (caught.value.reason, str(caught.value)) == (Reason.INTERNAL, "GET /x: ValueError")


# -- the platform's clock ----------------------------------------------------------------------------------------------

DATE, UNIX = "Tue, 10 Sep 2024 20:26:40 GMT", 1_726_000_000.0


@pytest.mark.parametrize(
    ("now", "skew"), [(UNIX, 0.0), (UNIX + 0.9, 0.0), (UNIX + 1.5, -1.5), (UNIX - 60, 60.0), (UNIX + 3600, -3600.0)]
)
async def test_clock_skew_is_measured_from_the_date_header(now: float, skew: float) -> None:
    clock = FakeClock(now)
    async with answering(http(Date=DATE)) as server, client_of(server.url, clock=clock) as client:
        requests = client.requests(LONG)
        assert (requests.server_time, requests.clock_skew_seconds, requests.now) == (None, None, now)
        answer = await requests.get("GET /x")
        clock.advance(10)
    assert (answer.date, requests.clock_skew_seconds) == (UNIX, skew)
    assert requests.server_time == now + 10 + skew


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": DATE, "Age": "70"}])
async def test_clock_skew_is_unknown_without_a_usable_date(headers: dict[str, str]) -> None:
    async with answering(http(given=headers)) as server, client_of(server.url) as client:
        requests = client.requests(LONG)
        await requests.get("GET /x")
    assert requests.clock_skew_seconds is None


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "query"),
    [
        ('<https://evil.example/other?cursor=skip2>; rel="next"', "?cursor=skip2"),
        ('</x?a=1>; rel=prev, <?cursor=2&b=%20>; title="a, b"; REL="last Next"', "?cursor=2&b=%20"),
        ("<?p=2>;rel=next", "?p=2"),
        ('<?p=2>; rel="next"; rel="prev"', "?p=2"),
        ('<?p=2>; crossorigin; rel="next"', "?p=2"),
        ("<?cursor=a%2Bb+c%26>; rel=next", "?cursor=a%2Bb+c%26"),
        ("</>; rel=next", ""),
    ],
)
async def test_next_page_keeps_the_requested_host_and_path(link: str, query: str) -> None:
    async with answering(http(Link=link)) as server, client_of(server.url + "/base") as client:
        answer = await client.requests(LONG).get("GET /stream", params={"cursor": "1"})
    assert answer.link_next == f"{server.url}/base/stream{query}"


@pytest.mark.parametrize(
    "link",
    [
        "",
        "nonsense",
        '<?p=1>; rel="prev"',
        "<?p=1>",
        '<?p=1>; rel="prev"; rel="next"',
        "<?p=1",
        '<http://[bad?p=1>; rel="next"',
    ],
)
async def test_response_without_a_next_link_has_no_next_page(link: str) -> None:
    async with answering(http(Link=link)) as server, client_of(server.url) as client:
        assert (await client.requests(LONG).get("GET /x")).link_next is None


# -- from the settings -------------------------------------------------------------------------------------------------


def made(settings: UpstreamSettings) -> UpstreamClient:
    return UpstreamClient.from_settings(settings, FakeClock(), lambda *_: None)


async def test_client_is_built_from_settings() -> None:
    settings = StormSettings.model_validate(
        {
            "name": "edge", "platform": "storm", "url": "http://127.0.0.1:8080/", "base_path": "/api/v1/",
            "auth": {"api_key": "abcdefgh"}, "max_concurrent_requests": 3, "max_body_bytes": 5000,
        }
    )  # fmt: skip
    client = made(settings)
    assert (client.upstream, client.platform) == ("edge", "storm")
    assert (client.max_concurrent_requests, client.limits.body_bytes) == (3, 5000)
    assert str(client.url_of("/streams", None)) == "http://127.0.0.1:8080/api/v1/streams"
    assert isinstance(client.auth, Header)
    assert "abcdefgh" not in repr(vars(client))


async def test_client_without_base_path_uses_the_url() -> None:
    settings = UpstreamSettings(name="x", platform="p", url="https://x.example/api", auth=AuthSettings())
    assert str(made(settings).url_of("/a", None)) == "https://x.example/api/a"


@pytest.mark.parametrize(("path", "keys"), [({"base_path": "/wrong"}, "url and base_path"), ({}, "url")])
async def test_404_of_another_server_names_the_settings_to_check(path: dict[str, str], keys: str) -> None:
    async with answering(http(404, b"<html>")) as server:
        kind = StormSettings if path else UpstreamSettings
        client = made(kind.model_validate({"name": "edge", "platform": "storm", "url": server.url, **path}))
        with pytest.raises(UpstreamError, match=f"status 404, but not from the expected API: check {keys}$"):
            await client.requests(LONG).get("GET /x")
        await client.close()


@pytest.mark.parametrize("own_credentials", [False, True])
async def test_requests_on_demand_leave_half_of_a_limit_to_scheduled_ones(own_credentials: bool) -> None:
    left = 20

    def answer(_: Request) -> bytes:
        nonlocal left
        left -= 1
        return http(X_RateLimit_Limit="20", X_RateLimit_Remaining=f"{left}", X_RateLimit_Reset="60")

    async with answering(answer) as server, client_of(server.url) as scheduled, client_of(server.url) as on_demand:
        on_demand.share(scheduled)
        if own_credentials:
            scheduled, on_demand = (each.with_credentials("export", NoAuth()) for each in (scheduled, on_demand))
        await scheduled.requests(LONG).get("GET /x")
        requests = on_demand.requests(LONG)
        assert (scheduled.requests(LONG).budget(), requests.budget()) == (18, 10)
        for _ in range(10):
            await requests.get("GET /x")
        with pytest.raises(UpstreamError, match="has nothing left for polls on demand") as caught:
            await requests.get("GET /x")
        assert (caught.value.reason, caught.value.status) == (Reason.RATE_LIMITED, None)
        for _ in range(8):
            await scheduled.requests(LONG).get("GET /x")
        for client in (scheduled, on_demand):
            with pytest.raises(UpstreamError, match="is used up"):
                await client.requests(LONG).get("GET /x")
    assert left == 1
