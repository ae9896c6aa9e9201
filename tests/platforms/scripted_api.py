"""A real HTTP server on a free port that answers from a script, and notes what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

FIXTURES = Path(__file__).parent / "responses"


def fixture(name: str) -> Any:
    """The JSON of a fixture, by its path below the fixtures' folder."""
    return json.loads((FIXTURES / name).read_text())


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    """Undecoded, without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Reply(NamedTuple):
    """What to answer."""

    data: Any
    status: int = 200
    headers: dict[str, str] | None = None


class ScriptedApi:
    """Answers by ``METHOD /path``; what has no answer is a 404."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.url = ""
        self._answers: dict[str, Callable[[Asked], Reply]] = {}

    def on(self, request: str, answer: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """``answer`` is JSON, a ``Reply``, or a function of the request that gives a ``Reply``."""
        if callable(answer):
            self._answers[request] = answer
        else:
            self._answers[request] = lambda _: Reply(answer, status, headers)

    def in_turn(self, request: str, replies: Iterable[Reply]) -> None:
        """A further answer each time."""
        coming = iter(replies)
        self.on(request, lambda _: next(coming))

    def paths(self) -> list[str]:
        """What was asked, as ``METHOD /path``, in order."""
        return [f"{request.method} {request.path}" for request in self.asked]

    def forget(self) -> None:
        """Begin a new note of what is asked."""
        self.asked.clear()

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        asked = Asked(
            request.method,
            request.raw_path.partition("?")[0],
            dict(request.query),
            dict(request.headers),
            json.loads(raw) if raw else None,
        )
        self.asked.append(asked)
        answer = self._answers.get(f"{asked.method} {asked.path}")
        reply = answer(asked) if answer else Reply({"message": "Not found"}, 404)
        return web.json_response(reply.data, status=reply.status, headers=reply.headers)


@asynccontextmanager
async def scripted_api() -> AsyncIterator[ScriptedApi]:
    """The server, running."""
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
