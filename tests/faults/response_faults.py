"""What a broken server does: to the connection, to the status, or to the rows of a valid response.

All texts that the faults add echo the request's secrets, as careless servers do.
"""

from __future__ import annotations

import asyncio
import copy
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import formatdate, parsedate_to_datetime
from functools import cache
from xml.etree import ElementTree

from exporter.platforms.testing import RecordedResponse
from tests.evidence.lifecycle_rows import with_values
from tests.faults.recorded_api import RecordedApi, RowChange
from tests.http.raw_server import Request, http
from tests.platforms.row_documents import Document, Row, without_numbers

MEBIBYTE = 2**20
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF))) + '\\"{}=,'
LONG = "k" * 10_000
LEAST_TIME = 10**9
"""Integers above this are unix times, in seconds or milliseconds, or totals, which then move; harmless."""
_RESET = struct.pack("ii", 1, 0)


class HangUpError(Exception):
    """The connection must be closed now."""


@dataclass
class Exchange:
    """One request to a broken server."""

    request: Request
    path: str
    """Path below the upstream's URL, with the query."""
    api: RecordedApi
    good: RecordedResponse
    """The platform's valid response."""
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    times: int
    """Number of earlier requests since the fault started."""
    not_owned: str
    """A URL that must never be requested."""

    @property
    def echo(self) -> str:
        """Return the request's secrets and target in quotes."""
        sent = self.request.headers.get("authorization", "")
        return f"canary {sent} {self.request.body.decode()} at {self.request.target}".replace("\n", " ")

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, response: RecordedResponse) -> None:
        headers = {"Content-Type": response.content_type, **response.headers}
        await self.send(http(response.status, response.body, headers))


Break = Callable[[Exchange], Awaitable[None]]


# -- on the wire -------------------------------------------------------------------------------------------------------


async def reset(exchange: Exchange) -> None:
    exchange.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    exchange.writer.transport.abort()
    raise HangUpError


async def black_hole(exchange: Exchange) -> None:
    await exchange.reader.read()
    raise HangUpError


async def slow_bytes(exchange: Exchange) -> None:
    for byte in http(body=exchange.good.body):
        await exchange.send(bytes([byte]))
        await asyncio.sleep(0.2)


async def half_a_body(exchange: Exchange) -> None:
    body = exchange.good.body
    await exchange.send(http(body=body)[: -len(body) // 2])
    raise HangUpError


def _head(*fields: str) -> bytes:
    lines = "HTTP/1.1 200 OK", "Content-Type: application/json", *fields, ""
    return "".join(f"{line}\r\n" for line in lines).encode()


async def chunked_lies(exchange: Exchange) -> None:
    # five bytes are announced, but the whole body follows
    body = exchange.good.body
    await exchange.send(_head("Transfer-Encoding: chunked") + b"5\r\n" + body + exchange.echo.encode())
    raise HangUpError


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join([*(packer.compress(b" " * MEBIBYTE) for _ in range(100)), packer.flush()])


async def gzip_bomb(exchange: Exchange) -> None:
    bomb = _bomb()
    await exchange.send(_head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb)


async def a_hundred_megabytes(exchange: Exchange) -> None:
    await exchange.send(_head("Connection: close"))
    for _ in range(100):
        await exchange.send(b" " * MEBIBYTE)
    raise HangUpError


async def endless_list(exchange: Exchange) -> None:
    await exchange.send(_head("Transfer-Encoding: chunked") + b"1\r\n[\r\n")
    rows = b'{"id": "one more"},' * 5000
    chunk = f"{len(rows):x}\r\n".encode() + rows + b"\r\n"
    while True:
        await exchange.send(chunk)


# -- whole answers -----------------------------------------------------------------------------------------------------


def instead(make: Callable[[Exchange], bytes]) -> Break:
    """Always give the same kind of response."""

    async def broken(exchange: Exchange) -> None:
        await exchange.send(make(exchange))

    return broken


def html(exchange: Exchange) -> bytes:
    body = f"<!DOCTYPE html><html><body><h1>Maintenance</h1>{exchange.echo}</body></html>"
    return http(200, body.encode(), {"Content-Type": "text/html"})


def invalid_utf8(exchange: Exchange) -> bytes:
    return http(200, b'{"name": "\xff\xfe ' + exchange.echo.encode() + b'"}')


def deeply_nested(exchange: Exchange) -> bytes:
    # as XML, 200,000 levels exceed max_body_bytes
    opening, closing, depth = (b"<a>", b"</a>", 100_000) if exchange.api.is_xml else (b"[", b"]", 200_000)
    return http(200, opening * depth + closing * depth)


def refusal(status: int, **headers: str) -> Callable[[Exchange], bytes]:
    def make(exchange: Exchange) -> bytes:
        text = json.dumps({"errors": [exchange.echo], "message": exchange.echo})
        return http(status, text.encode(), {"X-Echo": exchange.echo, **headers})

    return make


def envelope(content: object) -> Callable[[Exchange], bytes]:
    """Return an error or unrelated data with status 200."""
    return lambda _: http(200, json.dumps(content).encode())


def html_404(exchange: Exchange) -> bytes:
    return http(404, f"<html><h1>Not Found</h1>{exchange.echo}</html>".encode(), {"Content-Type": "text/html"})


def clock_off_by(seconds: float) -> Break:
    """Send the ``Date`` of another clock, such as a proxy's, with an unchanged body."""

    async def broken(exchange: Exchange) -> None:
        good = exchange.good
        now = parsedate_to_datetime(good.headers["Date"]).timestamp()
        await exchange.answer(replace(good, headers={**good.headers, "Date": formatdate(now + seconds, usegmt=True)}))

    return broken


def redirect(exchange: Exchange) -> bytes:
    return http(302, b"", {"Location": f"{exchange.not_owned}/?{exchange.echo.replace(' ', '+')}"})


async def flapping(exchange: Exchange) -> None:
    """Every other response is a 5xx, alternating between kinds."""
    if exchange.times % 2:
        await exchange.answer(exchange.good)
    else:
        await exchange.send(refusal((502, 503, 504)[exchange.times // 2 % 3])(exchange))


# -- rows --------------------------------------------------------------------------------------------------------------


async def no_numbers(exchange: Exchange) -> None:
    """Replace all numbers of a response by NaN and Infinity."""
    await exchange.answer(replace(exchange.good, body=without_numbers(exchange.good)))


def one_stream(change: RowChange) -> Break:
    """Change the rows of one stream; ``change`` returns the replacement rows."""
    return _rows(change, only_victim=True)


def every_stream(change: RowChange) -> Break:
    """Change the rows of all streams."""
    return _rows(change, only_victim=False)


def _rows(change: RowChange, *, only_victim: bool) -> Break:
    async def broken(exchange: Exchange) -> None:
        await exchange.answer(
            exchange.api.changed_rows(exchange.request, exchange.path, exchange.good, change, only_victim=only_victim)
        )

    return broken


def huge(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Integers and floats that do not fit into a float."""
    return [document.with_huge_numbers(row)]


def twice(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Repeat the row; a response for a single stream is about another stream than requested."""
    if api.is_alone(document):
        return [document.with_texts(row, api.other_identity())]
    return [row, row]


def long_id(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Add a stream with this id and name; in a response for a single stream, change its own."""
    return [row, document.with_texts(row, dict.fromkeys(_identifying(api), LONG))]


def control_characters(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Add a stream with this name; in a response for a single stream, change its names but not the requested id."""
    fields = api.recording.rows.names if api.is_alone(document) else _identifying(api)
    return [row, document.with_texts(row, dict.fromkeys(fields, CONTROLS))]


def _identifying(api: RecordedApi) -> tuple[str, ...]:
    return api.recording.rows.identity[-1], *api.recording.rows.names


def renamed(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Rename all fields."""
    return [document.renamed(row)]


def nulls(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Set everything except the identity to null."""
    return [document.emptied(row, api.recording.rows.identity)]


def numbers_as_text(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Give every number as text."""
    return [_with_numbers(document, row, str)]


def negative(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Make every number negative."""
    return [_with_numbers(document, row, lambda value: -1 - abs(value))]


def times_in_another_unit(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Give seconds as milliseconds and vice versa."""
    units = {10: lambda value: value * 1000, 13: lambda value: value // 1000}
    return [_with_numbers(document, row, lambda value: units.get(len(str(value)), int)(value), only_times=True)]


def _with_numbers(
    document: Document, row: Row, change: Callable[[float], float | str], *, only_times: bool = False
) -> Row:
    """Return a row with its numbers replaced."""
    if isinstance(row, dict):
        return {name: _with_numbers(document, value, change, only_times=only_times) for name, value in row.items()}
    if isinstance(row, list):
        return [_with_numbers(document, value, change, only_times=only_times) for value in row]
    if isinstance(row, ElementTree.Element):
        row = copy.deepcopy(row)
        for element in row.iter():
            if element.text and element.text.strip().isdigit():
                element.text = str(change(int(element.text)))
        return row
    is_number = isinstance(row, int | float) and not isinstance(row, bool)
    is_time = isinstance(row, int) and abs(row) > LEAST_TIME
    return change(row) if is_number and (is_time or not only_times) else row


def unreadable_health(api: RecordedApi, _: Document, row: Row) -> list[Row]:
    """Put a word in place of every value that the score is computed from."""
    return [with_values(row, dict.fromkeys(api.health_paths, "limbo"))]


def unknown_state(api: RecordedApi, _: Document, row: Row) -> list[Row]:
    """Put an unknown word in place of the state."""
    return [with_values(row, api.recording.proofs.unknown)]


def off_air_too(api: RecordedApi, _: Document, row: Row) -> list[Row]:
    """Add another record of the same stream, which is off air."""
    return [row, with_values(row, api.recording.proofs.off_air)]


def without_identity(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Remove the values that identify the stream."""
    return [with_values(row, dict.fromkeys(api.recording.rows.identity))]


async def object_for_a_list(exchange: Exchange) -> None:
    """Send an empty object instead of the list."""
    await exchange.answer(exchange.api.without_list(exchange.request, exchange.path, exchange.good))


# -- pages -------------------------------------------------------------------------------------------------------------


async def same_page(exchange: Exchange) -> None:
    """Announce a next page that is the same page again."""
    await exchange.answer(
        exchange.api.with_next_page(exchange.request, exchange.path, exchange.good, "again", other_rows=False)
    )


async def endless_pages(exchange: Exchange) -> None:
    """Announce next pages slowly and without end, each with other streams."""
    await asyncio.sleep(0.2)
    await exchange.answer(
        exchange.api.with_next_page(
            exchange.request, exchange.path, exchange.good, str(exchange.times), other_rows=True
        )
    )
