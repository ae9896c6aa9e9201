"""A real HTTP server with the endpoints of Livepeer Studio that the exporter requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.runtime.clock import Clock

FIXTURES = Path(__file__).parent / "responses" / "livepeer"
KEY = "0a1b2c3d-a-private-key"


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


class Studio:
    """Responds with what the tests set; its clock is ``ahead`` seconds ahead of the exporter's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead = 0.0
        self.page_size: int | None = None
        self.streams: Any = []
        self.sessions: dict[str, Any] = {}
        """By parent."""
        self.session: dict[str, Any] = {}
        self.views: Any = []
        self.health: dict[str, Any] = {}
        self.broken: dict[str, tuple[int, Any]] = {}
        """Status and body of a fault, by path."""
        self.next_link: str | None = None
        """Announced after every page, even the last."""
        self.requested: list[tuple[str, list[tuple[str, str]]]] = []
        self.url = ""

    def paths(self) -> list[str]:
        return [path for path, _ in self.requested]

    def query(self, path: str) -> list[tuple[str, str]]:
        """Return the query of the first request for this path."""
        return next(query for requested, query in self.requested if requested == path)

    async def respond(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/api")
        self.requested.append((path, list(request.query.items())))
        if path in self.broken:
            return self._reply(*self.broken[path])
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return self._reply(401, {"errors": [f"no token {request.headers.get('Authorization')} found"]})
        if path == "/stream":
            return self._page(request)
        data = self._data(path.strip("/").split("/"))
        return self._reply(404, {"errors": ["not found"]}) if data is None else self._reply(200, data)

    def _data(self, parts: list[str]) -> Any:
        match parts:
            case ["stream", parent, "sessions"]:
                return self.sessions.get(parent)
            case ["session", session]:
                return self.session.get(session)
            case ["data", "views", "now"]:
                return self.views
            case ["data", "stream", stream, "health"]:
                return self.health.get(stream)
        return None

    def _page(self, request: web.Request) -> web.Response:
        if self.page_size is None and self.next_link is None:
            return self._reply(200, self.streams)
        size = self.page_size or 1000
        skip = int(request.query.get("cursor", "skip0").removeprefix("skip"))
        page = self.streams[skip : skip + size]
        link = self.next_link
        if link is None and len(page) == size:
            # like the platform, announce a page after every full page, even if it is the last
            url = request.url.update_query(cursor=f"skip{skip + size}").with_host("elsewhere.invalid")
            link = str(url)
        return self._reply(200, page, {} if link is None else {"Link": f'<{link}>; rel="next"'})

    def _reply(self, status: int, data: Any, headers: dict[str, str] | None = None) -> web.Response:
        date = formatdate(self._clock.now() + self.ahead, usegmt=True)
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return web.Response(
            status=status, body=body, content_type="application/json", headers={"Date": date, **(headers or {})}
        )


@asynccontextmanager
async def running_studio(clock: Clock) -> AsyncIterator[Studio]:
    studio = Studio(clock)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", studio.respond)
    async with TestServer(app) as server:
        studio.url = str(server.make_url("/api"))
        yield studio
