"""Clustered real Alertmanagers, each behind a proxy that fails on demand."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.real.child_process import GENEROUS_SECONDS, Program, free_port, request_json, responds, wait_until
from tests.real.tools import tool

PEER_TIMEOUT_SECONDS = 1
SETTLE_TIMEOUT_SECONDS = 3


@dataclass
class FaultyProxy:
    """Forwards requests to an Alertmanager, or fails as configured."""

    target: str
    url: str = ""
    refusal: tuple[int, str, dict[str, str]] | None = None
    """Status, body and headers to send instead of Alertmanager's response."""
    lag_seconds: float = 0.0
    largest_body: int | None = None
    """Larger requests get a 413."""
    response_headers: dict[str, str] = field(default_factory=dict)
    """Headers that replace those of Alertmanager's responses."""
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    """Method and body of the forwarded requests."""
    is_recording: bool = False
    _may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    _session: aiohttp.ClientSession | None = None

    def hang(self) -> None:
        """Stop responding."""
        self._may_answer.clear()

    def recover(self) -> None:
        """Forward all requests again."""
        self.refusal, self.lag_seconds = None, 0.0
        self._may_answer.set()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self._may_answer.wait()
        if self.lag_seconds:
            await asyncio.sleep(self.lag_seconds)
        if self.refusal is not None:
            status, text, headers = self.refusal
            return web.Response(status=status, text=text, headers=headers)
        if self.largest_body is not None and len(body) > self.largest_body:
            return web.Response(status=413)
        if self.is_recording:
            self.bodies.append((request.method, body))
        assert self._session is not None
        headers = {"Content-Type": request.headers.get("Content-Type", "")} if body else {}
        try:
            async with self._session.request(
                request.method, f"{self.target}{request.path_qs}", data=body or None, headers=headers
            ) as answer:
                kept = {"Content-Type": answer.headers.get("Content-Type", "text/plain"), **self.response_headers}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except aiohttp.ClientError:
            return web.Response(status=502)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FaultyProxy]:
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", self.handle)
        async with aiohttp.ClientSession() as self._session, TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            self.recover()
            try:
                yield self
            finally:
                self.recover()


class ClusterMember:
    """One Alertmanager of a cluster, which can be restarted with its data."""

    def __init__(self, name: str, directory: Path, configuration: str) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        (self.directory / "alertmanager.yml").write_text(configuration)
        self.name = name
        self.port, self.cluster_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.peers: list[ClusterMember] = []
        self._program: Program | None = None

    def start(self) -> None:
        options = {
            "config.file": "alertmanager.yml",
            "storage.path": "data",
            "web.listen-address": f"127.0.0.1:{self.port}",
            "cluster.listen-address": f"127.0.0.1:{self.cluster_port}" if self.peers else "",
            "cluster.gossip-interval": "100ms",
            "cluster.pushpull-interval": "2s",
            "cluster.settle-timeout": f"{SETTLE_TIMEOUT_SECONDS}s",
            "cluster.peer-timeout": f"{PEER_TIMEOUT_SECONDS}s",
            "cluster.reconnect-interval": "1s",
            "log.level": "warn",
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        flags += [f"--cluster.peer=127.0.0.1:{peer.cluster_port}" for peer in self.peers]
        self._program = Program([tool("alertmanager"), *flags], self.directory, name=self.name)
        self._program.wait_until(lambda: responds(f"{self.url}/-/ready"), f"{self.name} is ready")

    def stop(self) -> None:
        """Stop it, with its data saved."""
        assert self._program is not None
        self._program.signal(signal.SIGTERM)
        self._program.process.wait(GENEROUS_SECONDS)

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()

    async def restart(self, down_seconds: float = 0.0) -> None:
        await asyncio.to_thread(self.stop)
        await asyncio.sleep(down_seconds)
        await asyncio.to_thread(self.start)

    async def alerts(self, *matchers: str) -> list[dict[str, Any]]:
        """Return the alerts that have not ended on its clock."""
        query = urlencode({"filter": matchers}, doseq=True)
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/api/v2/alerts?{query}") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def metric(self, name: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@asynccontextmanager
async def running_cluster(
    directory: Path, configuration: str, members: int = 3
) -> AsyncIterator[Sequence[tuple[ClusterMember, FaultyProxy]]]:
    """Run Alertmanagers with their proxies; yield once they form a cluster."""
    cluster = [ClusterMember(f"alertmanager-{n}", directory, configuration) for n in range(members)]
    for member in cluster:
        member.peers = [peer for peer in cluster if peer is not member]
    try:
        for member in cluster:
            await asyncio.to_thread(member.start)
        if members > 1:
            await asyncio.to_thread(wait_until, lambda: _is_joined(cluster[0].url, members), "the cluster has formed")
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(FaultyProxy(member.url).running()) for member in cluster]
            yield list(zip(cluster, proxies, strict=True))
    finally:
        for member in cluster:
            member.kill()


def _is_joined(url: str, members: int) -> bool:
    cluster = request_json(f"{url}/api/v2/status")["cluster"]
    return cluster["status"] == "ready" and len(cluster["peers"]) == members
