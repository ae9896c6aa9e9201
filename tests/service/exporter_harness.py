"""A whole exporter in the test's event loop, with its service and web application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from exporter.cli.settings import load_settings
from exporter.runtime.clock import Clock
from exporter.service import Service
from exporter.sharding import SINGLE, Shard
from exporter.web.app import make_app
from exporter.web.options import WebOptions
from tests.exposition_text import Labels, samples

DEADLINE_SECONDS = 120.0
"""Generous limit that only a hanging test reaches."""


class Exporter:
    """A running exporter and its /metrics."""

    def __init__(self, service: Service, server: BaseTestServer, file: Path) -> None:
        self.service = service
        self.file = file
        self.url = str(server.make_url("")).rstrip("/")

    async def get(self, path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return await response.text()

    async def metrics(self) -> dict[tuple[str, Labels], float]:
        return {(name, labels): value for name, labels, value in samples(await self.get("/metrics"))}

    async def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the only series with this name that has these labels, among others."""
        found = [
            value
            for (sample, own), value in (await self.metrics()).items()
            if sample == name and labels.items() <= dict(own).items()
        ]
        assert len(found) <= 1, f"{len(found)} series {name}{labels}"
        return found[0] if found else None

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until an asynchronous condition holds."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await holds():  # noqa: ASYNC110 - a scrape is the only way to know
                await asyncio.sleep(0.02)

    async def reaches(self, expected: float | None, name: str, **labels: str) -> None:
        """Wait until a series has this value (None: it does not exist)."""

        async def holds() -> bool:
            return await self.value(name, **labels) == expected

        await self.until(holds)

    def write(self, configuration: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(configuration), encoding="utf-8")


@asynccontextmanager
async def exporting(
    directory: Path,
    configuration: dict[str, Any],
    *,
    clock: Clock | None = None,
    options: WebOptions | None = None,
    shard: Shard = SINGLE,
) -> AsyncIterator[Exporter]:
    """Run an exporter with this configuration until the block ends."""
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=clock, shard=shard)
    async with TestServer(make_app(service, options=options or WebOptions())) as server:
        await service.start()
        try:
            yield Exporter(service, server, file)
        finally:
            await service.stop()


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an aiohttp application on a free port; return its base URL."""
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def names(samples: Iterable[tuple[str, Labels]]) -> set[str]:
    return {name for name, _ in samples}
