"""The application with a service that does not poll; tests publish the states."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from exporter.cli.settings import load_settings
from exporter.polling.groups import group_shards
from exporter.runtime.clock import Clock
from exporter.service import Service
from exporter.web.app import make_app
from exporter.web.options import WebOptions
from exporter.web.security import Security
from tests.fake_clock import FakeClock

CONFIG = """
upstreams:
  - {name: edge, platform: storm, url: "http://127.0.0.1:9", discover: true}
  - {name: other, platform: storm, url: "http://127.0.0.1:9", discover: true}
"""
DEFAULTS = WebOptions()


class ServedApp:
    """A running application, its service, and a client session."""

    def __init__(self, service: Service, session: aiohttp.ClientSession, file: Path, url: str) -> None:
        self.service = service
        self.session = session
        self.file = file
        self.url = url

    def set_thresholds(self, thresholds: dict[str, float]) -> None:
        """Configure the thresholds of alert rules, as a reload would."""
        self.file.write_text(f"{CONFIG}alerting: {json.dumps({'thresholds': thresholds})}\n")
        self.service.settings = load_settings(self.file, {})

    def set_groups(self, groups: Any) -> None:
        """Configure groups of streams, as a reload would."""
        self.file.write_text(f"{CONFIG}groups: {json.dumps(groups)}\n")
        settings = self.service.settings = load_settings(self.file, {})
        self.service._groups.configure(settings, group_shards(settings.groups))

    async def get(self, path: str, status: int = 200, headers: dict[str, str] | None = None) -> Any:
        async with self.session.get(path, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def etag(self, path: str = "/api/v1/streams") -> str:
        async with self.session.get(path) as answer:
            return answer.headers["ETag"]


@asynccontextmanager
async def serve_app(
    directory: Path,
    *,
    clock: Clock | None = None,
    options: WebOptions = DEFAULTS,
    security: Security | None = None,
) -> AsyncIterator[ServedApp]:
    """Serve the upstreams ``edge`` and ``other``; the test publishes their states."""
    file = directory / "config.yaml"
    file.write_text(CONFIG)
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=clock or FakeClock())
    service.store.arrange([upstream.name for upstream in service.settings.upstreams])
    async with (
        TestServer(make_app(service, options=options, security=security)) as server,
        aiohttp.ClientSession(server.make_url("/")) as session,
    ):
        yield ServedApp(service, session, file, str(server.make_url("")).rstrip("/"))
        await service.stop()
