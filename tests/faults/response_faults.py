"""What a broken server does with a request: on the wire, by status, or to the JSON of a good answer.

Every text that is ours to choose echoes the request's secrets, as careless servers do.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tests.faults.recorded_answers import Api, Good, Row
from tests.http.raw_server import Request, http

MEBIBYTE = 2**20
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF))) + '\\"{}=,'
LONG = "k" * 10_000
BEYOND_FLOATS = 10**400
_RESET = struct.pack("ii", 1, 0)


class HangUpError(Exception):
    """The connection is to be closed now."""


@dataclass
class Exchange:
    """One request to a broken server."""

    request: Request
    path: str
    """Below the upstream's URL, with its query."""
    api: Api
    good: Callable[[], Awaitable[Good]]
    """The answer that the platform means."""
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

    async def answer(self, good: Good) -> None:
        await self.send(http(good.status, good.body, good.headers))


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
    for byte in http(body=(await exchange.good()).body):
        await exchange.send(bytes([byte]))
        await asyncio.sleep(0.2)


async def half_a_body(exchange: Exchange) -> None:
    body = (await exchange.good()).body
    await exchange.send(http(body=body)[: -len(body) // 2])
    raise HangUpError


def _head(*fields: str) -> bytes:
    lines = "HTTP/1.1 200 OK", "Content-Type: application/json", *fields, ""
    return "".join(f"{line}\r\n" for line in lines).encode()


async def chunked_lies(exchange: Exchange) -> None:
    # five bytes are announced, and the whole body comes
    body = (await exchange.good()).body
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


def deep_json(_: Exchange) -> bytes:
    return http(200, b"[" * 200_000 + b"]" * 200_000)


def refusal(status: int, **headers: str) -> Callable[[Exchange], bytes]:
    def make(exchange: Exchange) -> bytes:
        text = json.dumps({"errors": [exchange.echo], "message": exchange.echo})
        return http(status, text.encode(), {"X-Echo": exchange.echo, **headers})

    return make


def redirect(exchange: Exchange) -> bytes:
    return http(302, b"", {"Location": f"{exchange.not_owned}/?{exchange.echo.replace(' ', '+')}"})


async def flapping(exchange: Exchange) -> None:
    """Every other answer is a 5xx, of one kind after the other."""
    if exchange.times % 2:
        await exchange.answer(await exchange.good())
    else:
        await exchange.send(refusal((502, 503, 504)[exchange.times // 2 % 3])(exchange))


# -- JSON --------------------------------------------------------------------------------------------------------------


def everywhere(change: Callable[[Any], Any]) -> Break:
    """A change of every single value in an answer."""

    async def broken(exchange: Exchange) -> None:
        good = await exchange.good()
        await exchange.answer(good.with_data(_changed(good.data, change)))

    return broken


def one_stream(change: Callable[[Api, Row], list[Row]]) -> Break:
    """A change of the records of one stream; ``change`` gives the records that come in place of one."""
    return _rows(lambda api, row: change(api, row) if api.is_victim(row) else [row])


def every_stream(change: Callable[[Api, Row], list[Row]]) -> Break:
    """A change of the records of all streams."""
    return _rows(change)


def _rows(change: Callable[[Api, Row], list[Row]]) -> Break:
    async def broken(exchange: Exchange) -> None:
        good, api = await exchange.good(), exchange.api
        data = good.data
        rows = api.rows(exchange.path, data) if good.status == 200 else None
        if rows is None:
            await exchange.answer(good)
            return
        rows[:] = [changed for row in rows for changed in change(api, row)]
        text = json.dumps(rows[-1] if api.is_alone else data).replace(str(BEYOND_FLOATS * 10), "1e999")
        await exchange.answer(replace(good, body=text.encode()))

    return broken


def _changed(data: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(data, dict):
        return {name: _changed(value, change) for name, value in data.items()}
    if isinstance(data, list):
        return [_changed(value, change) for value in data]
    return change(data)


def no_number(value: Any) -> Any:
    """NaN or Infinity in place of a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return math.nan if isinstance(value, int) else math.inf


def huge(_: Api, row: Row) -> list[Row]:
    """Whole numbers and floats beyond every float."""

    def grown(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return BEYOND_FLOATS if isinstance(value, int) else BEYOND_FLOATS * 10

    return [_changed(row, grown)]


def twice(api: Api, row: Row) -> list[Row]:
    return list(api.twice(row))


def long_id(api: Api, row: Row) -> list[Row]:
    return [row, api.called(row, LONG)]


def control_characters(api: Api, row: Row) -> list[Row]:
    return [row, api.called(row, CONTROLS)]


def renamed(_: Api, row: Row) -> list[Row]:
    return [{f"new_{name}": value for name, value in row.items()}]


def nulls(api: Api, row: Row) -> list[Row]:
    return [{name: value if name in api.identity else None for name, value in row.items()}]


# -- pages -------------------------------------------------------------------------------------------------------------


async def same_page(exchange: Exchange) -> None:
    await exchange.answer(_more(await exchange.good(), "again", None))


async def endless_pages(exchange: Exchange) -> None:
    await asyncio.sleep(0.2)
    await exchange.answer(_more(await exchange.good(), str(exchange.times), exchange.times))


def _more(good: Good, cursor: str, number: int | None) -> Good:
    """The answer with a next page announced, and its streams under further names where it has a number."""
    data = good.data

    def further(row: Row, *names: str) -> Row:
        return row if number is None else {**row, **{name: f"{row[name]}-{number}" for name in names}}

    if isinstance(data, list) and data and "id" in data[0]:
        rows = [further(row, "id") for row in data]
        return good.with_data(rows, Link=f'</stream?cursor={cursor}>; rel="next"')
    if isinstance(data, list):
        return good
    if "candidates" in data:
        rows = [further(row, "id") for row in data["candidates"]]
        return good.with_data({**data, "candidates": rows, "hasMore": True})
    if isinstance(data.get("data"), dict) and "hasNext" in data["data"]:
        rows = [further(row, "streamKey") for row in data["data"]["list"]]
        return good.with_data({**data, "data": {**data["data"], "list": rows, "hasNext": True}})
    return good
