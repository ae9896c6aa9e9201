"""Public testing kit: run a platform against recorded responses and return the exposition text.

A local HTTP server serves the responses; the exporter's own client, polling and renderer do the rest, on a clock that
only the kit advances. Unstable until version 1.0.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import web

from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import UpstreamState
from exporter.platforms.base import Platform
from exporter.polling.coordinator import build_coordinator
from exporter.polling.self_metrics import PollingMetrics
from exporter.runtime.clock import Clock
from exporter.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPSTREAM = "test"
"""Default name of the upstream."""
START = 1_726_000_000.0
"""Default time of the first poll, in unix seconds."""
_CONTENT_TYPES = {".json": "application/json", ".xml": "text/xml", ".xsl": "text/xml", ".sse": "text/event-stream"}


class FakeClock(Clock):
    """A clock that stands still until ``advance`` moves it and wakes the sleepers whose time has come.

    With ``auto_advance``, a sleep advances the clock and returns at once; only one task may use such a clock.
    """

    def __init__(
        self, now: float = START, monotonic: float = 1000.0, *, auto_advance: bool = False, boot: str = "boot"
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._boot = boot
        self._auto_advance = auto_advance
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.slept: list[float] = []
        """Every requested sleep, in seconds."""

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def boot_id(self) -> str:
        return self._boot

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
        elif self._auto_advance:
            self.advance(seconds)
            await asyncio.sleep(0)
        else:
            woken = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
            await woken

    def advance(self, seconds: float) -> None:
        """Advance both clocks; the sleepers wake as soon as the event loop runs."""
        self._now += seconds
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def step(self, seconds: float) -> None:
        """Step the wall clock, as an operator or NTP does; the steady clock is not affected."""
        self._now += seconds


@dataclass(frozen=True)
class RecordedResponse:
    """One response of a platform."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Any) -> RecordedResponse:
        """Return a response with this content: a response as it is, bytes, a string, or data to send as JSON."""
        if isinstance(content, RecordedResponse):
            return content
        if isinstance(content, bytes):
            return cls(content)
        if isinstance(content, str):
            return cls(content.encode(), content_type="text/plain")
        return cls(json.dumps(content).encode())

    @classmethod
    def from_file(cls, file: Path) -> RecordedResponse:
        """Return a response with this file's content."""
        return cls(file.read_bytes(), content_type=_CONTENT_TYPES.get(file.suffix, "text/plain"))

    def with_values(self, changes: Mapping[str, Any]) -> RecordedResponse:
        """Return the response with values in its JSON replaced, by path, such as ``data/hasNext``."""
        content = json.loads(self.body)
        for path, value in changes.items():
            *way, last = path.split("/")
            holder = content
            for name in way:
                holder = holder[name]
            holder[last] = value
        return replace(self, body=json.dumps(content).encode())


@dataclass(frozen=True)
class Recording:
    """Responses of one server, and the settings of the upstream that requests them."""

    responses: Mapping[str, Any]
    """By ``METHOD /path`` below the upstream's URL; other requests get status 404.

    A list holds the responses to the first, the second, … request; its last item is repeated.
    """
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The upstream's settings besides ``platform`` and ``url``."""
    recorded_at: float = START
    """Unix seconds at which the responses were recorded: the time of the server and of the first poll."""

    @classmethod
    def from_file(cls, file: Path) -> Recording:
        """Read a recording from YAML with the keys ``responses``, ``settings`` and ``recorded_at`` (ISO 8601).

        A response is the name of a file next to the YAML file, or a mapping with ``file`` or ``data``, ``set`` (values
        to replace in its JSON, by path) and ``status``. The file may have further keys.
        """
        written = yaml.safe_load(file.read_text(encoding="utf-8"))
        at = written.get("recorded_at")
        moment = at if isinstance(at, datetime) else datetime.fromisoformat(at) if at else None
        return cls(
            responses={name: _recorded(content, file.parent) for name, content in written["responses"].items()},
            settings=written.get("settings", {}),
            recorded_at=START if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC).timestamp(),
        )


def _recorded(content: Any, folder: Path) -> Any:
    if isinstance(content, list):
        return [_recorded(item, folder) for item in content]
    if isinstance(content, str):
        return RecordedResponse.from_file(folder / content)
    response = RecordedResponse.from_file(folder / content["file"]) if "file" in content else None
    response = response or RecordedResponse.of(content.get("data"))
    return replace(response.with_values(content.get("set", {})), status=content.get("status", 200))


def expose(platform: type[Platform[Any]], recording: Recording, *, polls: int = 1, seconds: float | None = None) -> str:
    """Poll recorded responses and return the exposition text of the upstream's and the streams' families.

    ``seconds``: time between two polls; the upstream's interval by default.
    """
    return asyncio.run(expose_async(platform, recording, polls=polls, seconds=seconds))


async def expose_async(
    platform: type[Platform[Any]], recording: Recording, *, polls: int = 1, seconds: float | None = None
) -> str:
    """Async version of ``expose``."""
    async with polled_upstream(platform, recording) as upstream:
        await upstream.poll()
        for _ in range(polls - 1):
            await upstream.poll(after=upstream.settings.interval if seconds is None else seconds)
        return upstream.text()


class PolledUpstream:
    """An upstream that polls recorded responses when told to."""

    def __init__(
        self, platform: type[Platform[Any]], recording: Recording, url: str, clock: FakeClock, *, per_stream: bool
    ) -> None:
        given = {"name": UPSTREAM, "platform": platform.name, "url": url, **recording.settings}
        self.settings = platform.settings_class.model_validate(given)
        self.clock = clock
        self._metrics = ExporterMetrics()
        metrics = PollingMetrics(self._metrics.upstreams)
        metrics.add_upstream(platform.name, self.settings.name, self.settings.label_pairs)
        self._store = Store()
        self._store.arrange([self.settings.name])
        self._coordinator = build_coordinator(
            self.settings,
            platform,
            store=self._store,
            metrics=metrics,
            clock=clock,
            started_at=clock.instant(),
            per_stream=per_stream,
        )

    async def poll(self, *, after: float = 0.0) -> UpstreamState:
        """Advance the clock by ``after`` seconds, poll once, and return the state that is then served."""
        self.clock.advance(after)
        await self._coordinator.poll()
        (state,) = self._store.states()
        return state

    def text(self) -> str:
        """Return the exposition text of the upstream's and the streams' families."""
        return Exposition(self._store.states, self._metrics).render({"upstreams", "streams"}).decode()

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._coordinator.close()


@asynccontextmanager
async def polled_upstream(
    platform: type[Platform[Any]], recording: Recording, *, per_stream: bool = False
) -> AsyncIterator[PolledUpstream]:
    """Serve the recording's responses and yield an upstream that polls them when told to.

    ``per_stream``: whether to keep histograms per stream.
    """
    clock = FakeClock(recording.recorded_at, auto_advance=True)
    async with serve_responses(recording.responses, clock) as url:
        upstream = PolledUpstream(platform, recording, url, clock, per_stream=per_stream)
        try:
            yield upstream
        finally:
            await upstream.close()


@asynccontextmanager
async def serve_responses(responses: Mapping[str, Any], clock: Clock) -> AsyncIterator[str]:
    """Serve responses (as in ``Recording.responses``) on a free loopback port, and yield the URL."""
    requested: dict[str, int] = {}

    async def handle(request: web.Request) -> web.Response:
        name = f"{request.method} {request.raw_path.partition('?')[0]}"
        content = responses.get(name, RecordedResponse(b'{"message": "Not found"}', 404))
        if isinstance(content, Sequence) and not isinstance(content, str | bytes):
            content = content[min(requested.get(name, 0), len(content) - 1)]
        requested[name] = requested.get(name, 0) + 1
        response = RecordedResponse.of(content)
        date = format_datetime(datetime.fromtimestamp(clock.now(), UTC), usegmt=True)
        headers = {"Date": date, "Content-Type": response.content_type, **response.headers}
        return web.Response(status=response.status, body=response.body, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
