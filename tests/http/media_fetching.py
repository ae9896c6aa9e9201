"""A media fetcher with injected names and clock, and raw servers for it."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from exporter.http.media import ByteRange, FetchError, FetchReason, MediaFetcher
from exporter.http.media_fetch import Fetched
from exporter.runtime.clock import Clock
from tests.fake_clock import FakeClock

LONG = 20.0
"""A timeout that is not reached."""


class Names(AbstractResolver):
    """A resolver with a list of answers per name, the last of which is repeated. Each answer is a list of addresses."""

    def __init__(self, names: Mapping[str, list[list[str]]] | None = None) -> None:
        self._names = dict(names or {})
        self.lookups: Counter[str] = Counter()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.lookups[host] += 1
        if host not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self._names[host]
        addresses = answers[min(self.lookups[host], len(answers)) - 1]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def fetcher_of(
    url: str, *, names: Names | None = None, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[MediaFetcher]:
    fetcher = MediaFetcher(url=url, clock=clock or FakeClock(), resolver=names or Names(), **settings)
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def playlist(fetcher: MediaFetcher, url: str, **options: Any) -> Fetched:
    """Fetch a playlist without earlier cookies."""
    arguments: dict[str, Any] = {"timeout": LONG, "what": "playlist", "cookies": fetcher.cookie_jar()} | options
    return await fetcher.fetch_playlist(url, **arguments)


async def head(fetcher: MediaFetcher, url: str, byte_range: ByteRange | None = None, **options: Any) -> Fetched:
    arguments: dict[str, Any] = {"timeout": LONG, "what": "segment", "cookies": fetcher.cookie_jar()} | options
    return await fetcher.fetch_head(url, byte_range=byte_range, **arguments)


async def whole(fetcher: MediaFetcher, url: str, byte_range: ByteRange | None = None, **options: Any) -> Fetched:
    arguments: dict[str, Any] = {"timeout": LONG, "what": "segment", "cookies": fetcher.cookie_jar()} | options
    return await fetcher.fetch_whole(url, byte_range=byte_range, **arguments)


async def failure(fetching: Awaitable[Fetched], reason: FetchReason) -> FetchError:
    """Return the error of a fetch, which must have this reason."""
    with pytest.raises(FetchError) as caught:
        await fetching
    assert caught.value.fetch_reason is reason, str(caught.value)
    assert caught.value.reason is reason.poll_reason
    assert caught.value.__context__ is None, "an exception of a library may contain the URL"
    return caught.value
