"""Responses: read a body within limits, decode it, and interpret its headers.

Damaged text does not make the rest of a document unreadable. Text that was not valid Unicode contains lone surrogates
after decoding JSON, so that different names stay different; code that outputs it must replace them.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import zlib
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.memory_tuning import without_garbage_collection

_GZIP = 16 + zlib.MAX_WBITS
_MAX_DIGITS = 400
"""Maximum number of digits of an integer; a longer one does not fit into a float."""
_ERROR_KEYS = ("error", "errors", "message", "detail", "code", "status", "statusCode")
_KNOWN_TYPES = frozenset(
    {"text/html", "text/plain", "text/xml", "application/xml", "application/json", "application/octet-stream"}
)

MAX_VALUES = 1_000_000
"""Maximum number of values in one document."""
MAX_KEYS = 400_000
"""Maximum number of different keys in one JSON document. A new key takes as long to decode as several values."""
LARGE_VALUES = 50_000
"""Documents with more values than this take tens of milliseconds to decode."""
_KEY = re.compile(rb'"([^"]*+)"[ \t\r\n\0]*+:')
"""A key of an object, or the rest of a key after an escaped quote. Matching takes linear time for any input."""
_SLICE_BYTES = 2**20
"""Size of the slices that are searched for keys, so that other threads can run in between."""
_START_BYTES = 1024
_BLANK = b" \t\r\n\xef\xbb\xbf"
_XML_ENCODING = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_XML_DECLARATION_BYTES = 200
_LATIN_1 = frozenset({b"iso-8859-1", b"iso8859-1", b"iso_8859-1", b"latin-1", b"latin1", b"l1"})

_decode = msgspec.json.Decoder().decode


class Response:
    """A usable response."""

    __slots__ = ("body", "data", "date", "headers", "link_next", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        *,
        data: Any = None,
        body: bytes = b"",
        date: float | None = None,
        link_next: str | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.data = data
        """The decoded JSON; None if the response has no body or JSON was not requested."""
        self.body = body
        """The raw body if JSON was not requested, otherwise empty."""
        self.date = date
        """Unix seconds on the platform's clock."""
        self.link_next = link_next
        """URL of the next page."""

    @property
    def text(self) -> str:
        """The body decoded as UTF-8; invalid bytes become U+FFFD."""
        return decode_text(self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


def next_page(response: aiohttp.ClientResponse) -> str | None:
    """Return the next page's URL: the URL of this response with the query of its ``next`` link (RFC 8288).

    The link's host and path are ignored, so that credentials are sent only to the configured server.
    """
    if hdrs.LINK not in response.headers:
        return None
    try:
        links = response.links
    except (ValueError, IndexError):
        # a link is not a valid URL; yarl raises IndexError for some of those
        return None
    for link in links.values():
        relations = [str(value) for name, value in link.items() if name.lower() == "rel"]
        if relations and "next" in relations[0].lower().split():
            query = URL(link["url"]).raw_query_string
            return urlsplit(str(response.url))._replace(query=query).geturl()
    return None


# -- bodies ----------------------------------------------------------------------------------------------------------


class ByteBudget:
    """Limit of the total size of a poll's responses, after decompression."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.left = total

    def take(self, size: int, endpoint: str) -> None:
        """Subtract the size of a part of a body. Raises ``UpstreamError`` (``too_large``) if the budget is exceeded."""
        self.left -= size
        if self.left < 0:
            text = f"{endpoint}: the responses of this poll exceed {self._total} bytes in total (max_body_bytes)"
            raise UpstreamError(Reason.TOO_LARGE, text)


async def read_body(response: aiohttp.ClientResponse, limit: int, endpoint: str, budget: ByteBudget) -> bytes:
    """Return the whole decompressed body, of at most ``limit`` bytes.

    Raises ``UpstreamError`` (``too_large``, ``bad_response``) and aiohttp's exceptions.
    """
    encoding = response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return await _read_gzip(response, limit, endpoint, budget)
    if encoding not in ("", "identity"):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: unsupported content encoding")
    if (response.content_length or 0) > limit:
        raise _too_large(limit, endpoint)
    parts, size = [], 0
    while part := await response.content.readany():
        size += len(part)
        if size > limit:
            raise _too_large(limit, endpoint)
        budget.take(len(part), endpoint)
        parts.append(part)
    return b"".join(parts)


async def _read_gzip(response: aiohttp.ClientResponse, limit: int, endpoint: str, budget: ByteBudget) -> bytes:
    """Read a gzip body; decompress no further than the limits allow, because gzip can expand a thousandfold."""
    unpacker = zlib.decompressobj(_GZIP)
    body = bytearray()
    try:
        async for packed in response.content.iter_any():
            while packed:
                part = unpacker.decompress(packed, min(limit - len(body), budget.left) + 1)
                if len(body) + len(part) > limit:
                    raise _too_large(limit, endpoint)
                budget.take(len(part), endpoint)
                body += part
                packed = unpacker.unused_data
                if packed:
                    # a body may consist of several gzip members
                    unpacker = zlib.decompressobj(_GZIP)
    except zlib.error:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the gzip body is malformed") from None
    if not unpacker.eof:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the gzip body is truncated")
    return bytes(body)


def _too_large(limit: int, endpoint: str) -> UpstreamError:
    return UpstreamError(Reason.TOO_LARGE, f"{endpoint}: the response exceeds {limit} bytes (max_body_bytes)")


def starts_like_xml(body: bytes) -> bool:
    """Return whether the first character of a body, apart from blanks, is ``<``."""
    return body[:_START_BYTES].lstrip(_BLANK).startswith(b"<")


def count_values(body: bytes, *, is_json: bool) -> int:
    """Return an upper bound of the number of values in a document, without decoding it; 0 if it is not JSON or XML.

    Every JSON value except the first follows a comma or starts an object or list; every XML value is an element or an
    attribute. Decoders do not release the GIL, so a document with too many values must be refused before decoding.
    """
    if starts_like_xml(body):
        return body.count(b"<") + body.count(b"=")
    return body.count(b",") + body.count(b"{") + body.count(b"[") if is_json else 0


# -- decoding --------------------------------------------------------------------------------------------------------


async def decode_large_json(body: bytes, content_type: str | None, endpoint: str) -> Any:
    """Decode like ``decode_json``, but without blocking the event loop for long.

    Raises ``UpstreamError`` (``bad_response``, or ``too_large`` for too many different keys).
    """
    if body.count(b":") > MAX_KEYS and await asyncio.to_thread(_has_too_many_keys, body):
        raise UpstreamError(Reason.TOO_LARGE, f"{endpoint}: the response has more than {MAX_KEYS} different keys")
    with without_garbage_collection():
        try:
            return _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # slower, but lets other threads run in between
            return await asyncio.to_thread(_decode_leniently, body, content_type, endpoint)


def _has_too_many_keys(body: bytes) -> bool:
    keys: set[bytes] = set()
    for start in range(0, len(body), _SLICE_BYTES):
        keys.update(_KEY.findall(body, start, start + _SLICE_BYTES))
        if len(keys) > MAX_KEYS:
            return True
    return False


def decode_json(body: bytes, content_type: str | None, endpoint: str) -> Any:
    """Decode JSON. Raises ``UpstreamError`` (``bad_response``) if its structure cannot be parsed.

    Damaged values are accepted. NaN, Infinity and numbers too large for a float become non-finite floats; invalid
    bytes become lone surrogates, and lone surrogates and raw control characters in strings are kept.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(body, content_type, endpoint)


def _decode_leniently(body: bytes, content_type: str | None, endpoint: str) -> Any:
    """Decode JSON with damaged values, which the fast decoder rejects as a whole."""
    try:
        encoding = json.detect_encoding(body)
        text = body.decode("utf-8-sig" if encoding == "utf-8" else encoding, "surrogateescape")
        return json.loads(text, strict=False, parse_int=_parse_int, object_hook=_let_others_run)
    except (ValueError, RecursionError):
        given = (content_type or "").partition(";")[0].strip().lower()
        # an unusual content type may contain anything, so it is not shown
        if given in _KNOWN_TYPES:
            kind = f"content type {given}"
        else:
            kind = "unusual content type" if given else "no content type"
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: not JSON ({kind})") from None


def _let_others_run(decoded: dict[str, Any]) -> dict[str, Any]:
    """Return the object unchanged; the decoder releases the GIL only when it calls Python code."""
    return decoded


def _parse_int(digits: str) -> int | float:
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf


def looks_like_error(document: Any) -> bool:
    """Return whether a JSON document looks like an API error: an object with an error code or message."""
    return isinstance(document, dict) and any(document.get(key) for key in _ERROR_KEYS)


def decode_text(body: bytes) -> str:
    """Decode as UTF-8 and strip a byte order mark; invalid bytes become U+FFFD."""
    return body.decode("utf-8-sig", "replace")


def decode_declared(body: bytes) -> str:
    """Decode as Latin-1 if an XML declaration says so, otherwise as UTF-8."""
    match = _XML_ENCODING.match(body[:_XML_DECLARATION_BYTES])
    return body.decode("latin-1") if match and match[1].lower() in _LATIN_1 else decode_text(body)


# -- times in headers ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def http_date(text: str) -> float | None:
    """Parse an HTTP date in any of its three forms to unix seconds; None if it is not a date.

    Cached because servers send the same ``Date`` with all responses within a second.
    """
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def retry_after(text: str | None, date: float | None, now: float) -> float | None:
    """Return the seconds to wait from ``Retry-After``, which is a number or a date on the platform's clock.

    ``date``: the response's ``Date``; ``now`` is used if it is None.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    moment = http_date(text)
    return None if moment is None else max(0.0, moment - (now if date is None else date))
