"""Authentication: kinds, rotation, logins, and that secrets appear only in headers."""

import asyncio
import base64
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from exporter.config.secrets import Secret
from exporter.config.upstream import AuthSettings
from exporter.http.auth import (
    TOKENS_HIDDEN,
    Auth,
    Basic,
    Bearer,
    Header,
    Login,
    NoAuth,
    SendRequest,
    auth_from_settings,
    header_value,
)
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.redaction import HIDDEN, redactor
from tests.fake_clock import FakeClock
from tests.http.loop_clock import POLL_SECONDS, LoopTime
from tests.http.raw_server import Observed, Request, Server, answering, client_of, http, read_request, serving

LONG = 60.0
PASSWORD = "canary-password"


def login_settings(**given: str) -> AuthSettings:
    return AuthSettings.model_validate({"username": "exporter", "password": PASSWORD, **given})


async def failure(client: UpstreamClient) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await client.requests(LONG).get("GET /x")
    return caught.value


async def failures(client: UpstreamClient, times: int) -> list[Reason]:
    """Return the reasons of failed requests among ``times`` requests of one poll."""
    requests = client.requests(LONG)
    results = await requests.map(lambda n: requests.get("GET /{n}", n=str(n)), range(times))
    return [result.reason for _, result in results if isinstance(result, UpstreamError)]


# -- kinds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "header", "value"),
    [
        ({}, NoAuth, "authorization", None),
        ({"bearer_token": "token-1"}, Bearer, "authorization", "Bearer token-1"),
        ({"api_key": "key-1"}, Header, "x-api-key", "key-1"),
        (
            {"username": "me", "password": "pässword"},
            Basic,
            "authorization",
            "Basic " + base64.b64encode("me:pässword".encode()).decode(),
        ),
    ],
)
async def test_credentials_are_sent_in_the_header_of_their_kind(
    given: dict[str, str], kind: type[Auth], header: str, value: str | None
) -> None:
    auth = auth_from_settings(AuthSettings.model_validate(given))
    assert type(auth) is kind
    async with answering(http()) as server, client_of(server.url, auth=auth) as client:
        requests = client.requests(LONG)
        await requests.get("GET /x")
        await requests.get("GET /x", auth=False)
        await requests.post("POST /x", body=1)
    sent = [request.headers.get(header) for request in server.requests]
    assert sent == [value, None, value]


async def test_credentials_with_invalid_header_characters_are_not_sent() -> None:
    auth = Header("X-Key", Secret.inline("canary-ä"))
    async with answering(http()) as server, client_of(server.url, auth=auth) as client:
        error = await failure(client)
    assert (error.reason, server.requests) == (Reason.AUTH, [])
    assert "canary" not in str(error)
    with pytest.raises(UpstreamError):
        header_value("canary\r\n")


def test_login_without_user_name_and_password_is_rejected() -> None:
    with pytest.raises(ValueError, match="user name and password"):
        Basic(AuthSettings())


async def test_missing_secrets_file_is_an_auth_error(tmp_path: Path) -> None:
    auth = Bearer(Secret.from_file(tmp_path / "token"))
    async with client_of("http://127.0.0.1:1", auth=auth) as client:
        error = await failure(client)
    assert error.reason is Reason.AUTH
    assert str(tmp_path / "token") in str(error)


# -- rotation ----------------------------------------------------------------------------------------------------------


def demanding(wanted: Callable[[], str]) -> Callable[[Request], bytes]:
    def answer(request: Request) -> bytes:
        sent = request.headers.get("authorization", "")
        return http() if sent == f"Bearer {wanted()}" else http(401, f"no token {sent} found".encode())

    return answer


async def test_rotated_token_is_used_from_the_next_poll(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token-1\n")
    auth = Bearer(Secret.from_file(file))
    async with answering(http()) as server, client_of(server.url, auth=auth) as client:
        await client.requests(LONG).get("GET /x")
        file.write_text("token-02\n")
        await client.requests(LONG).get("GET /x")
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer token-1", "Bearer token-02"]


async def test_refused_token_is_read_again_immediately(tmp_path: Path) -> None:
    file, token = tmp_path / "token", "token-1"
    file.write_text(token)
    auth = Bearer(Secret.from_file(file))
    async with answering(demanding(lambda: token)) as server, client_of(server.url, auth=auth) as client:
        requests = client.requests(LONG)
        await requests.get("GET /x")
        token = "token-02"
        file.write_text(token)
        await requests.get("GET /x")
        assert [request.headers["authorization"][-2:] for request in server.requests] == ["-1", "-1", "02"]
        token = "token-003"
        assert (await failure(client)).reason is Reason.AUTH
        # the file has not changed, so there is no retry
        assert len(server.requests) == 4


# -- logins ------------------------------------------------------------------------------------------------------------


class TokenLogin(Login):
    async def login(self, send: SendRequest) -> tuple[str, float]:
        body = {"username": self.username, "password": self.password.get()}
        answer = await send("POST /login", body=body)
        return str(answer.data), 900.0


class Issuer:
    """Issues tokens that are valid until they are revoked."""

    def __init__(self) -> None:
        self.logins = 0
        self.good: str | None = None
        self.refusal: bytes | None = None
        self.accepts_tokens = True

    def __call__(self, request: Request) -> bytes:
        if request.target == "/login":
            self.logins += 1
            if self.refusal is not None:
                return self.refusal
            self.good = f"token-{self.logins}"
            return http(body=f'"{self.good}"'.encode())
        sent = request.headers["authorization"]
        is_good = self.accepts_tokens and sent == f"Bearer {self.good}"
        return http() if is_good else http(401, f"no token {sent} found".encode())


@asynccontextmanager
async def logging_in(
    clock: Clock, settings: AuthSettings | None = None
) -> AsyncIterator[tuple[UpstreamClient, Issuer, Server]]:
    issuer = Issuer()
    auth = TokenLogin(settings or login_settings(), clock)
    async with answering(issuer) as server, client_of(server.url, auth=auth, clock=clock) as client:
        yield client, issuer, server


async def test_one_login_serves_all_requests() -> None:
    async with logging_in(FakeClock()) as (client, issuer, _):
        for _ in range(3):
            assert await failures(client, 20) == []
    assert issuer.logins == 1


async def test_token_is_renewed_before_it_expires() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        for elapsed, logins in ((0, 1), (719, 1), (1, 2), (719, 2), (1, 3)):
            clock.advance(elapsed)
            await client.requests(LONG).get("GET /x")
            assert issuer.logins == logins


async def test_only_recent_tokens_are_redacted() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        for _ in range(TOKENS_HIDDEN + 2):
            await client.requests(LONG).get("GET /x")
            clock.advance(800)
    said = [redactor.scrub(f"token-{number}") for number in range(1, issuer.logins + 1)]
    assert said == ["token-1", "token-2", *[HIDDEN] * TOKENS_HIDDEN]


async def test_token_is_used_until_it_expires_if_renewal_fails() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        await client.requests(LONG).get("GET /x")
        clock.advance(800)
        issuer.refusal = http(500)
        for logins in (2, 2, 2):
            await client.requests(LONG).get("GET /x")
            assert issuer.logins == logins
        clock.advance(5)
        await client.requests(LONG).get("GET /x")
        assert issuer.logins == 3
        clock.advance(95)
        assert (await failure(client)).reason is Reason.SERVER_ERROR
        issuer.refusal = None
        clock.advance(5)
        await client.requests(LONG).get("GET /x")


async def test_revoked_token_is_replaced_by_a_single_login() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        await client.requests(LONG).get("GET /x")
        clock.advance(100)
        issuer.good = None
        assert await failures(client, 20) == []
    assert issuer.logins == 2


async def test_refused_new_token_stops_further_logins() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        issuer.accepts_tokens = False
        assert await failures(client, 20) == [Reason.AUTH] * 20
        assert issuer.logins == 1
        clock.advance(15)
        assert (await failure(client)).reason is Reason.AUTH
        assert issuer.logins == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_refused_login_is_not_retried_soon(status: int) -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, server):
        issuer.refusal = http(status, b'{"message": "no"}')
        waits = []
        for _ in range(7):
            before, waited = issuer.logins, 0
            while issuer.logins == before:
                error = await failure(client)
                assert (error.reason, error.status) == (Reason.AUTH, None)
                clock.advance(5)
                waited += 5
            waits.append(waited - 5)
        assert waits == [0, 10, 25, 55, 115, 235, 295]
    assert {request.target for request in server.requests} == {"/login"}


async def test_login_404_from_another_server_is_not_an_auth_error() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        issuer.refusal = http(404, b"<html>")
        for _ in range(2):
            error = await failure(client)
            assert (error.reason, error.status, error.means_absent) == (Reason.NOT_FOUND, None, False)
            assert "login failed: POST /login: status 404, but not from the expected API: check url" in str(error)
        issuer.refusal = None
        clock.advance(5)
        await client.requests(LONG).get("GET /x")


async def test_login_that_cannot_connect_keeps_its_reason() -> None:
    clock = FakeClock()
    async with client_of("http://127.0.0.1:1", auth=TokenLogin(login_settings(), clock), clock=clock) as client:
        for _ in range(2):
            error = await failure(client)
            assert error.reason is Reason.CONNECT
        assert "next login in 5 s" in str(error)


async def test_new_password_is_tried_immediately(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong-password")
    settings = AuthSettings.model_validate({"username": "exporter", "password": Secret.from_file(file)})
    async with logging_in(FakeClock(), settings) as (client, issuer, server):
        issuer.refusal = http(401)
        await failure(client)
        await failure(client)
        assert issuer.logins == 1
        file.write_text("right-passwords")
        issuer.refusal = None
        await client.requests(LONG).get("GET /x")
    assert b"right-passwords" in server.requests[-2].body


async def test_missing_password_is_an_auth_error() -> None:
    class Careless(TokenLogin):
        async def login(self, send: SendRequest) -> tuple[str, float]:
            environ.clear()
            return self.password.get(), 900.0

    environ = {"X": PASSWORD}
    settings = AuthSettings.model_validate({"username": "exporter", "password": Secret.from_env("X", environ)})
    async with client_of("http://127.0.0.1:1", auth=Careless(settings, FakeClock())) as client:
        for _ in range(2):
            assert (await failure(client)).reason is Reason.AUTH


async def test_logins_per_minute_are_limited() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        for minute in range(3):
            for second in range(12):
                issuer.refusal = http(503) if second % 2 else http(500)
                await failure(client)
                clock.advance(5)
            assert issuer.logins <= 5 * (minute + 1)
        assert "in the last minute" in str(await failure(client)) or issuer.logins >= 10


async def test_rate_limited_login_waits_for_retry_after() -> None:
    clock = FakeClock()
    async with logging_in(clock) as (client, issuer, _):
        issuer.refusal = http(429, Retry_After="120")
        error = await failure(client)
        assert (error.reason, error.retry_after) == (Reason.RATE_LIMITED, 120.0)
        clock.advance(100)
        assert (await failure(client)).reason is Reason.RATE_LIMITED
        assert issuer.logins == 1


async def test_token_with_invalid_header_characters_is_an_auth_error() -> None:
    async with logging_in(FakeClock()) as (client, issuer, _):
        issuer.refusal = http(body=b'"canary\\n"')
        error = await failure(client)
    assert error.reason is Reason.AUTH
    assert "canary" not in str(error)


# -- secrets stay secret -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "echo", [http(401, b"no token canary-token-1 found"), http(302, Location="http://canary-token-1/")]
)
async def test_echoed_secrets_are_not_in_errors_and_logs(echo: bytes, caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret.inline("canary-token-1")
    kinds: list[Auth] = [Bearer(secret), Header("X-Key", secret), TokenLogin(login_settings(), FakeClock())]
    for auth in kinds:
        async with answering(echo) as server, client_of(server.url, auth=auth) as client:
            error = await failure(client)
            results = await client.requests(LONG).map(lambda _: failing(client), [1])
        told = [
            repr(error),
            "".join(traceback.format_exception(error)),
            repr(vars(client)),
            repr(auth),
            repr(client.requests(1.0)),
            repr(results),
            caplog.text,
        ]
        assert "canary" not in "".join(told)


async def failing(client: UpstreamClient) -> None:
    await client.requests(LONG).get("GET /x")


async def test_waiting_for_a_login_ends_at_the_deadline() -> None:
    started = asyncio.Event()

    class Endless(TokenLogin):
        async def login(self, send: SendRequest) -> tuple[str, float]:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

    async with client_of("http://127.0.0.1:1", auth=Endless(login_settings(), Clock())) as client:
        requests = client.requests(0.2)
        results = await asyncio.gather(*(requests.get("GET /x") for _ in range(2)), return_exceptions=True)
    assert [result.reason for result in results if isinstance(result, UpstreamError)] == [Reason.TIMEOUT] * 2
    assert started.is_set()


async def test_slow_login_ends_at_the_deadline_of_its_request(loop_time: LoopTime) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in b"HT":
            await loop_time.advance(0.5 * POLL_SECONDS)
            writer.write(bytes([byte]))

    observed = Observed()
    auth = TokenLogin(login_settings(), Clock())
    async with (
        serving(drip) as port,
        client_of(f"http://127.0.0.1:{port}", auth=auth, observe=observed) as client,
    ):
        with pytest.raises(UpstreamError) as caught:
            await client.requests(POLL_SECONDS).get("GET /x")
    assert (caught.value.reason, str(caught.value)) == (Reason.TIMEOUT, "GET /x: timed out")
    assert observed.attempts == [("POST /login", "timeout")]


async def test_login_for_a_poll_on_demand_is_sent_although_its_share_is_used_up() -> None:
    logins = []

    def answer(request: Request) -> bytes:
        logins.append(request.target == "/login")
        return http(body=b'"token"', X_RateLimit_Limit="4", X_RateLimit_Remaining="2", X_RateLimit_Reset="60")

    auth = TokenLogin(login_settings(), Clock())
    async with (
        answering(answer) as server,
        client_of(server.url) as scheduled,
        client_of(server.url, auth=auth) as on_demand,
    ):
        on_demand.share(scheduled)
        for number in range(3):
            await scheduled.requests(LONG).get("GET /{n}", n=str(number))
        assert on_demand.rate_limit.budget(Clock().monotonic(), on_demand=True) == 0
        error = await failure(on_demand)
    assert (error.reason, error.status) == (Reason.RATE_LIMITED, None)
    assert logins == [False] * 3 + [True]
