"""Playback checks in recorded time: a fake fetcher at the network boundary, polling, the exposition and the alerts."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from exporter.alerting.evaluator import Evaluator, Phase
from exporter.alerting.rules import Owner
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.http.errors import status_error
from exporter.http.media import ByteRange, CookieJar, FetchError, FetchReason
from exporter.http.media_fetch import Fetched
from exporter.http.vantage import Vantage
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import StreamReport, UpstreamState
from exporter.platforms.hls import Hls, HlsSettings
from exporter.polling.coordinator import build_coordinator
from exporter.polling.self_metrics import PollingMetrics
from exporter.store import Store
from tests.evidence.evidence_harness import Served
from tests.fake_clock import FakeClock

UPSTREAM = "edge"
STREAM = "main"
BASE = "https://edge.example.com"
PLAYLIST_URL = f"{BASE}/live/main.m3u8"
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
TS = (b"\x47\x1f\xff\x10" + bytes(184)) * 8
"""A segment of null packets: MPEG-TS in which nothing is to be seen."""
_MISSING = 404


@dataclass(frozen=True)
class Answer:
    """What the fake network returns for one request."""

    body: bytes = b""
    status: int = 200
    content_type: str = PLAYLIST_TYPE
    reason: FetchReason | None = None
    """A failure without response."""
    is_inconclusive: bool = False
    seconds: float = 0.0
    """Duration of the fetch on the fake clock."""
    url: str = ""
    """Where a redirect led."""
    date: float | None = None
    age: float | None = None
    total_bytes: int | None = None


MISSING = Answer(status=_MISSING)
Respond = Callable[[str, str, float], Answer]
"""Returns the answer to a request, from its URL, the kind of object and the steady time."""


@dataclass(frozen=True)
class Request:
    """A request that was sent."""

    at: float
    what: str
    url: str
    is_whole: bool = False
    byte_range: ByteRange | None = None


class FakeFetcher:
    """Answers as ``respond`` says, in the time of a fake clock."""

    def __init__(self, clock: FakeClock, respond: Respond, requests: list[Request], **_settings: Any) -> None:
        self._clock = clock
        self._respond = respond
        self._requests = requests
        self.is_closed = False

    def cookie_jar(self) -> CookieJar:
        return CookieJar(self._clock)

    async def close(self) -> None:
        self.is_closed = True

    async def fetch_playlist(self, url: str, _cookies: CookieJar, *, what: str, timeout: float) -> Fetched:
        return await self._fetch(Request(self._clock.monotonic(), what, url), timeout)

    async def fetch_head(
        self, url: str, _cookies: CookieJar, *, what: str, timeout: float, byte_range: ByteRange | None = None
    ) -> Fetched:
        request = Request(self._clock.monotonic(), what, url, byte_range=byte_range)
        return await self._fetch(request, timeout, max_bytes=16_384)

    async def fetch_whole(
        self,
        url: str,
        _cookies: CookieJar,
        *,
        what: str,
        timeout: float,
        max_bytes: int = 2**25,
        byte_range: ByteRange | None = None,
    ) -> Fetched:
        request = Request(self._clock.monotonic(), what, url, is_whole=True, byte_range=byte_range)
        return await self._fetch(request, timeout, max_bytes=max_bytes)

    async def _fetch(self, request: Request, timeout: float, *, max_bytes: int = 2**21) -> Fetched:
        self._requests.append(request)
        answer = self._respond(request.url, request.what, self._clock.monotonic())
        if answer.reason is FetchReason.TIMEOUT:
            answer = replace(answer, seconds=timeout)
        if answer.seconds >= timeout:
            answer = replace(answer, reason=FetchReason.TIMEOUT, seconds=timeout)
        if answer.seconds:
            await self._clock.sleep(answer.seconds)
        if answer.reason is not None:
            raise self._error(answer, request, "failed")
        if not 200 <= answer.status < 300:
            raise self._error(answer, request, f"status {answer.status}")
        return Fetched(
            url=answer.url or request.url,
            status=answer.status,
            body=answer.body[:max_bytes],
            is_cut=len(answer.body) > max_bytes,
            total_bytes=answer.total_bytes or len(answer.body),
            content_type=answer.content_type,
            date=answer.date,
            age=answer.age,
            redirects=int(bool(answer.url)),
            first_byte_seconds=0.0,
            body_seconds=answer.seconds,
        )

    @staticmethod
    def _error(answer: Answer, request: Request, text: str) -> FetchError:
        reason, status = answer.reason, None
        if reason is None:
            status = answer.status
            reason = FetchReason(status_error(404 if status == 410 else status, "", None, None).reason.value)
        is_inconclusive = answer.is_inconclusive
        error = FetchError(reason, text, status=status, is_inconclusive=is_inconclusive, seconds=answer.seconds)
        error.server = urlsplit(request.url).netloc
        if not is_inconclusive and reason is not FetchReason.BLOCKED:
            error.is_reached = reason not in (FetchReason.TIMEOUT, FetchReason.CONNECT)
        return error


@dataclass
class CheckedUpstream:
    """One upstream with its coordinator."""

    settings: HlsSettings
    coordinator: Any
    fetcher: FakeFetcher
    polls: Counter[str] = field(default_factory=Counter)


class CheckWorld:
    """Upstreams with playback checks, the clock, the requests that they send, and the alerts of the sidecar."""

    def __init__(self, respond: Respond, *, has_alerts: bool = False) -> None:
        self.clock = FakeClock()
        self.respond = respond
        """May be replaced at any time."""
        self.requests: list[Request] = []
        self.vantage = Vantage(self.clock)
        self._started_at = self.clock.monotonic()
        self._store = Store()
        self._exporter_metrics = ExporterMetrics()
        self._metrics = PollingMetrics(self._exporter_metrics.upstreams)
        self._evaluator = Evaluator(rules_in_force(owners=(Owner.BOTH, Owner.SIDECAR))) if has_alerts else None
        self.upstreams: dict[str, CheckedUpstream] = {}
        self.fired: set[str] = set()
        """Alerts that fired, as ``Name severity``."""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock.monotonic() - self._started_at

    def add(self, name: str = UPSTREAM, **given: Any) -> None:
        """Add an upstream. ``given``: its settings besides those that one stream needs."""
        needed = {
            "name": name,
            "platform": "hls",
            "url": BASE,
            "streams": [{"name": STREAM, "url": "/live/main.m3u8"}],
        }
        settings = HlsSettings.model_validate({**needed, **given})
        made: list[FakeFetcher] = []

        def make(**arguments: Any) -> FakeFetcher:
            assert arguments.pop("clock") is self.clock
            made.append(FakeFetcher(self.clock, lambda *request: self.respond(*request), self.requests, **arguments))
            return made[-1]

        self._metrics.add_upstream("hls", name, settings.label_pairs)
        with patch("exporter.platforms.hls.MediaFetcher", make):
            coordinator = build_coordinator(
                settings,
                Hls,
                store=self._store,
                metrics=self._metrics,
                clock=self.clock,
                started_at=self.clock.instant(),
                vantage=self.vantage,
            )
        self.upstreams[name] = CheckedUpstream(settings, coordinator, made[0])
        self._store.arrange(list(self.upstreams))

    async def poll(self, name: str = UPSTREAM) -> UpstreamState:
        """Poll once; the clock advances only while requests take time."""
        poll = asyncio.create_task(self.upstreams[name].coordinator.poll())
        await self._settle()
        while not poll.done():
            if not self._advance_to_next_sleeper():
                await asyncio.sleep(0.001)
            await self._settle()
        await poll
        return self._evaluate(name)

    async def start_poll(self, name: str) -> None:
        """Poll once; another task advances the clock."""
        await self.upstreams[name].coordinator.poll()
        self._evaluate(name)

    async def poll_all(self) -> None:
        """Poll all upstreams at the same time."""
        polls = [asyncio.create_task(upstream.coordinator.poll()) for upstream in self.upstreams.values()]
        await self._settle()
        while not all(poll.done() for poll in polls):
            if not self._advance_to_next_sleeper():
                await asyncio.sleep(0.001)
            await self._settle()
        await asyncio.gather(*polls)
        for name in self.upstreams:
            self._evaluate(name)

    async def wait(self, seconds: float) -> None:
        """Let time pass without polls; fetches of segments go on."""
        until = self.clock.monotonic() + seconds
        await self._settle()
        while self.clock.monotonic() < until:
            if not self._advance_to_next_sleeper(until):
                self.clock.advance(until - self.clock.monotonic())
            await self._settle()

    async def run(
        self, seconds: float, *, name: str = UPSTREAM, every: float | None = None
    ) -> list[tuple[float, StreamReport]]:
        """Wait and poll at the interval for a time; return the stream's reports with the times since the start."""
        interval = self.upstreams[name].settings.interval if every is None else every
        until = self.clock.monotonic() + seconds
        reports = []
        due = self.clock.monotonic() + interval
        while due <= until + 1e-6:
            await self.wait(max(0.0, due - self.clock.monotonic()))
            await self.poll(name)
            reports.append((self.elapsed, self.report(name)))
            due = max(due + interval, self.clock.monotonic())
        return reports

    def state(self, name: str = UPSTREAM) -> UpstreamState:
        """Return what is served for an upstream."""
        return next(state for state in self._store.states() if state.upstream == name)

    def report(self, name: str = UPSTREAM, stream: str = STREAM) -> StreamReport:
        """Return the last report of a stream."""
        (found,) = (state.report for state in self.state(name).streams if state.identity.stream == stream)
        return found

    def text(self) -> str:
        """Return the exposition text."""
        return Exposition(self._store.states, self._exporter_metrics).render({"upstreams", "streams"}).decode()

    def served(self) -> Served:
        """Return what is exported."""
        return Served(self.text())

    def urls(self, what: str = "playlist") -> list[str]:
        """Return the URLs of the requests for a kind of object."""
        return [request.url for request in self.requests if request.what == what]

    def tasks(self, name: str = UPSTREAM) -> set[asyncio.Task[None]]:
        """Return the fetches of segments that are running."""
        return set(self.upstreams[name].coordinator.platform._tasks)

    async def close(self) -> None:
        """Stop everything."""
        for upstream in self.upstreams.values():
            await upstream.coordinator.close()

    def _evaluate(self, name: str) -> UpstreamState:
        state = self.state(name)
        if self._evaluator is None:
            return state
        for _ in self._evaluator.evaluate(state, self.clock.instant()):
            pass
        for key, alert in self._evaluator.alerts.items():
            if alert.phase is Phase.FIRING:
                self.fired.add(f"{key.rule} {key.severity}")
        return state

    def _advance_to_next_sleeper(self, until: float = float("inf")) -> bool:
        sleepers = [sleeper for sleeper in self.clock._sleepers if not sleeper[2].done()]
        at = min((sleeper[0] for sleeper in sleepers), default=float("inf"))
        if at > until or at == float("inf"):
            return False
        self.clock.advance(max(0.0, at - self.clock.monotonic()) + 1e-9)
        return True

    async def _settle(self) -> None:
        """Let everything run that needs no time to pass."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        while ready:  # noqa: ASYNC110 - nothing sets an event
            await asyncio.sleep(0)


@asynccontextmanager
async def check_world(
    respond: Respond, *, add: bool = True, has_alerts: bool = False, **settings: Any
) -> AsyncIterator[CheckWorld]:
    """Yield a world, with one upstream unless ``add`` is false."""
    world = CheckWorld(respond, has_alerts=has_alerts)
    if add:
        world.add(**settings)
    try:
        yield world
    finally:
        await world.close()


# -- playlists ---------------------------------------------------------------------------------------------------------


def media_playlist(
    first: int,
    count: int = 5,
    *,
    seconds: float = 2.0,
    target: float | None = None,
    edge: float | None = None,
    ended: bool = False,
    uri: Callable[[int], str] = "s{:05d}.ts".format,
    tags: Mapping[int, str] | None = None,
    head: str = "",
) -> bytes:
    """Return a media playlist. ``edge``: unix time of its end; ``tags``: lines before a segment, by its number."""
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:6",
        f"#EXT-X-TARGETDURATION:{seconds if target is None else target:g}",
        f"#EXT-X-MEDIA-SEQUENCE:{first}",
    ]
    lines += [head] if head else []
    for number in range(first, first + count):
        if tags and number in tags:
            lines.append(tags[number])
        if edge is not None:
            start = edge - (first + count - number) * seconds
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{iso(start)}")
        lines += [f"#EXTINF:{seconds:.3f},", uri(number)]
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if ended else []), ""]).encode()


def iso(timestamp: float) -> str:
    """Return a date as packagers write it."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def master_playlist(*variants: str, audio: Mapping[str, str] | None = None) -> bytes:
    """Return a master playlist with these variants, and audio renditions by language."""
    lines = ["#EXTM3U"]
    for language, uri in (audio or {}).items():
        lines.append(f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="{language}",LANGUAGE="{language}",URI="{uri}"')
    group = ',AUDIO="a"' if audio else ""
    for number, uri in enumerate(variants):
        height = (1080, 720, 480, 360, 240)[number % 5]
        lines += [
            f"#EXT-X-STREAM-INF:BANDWIDTH={5_000_000 // (number + 1)},RESOLUTION={height * 16 // 9}x{height}{group}",
            uri,
        ]
    return "\n".join([*lines, ""]).encode()


class LivePackager:
    """A healthy packager: a new segment every ``seconds`` of the clock, and a sliding window."""

    def __init__(
        self,
        clock: FakeClock,
        *,
        seconds: float = 2.0,
        count: int = 5,
        first: int = 100,
        dated: bool = True,
        uri: Callable[[int], str] = "s{:05d}.ts".format,
    ) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._wall_offset = clock.now() - clock.monotonic()
        self.seconds = seconds
        self.count = count
        self.first = first
        self.dated = dated
        self.uri = uri
        self.frozen_at: float | None = None

    def position(self) -> int:
        """Return the number of segments since the start."""
        now = self._clock.monotonic() if self.frozen_at is None else self.frozen_at
        return int((now - self._began) / self.seconds + 1e-6)

    def playlist(self, *, behind: int = 0, **more: Any) -> bytes:
        """Return the current playlist, or that of ``behind`` segments ago."""
        position = self.position() - behind
        edge = self._began + self._wall_offset + position * self.seconds
        return media_playlist(
            self.first + position,
            self.count,
            seconds=self.seconds,
            edge=edge if self.dated else None,
            uri=self.uri,
            **more,
        )

    def freeze(self) -> None:
        """Stop, as a killed encoder does: the playlist stays as it is."""
        self.frozen_at = self._clock.monotonic()


def numbered(responses: Mapping[str, bytes | Answer | Callable[[], bytes | Answer]]) -> Respond:
    """Return a ``respond`` with an answer by the end of the URL's path; everything else is missing, segments exist."""

    def respond(url: str, what: str, _now: float) -> Answer:
        path = url.partition("?")[0]
        for end, content in responses.items():
            if path.endswith(end):
                found = content() if callable(content) else content
                return found if isinstance(found, Answer) else Answer(found)
        return Answer(TS, content_type="video/mp2t") if what in ("segment", "init") else MISSING

    return respond


def longest_run(reports: list[tuple[float, StreamReport]], *, is_bad: Callable[[StreamReport], bool]) -> float:
    """Return the longest time in seconds from a first bad report to the next good one."""
    longest, since = 0.0, None
    for (at, report), _ in itertools.zip_longest(reports, reports[1:]):
        if is_bad(report):
            since = at if since is None else since
        elif since is not None:
            longest, since = max(longest, at - since), None
    return longest if since is None else max(longest, reports[-1][0] - since)
