"""Credentials go to the configured origin only, and URLs, which hold tokens, appear in no text."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import structlog.testing
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.auth import AuthSettings
from exporter.config.secrets import Secret
from exporter.config.upstream import TlsSettings
from exporter.http.auth import Bearer, Login, SendRequest
from exporter.http.media import CREDENTIALS_SECONDS, Fetched, FetchError, FetchReason, join_url, shown
from exporter.http.media_url import UnusableUrlError, parse_url
from exporter.model import Reason
from exporter.runtime.redaction import redactor
from tests.fake_clock import FakeClock
from tests.http.media_fetching import Names, failure, fetcher_of, head, playlist, whole
from tests.http.raw_server import Request, answering, http, read_request, serving

TOKEN = "tk-5fc1aa20d9"
HEADERS = {"X-Key": Secret.inline("k1")}


def given_to(request: Request) -> tuple[str | None, str | None]:
    """Return the credentials and the configured header of a request."""
    return request.headers.get("authorization"), request.headers.get("x-key")


ALL, NOTHING = (f"Bearer {TOKEN}", "k1"), (None, None)


# -- credentials -------------------------------------------------------------------------------------------------------


async def test_only_the_origin_gets_credentials() -> None:
    names = Names({"other.example": [["127.0.0.1"]]})
    async with (
        answering(http()) as origin,
        answering(http()) as other,
        fetcher_of(
            origin.url,
            names=names,
            auth=Bearer(Secret.inline(TOKEN)),
            headers=HEADERS,
            stream_urls=[other.url],
        ) as fetcher,
    ):
        await playlist(fetcher, f"{origin.url}/list")
        await head(fetcher, f"{origin.url.replace('http', 'HTTP')}/seg")
        await playlist(fetcher, f"{other.url}/list")
        await head(fetcher, f"http://other.example:{origin.port}/seg")
    assert [given_to(request) for request in origin.requests] == [ALL, ALL, NOTHING]
    assert [given_to(request) for request in other.requests] == [NOTHING]


async def test_redirect_within_the_origin_keeps_credentials() -> None:
    async with (
        answering(http(302, b"", Location="/b"), http()) as origin,
        fetcher_of(origin.url, auth=Bearer(Secret.inline(TOKEN)), headers=HEADERS) as fetcher,
    ):
        await playlist(fetcher, origin.url)
    assert [given_to(request) for request in origin.requests] == [ALL, ALL]


async def test_redirect_elsewhere_loses_credentials_even_if_it_leads_back() -> None:
    async with answering(lambda _: http(302, b"", Location=f"{origin.url}/back")) as other:
        away = http(302, b"", Location=f"{other.url}/away")
        async with (
            answering(away, http()) as origin,
            fetcher_of(origin.url, auth=Bearer(Secret.inline(TOKEN)), headers=HEADERS) as fetcher,
        ):
            await playlist(fetcher, f"{origin.url}/start")
    assert [given_to(request) for request in origin.requests] == [ALL, NOTHING]
    assert [given_to(request) for request in other.requests] == [NOTHING]


async def test_changed_secret_is_read_again_after_a_401_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")

    def answer(request: Request) -> bytes:
        file.write_text("second")
        return http(401, b"") if request.headers["authorization"] != "Bearer second" else http()

    clock = FakeClock()
    async with (
        answering(answer, answer, http(401), http(), http()) as origin,
        fetcher_of(origin.url, clock=clock, auth=Bearer(Secret.from_file(file))) as fetcher,
    ):
        await playlist(fetcher, origin.url)
        await failure(playlist(fetcher, origin.url), FetchReason.AUTH)
        file.write_text("third")
        await playlist(fetcher, origin.url)
        clock.advance(CREDENTIALS_SECONDS)
        await playlist(fetcher, origin.url)
    sent = [request.headers["authorization"] for request in origin.requests]
    assert sent == [f"Bearer {token}" for token in ("first", "second", "second", "second", "third")]


async def test_401_of_another_server_is_not_retried() -> None:
    async with answering(http()) as origin, answering(http(401)) as other, fetcher_of(origin.url) as fetcher:
        await failure(playlist(fetcher, other.url), FetchReason.AUTH)
        assert len(other.requests) == 1


async def test_unreadable_secret_shows_nothing_about_the_stream(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    secret = Secret.from_file(file)
    file.unlink()
    async with answering(http()) as origin, fetcher_of(origin.url, auth=Bearer(secret)) as fetcher:
        error = await failure(playlist(fetcher, origin.url), FetchReason.AUTH)
        assert not origin.requests
    assert error.is_inconclusive


class TokenLogin(Login):
    async def login(self, send: SendRequest) -> tuple[str, float]:
        await send("POST /login", body={})
        raise AssertionError("not reached")


async def test_login_is_not_supported() -> None:
    settings = AuthSettings(username="u", password=Secret.inline("hunter2222"))
    auth = TokenLogin(settings, FakeClock())
    async with answering(http()) as origin, fetcher_of(origin.url, auth=auth) as fetcher:
        error = await failure(playlist(fetcher, origin.url), FetchReason.AUTH)
    assert "do not support logins" in str(error)


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def https_port(authority: trustme.CA) -> AsyncIterator[int]:
    """Port of a server with certificates for two names, which redirects ``/http`` to http."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("origin.example", "cdn.example", "media.lan").configure_cert(context)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            location = f"http://{request.headers['host']}/"
            writer.write(http(302, b"", Location=location) if request.target == "/http" else http())

    async with serving(handle, context) as port:
        yield port


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> TlsSettings:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return TlsSettings(ca_file=tmp_path / "ca.pem")


async def test_private_authority_is_trusted_for_named_hosts_only(https_port: int, tls: TlsSettings) -> None:
    names = Names({host: [["127.0.0.1"]] for host in ("origin.example", "cdn.example", "media.lan")})
    url = f"https://origin.example:{https_port}"
    async with fetcher_of(url, names=names, tls=tls, hosts=["*.lan"]) as fetcher:
        for _ in range(2):
            await playlist(fetcher, f"{url}/x")
        await playlist(fetcher, f"https://media.lan:{https_port}/x")
        error = await failure(playlist(fetcher, f"https://cdn.example:{https_port}/x"), FetchReason.TLS)
    assert "certificate verification failed" in str(error)


async def test_configured_server_name_is_for_the_origin_only(https_port: int, tls: TlsSettings) -> None:
    names = Names({host: [["127.0.0.1"]] for host in ("edge.lan", "cdn.lan")})
    url = f"https://edge.lan:{https_port}"
    tls = TlsSettings(ca_file=tls.ca_file, server_name="origin.example")
    async with fetcher_of(url, names=names, tls=tls, hosts=["*.lan"]) as fetcher:
        await playlist(fetcher, url)
        await failure(playlist(fetcher, f"https://cdn.lan:{https_port}/x"), FetchReason.TLS)


async def test_redirect_from_https_to_http_is_not_followed(https_port: int, tls: TlsSettings) -> None:
    names = Names({"origin.example": [["127.0.0.1"]]})
    url = f"https://origin.example:{https_port}"
    async with fetcher_of(url, names=names, tls=tls) as fetcher:
        error = await failure(playlist(fetcher, f"{url}/http"), FetchReason.REDIRECT)
    assert "redirects from https to http are not followed" in str(error)


async def test_unreadable_certificates_show_nothing_about_the_stream(tls: TlsSettings) -> None:
    assert tls.ca_file is not None
    tls.ca_file.unlink()
    async with fetcher_of("https://127.0.0.1:1", tls=tls) as fetcher:
        assert (await failure(playlist(fetcher, "https://127.0.0.1:1/"), FetchReason.TLS)).is_inconclusive


# -- texts -------------------------------------------------------------------------------------------------------------

tokens = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=12, max_size=40).filter(
    lambda token: token[0].isalpha() and not token.startswith("xn--")
)
URLS = [
    "{base}/x.m3u8?token={token}", "{base}/{token}/x.m3u8", "{base}/x.m3u8#{token}", "{base}/x.m3u8;jsessionid={token}",
    "{base}/x/a={token}", "{base}/token={token}~hmac=1.ts", "{base}/{token}%20.ts", "{base}/a/../{token}/..",
    "http://{token}@127.0.0.1/x", "http://u:{token}@127.0.0.1/x", "http://u:a/{token}@127.0.0.1/x", "{base}\\@{token}/",
    "http://127.0.0.1:{token}/", "http://[::1]{token}/", "file:///{token}/x", "http://u:\u00e4{token}@h/", "?{token}",
]  # fmt: skip


def texts_of(error: BaseException) -> str:
    return f"{error} {error!r} {error.args} {''.join(traceback.format_exception(error))}"


@given(tokens, st.sampled_from(URLS), st.sampled_from(["http://127.0.0.1", "https://cdn.example:8443", "http://[::1]"]))
def test_shown_url_contains_no_token(token: str, template: str, base: str) -> None:
    url = template.format(base=base, token=token)
    assert token not in shown(url)
    try:
        text = repr(parse_url(url))
    except UnusableUrlError as error:
        text = texts_of(error)
    assert token not in text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://cdn.example/live/a/seg-0_1.ts?t=1", "cdn.example/seg-0_1.ts"),
        ("http://CDN.example:8080/", "cdn.example:8080/"),
        ("http://[2001:db8::1]:80/x.mpd", "[2001:db8::1]:80/x.mpd"),
        ("http://b\u00fccher.example/x", "xn--bcher-kva.example/x"),
        (f"http://cdn.example/{'a' * 81}.m4s", "cdn.example/….m4s"),
        (f"http://cdn.example/{'a' * 81}", "cdn.example/…"),
        ("http://cdn.example/Fragments(video=0)", "cdn.example/…"),
        ("http://cdn.example:port/x", "unreadable URL"),
        ("/x.ts", "unreadable URL"),
    ],
)
def test_shown_url(url: str, text: str) -> None:
    assert shown(url) == text


def test_known_secret_is_not_shown() -> None:
    redactor.add("streamkey-1234")
    assert shown("http://cdn.example/streamkey-1234.m3u8") == "cdn.example/<secret>.m3u8"


@pytest.mark.parametrize(
    ("reference", "joined"),
    [
        ("seg.ts?x=1", "http://h.example/a/seg.ts?x=1"),
        (" /seg.ts\n", "http://h.example/seg.ts"),
        ("//cdn.example/x", "http://cdn.example/x"),
        ("https://cdn.example/x", "https://cdn.example/x"),
        ("../../x", "http://h.example/x"),
        ("data:x", "data:x"),
        ("http://[x", "http://[x"),
    ],
)
def test_reference_is_joined_to_its_document(reference: str, joined: str) -> None:
    assert join_url("http://h.example/a/list.m3u8?token=1", reference) == joined


async def error_of(fetching: Awaitable[Fetched]) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetching
    return caught.value


FAILING = [
    http(404),
    http(302, b"", Location=f"/{TOKEN}/x?{TOKEN}"),
    http(302, b"", Location=f"http://u:{TOKEN}@127.0.0.1/"),
    http(302, b"", Location=f"http://[{TOKEN}"),
    http(302, b"", Location=f"file:///{TOKEN}/x"),
    http(302, b"", Location=f"http://10.0.0.1/{TOKEN}/x"),
    http(302, b"", Location=f"http://unknown.example/{TOKEN}/x"),
    http(302, b"", Location=f"http://127.0.0.1:1/{TOKEN}/x"),
    http(body=b"x", Content_Length="9999999999"),
    http(body=TOKEN.encode(), Content_Encoding="gzip"),
    http(206, TOKEN.encode(), Content_Range=f"bytes {TOKEN}"),
    http(given={"Content-Encoding": TOKEN}),
    f"HTTP/1.1 {TOKEN}\r\n\r\n".encode(),
    f"HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n".encode(),
    http(429, TOKEN.encode(), Retry_After=TOKEN),
]


@pytest.mark.parametrize("answer", FAILING)
async def test_no_error_contains_the_url_or_anything_of_the_response(answer: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        async with answering(answer) as server, fetcher_of(server.url) as fetcher:
            for fetch in (playlist, whole):
                error = await error_of(fetch(fetcher, f"{server.url}/{TOKEN}/x.ts?{TOKEN}#{TOKEN}"))
                assert TOKEN not in texts_of(error)
                assert error.__context__ is None
                assert str(error).startswith(("playlist 127.0.0.1:", "segment 127.0.0.1:"))
    assert logs == []


@given(tokens, st.sampled_from(URLS))
async def test_no_error_of_an_unreachable_server_contains_a_token(token: str, template: str) -> None:
    for base in ("http://127.0.0.1:1", "http://unknown.example", "http://10.0.0.1"):
        async with fetcher_of("http://127.0.0.1:1") as fetcher:
            error = await error_of(playlist(fetcher, template.format(base=base, token=token)))
        assert token not in texts_of(error)


async def test_result_and_state_do_not_show_the_url() -> None:
    async with answering(http(body=TOKEN.encode(), Set_Cookie=f"a={TOKEN}")) as server:
        url = f"{server.url}/{TOKEN}/x.ts?{TOKEN}"
        async with fetcher_of(url, headers={"X": Secret.inline(TOKEN)}, auth=Bearer(Secret.inline(TOKEN))) as fetcher:
            cookies = fetcher.cookie_jar()
            found = await playlist(fetcher, url, cookies=cookies)
            texts = f"{found!r} {found!s} {fetcher!r} {cookies!r} {list(cookies._cookies.values())!r} {vars(fetcher)!r}"
    assert found.url == url
    assert f"{found!r}" == f"<Fetched 200 127.0.0.1:{server.port}/x.ts {len(TOKEN)} bytes>"
    assert TOKEN not in texts.replace(f"'X': '{TOKEN}'", "").replace(f"'Authorization': 'Bearer {TOKEN}'", "")


def test_every_reason_of_a_fetch_has_a_reason_of_a_poll() -> None:
    # a single fetch cannot tell that the exporter's own network is down
    reasons = set(Reason) - {Reason.VANTAGE}
    assert {reason.value for reason in reasons} == {reason.value for reason in FetchReason} - {"redirect", "blocked"}
    assert {reason.poll_reason for reason in FetchReason} == reasons
