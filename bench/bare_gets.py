"""Bare GETs with decoding of the JSON: the minimum cost of a poll."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from bench.case_runner import Figures
from bench.nginx_upstream import APPLICATION

Get = Callable[[str], Awaitable[object]]


def main(url: str, requests: int, connections: int, library: str) -> Figures:
    """Return CPU seconds per GET. ``library``: ``aiohttp`` or ``httpx``."""
    clients = {"aiohttp": _aiohttp, "httpx": _httpx}
    return {"per stream": asyncio.run(_asked(clients[library](connections), url, requests, connections)) / requests}


@asynccontextmanager
async def _aiohttp(connections: int) -> AsyncIterator[Get]:
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def get(url: str) -> object:
            async with session.get(url) as response:
                return json.loads(await response.read())

        yield get


@asynccontextmanager
async def _httpx(connections: int) -> AsyncIterator[Get]:
    import httpx  # an optional dependency

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def get(url: str) -> object:
            return (await client.get(url)).json()

        yield get


async def _asked(opening: AbstractAsyncContextManager[Get], url: str, requests: int, connections: int) -> float:
    urls = [f"{url}/api/streams/{APPLICATION}/stream-{number:06}" for number in range(requests)]
    async with opening as get:
        await _all(get, urls[: 10 * connections], connections)
        began = time.process_time()
        await _all(get, urls, connections)
        return time.process_time() - began


async def _all(get: Get, urls: list[str], connections: int) -> None:
    turns = iter(urls)

    async def work() -> None:
        for url in turns:
            await get(url)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())
