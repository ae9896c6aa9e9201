"""Reading the body of a media response: the part that is wanted, within limits, and in steps.

Sources: RFC 9110, section 14 (ranges); a server may answer a range request with the whole object.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import aiohttp
from aiohttp import hdrs

from exporter.http.media_url import FetchReason

MAX_SKIPPED_BYTES: Final = 2**20
"""Maximum number of bytes to read and skip if a server ignores the range that was requested."""
STEP_BYTES: Final = 2**18
"""Maximum number of bytes to decompress before other tasks run; takes about a millisecond."""
MAX_GZIP_MEMBERS: Final = 100
"""Maximum number of gzip members in a body; each takes time to set up, even if it is empty."""
_MARGIN_BYTES: Final = 65_536
"""Maximum size of a compressed body beyond the limit of its content; covers incompressible data and headers."""
_GZIP = 16 + zlib.MAX_WBITS
_CONTENT_RANGE = re.compile(r"bytes +([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII | re.IGNORECASE)


class ByteRange(NamedTuple):
    """A part of an object, as in ``Range: bytes=FIRST-LAST``; both are included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1

    def head(self, max_bytes: int) -> ByteRange:
        """Return the first bytes of the range."""
        return ByteRange(self.first, min(self.last, self.first + max_bytes - 1))


class Body(NamedTuple):
    """What was read of an object."""

    content: bytes
    is_cut: bool
    """Whether the object continues after this content."""
    total_bytes: int | None
    """Size of the whole object as the server gave it; None if unknown, or known only compressed."""


class BodyError(Exception):
    """A body that is not usable. The message contains nothing of it."""

    def __init__(self, reason: FetchReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def read_media(response: aiohttp.ClientResponse, wanted: ByteRange | None, max_bytes: int) -> Body:
    """Read the body of a successful response.

    ``wanted``: the range that was requested; None for the whole object, which may have ``max_bytes``. The connection
    is closed if the server sends more than is wanted.

    Raises ``BodyError`` (``bad_response``, ``too_large``) and aiohttp's exceptions.
    """
    encoding = response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    is_gzip = encoding in ("gzip", "x-gzip")
    if not is_gzip and encoding not in ("", "identity"):
        raise BodyError(FetchReason.BAD_RESPONSE, "unsupported content encoding")
    if wanted is None:
        return await _read_whole(response, max_bytes, is_gzip=is_gzip)
    if response.status != 206:
        return await _read_part_of_whole(response, wanted, is_gzip=is_gzip)
    if is_gzip:
        raise BodyError(FetchReason.BAD_RESPONSE, "a compressed part of an object was sent")
    return await _read_part(response, wanted)


async def _read_whole(response: aiohttp.ClientResponse, max_bytes: int, *, is_gzip: bool) -> Body:
    if response.status == 206:
        raise BodyError(FetchReason.BAD_RESPONSE, "status 206 without a range in the request")
    if not is_gzip and (response.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    content, is_complete = await _read(response, max_bytes, is_gzip=is_gzip, stops=False)
    if not is_complete:
        raise _too_large(max_bytes)
    return Body(content, False, None if is_gzip else len(content))


async def _read_part(response: aiohttp.ClientResponse, wanted: ByteRange) -> Body:
    """Read a response with a part of the object."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get(hdrs.CONTENT_RANGE, "").strip())
    if match is None:
        raise BodyError(FetchReason.BAD_RESPONSE, "status 206 without a usable Content-Range")
    sent = ByteRange(int(match[1]), int(match[2]))
    total = None if match[3] == "*" else int(match[3])
    if sent.first != wanted.first or sent.size < 1 or (total is not None and sent.last >= total):
        raise BodyError(FetchReason.BAD_RESPONSE, "the server sent another range than the one requested")
    part = sent.head(wanted.size)
    content, _ = await _read(response, part.size)
    if len(content) < part.size:
        raise BodyError(FetchReason.BAD_RESPONSE, "the body is shorter than its Content-Range")
    return Body(content, total is None or part.last + 1 < total, total)


async def _read_part_of_whole(response: aiohttp.ClientResponse, wanted: ByteRange, *, is_gzip: bool) -> Body:
    """Read the wanted part of a response with the whole object."""
    if wanted.first > MAX_SKIPPED_BYTES:
        raise BodyError(FetchReason.BAD_RESPONSE, "the server does not support byte ranges")
    content, is_complete = await _read(response, wanted.last + 1, is_gzip=is_gzip)
    if len(content) <= wanted.first:
        raise BodyError(FetchReason.BAD_RESPONSE, "the object ends before the requested range")
    total = len(content) if is_complete else None if is_gzip else response.content_length
    return Body(content[wanted.first :], not is_complete, total)


async def _read(
    response: aiohttp.ClientResponse, limit: int, *, is_gzip: bool = False, stops: bool = True
) -> tuple[bytes, bool]:
    """Return at most ``limit`` bytes of the decompressed body, and whether that is all of it.

    If not, the connection is closed. ``stops``: do not wait for the end of a body that has reached the limit.
    """
    decoder = _Gzip() if is_gzip else _Identity()
    parts: list[bytes] = []
    left, packed_left = limit, limit + _MARGIN_BYTES
    while packed := await response.content.readany():
        packed_left -= len(packed)
        for part in decoder.decode(packed):
            parts.append(part[:left])
            left -= len(part)
            if left < 0 or packed_left < 0:
                response.close()
                return b"".join(parts), False
            if is_gzip:
                await asyncio.sleep(0)
        if stops and left == 0 and not (response.content.at_eof() or response.content_length == limit):
            response.close()
            return b"".join(parts), False
    decoder.finish()
    return b"".join(parts), True


class _Identity:
    """Passes on a body that is not compressed."""

    def decode(self, packed: bytes) -> Iterator[bytes]:
        """Yield the next part of the body."""
        yield packed

    def finish(self) -> None:
        """Do nothing; aiohttp checks the length of the body."""


class _Gzip:
    """Decompresses gzip in steps of bounded size."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(_GZIP)
        self._members = 1

    def decode(self, packed: bytes) -> Iterator[bytes]:
        """Yield the content of the next part of the body. Raises ``BodyError``."""
        is_full = False
        while packed or is_full:
            if self._unpacker.eof:
                # a body may consist of several members
                self._members += 1
                if self._members > MAX_GZIP_MEMBERS:
                    raise BodyError(FetchReason.BAD_RESPONSE, "the gzip body has too many members")
                self._unpacker = zlib.decompressobj(_GZIP)
            try:
                part = self._unpacker.decompress(packed, STEP_BYTES)
            except zlib.error:
                raise BodyError(FetchReason.BAD_RESPONSE, "the gzip body is malformed") from None
            packed = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            # zlib may have taken all input, and still hold content for which there was no room
            is_full = len(part) == STEP_BYTES and not self._unpacker.eof
            yield part

    def finish(self) -> None:
        """Check that the body is complete. Raises ``BodyError``."""
        if not self._unpacker.eof:
            raise BodyError(FetchReason.BAD_RESPONSE, "the gzip body is truncated")


def _too_large(max_bytes: int) -> BodyError:
    return BodyError(FetchReason.TOO_LARGE, f"the object exceeds {max_bytes} bytes")
