"""A real HTTP server on a free port that sends scripted responses and records requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

FIXTURES = Path(__file__).parent / "responses"


def fixture(name: str) -> Any:
    """Return the JSON of a fixture by its path below the fixtures' folder."""
    return json.loads((FIXTURES / name).read_text())


class RecordedRequest(NamedTuple):
    """A received request."""

    method: str
    path: str
    """Undecoded, without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Reply(NamedTuple):
    """A scripted response."""

    data: Any
    status: int = 200
    headers: dict[str, str] | None = None


class ScriptedApi:
    """Responds by ``METHOD /path``; other requests get a 404."""

    def __init__(self) -> None:
        self.requests: list[RecordedRequest] = []
        self.url = ""
        self._replies: dict[str, Callable[[RecordedRequest], Reply]] = {}

    def on(self, request: str, reply: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Set the reply: JSON, or a function that returns a ``Reply`` to a request."""
        if callable(reply):
            self._replies[request] = reply
        else:
            self._replies[request] = lambda _: Reply(reply, status, headers)

    def in_turn(self, request: str, replies: Iterable[Reply]) -> None:
        """Set a sequence of replies."""
        remaining = iter(replies)
        self.on(request, lambda _: next(remaining))

    def paths(self) -> list[str]:
        """Return the received requests as ``METHOD /path``, in order."""
        return [f"{request.method} {request.path}" for request in self.requests]

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        received = RecordedRequest(
            request.method,
            request.raw_path.partition("?")[0],
            dict(request.query),
            dict(request.headers),
            json.loads(raw) if raw else None,
        )
        self.requests.append(received)
        make_reply = self._replies.get(f"{received.method} {received.path}")
        reply = make_reply(received) if make_reply else Reply({"message": "Not found"}, 404)
        return web.json_response(reply.data, status=reply.status, headers=reply.headers)


@asynccontextmanager
async def scripted_api() -> AsyncIterator[ScriptedApi]:
    """Run the server."""
    api = ScriptedApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    api.url = f"http://{host}:{port}"
    try:
        yield api
    finally:
        await runner.cleanup()
