"""Playback checks over real sockets: where documents may lead, what is shown of them, and servers that waste time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiohttp import web

from exporter.http import media_transport
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import StreamReport
from exporter.platforms.hls import Hls, HlsSettings
from exporter.polling.coordinator import Coordinator, build_coordinator
from exporter.polling.self_metrics import PollingMetrics
from exporter.runtime.clock import Clock
from exporter.store import Store
from tests.exposition_text import samples
from tests.http.media_fetching import Names
from tests.platforms.hls.check_world import TS, master_playlist, media_playlist

TOKEN = "s3cr3t-t0k3n"
ORIGIN, VICTIM = "127.0.0.2", "127.0.0.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, host: str, port: int = 0) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass
class Attack:
    """A stream on ``origin.test``, whose documents lead elsewhere, and the server that they lead to."""

    coordinator: Coordinator
    store: Store
    metrics: ExporterMetrics
    hits: list[str]
    """Paths that were requested from the other server."""
    requested: Counter[str]
    """Paths that were requested from the origin."""
    names: Names
    documents: dict[str, bytes | str | Handler] = field(default_factory=dict)
    """Documents, targets of redirects, or handlers, by path."""
    port: int = 0

    async def poll(self, times: int = 1) -> StreamReport:
        """Poll, and wait for segments."""
        for _ in range(times):
            await self.coordinator.poll()
            platform: Any = self.coordinator.platform
            await asyncio.gather(*platform._tasks)
            for check in platform._checks:
                for rendition in [check._entry, *check._variants, *check._audio]:
                    rendition.requested_at = None
        (state,) = self.store.states()
        return state.streams[0].report

    def text(self) -> str:
        return Exposition(self.store.states, self.metrics).render({"upstreams", "streams"}).decode()

    def failures(self) -> dict[tuple[str, str], float]:
        """Return the counted failures by object and reason."""
        return {
            (dict(labels)["object"], dict(labels)["reason"]): value
            for name, labels, value in samples(self.text())
            if name == "stream_upstream_fetch_failures_total" and value
        }


@asynccontextmanager
async def attack(
    monkeypatch: pytest.MonkeyPatch,
    *,
    hosts: tuple[str, ...] = (),
    names: dict[str, list[list[str]]] | None = None,
    query: str = "",
    **given: Any,
) -> AsyncIterator[Attack]:
    hits: list[str] = []
    requested: Counter[str] = Counter()
    resolver = Names({"origin.test": [[ORIGIN]], "evil.test": [[VICTIM]], **(names or {})})
    monkeypatch.setattr(media_transport, "SystemResolver", lambda: resolver)
    documents: dict[str, bytes | str | Handler] = {}

    async def origin(request: web.Request) -> web.StreamResponse:
        requested[request.path] += 1
        content = documents.get(request.path, TS)
        if callable(content):
            return await content(request)
        if isinstance(content, str):
            return web.Response(status=302, headers={"Location": content, "Connection": "close"})
        return web.Response(body=content, headers={"Connection": "close"})

    async def victim(request: web.Request) -> web.StreamResponse:
        hits.append(request.path)
        return web.Response(body=TS)

    async with serving(victim, VICTIM) as port, serving(origin, ORIGIN, port):
        settings = HlsSettings.model_validate(
            {
                "name": "edge", "platform": "hls", "url": f"http://origin.test:{port}", "hosts": hosts,
                "streams": [{"name": "main", "url": f"/main.m3u8{query}"}], **given,
            }
        )  # fmt: skip
        exporter_metrics = ExporterMetrics()
        metrics = PollingMetrics(exporter_metrics.upstreams)
        metrics.add_upstream("hls", "edge", settings.label_pairs)
        store = Store()
        store.arrange(["edge"])
        clock = Clock()
        coordinator = build_coordinator(
            settings, Hls, store=store, metrics=metrics, clock=clock, started_at=clock.instant()
        )
        try:
            yield Attack(coordinator, store, exporter_metrics, hits, requested, resolver, documents, port)
        finally:
            await coordinator.close()


def fresh_playlist(uri: str = "s{}.ts", head: str = "", first: int = 0) -> bytes:
    return media_playlist(first, 3, edge=time.time(), uri=uri.format, head=head)


TARGETS = (
    "http://127.0.0.1:{port}/x", "http://evil.test:{port}/x", "http://[::1]:{port}/x", "http://0.0.0.0:{port}/x",
    "http://[::ffff:127.0.0.1]:{port}/x", "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/x",
    "http://192.168.1.1:{port}/x", "http://2130706433:{port}/x", "http://0x7f.1:{port}/x", "file:///etc/passwd",
    "ftp://evil.test/x", "gopher://evil.test:{port}/x", "//evil.test:{port}/x",
)  # fmt: skip
PLACES = ("variant", "audio", "segment", "init", "redirected playlist", "redirected rendition", "redirected segment")
OBJECTS = {"segment": "segment", "redirected segment": "segment", "init": "init"}


def place(attacked: Attack, where: str, target: str) -> None:
    """Let a document at a place lead to the target."""
    documents = attacked.documents
    documents["/main.m3u8"] = documents["/ok.m3u8"] = fresh_playlist()
    if where == "variant":
        documents["/main.m3u8"] = master_playlist("ok.m3u8", target)
    elif where == "audio":
        documents["/main.m3u8"] = master_playlist("ok.m3u8", audio={"en": target})
    elif where == "segment":
        documents["/main.m3u8"] = fresh_playlist(uri=target.replace("{", "{{") + "?{}")
    elif where == "init":
        documents["/main.m3u8"] = fresh_playlist(head=f'#EXT-X-MAP:URI="{target}"')
    elif where == "redirected playlist":
        documents["/main.m3u8"] = target
    elif where == "redirected rendition":
        documents["/main.m3u8"] = master_playlist("ok.m3u8", "away.m3u8")
        documents["/away.m3u8"] = target
    else:
        documents |= {f"/s{number}.ts": target for number in range(3)}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("target", TARGETS)
async def test_documents_do_not_lead_to_private_addresses(
    monkeypatch: pytest.MonkeyPatch, where: str, target: str
) -> None:
    async with attack(monkeypatch) as attacked:
        place(attacked, where, target.format(port=attacked.port))
        await attacked.poll(2)
        assert attacked.hits == []
        found = attacked.failures()
        kind = OBJECTS.get(where, "playlist")
        assert {name for name, _ in found} == {kind}
        assert {reason for _, reason in found} <= {"blocked", "redirect"}
        assert target.startswith(("file", "ftp", "gopher")) or {reason for _, reason in found} == {"blocked"}
        # the exporter's refusal is no server that was reached
        assert attacked.coordinator.client.vantage.describe() in ("0 of 0 hosts", "0 of 1 hosts")


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("host", "target"),
    [("127.0.0.1", "http://127.0.0.1:{port}/x"), ("*.test", "http://evil.test:{port}/x")],
)
async def test_allowed_hosts_are_fetched(monkeypatch: pytest.MonkeyPatch, where: str, host: str, target: str) -> None:
    async with attack(monkeypatch, hosts=(host,)) as attacked:
        place(attacked, where, target.format(port=attacked.port))
        await attacked.poll(2)
        assert attacked.hits != []


async def test_metadata_services_are_blocked_although_all_hosts_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attack(monkeypatch, hosts=("*",)) as attacked:
        place(attacked, "segment", "http://169.254.169.254/latest/meta-data")
        await attacked.poll(2)
        assert attacked.failures() == {("segment", "blocked"): 1}


async def test_name_that_changes_its_address_is_checked_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"rebind.test": [[ORIGIN], [VICTIM]]}
    async with attack(monkeypatch, names=names) as attacked:
        for first in range(3):
            attacked.documents["/main.m3u8"] = fresh_playlist(
                uri=f"http://rebind.test:{attacked.port}/r{{}}.ts", first=first
            )
            await attacked.poll()
        # failures of segments are counted by the next poll
        await attacked.poll()
        assert attacked.requested["/r2.ts"] == 1
        assert attacked.hits == []
        assert attacked.failures() == {("segment", "blocked"): 2}
        # one lookup, whose result is both checked and used
        assert attacked.names.lookups["rebind.test"] == 3


async def test_name_with_a_private_address_among_public_ones_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attack(monkeypatch, names={"mixed.test": [["8.8.8.8", VICTIM]]}) as attacked:
        place(attacked, "segment", f"http://mixed.test:{attacked.port}/x")
        await attacked.poll()
        assert attacked.hits == []
        assert attacked.failures() == {("segment", "blocked"): 1}


async def test_blocked_segments_make_a_stream_unplayable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attack(monkeypatch) as attacked:
        for first in range(3):
            target = f"http://evil.test:{attacked.port}/{{}}.ts"
            attacked.documents["/main.m3u8"] = fresh_playlist(uri=target, first=first)
            report = await attacked.poll()
        assert report.unplayable_reason == "segment_missing"
        assert report.playback_detail == "segments missing (blocked)"


@pytest.mark.parametrize("status", [200, 302, 403, 404, 503])
@pytest.mark.parametrize("where", PLACES)
async def test_tokens_are_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str, status: int
) -> None:
    target = f"http://evil.test:{{port}}/{TOKEN}/x?token={TOKEN}"

    async def fail(_request: web.Request) -> web.StreamResponse:
        headers = {"Location": target} if status == 302 else {}
        return web.Response(status=status, text=f"no {TOKEN}", reason=TOKEN, headers=headers)

    with structlog.testing.capture_logs() as logs:
        async with attack(monkeypatch, query=f"?token={TOKEN}", headers={"X-Key": TOKEN}) as attacked:
            place(attacked, where, target.format(port=attacked.port))
            await attacked.poll()
            for path in ("/main.m3u8", "/ok.m3u8", "/s2.ts"):
                attacked.documents[path] = fail
            report = await attacked.poll(3)
            platform: Any = attacked.coordinator.platform
            check = platform._checks[0]
            shown = [
                attacked.text(),
                repr(report),
                repr(attacked.store.states()),
                repr(logs),
                repr(check.stream),
                repr([rendition.failure for rendition in (check._entry, *check._variants)]),
                str(check._entry.segments.last_failure),
                repr(vars(attacked.coordinator.client.vantage)),
            ]
    assert TOKEN not in "".join(shown)
    assert TOKEN not in "".join(capsys.readouterr())


# -- servers that waste time -------------------------------------------------------------------------------------------


async def test_endless_redirects_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attack(monkeypatch) as attacked:
        attacked.documents |= {"/main.m3u8": "/a.m3u8", "/a.m3u8": "/main.m3u8"}
        await attacked.poll(2)
        assert attacked.failures() == {("playlist", "redirect"): 2}
        assert attacked.requested.total() == 2 * 4


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"#")
        await asyncio.sleep(0.05)


async def silence(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


@pytest.mark.parametrize("handler", [trickle, silence])
async def test_slow_playlist_ends_with_the_poll(monkeypatch: pytest.MonkeyPatch, handler: Handler) -> None:
    async with attack(monkeypatch, interval="1s", timeout="500ms") as attacked:
        attacked.documents["/main.m3u8"] = handler
        began = time.monotonic()
        report = await attacked.poll(2)
        assert time.monotonic() - began < 10.0
        assert attacked.failures() == {("playlist", "timeout"): 2}
        assert report.playable is not True


async def test_slow_segment_does_not_delay_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attack(monkeypatch) as attacked:
        attacked.documents |= {"/main.m3u8": fresh_playlist(), "/s2.ts": silence}
        await attacked.coordinator.poll()
        for number in range(3):
            attacked.documents["/main.m3u8"] = fresh_playlist(first=number + 1)
            platform: Any = attacked.coordinator.platform
            platform._checks[0]._entry.requested_at = None
            began = time.monotonic()
            await attacked.coordinator.poll()
            assert time.monotonic() - began < 2.0
        assert attacked.requested["/main.m3u8"] == 4
        assert attacked.requested.total() == 5


async def test_playlist_above_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attack(monkeypatch) as attacked:
        body = media_playlist(0, 83_800)
        assert len(body) < 2**21
        attacked.documents["/main.m3u8"] = body.ljust(2**21, b"\n")
        report = await attacked.poll()
        assert (report.protocol, report.window_seconds) == ("hls", 167_600.0)
        attacked.documents["/main.m3u8"] = body.ljust(2**21 + 1, b"\n")
        await attacked.poll()
        assert attacked.failures() == {("playlist", "too_large"): 1}
