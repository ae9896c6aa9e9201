"""An exporter that serves reports; tests publish its states and move its clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from exporter.cli.settings import load_settings
from exporter.model import StreamState
from exporter.polling.groups import group_shards
from exporter.service import Service
from exporter.web.app import make_app
from exporter.web.options import WebOptions
from exporter.web.security import Security
from tests.fake_clock import FakeClock
from tests.reports.recording import BEGIN, EDGE, upstream

CONFIG = """
upstreams:
  - {name: edge, platform: storm, url: "http://127.0.0.1:9", discover: true}
  - {name: other, platform: storm, url: "http://127.0.0.1:9", discover: true}
groups:
  - name: final
    need: 1
    streams: [{upstream: edge, stream: main, role: main}, {upstream: other, stream: backup, role: backup}]
"""


class ServedReports:
    """A running application and its service."""

    def __init__(
        self, service: Service, clock: FakeClock, url: str, session: aiohttp.ClientSession, file: Path
    ) -> None:
        self.service = service
        self.clock = clock
        self.url = url
        self.session = session
        self.file = file

    def minutes(self, minutes: float, *streams: StreamState, name: str = EDGE, **facts: Any) -> None:
        """Publish a state and let time pass."""
        if streams or facts:
            self.service.store.publish(upstream(*streams, name=name, **facts))
        self.clock.advance(60 * minutes)

    async def get(self, query: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        async with self.session.get(f"/api/v1/report?{query}", headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def text(self, query: str, headers: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Return content type and body."""
        async with self.session.get(f"/api/v1/report?{query}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return answer.headers["Content-Type"], await answer.text()


def serve_without_polling(service: Service) -> None:
    """Serve the configured upstreams and groups of a service that is not started."""
    settings = service.settings
    service.store.arrange([each.name for each in settings.upstreams])
    service._groups.configure(settings, group_shards(settings.groups))


@asynccontextmanager
async def served_reports(
    directory: Path, config: str = CONFIG, *, security: Security | None = None
) -> AsyncIterator[ServedReports]:
    """Serve reports; the clock starts at ``BEGIN``."""
    file = directory / "config.yaml"
    file.write_text(config)
    clock = FakeClock(now=BEGIN)
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=clock)
    serve_without_polling(service)
    app = make_app(service, options=WebOptions(), security=security)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        yield ServedReports(service, clock, str(server.make_url("")).rstrip("/"), session, file)
        await service.stop()
