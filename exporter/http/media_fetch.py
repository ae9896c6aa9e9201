"""One fetch of the media fetcher: what is wanted, its state while redirects are followed, and its result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
from aiohttp import hdrs

from exporter.http.media_body import Body, ByteRange
from exporter.http.media_cookies import CookieJar
from exporter.http.media_url import MediaUrl, shown
from exporter.http.response import http_date

_MAX_DIGITS = 9
"""Maximum number of digits of a number in a header; more is not a number of seconds."""
_MAX_TYPE_CHARACTERS = 100


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fetched:
    """An object, or the part of it that was wanted.

    All times are measured on the clock's steady seconds, without waits for a free connection.
    """

    url: str
    """URL after redirects, for relative references. It may hold a token: show ``shown(url)``."""
    status: int
    """200 to 299."""
    body: bytes
    """The content, decompressed."""
    is_cut: bool
    """Whether the object, or the range of it that was asked for, continues after ``body``."""
    total_bytes: int | None
    """Size of the whole object; None if unknown."""
    content_type: str
    """In lower case and without parameters; empty if unknown. The server chose it; it is not safe to show."""
    date: float | None
    """Unix seconds on the server's clock (``Date``)."""
    age: float | None
    """Seconds that the response was in caches (``Age``)."""
    redirects: int
    first_byte_seconds: float
    """Until the head of the response arrived, with redirects, name lookups and connecting."""
    body_seconds: float
    """From then until the last byte of ``body``."""

    @property
    def seconds(self) -> float:
        """Duration of the whole fetch."""
        return self.first_byte_seconds + self.body_seconds

    def __repr__(self) -> str:
        return f"<Fetched {self.status} {shown(self.url)} {len(self.body)} bytes>"


class Wanted(NamedTuple):
    """What to fetch, and how."""

    what: str
    is_playlist: bool
    max_bytes: int
    byte_range: ByteRange | None
    """The range to request; None: the whole object."""
    whole_range: ByteRange | None
    """The range that counts as the whole object; None: the object itself."""
    timeout: float
    """Seconds for the whole fetch."""


class Fetch:
    """State of one fetch."""

    def __init__(self, wanted: Wanted, cookies: CookieJar, url: str) -> None:
        self.wanted = wanted
        self.cookies = cookies
        self.redirected_to = ""
        """URL of the last redirect; empty if there was none."""
        self.sent_at: float | None = None
        """When the request in flight was sent, in monotonic seconds; None: none is in flight."""
        self.seconds_before = 0.0
        """Duration of the requests before that one: redirects, and one with credentials that have changed."""
        self.time_limit = asyncio.timeout(wanted.timeout)
        """Ends the fetch at its deadline."""
        self.server = ""
        """Host and port of the last request."""
        self.is_reached: bool | None = None
        """Whether that server was reached; None while that is not known."""
        self.redirects = 0
        self.has_left_origin = False
        """Whether this request, or one before it, was for another origin than the configured one."""
        self.has_renewed = False
        """Whether credentials were read again after a 401."""
        self._url = url

    @property
    def place(self) -> str:
        """What was fetched, for messages."""
        place = f"{self.wanted.what} {shown(self._url)}"
        return f"{place}, redirected to {shown(self.redirected_to)}" if self.redirected_to else place

    def end_request(self, now: float) -> None:
        """Count the duration of the request in flight, if there is one."""
        if self.sent_at is not None:
            self.seconds_before += now - self.sent_at
            self.sent_at = None

    def result(
        self, url: MediaUrl, response: aiohttp.ClientResponse, body: Body, *, head_at: float, ended_at: float
    ) -> Fetched:
        """Return the object of the last response, whose head arrived at ``head_at``."""
        assert self.sent_at is not None
        headers, whole = response.headers, self.wanted.whole_range
        continues = whole is None or whole.first + len(body.content) <= whole.last
        return Fetched(
            url=str(url.url),
            status=response.status,
            body=body.content,
            is_cut=body.is_cut and continues,
            total_bytes=body.total_bytes,
            content_type=headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()[:_MAX_TYPE_CHARACTERS],
            date=http_date(headers.get(hdrs.DATE, "")),
            age=_number(headers.get(hdrs.AGE)),
            redirects=self.redirects,
            first_byte_seconds=self.seconds_before + head_at - self.sent_at,
            body_seconds=ended_at - head_at,
        )


def _number(text: str | None) -> float | None:
    """Return a header's whole number; None if it is not one."""
    text = (text or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None
