"""What a broken server does with a request: on the wire, by status, or to the rows of a good response.

Every text that is ours to choose echoes the request's secrets, as careless servers do.
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
"""Whole numbers above this are unix times, in seconds or milliseconds, or totals, which then move: no harm."""
_RESET = struct.pack("ii", 1, 0)


class HangUpError(Exception):
    """The connection is to be closed now."""


@dataclass
class Exchange:
    """One request to a broken server."""

    request: Request
    path: str
    """Below the upstream's URL, with its query."""
    api: RecordedApi
    good: RecordedResponse
    """The response that the platform means."""
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    times: int
    """How often this was asked for before, since it broke."""
    not_owned: str
    """A URL where nobody must ever ask."""

    @property
    def echo(self) -> str:
        """What came in, quoted."""
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
    # five bytes are announced, and the whole body comes
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
    """Always the same kind of answer."""

    async def broken(exchange: Exchange) -> None:
        await exchange.send(make(exchange))

    return broken


def html(exchange: Exchange) -> bytes:
    body = f"<!DOCTYPE html><html><body><h1>Maintenance</h1>{exchange.echo}</body></html>"
    return http(200, body.encode(), {"Content-Type": "text/html"})


def invalid_utf8(exchange: Exchange) -> bytes:
    return http(200, b'{"name": "\xff\xfe ' + exchange.echo.encode() + b'"}')


def deeply_nested(exchange: Exchange) -> bytes:
    # as XML, 200,000 are more than max_body_bytes
    opening, closing, depth = (b"<a>", b"</a>", 100_000) if exchange.api.is_xml else (b"[", b"]", 200_000)
    return http(200, opening * depth + closing * depth)


def refusal(status: int, **headers: str) -> Callable[[Exchange], bytes]:
    def make(exchange: Exchange) -> bytes:
        text = json.dumps({"errors": [exchange.echo], "message": exchange.echo})
        return http(status, text.encode(), {"X-Echo": exchange.echo, **headers})

    return make


def envelope(content: object) -> Callable[[Exchange], bytes]:
    """An error with status 200, or the data of something else."""
    return lambda _: http(200, json.dumps(content).encode())


def html_404(exchange: Exchange) -> bytes:
    return http(404, f"<html><h1>Not Found</h1>{exchange.echo}</html>".encode(), {"Content-Type": "text/html"})


def clock_off_by(seconds: float) -> Break:
    """The ``Date`` of another clock, such as a proxy's; the body is as it was."""

    async def broken(exchange: Exchange) -> None:
        good = exchange.good
        now = parsedate_to_datetime(good.headers["Date"]).timestamp()
        await exchange.answer(replace(good, headers={**good.headers, "Date": formatdate(now + seconds, usegmt=True)}))

    return broken


def redirect(exchange: Exchange) -> bytes:
    return http(302, b"", {"Location": f"{exchange.not_owned}/?{exchange.echo.replace(' ', '+')}"})


async def flapping(exchange: Exchange) -> None:
    """Every other answer is a 5xx, of one kind after the other."""
    if exchange.times % 2:
        await exchange.answer(exchange.good)
    else:
        await exchange.send(refusal((502, 503, 504)[exchange.times // 2 % 3])(exchange))


# -- rows --------------------------------------------------------------------------------------------------------------


async def no_numbers(exchange: Exchange) -> None:
    """NaN and Infinity in place of all numbers of a response."""
    await exchange.answer(replace(exchange.good, body=without_numbers(exchange.good)))


def one_stream(change: RowChange) -> Break:
    """A change of the rows of one stream; ``change`` returns the rows that come in place of one."""
    return _rows(change, only_victim=True)


def every_stream(change: RowChange) -> Break:
    """A change of the rows of all streams."""
    return _rows(change, only_victim=False)


def _rows(change: RowChange, *, only_victim: bool) -> Break:
    async def broken(exchange: Exchange) -> None:
        await exchange.answer(
            exchange.api.changed_rows(exchange.request, exchange.path, exchange.good, change, only_victim=only_victim)
        )

    return broken


def huge(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Whole numbers and floats beyond every float."""
    return [document.with_huge_numbers(row)]


def twice(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """The same row again; a response about a single stream is about another one than was asked for."""
    if api.is_alone(document):
        return [document.with_texts(row, api.other_identity())]
    return [row, row]


def long_id(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """One more stream with this id and name; in a response about a single stream, its own."""
    return [row, document.with_texts(row, dict.fromkeys(_identifying(api), LONG))]


def control_characters(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """One more stream of this name; in a response about a single stream, its names but not the id asked for."""
    fields = api.recording.rows.names if api.is_alone(document) else _identifying(api)
    return [row, document.with_texts(row, dict.fromkeys(fields, CONTROLS))]


def _identifying(api: RecordedApi) -> tuple[str, ...]:
    return api.recording.rows.identity[-1], *api.recording.rows.names


def renamed(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """All fields under other names."""
    return [document.renamed(row)]


def nulls(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """No value but the identity."""
    return [document.emptied(row, api.recording.rows.identity)]


def numbers_as_text(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Every number as a text."""
    return [_with_numbers(document, row, str)]


def negative(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Every number below zero."""
    return [_with_numbers(document, row, lambda value: -1 - abs(value))]


def times_in_another_unit(_: RecordedApi, document: Document, row: Row) -> list[Row]:
    """Seconds for milliseconds, and the other way round."""
    units = {10: lambda value: value * 1000, 13: lambda value: value // 1000}
    return [_with_numbers(document, row, lambda value: units.get(len(str(value)), int)(value), only_times=True)]


def _with_numbers(
    document: Document, row: Row, change: Callable[[float], float | str], *, only_times: bool = False
) -> Row:
    """Return a row with other numbers in place of its own."""
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
    """A word in place of everything that the score is made from."""
    return [with_values(row, dict.fromkeys(api.health_paths, "limbo"))]


def unknown_state(api: RecordedApi, _: Document, row: Row) -> list[Row]:
    """A word for the state that nobody knows."""
    return [with_values(row, api.recording.proofs.unknown)]


def off_air_too(api: RecordedApi, _: Document, row: Row) -> list[Row]:
    """Another record of the same stream, which is off air."""
    return [row, with_values(row, api.recording.proofs.off_air)]


def without_identity(api: RecordedApi, document: Document, row: Row) -> list[Row]:
    """No value in the fields that tell which stream it is."""
    return [with_values(row, dict.fromkeys(api.recording.rows.identity))]


async def object_for_a_list(exchange: Exchange) -> None:
    """An empty object in place of the list."""
    await exchange.answer(exchange.api.without_list(exchange.request, exchange.path, exchange.good))


# -- pages -------------------------------------------------------------------------------------------------------------


async def same_page(exchange: Exchange) -> None:
    """A next page is announced, which is the same again."""
    await exchange.answer(
        exchange.api.with_next_page(exchange.request, exchange.path, exchange.good, "again", other_rows=False)
    )


async def endless_pages(exchange: Exchange) -> None:
    """A next page is announced, slowly, each with other streams."""
    await asyncio.sleep(0.2)
    await exchange.answer(
        exchange.api.with_next_page(
            exchange.request, exchange.path, exchange.good, str(exchange.times), other_rows=True
        )
    )
