"""Answers: reading a body within bounds, decoding it, and what its headers say."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import hdrs
from multidict import CIMultiDictProxy
from yarl import URL

from exporter.http.errors import UpstreamError
from exporter.model import Reason

_GZIP = 16 + zlib.MAX_WBITS
_LONGEST_WHOLE_NUMBER = 400
"""Digits: more are beyond every float."""
_KNOWN_TYPES = frozenset(
    {"text/html", "text/plain", "text/xml", "application/xml", "application/json", "application/octet-stream"}
)
_LINK = re.compile(r"\s*,?\s*<([^>]*)>")
_LINK_PARAMETER = re.compile(r"""\s*;\s*([\w!#$&+.^`|~-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?""")

_decode = msgspec.json.Decoder().decode


class Answer:
    """A usable answer."""

    __slots__ = ("_url", "data", "date", "headers", "status", "text")

    def __init__(
        self, status: int, headers: CIMultiDictProxy[str], url: URL, *, data: Any, text: str | None, date: float | None
    ) -> None:
        self.status = status
        self.headers = headers
        self.data = data
        """The decoded JSON; None when the answer has no body, or a text was asked for."""
        self.text = text
        self.date = date
        """Unix seconds on the platform's clock."""
        self._url = url

    @property
    def link_next(self) -> str | None:
        """The next page: our own URL, with the query of the link that the answer announces (RFC 8288).

        The link's host and path are not followed: credentials stay where they belong.
        """
        for target in next_links(", ".join(self.headers.getall("Link", ()))):
            try:
                query = urlsplit(target.strip()).query
            except ValueError:
                continue
            own = urlsplit(str(self._url))
            return own._replace(query=query).geturl()
        return None

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"


def next_links(header: str) -> Iterator[str]:
    """The targets in a ``Link`` header whose relation is ``next``."""
    position = 0
    while link := _LINK.match(header, position):
        position = link.end()
        relation: str | None = None
        while parameter := _LINK_PARAMETER.match(header, position):
            position = parameter.end()
            name, quoted, bare = parameter.groups()
            if name.lower() == "rel" and relation is None:
                relation = quoted if quoted is not None else bare or ""
        if relation is not None and "next" in relation.lower().split():
            yield link[1]


# -- bodies ----------------------------------------------------------------------------------------------------------


async def read_body(response: aiohttp.ClientResponse, limit: int, endpoint: str, heard: Callable[[], None]) -> bytes:
    """The whole body, decompressed; never more than ``limit`` bytes of it are in memory.

    ``heard`` is called for every part that comes and is not the last.
    Raises ``UpstreamError`` (``too_large``, ``bad_response``) and what the library raises.
    """
    encoding = response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return await _read_gzip(response, limit, endpoint, heard)
    if encoding not in ("", "identity"):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the body comes in a content encoding not asked for")
    if (response.content_length or 0) > limit:
        raise _too_large(limit, endpoint)
    content = response.content
    body = await content.readany()
    if len(body) > limit:
        raise _too_large(limit, endpoint)
    if content.at_eof() and content.exception() is None:
        return body
    heard()
    parts, size = [body], len(body)
    while more := await content.readany():
        heard()
        size += len(more)
        if size > limit:
            raise _too_large(limit, endpoint)
        parts.append(more)
    return b"".join(parts)


async def _read_gzip(response: aiohttp.ClientResponse, limit: int, endpoint: str, heard: Callable[[], None]) -> bytes:
    """Each piece is unpacked no further than the limit allows: a small body can hold a thousand times its size."""
    unpacker = zlib.decompressobj(_GZIP)
    body = bytearray()
    try:
        async for packed in response.content.iter_any():
            heard()
            while packed:
                body += unpacker.decompress(packed, limit - len(body) + 1)
                if len(body) > limit:
                    raise _too_large(limit, endpoint)
                packed = unpacker.unused_data
                if packed:
                    # a body may consist of several compressed members
                    unpacker = zlib.decompressobj(_GZIP)
    except zlib.error:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the body can't be decompressed") from None
    if not unpacker.eof:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the compressed body is cut off")
    return bytes(body)


def _too_large(limit: int, endpoint: str) -> UpstreamError:
    return UpstreamError(Reason.TOO_LARGE, f"{endpoint}: the answer has more than {limit} bytes (max_body_bytes)")


# -- their meaning ---------------------------------------------------------------------------------------------------


def decode_json(body: bytes, content_type: str | None, endpoint: str) -> Any:
    """The JSON value; whole numbers and floats beyond what a float holds become infinite.

    Raises ``UpstreamError`` (``bad_response``) for everything else that is not JSON: NaN and Infinity, invalid UTF-8,
    HTML, nesting without end.
    """
    try:
        return _decode(body)
    except UnicodeDecodeError:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the body is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError):
        return _decode_leniently(body, content_type, endpoint)


def _decode_leniently(body: bytes, content_type: str | None, endpoint: str) -> Any:
    """For what the fast decoder refuses as a whole: a number out of range, half a surrogate pair in some text.

    One such value must not take all others with it.
    """
    try:
        data = json.loads(body, parse_constant=_refuse_constant, parse_int=_whole_number)
        # half a pair can't be encoded again; it becomes a question mark
        return json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"), parse_int=_whole_number)
    except (ValueError, RecursionError):
        given = (content_type or "").partition(";")[0].strip().lower()
        kind = given if given in _KNOWN_TYPES else "not a usual one"
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: not JSON (content type {kind})") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _whole_number(digits: str) -> int | float:
    if len(digits) <= _LONGEST_WHOLE_NUMBER:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf


def decode_text(body: bytes, endpoint: str) -> str:
    """UTF-8, whatever the content type says."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the body is not UTF-8") from None


# -- times in headers ------------------------------------------------------------------------------------------------


def http_date(text: str) -> float | None:
    """Unix seconds of an HTTP date in any of its three forms; None for what is none."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def retry_after(text: str | None, date: float | None, now: float) -> float | None:
    """Seconds to wait, from either form of ``Retry-After``: a number, or a date on the platform's clock.

    ``date``: the answer's own time, without which ours (``now``) has to do.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    moment = http_date(text)
    return None if moment is None else max(0.0, moment - (now if date is None else date))
