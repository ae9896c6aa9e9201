"""Cookies of one stream: sent only where a browser would send them, few and small."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.secrets import Secret
from exporter.http.media_cookies import MAX_COOKIE_BYTES, MAX_COOKIES, MAX_TOTAL_BYTES, CookieJar
from exporter.http.media_url import parse_url
from tests.fake_clock import FakeClock
from tests.http.media_fetching import Names, fetcher_of, head, playlist
from tests.http.raw_server import answering, http

SETTER = "https://www.media.example/live/a/list.m3u8"


def jar_with(*cookies: str, url: str = SETTER, clock: FakeClock | None = None) -> CookieJar:
    jar = CookieJar(clock or FakeClock())
    for cookie in cookies:
        jar.store(parse_url(url), SimpleCookie(cookie).values())
    return jar


@pytest.mark.parametrize(
    ("cookie", "url", "is_sent"),
    [
        ("a=1", "https://www.media.example/live/a/2.ts", True),
        ("a=1", "https://www.media.example:8443/live/a", True),
        ("a=1", "http://www.media.example/live/a/b/2.ts", True),
        ("a=1", "https://www.media.example/live/ab", False),
        ("a=1", "https://www.media.example/", False),
        ("a=1; path=/", "https://www.media.example/", True),
        ("a=1; path=x", "https://www.media.example/live/a/2", True),
        ("a=1; path=/seg/", "https://www.media.example/seg/2.ts", True),
        ("a=1; path=/seg/", "https://www.media.example/seg", False),
        ("a=1; path=/", "https://cdn.www.media.example/", False),
        ("a=1; path=/", "https://media.example/", False),
        ("a=1; path=/; domain=media.example", "https://media.example/", True),
        ("a=1; path=/; domain=.Media.Example", "https://cdn.media.example/", True),
        ("a=1; path=/; domain=media.example", "https://evilmedia.example/", False),
        ("a=1; path=/; domain=www.media.example", "https://x.www.media.example/", True),
        ("a=1; path=/; domain=other.example", "https://www.media.example/", False),
        ("a=1; path=/; domain=cdn.www.media.example", "https://cdn.www.media.example/", False),
        ("a=1; path=/; domain=example", "https://www.media.example/", False),
        ("a=1; path=/; domain=example", "https://other.example/", False),
        ("a=1; path=/; secure", "https://www.media.example/", True),
        ("a=1; path=/; secure", "http://www.media.example/", False),
    ],
)
def test_cookie_is_sent_where_a_browser_sends_it(cookie: str, url: str, is_sent: bool) -> None:
    assert jar_with(cookie).header(parse_url(url)) == ("a=1" if is_sent else "")


def test_cookie_for_a_shared_domain_is_refused() -> None:
    jar = jar_with("a=1; domain=co.uk", "b=1; domain=bbc.co.uk; path=/", url="https://www.bbc.co.uk/")
    assert jar.header(parse_url("https://other.co.uk/")) == ""
    assert jar.header(parse_url("https://cdn.bbc.co.uk/")) == "b=1"


def test_addresses_have_no_parent_domain() -> None:
    jar = jar_with("a=1; domain=0.0.1", "b=2; domain=127.0.0.1", "c=3", url="http://127.0.0.1/")
    assert jar.header(parse_url("http://127.0.0.1:81/")) == "b=2; c=3"
    assert jar.header(parse_url("http://9.0.0.1/")) == ""


def test_secure_cookie_set_without_tls_is_refused() -> None:
    assert len(jar_with("a=1; secure", url="http://www.media.example/")) == 0


def test_cookie_ends_at_its_time_on_the_clock() -> None:
    clock = FakeClock()
    jar = jar_with(
        "a=1; max-age=60; expires=Sun, 06 Nov 1994 08:49:37 GMT", "b=2", "c=3; expires=Fri, 01 Jan 2100 00:00:00 GMT",
        "d=4; expires=Sun, 06 Nov 1994 08:49:37 GMT", "e=5; max-age=0", "f=6; max-age=x", "g=7; max-age=" + "9" * 99,
        clock=clock,
    )  # fmt: skip
    url = parse_url(SETTER)
    assert jar.header(url) == "a=1; b=2; c=3; f=6; g=7"
    clock.advance(59.9)
    assert "a=1" in jar.header(url)
    clock.advance(0.1)
    assert jar.header(url) == "b=2; c=3; f=6; g=7"
    assert len(jar) == 4
    jar.store(url, SimpleCookie("b=2; max-age=-1").values())
    assert len(jar) == 3


def test_cookie_is_replaced_and_longer_paths_come_first() -> None:
    jar = jar_with("a=1; path=/", "a=2; path=/live", "a=3; path=/", 'b="x y"; path=/')
    assert jar.header(parse_url(SETTER)) == 'a=2; a=3; b="x y"'


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5000), st.sampled_from(["/", "/live"])), max_size=150))
def test_number_and_size_of_cookies_are_bounded(cookies: list[tuple[int, int, str]]) -> None:
    jar = jar_with(*(f"n{number}={'v' * size}; path={path}" for number, size, path in cookies))
    assert len(jar) <= MAX_COOKIES
    assert len(jar.header(parse_url(SETTER))) <= MAX_TOTAL_BYTES
    if cookies and cookies[-1][1] < MAX_COOKIE_BYTES - 100:
        assert f"n{cookies[-1][0]}=" in jar.header(parse_url(SETTER)), "the newest one is kept"


def test_large_cookie_is_ignored() -> None:
    assert len(jar_with(f"a={'x' * MAX_COOKIE_BYTES}", "b=1; path=/" + "x" * MAX_COOKIE_BYTES)) == 0


async def test_cookie_that_is_not_valid_in_a_header_is_ignored() -> None:
    damaged = http().replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=\xff\xfe\r\nSet-Cookie: b=\xc3\xa4\r\n\r\n", 1)
    async with answering(damaged) as server, fetcher_of(server.url) as fetcher:
        cookies = fetcher.cookie_jar()
        for _ in range(2):
            await playlist(fetcher, server.url, cookies=cookies)
    assert server.requests[1].headers["cookie"] == "b=\u00e4"


# -- in requests -------------------------------------------------------------------------------------------------------


async def test_cookies_of_redirects_and_playlists_are_sent_with_segments_of_the_same_stream() -> None:
    answers = [
        http(302, b"", Location="/live/b.m3u8", Set_Cookie="session=1; Path=/"),
        http(given={"Set-Cookie": "token=2\r\nSet-Cookie: junk\r\nSet-Cookie: other=3; HttpOnly; SameSite=None"}),
        http(),
    ]
    names = Names({"other.example": [["127.0.0.1"]]})
    async with answering(*answers) as server, fetcher_of(server.url, names=names) as fetcher:
        cookies = fetcher.cookie_jar()
        await playlist(fetcher, f"{server.url}/", cookies=cookies)
        await head(fetcher, f"{server.url}/live/1.ts", cookies=cookies)
        await head(fetcher, f"http://other.example:{server.port}/live/1.ts", cookies=cookies)
        await head(fetcher, f"{server.url}/live/1.ts")
    sent = [request.headers.get("cookie") for request in server.requests]
    assert sent == [None, "session=1", "token=2; other=3; session=1", None, None]


async def test_configured_cookie_is_kept_for_the_origin() -> None:
    async with (
        answering(http(Set_Cookie="b=2; Path=/")) as server,
        answering(http()) as other,
        fetcher_of(server.url, headers={"cookie": Secret.inline("a=1")}) as fetcher,
    ):
        cookies = fetcher.cookie_jar()
        for url in (server.url, server.url, other.url):
            await playlist(fetcher, url, cookies=cookies)
    assert [request.headers["cookie"] for request in server.requests] == ["a=1", "a=1; b=2"]
    assert other.requests[0].headers["cookie"] == "b=2", "browsers ignore the port"
