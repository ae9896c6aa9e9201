"""node-media-server, versions 2 and 4, over its HTTP API."""

from __future__ import annotations

from typing import ClassVar, Literal

from exporter.platforms.api import (
    ALL_STREAMS,
    LOGIN,
    NONE,
    ApplicationStream,
    Auth,
    Basic,
    Clock,
    DropCounter,
    FetchResult,
    Field,
    NoAuth,
    Platform,
    Rate,
    Reason,
    Record,
    Requests,
    ShardFilter,
    StreamReport,
    StreamSettings,
    UpstreamClient,
    UpstreamError,
    UpstreamSettings,
)
from exporter.platforms.node_media_server.nms_login import NodeMediaServerLogin
from exporter.platforms.node_media_server.nms_streams import (
    FEEDS,
    STREAMS_2,
    STREAMS_4,
    StreamList,
    missing_stream,
    parse_single_4,
    parse_version_2,
    parse_version_4,
)

HEALTH_4 = "GET /api/v1/health"
STREAM_4 = "GET /api/v1/streams/{app}/{name}"
SERVER_2 = "GET /api/server"
NOT_VERSION_4 = frozenset({401, 404})
"""Statuses with which version 2 responds to the health request of version 4: unknown path, or password required."""


class NodeMediaServerSettings(UpstreamSettings):
    """One node-media-server, version 2 or 4; the version is detected."""

    platform: Literal["node_media_server"] = Field(default="node_media_server", description="The platform's name.")
    default_interval: ClassVar[float] = 15.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN})

    streams: tuple[ApplicationStream, ...] = Field(
        default=(), description="Expectations for streams; every stream that the server lists is watched anyway."
    )

    def configured_streams(self) -> tuple[ApplicationStream, ...]:
        """Return the streams that the configuration names."""
        return self.streams


class NodeMediaServer(Platform[NodeMediaServerSettings]):
    """Polls one server; its version is detected again after a failed poll."""

    name: ClassVar[str] = "node_media_server"
    settings_class = NodeMediaServerSettings
    ids_are_keys: ClassVar[bool] = True
    feeds: ClassVar[frozenset[str]] = FEEDS
    rates: ClassVar[tuple[Rate, ...]] = (Rate("ingest_bytes", "ingest_bitrate_bytes_per_second", is_derived=True),)

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
        if settings.auth.kind == LOGIN:
            self._auth_2 = Basic(settings.auth)
            self._auth_4 = client.login(NodeMediaServerLogin, settings.auth)

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Detect the server's version if it is not known, then request the list of all streams."""
        try:
            if self._generation is None:
                await self._detect_version(requests)
            listed = await self._fetch_list(requests, drops)
        except UpstreamError:
            self._generation = None
            raise
        return FetchResult(reports=listed.reports, listed=listed.facts, version=self._version)

    async def fetch_stream(self, requests: Requests, stream: StreamSettings, drops: DropCounter) -> StreamReport | None:
        """Request one stream from version 4; version 2 has no request that returns as much as its list."""
        if self._generation != 4 or not isinstance(stream, ApplicationStream):
            return None
        try:
            response = await requests.get(STREAM_4, app=stream.application, name=stream.key)
        except UpstreamError as error:
            if error.means_absent:
                return missing_stream(stream.id, stream.application)
            raise
        report = parse_single_4(response.data, drops)
        if report.id != stream.id:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{STREAM_4}: the response is about another stream")
        return report

    @classmethod
    def requests_per_minute(cls, settings: NodeMediaServerSettings) -> float:
        """Count one list per poll; version detection and logins are rare."""
        return 60.0 / settings.interval

    async def _fetch_list(self, requests: Requests, drops: DropCounter) -> StreamList:
        if self._generation == 4:
            return await parse_version_4((await requests.get(STREAMS_4)).data, drops, self.settings.max_streams)
        return await parse_version_2((await requests.get(STREAMS_2)).data, drops, self.settings.max_streams)

    async def _detect_version(self, requests: Requests) -> None:
        """Detect version 4 by its health request, which needs no credentials, else version 2."""
        try:
            response = await requests.get(HEALTH_4, auth=False)
        except UpstreamError as error:
            if error.status not in NOT_VERSION_4:
                raise
            await self._detect_version_2(requests)
            return
        data = Record.from_response(response.data, DropCounter()).record("data")
        if data is None:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{HEALTH_4}: not a response of node-media-server")
        self.client.auth = self._auth_4
        self._generation, self._version = 4, data.text("version")

    async def _detect_version_2(self, requests: Requests) -> None:
        self.client.auth = self._auth_2
        self._generation, self._version = 2, ""
        try:
            # only once, because the server measures its CPU load for 100 ms before it responds
            response = await requests.get(SERVER_2)
            self._version = Record.from_response(response.data, DropCounter()).text("version")
        except UpstreamError as error:
            if error.reason is Reason.NOT_FOUND:
                text = f"server has neither {HEALTH_4} nor {SERVER_2}: check the url, and that its API is enabled"
                raise UpstreamError(Reason.NOT_FOUND, text, status=error.status) from None
            # do not fail the poll: the version is optional, and other problems show up in the request for the list


PLATFORM = NodeMediaServer
