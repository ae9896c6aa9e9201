"""Failed requests: connection faults, TLS, statuses and bodies, with real sockets."""

import asyncio
import gzip
import socket
import ssl
import struct
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from exporter.config.upstream import TlsSettings
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.retry import DRAIN_SHARE
from exporter.model import Reason
from tests.fake_clock import FakeClock
from tests.file_obstacles import OBSTACLES, put_obstacle
from tests.http.loop_clock import POLL_SECONDS, LoopTime
from tests.http.raw_server import Observed, answering, client_of, http, read_request, serving

LONG, SHORT = POLL_SECONDS, 0.3


async def failure(client: UpstreamClient, timeout: float = LONG) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await client.requests(timeout).get("GET /x")
    assert str(caught.value).startswith("GET /x: ")
    return caught.value


async def failure_of(answer: bytes, max_body_bytes: int = 100_000) -> UpstreamError:
    """Return the error caused by a raw response, after which the server closes the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    clock = FakeClock(auto_advance=True)
    async with (
        serving(handle) as port,
        client_of(f"http://127.0.0.1:{port}", clock=clock, max_body_bytes=max_body_bytes) as client,
    ):
        return await failure(client)


# -- connections -------------------------------------------------------------------------------------------------------


async def test_refused_connection_names_what_to_check() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        observed = Observed()
        async with client_of(f"http://127.0.0.1:{unused.getsockname()[1]}", observe=observed) as client:
            error = await failure(client)
    assert (error.reason, error.status) == (Reason.CONNECT, None)
    assert str(error) == "GET /x: connection refused: check that the server is running, and the port in url"
    assert observed.attempts == [("GET /x", "connect")]


async def test_unknown_host_name_is_a_connect_error() -> None:
    async with client_of("http://nonexistent.invalid") as client:
        error = await failure(client)
    assert error.reason is Reason.CONNECT
    assert str(error).startswith("GET /x: host name ")


async def test_connection_reset_is_a_connect_error() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(reset) as port, client_of(f"http://127.0.0.1:{port}") as client:
        error = await failure(client)
    assert error.reason is Reason.CONNECT
    assert "connection lost" in str(error)


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the request and close the connection."""
    await reader.read(10_000)


async def test_connection_closed_without_a_response_is_a_connect_error() -> None:
    async with serving(closing) as port, client_of(f"http://127.0.0.1:{port}") as client:
        error = await failure(client)
    assert error.reason is Reason.CONNECT
    assert "closed the connection without responding" in str(error)


async def test_connection_closed_during_the_tls_handshake_is_a_connect_error() -> None:
    async with serving(closing) as port, client_of(f"https://127.0.0.1:{port}") as client:
        error = await failure(client)
    assert error.reason is Reason.CONNECT
    assert "closed the connection during the TLS handshake" in str(error)


async def test_plain_http_to_a_tls_port_is_a_connect_error(https: str) -> None:
    async with client_of(https.replace("https", "http")) as client:
        error = await failure(client)
    assert error.reason is Reason.CONNECT
    assert "check scheme and port in url" in str(error)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_request_without_a_response_ends_at_the_deadline() -> None:
    observed = Observed()
    async with serving(silent) as port, client_of(f"http://127.0.0.1:{port}", observe=observed) as client:
        assert (await failure(client, SHORT)).reason is Reason.TIMEOUT
    assert observed.attempts == [("GET /x", "timeout")]


async def test_unfinished_tls_handshake_ends_at_the_deadline() -> None:
    async with serving(silent) as port, client_of(f"https://127.0.0.1:{port}") as client:
        assert (await failure(client, SHORT)).reason is Reason.TIMEOUT


async def test_stalled_response_ends_at_the_deadline() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http()[:-1])
        await reader.read()

    async with serving(half) as port, client_of(f"http://127.0.0.1:{port}") as client:
        assert (await failure(client, SHORT)).reason is Reason.TIMEOUT


async def test_stalled_request_leaves_time_for_others(loop_time: LoopTime, short_silence: float) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await read_request(reader)).target == "/silent":
            await loop_time.advance(short_silence)
        writer.write(http())

    async with serving(handle) as port, client_of(f"http://127.0.0.1:{port}", max_concurrent_requests=1) as client:
        requests = client.requests(LONG)
        (_, silent), (_, other) = await requests.map(lambda n: requests.get("GET /{n}", n=n), ["silent", "other"])
    assert isinstance(silent, UpstreamError)
    assert (silent.reason, str(silent)) == (Reason.TIMEOUT, "GET /{n}: timed out")
    assert not isinstance(other, UpstreamError)


PACKED = gzip.compress(b"{}")
TEXT, ZIPPED = http(body=b" " * 8 + b"{}"), http(body=PACKED, Content_Encoding="gzip")


@pytest.mark.parametrize(("answer", "body_bytes"), [(TEXT, 10), (ZIPPED, len(PACKED))])
async def test_response_in_small_parts_does_not_time_out(
    answer: bytes, body_bytes: int, loop_time: LoopTime, short_silence: float
) -> None:
    first = len(answer) - body_bytes

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in (answer[:first], answer[first : first + 4], answer[first + 4 : -2], answer[-2:]):
            await loop_time.advance(0.9 * short_silence)
            writer.write(part)

    async with serving(handle) as port, client_of(f"http://127.0.0.1:{port}") as client:
        assert (await client.requests(LONG).get("GET /x")).data == {}


@pytest.mark.parametrize("parts", [0, 1, 2])
async def test_stall_after_any_part_ends_the_request(parts: int, loop_time: LoopTime, short_silence: float) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in (TEXT[:-8], TEXT[-8:-4])[:parts]:
            writer.write(part)
            await loop_time.advance(0.5 * short_silence)
        await loop_time.advance(short_silence)
        writer.write((TEXT, TEXT[-8:], TEXT[-4:])[parts])

    async with serving(handle) as port, client_of(f"http://127.0.0.1:{port}") as client:
        assert (await failure(client)).reason is Reason.TIMEOUT


@pytest.mark.parametrize("parts", [1, 4])
async def test_error_response_with_a_stalled_body_is_reported(parts: int, loop_time: LoopTime) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(501, Content_Length="100"))
        for _ in range(parts):
            await loop_time.advance(DRAIN_SHARE * POLL_SECONDS / parts)
            writer.write(b" ")
        await loop_time.advance(POLL_SECONDS)

    observed = Observed()
    async with serving(handle) as port, client_of(f"http://127.0.0.1:{port}", observe=observed) as client:
        assert (await failure(client)).reason is Reason.SERVER_ERROR
    assert observed.attempts == [("GET /x", "501")]


async def test_slow_response_ends_at_the_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in http(body=b" " * 10_000):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as port, client_of(f"http://127.0.0.1:{port}") as client:
        assert (await failure(client, SHORT)).reason is Reason.TIMEOUT


async def test_waiting_for_a_free_connection_ends_at_the_deadline() -> None:
    async with serving(silent) as port, client_of(f"http://127.0.0.1:{port}", max_concurrent_requests=1) as client:
        requests = client.requests(SHORT)
        results = await asyncio.gather(requests.get("GET /a"), requests.get("GET /b"), return_exceptions=True)
    assert [result.reason for result in results if isinstance(result, UpstreamError)] == [Reason.TIMEOUT] * 2


async def test_nothing_is_sent_after_the_deadline() -> None:
    async with answering(http()) as server, client_of(server.url) as client:
        error = await failure(client, 0.0)
    assert (error.reason, server.requests) == (Reason.TIMEOUT, [])


async def test_cancelled_request_is_not_observed() -> None:
    observed, connected = Observed(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        connected.set()
        await reader.read()

    async with serving(hold) as port, client_of(f"http://127.0.0.1:{port}", observe=observed) as client:
        task = asyncio.create_task(client.requests(LONG).get("GET /x"))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert observed.attempts == []


async def test_cancellation_at_the_deadline_takes_precedence(loop_time: LoopTime) -> None:
    connected = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        connected.set()
        await reader.read()

    async with serving(hold) as port, client_of(f"http://127.0.0.1:{port}") as client:
        task = asyncio.create_task(client.requests(LONG).get("GET /x"))
        await connected.wait()
        asyncio.get_running_loop().call_later(LONG, task.cancel)
        await loop_time.advance(LONG)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_map_returns_an_error_per_request_at_the_deadline() -> None:
    observed = Observed()
    async with (
        serving(silent) as port,
        client_of(f"http://127.0.0.1:{port}", observe=observed, max_concurrent_requests=2) as client,
    ):
        requests = client.requests(SHORT)
        results = await requests.map(lambda n: requests.get("GET /{n}", n=str(n)), range(5))
    reasons = [result.reason for _, result in results if isinstance(result, UpstreamError)]
    assert reasons == [Reason.TIMEOUT] * 5
    assert set(observed.attempts) == {("GET /{n}", "timeout")}
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("after", [0.0, LONG], ids=["at once", "with the deadline"])
async def test_cancelled_map_raises_cancelled_error(after: float, loop_time: LoopTime) -> None:
    connected = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        connected.set()
        await reader.read()

    async with serving(hold) as port, client_of(f"http://127.0.0.1:{port}") as client:
        requests = client.requests(LONG)
        task = asyncio.create_task(requests.map(lambda n: requests.get("GET /{n}", n=str(n)), range(3)))
        await connected.wait()
        asyncio.get_running_loop().call_later(after, task.cancel)
        await loop_time.advance(after)
        with pytest.raises(asyncio.CancelledError):
            await task


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def https(authority: trustme.CA) -> AsyncIterator[str]:
    """Base URL of a server whose certificate is for localhost and 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(body=b'"safe"'))
        await writer.drain()
        await reader.read()

    async with serving(handle, context) as port:
        yield f"https://127.0.0.1:{port}"


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


async def test_certificate_of_an_unknown_authority_is_rejected(https: str) -> None:
    observed = Observed()
    async with client_of(https, observe=observed) as client:
        error = await failure(client)
    assert error.reason is Reason.TLS
    hint = "for a private certificate authority, set tls.ca_file"
    assert str(error) == f"GET /x: certificate verification failed: unable to get local issuer certificate; {hint}"
    assert observed.attempts == [("GET /x", "tls")]


async def test_certificate_of_the_configured_authority_is_accepted(https: str, ca_file: Path) -> None:
    async with client_of(https, tls=TlsSettings(ca_file=ca_file)) as client:
        assert (await client.requests(LONG).get("GET /x")).data == "safe"


async def test_certificate_for_another_name_is_rejected(https: str, ca_file: Path) -> None:
    async with client_of(https, tls=TlsSettings(ca_file=ca_file, server_name="elsewhere.example")) as client:
        error = await failure(client)
    assert error.reason is Reason.TLS
    assert str(error).endswith(
        "certificate is not valid for 'elsewhere.example'; check the host in url, or set tls.server_name"
    )
    async with client_of(https, tls=TlsSettings(ca_file=ca_file, server_name="localhost")) as client:
        assert (await client.requests(LONG).get("GET /x")).data == "safe"


async def test_expired_certificate_is_rejected(authority: trustme.CA, ca_file: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    dates = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)
    authority.issue_cert("127.0.0.1", not_before=dates[0], not_after=dates[1]).configure_cert(context)
    async with (
        serving(silent, context) as port,
        client_of(f"https://127.0.0.1:{port}", tls=TlsSettings(ca_file=ca_file)) as client,
    ):
        error = await failure(client)
    assert error.reason is Reason.TLS
    assert str(error) == "GET /x: certificate verification failed: certificate has expired; renew it on the server"


async def test_any_certificate_is_accepted_with_insecure_skip_verify(https: str) -> None:
    async with client_of(https, tls=TlsSettings(insecure_skip_verify=True)) as client:
        assert (await client.requests(LONG).get("GET /x")).data == "safe"


@pytest.mark.parametrize("content", ["no certificate", ""])
async def test_ca_file_without_certificates_is_a_tls_error(https: str, tmp_path: Path, content: str) -> None:
    (tmp_path / "ca.pem").write_text(content)
    async with client_of(https, tls=TlsSettings(ca_file=tmp_path / "ca.pem")) as client:
        with pytest.raises(UpstreamError, match="cannot read CA certificates") as caught:
            await client.requests(LONG).get("GET /x")
    assert caught.value.reason is Reason.TLS


@pytest.mark.parametrize("kind", OBSTACLES)
async def test_ca_file_that_is_not_a_regular_file_is_a_tls_error(https: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "ca.pem").touch()
    tls = TlsSettings(ca_file=tmp_path / "ca.pem")
    cause = put_obstacle(tmp_path / "ca.pem", kind)
    async with client_of(https, tls=tls) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.requests(LONG).get("GET /x")
    assert caught.value.reason is Reason.TLS
    assert str(caught.value) == f"cannot read CA certificates from {tmp_path / 'ca.pem'}: {cause}"


async def test_ca_file_may_contain_comments_in_any_encoding(https: str, authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes("# Főtanúsítvány\n".encode("latin2") + authority.cert_pem.bytes() + "# ő\n".encode())
    async with client_of(https, tls=TlsSettings(ca_file=ca_file)) as client:
        assert (await client.requests(LONG).get("GET /x")).data == "safe"


async def test_https_to_a_plain_http_port_is_a_tls_error() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(http(400))
        await writer.drain()

    async with serving(plain) as port, client_of(f"https://127.0.0.1:{port}") as client:
        error = await failure(client)
    assert error.reason is Reason.TLS
    text = "the server uses plain HTTP on this port: use http:// in url, or the server's TLS port"
    assert str(error) == f"GET /x: {text}"


async def test_handshake_refused_by_the_server_is_a_tls_error() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")
        await reader.read()

    async with serving(refuse) as port, client_of(f"https://127.0.0.1:{port}") as client:
        error = await failure(client)
    assert error.reason is Reason.TLS
    assert "the TLS handshake failed (sslv3 alert handshake failure): check the port in url" in str(error)


# -- statuses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.BAD_RESPONSE),
        (401, Reason.AUTH),
        (402, Reason.FORBIDDEN),
        (403, Reason.FORBIDDEN),
        (404, Reason.NOT_FOUND),
        (405, Reason.BAD_RESPONSE),
        (429, Reason.RATE_LIMITED),
        (500, Reason.SERVER_ERROR),
        (501, Reason.SERVER_ERROR),
        (599, Reason.SERVER_ERROR),
    ],
)
async def test_status_determines_the_reason(status: int, reason: Reason) -> None:
    observed, clock = Observed(), FakeClock(auto_advance=True)
    answer = http(status, b'{"message": "no"}')
    async with answering(answer) as server, client_of(server.url, clock=clock, observe=observed) as client:
        error = await failure(client)
    assert (error.reason, error.status, str(error)) == (reason, status, f"GET /x: status {status}")
    assert error.means_absent == (status == 404)
    assert observed.attempts == [("GET /x", str(status))] * (2 if status == 500 else 1)


@pytest.mark.parametrize("key", ["error", "errors", "message", "detail", "code", "status", "statusCode"])
@pytest.mark.parametrize("value", [b'"gone"', b"404", b'["gone"]', b'{"text": "gone"}', b'"\xe9"', b'"\x07"'])
async def test_404_with_a_json_error_comes_from_the_platform(key: str, value: bytes) -> None:
    error = await failure_of(http(404, b'{"%s": %s}' % (key.encode(), value), Content_Type="text/plain"))
    assert (error.means_absent, str(error)) == (True, "GET /x: status 404")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>404 Not Found</html>",
        b"404 page not found",
        b"{}",
        b'{"message": ""}',
        b'{"error": null, "code": 0}',
        b'{"streams": []}',
        b'["error"]',
        b'"error"',
        b"\xff",
        b"[" * 50_000,
        b'{"message": "' + b"x" * 70_000 + b'"}',
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_404_of_another_server_does_not_mean_absent(body: bytes) -> None:
    error = await failure_of(http(404, body))
    assert (error.reason, error.status, error.means_absent) == (Reason.NOT_FOUND, 404, False)
    assert str(error) == "GET /x: status 404, but not from the expected API: check url"


async def test_platform_may_recognise_its_own_404() -> None:
    answers = (http(404, b'{"result": "unknown"}'), http(404, b"No such stream"), http(404, b'{"message": "no"}'))
    async with answering(*answers) as server, client_of(server.url) as client:
        client.recognise_error = lambda body: body in ({"result": "unknown"}, "No such stream")
        assert [(await failure(client)).means_absent for _ in answers] == [True, True, False]


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://other.example/path?token=x", " to other.example"),
        ("/login", ""),
        ("http://[broken", ""),
        ("http://us%65r/", ""),
        ("", ""),
    ],
)
async def test_redirects_are_not_followed(location: str, told: str) -> None:
    async with answering(http(302, Location=location)) as server, client_of(server.url) as client:
        error = await failure(client)
    assert (error.reason, error.status, len(server.requests)) == (Reason.BAD_RESPONSE, 302, 1)
    assert str(error) == f"GET /x: status 302{told}; redirects are not followed"


async def test_error_response_leaves_the_connection_usable() -> None:
    async with answering(http(404, b"no such stream")) as server, client_of(server.url) as client:
        for _ in range(5):
            await failure(client)
        assert server.connections == 1


async def test_error_response_with_a_large_body_closes_the_connection() -> None:
    async with answering(http(404, b"x" * 1_000_000)) as server, client_of(server.url) as client:
        assert (await failure(client)).reason is Reason.NOT_FOUND
        assert (await failure(client)).reason is Reason.NOT_FOUND
        assert server.connections == 2


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        http()[:-1],
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nlies\r\n{}\r\n0\r\n\r\n",
        http(body=gzip.compress(b"{}" * 100)[:-9], Content_Encoding="gzip"),
        http(body=b"\x1f\x8bnothing of the kind", Content_Encoding="gzip"),
        http(body=b"{}", Content_Encoding="br"),
        b"220 smtp.example ready\r\n",
        b"HTTP/1.1 200 X\r\n" + b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(500)) + b"Content-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 X\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["half", "chunk", "chunked-lies", "gzip-half", "gzip-none", "br", "smtp", "headers", "header"],
)
async def test_broken_response_is_a_bad_response(answer: bytes) -> None:
    assert (await failure_of(answer)).reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a": 1} trailing',
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_invalid_json_is_a_bad_response(body: bytes) -> None:
    error = await failure_of(http(body=body), max_body_bytes=1_000_000)
    assert error.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("text/html; charset=utf-8", "content type text/html"),
        ("application/x-top-secret", "unusual content type"),
    ],
)
async def test_only_usual_content_types_are_shown(given: str, shown: str) -> None:
    error = await failure_of(http(body=b"<html>", Content_Type=given))
    assert str(error) == f"GET /x: not JSON ({shown})"


async def test_body_with_a_length_above_the_limit_is_too_large() -> None:
    error = await failure_of(
        http(body=b"")[:-4].replace(b"Content-Length: 0", b"Content-Length: 99999999") + b"\r\n\r\n"
    )
    assert error.reason is Reason.TOO_LARGE


async def test_slow_body_above_the_limit_is_too_large() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            writer.write(b"28\r\n" + b"1" * 40 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as port, client_of(f"http://127.0.0.1:{port}", max_body_bytes=100) as client:
        assert (await failure(client)).reason is Reason.TOO_LARGE


@pytest.mark.parametrize("size", [101, 5000, 10_000_000])
async def test_chunked_body_above_the_limit_is_too_large(size: int) -> None:
    body = b"%x\r\n" % size + b"1" * size + b"\r\n0\r\n\r\n"
    error = await failure_of(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + body, max_body_bytes=100)
    assert error.reason is Reason.TOO_LARGE
    assert "100 bytes" in str(error)


async def test_gzip_bomb_uses_little_memory() -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    async with (
        answering(http(body=bomb, Content_Encoding="gzip")) as server,
        client_of(server.url, max_body_bytes=1_000_000) as client,
    ):
        tracemalloc.start()
        try:
            error = await failure(client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert error.reason is Reason.TOO_LARGE
    # the body up to its limit, its copy while it grows, and the compressed data
    assert peak < 5 * 1_000_000
