"""The node-media-server platform: which version answers, and what it says of its streams."""

from __future__ import annotations

from typing import ClassVar

from exporter.http.auth import Auth, Basic, NoAuth
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason, StreamReport
from exporter.platforms.base import FetchResult, Platform
from exporter.platforms.node_media_server.nms_login import NodeMediaServerLogin
from exporter.platforms.node_media_server.nms_settings import NodeMediaServerSettings
from exporter.platforms.node_media_server.nms_streams import FEEDS, UNREADABLE, read_version_2, read_version_4
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.rates import DerivedRate
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter

HEALTH_4 = "GET /api/v1/health"
STREAMS_4 = "GET /api/v1/streams"
STREAMS_2 = "GET /api/streams"
SERVER_2 = "GET /api/server"
NOT_VERSION_4 = frozenset({401, 404})
"""What version 2 answers on the health of version 4: it knows no such path, or wants its password first."""


class NodeMediaServerPlatform(Platform[NodeMediaServerSettings]):
    """Polls one server; remembers which version it is until a poll fails."""

    name: ClassVar[str] = "node_media_server"
    settings_class = NodeMediaServerSettings
    ids_are_keys: ClassVar[bool] = True
    feeds: ClassVar[frozenset[str]] = FEEDS
    rates: ClassVar[tuple[DerivedRate, ...]] = (DerivedRate("ingest_bytes", "ingest_bitrate_bytes_per_second"),)

    def __init__(
        self,
        settings: NodeMediaServerSettings,
        client: UpstreamClient,
        clock: Clock,
        shard_filter: ShardFilter = ALL_STREAMS,
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._generation: int | None = None
        self._version = ""
        self._auth_2: Auth = NoAuth()
        self._auth_4: Auth = NoAuth()
        if settings.auth.kind == "login":
            self._auth_2 = Basic(settings.auth)
            self._auth_4 = client.login(NodeMediaServerLogin, settings.auth)

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Request the list of all streams; first recognise the version that answers, where it is not known."""
        try:
            if self._generation is None:
                await self._recognise(requests)
            reports = await self._read(requests, drops)
        except UpstreamError:
            self._generation = None
            raise
        unreadable = sum(times for name, times in drops.counts.items() if name in UNREADABLE)
        return FetchResult(reports=reports, list_pages=1, unreadable_rows=unreadable, version=self._version)

    @classmethod
    def requests_per_minute(cls, settings: NodeMediaServerSettings) -> float:
        """One list a poll; recognising the version and logging in are rare."""
        return 60.0 / settings.interval

    async def _read(self, requests: Requests, drops: DropCounter) -> list[StreamReport]:
        if self._generation == 4:
            return list(read_version_4((await requests.get(STREAMS_4)).data, drops))
        return list(read_version_2((await requests.get(STREAMS_2)).data, drops))

    async def _recognise(self, requests: Requests) -> None:
        """Version 4 says so on its health page, which is open; version 2 has its list of streams."""
        try:
            answer = await requests.get(HEALTH_4, auth=False)
        except UpstreamError as error:
            if error.status not in NOT_VERSION_4:
                raise
            await self._recognise_version_2(requests)
            return
        data = Record.from_response(answer.data, DropCounter()).record("data")
        if data is None:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{HEALTH_4}: not the answer of a node-media-server")
        self.client.auth = self._auth_4
        self._generation, self._version = 4, data.text("version")

    async def _recognise_version_2(self, requests: Requests) -> None:
        self.client.auth = self._auth_2
        self._generation, self._version = 2, ""
        try:
            # it measures the processor's load for this answer, so it is asked only here
            answer = await requests.get(SERVER_2)
            self._version = Record.from_response(answer.data, DropCounter()).text("version")
        except UpstreamError as error:
            if error.reason is Reason.NOT_FOUND:
                text = f"neither {HEALTH_4} nor {SERVER_2} is there: is the url right, is the API switched on?"
                raise UpstreamError(Reason.NOT_FOUND, text, status=error.status) from None
            # the version alone is not worth a poll: the list of streams will tell what is wrong, if it is
