"""Probes of blackbox_exporter, spread over the interval like the scrapes of a Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp


@asynccontextmanager
async def serving(urls: Sequence[str], interval: float) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Request each URL once per interval. Command ``outcomes``: number of successful and of failed probes so far."""
    outcomes = {True: 0, False: 0}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [
            asyncio.create_task(_probe(session, url, interval, interval * number / len(urls), outcomes))
            for number, url in enumerate(urls)
        ]
        yield 0, {"outcomes": lambda: [outcomes[True], outcomes[False]]}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _probe(
    session: aiohttp.ClientSession, url: str, interval: float, offset: float, outcomes: dict[bool, int]
) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time() + offset
    while True:
        await asyncio.sleep(due - loop.time())
        due += interval
        async with session.get(url) as response:
            outcomes["\nprobe_success 1\n" in await response.text()] += 1
