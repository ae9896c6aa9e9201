"""Icecast 2.4 and 2.5, and Icecast-KH, over their statistics."""

from __future__ import annotations

import asyncio
from typing import Annotated, ClassVar, Literal

from exporter.platforms.api import (
    ALL_STREAMS,
    LOGIN,
    NONE,
    CachedFetch,
    Clock,
    DropCounter,
    FetchResult,
    Field,
    Matching,
    Platform,
    Rate,
    Reason,
    Record,
    Requests,
    Response,
    ResponseFormat,
    RowReader,
    ShardFilter,
    StreamReport,
    StreamSettings,
    Text,
    UpstreamClient,
    UpstreamError,
    UpstreamSettings,
    decode_document,
)
from exporter.platforms.icecast.icecast_sources import (
    FEEDS,
    Statistics,
    is_file,
    mounts_with_fallback,
    parse_source,
)
from exporter.platforms.icecast.json_repair import repair_json

ADMIN = "GET /admin/stats"
PUBLIC_STATS = ("GET /admin/publicstats", "GET /admin/publicstats.json")
PUBLIC = ("GET /status-json.xsl", *PUBLIC_STATS)
"""Requests without credentials, the most detailed one first. 2.5 has all of them, 2.4 only the first."""
MOUNTS = "GET /admin/listmounts"
MOUNTS_SECONDS = 300.0
NOT_PROVIDED = frozenset({400, 401, 403, 404})
"""Statuses for a request that the server does not have, or does not answer without credentials."""
WINDOW_SECONDS = 30.0
"""Icecast updates its totals every 5 s, so a bitrate measured over this time is at most a sixth off."""
STALL_SECONDS = 45.0
"""Three polls. By default, Icecast disconnects a source after 10 s without data, so that a stall shows as off air."""


class IcecastStream(StreamSettings):
    """A mount."""

    mount: Annotated[Text, Matching("/.*", "a mount, such as /live.mp3")] = Field(
        description="Mount of the stream, such as `/live.mp3`."
    )

    @property
    def id(self) -> str:
        """Its id, the mount."""
        return self.mount


class IcecastSettings(UpstreamSettings):
    """One Icecast server; with the admin user's credentials, everything it knows, otherwise its public statistics."""

    platform: Literal["icecast"] = Field(default="icecast", description="The platform's name.")
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN})

    streams: tuple[IcecastStream, ...] = Field(
        default=(), description="Expectations for mounts; every mount that the server lists is watched anyway."
    )

    def configured_streams(self) -> tuple[IcecastStream, ...]:
        """Return the streams that the configuration names."""
        return self.streams


class Icecast(Platform[IcecastSettings]):
    """Polls the statistics of one server."""

    name: ClassVar[str] = "icecast"
    settings_class = IcecastSettings
    start_is_of_session: ClassVar[bool] = True
    feeds: ClassVar[frozenset[str]] = FEEDS
    rates: ClassVar[tuple[Rate, ...]] = tuple(
        Rate(total, rate, is_derived=True, window_seconds=WINDOW_SECONDS, stall_seconds=STALL_SECONDS)
        for total, rate in (
            ("ingest_bytes", "ingest_bitrate_bytes_per_second"),
            ("egress_bytes", "egress_bitrate_bytes_per_second"),
        )
    )

    def __init__(
        self, settings: IcecastSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._has_login = settings.auth.kind == LOGIN
        self._public: str | None = None
        """The public request that the server answers; None if it is not known."""
        self._mounts: CachedFetch[frozenset[str]] = CachedFetch(MOUNTS_SECONDS, clock)
        self._seen_on_fallback: set[str] = set()

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Request and read the statistics; now and then also the mounts, to know which of them have a fallback."""
        endpoint, response = await self._request_statistics(requests)
        statistics = Statistics(await self._decode(requests, response, endpoint, drops), drops)
        if self._has_login and self._mounts.is_due:
            await self._request_mounts(requests)
        rows: RowReader[StreamReport] = RowReader(endpoint, drops, max_streams=self.settings.max_streams)
        with_fallback = (self._mounts.value or frozenset()) | self._seen_on_fallback
        async for mount, row in rows.in_steps(statistics.rows()):
            if not mount or row is None:
                rows.add(None)
            elif not is_file(mount, row):
                rows.add(parse_source(mount, row, with_fallback=with_fallback, is_public=endpoint in PUBLIC_STATS))
        listed = {report.id: report.fallback_active for report in rows.found}
        self._seen_on_fallback &= listed.keys()
        self._seen_on_fallback |= {mount for mount, is_active in listed.items() if is_active}
        server = statistics.server
        return FetchResult(reports=rows.found, listed=rows.facts(doubt=server.doubt), version=server.version)

    @classmethod
    def requests_per_minute(cls, settings: IcecastSettings) -> float:
        """Count one request per poll, and the list of mounts."""
        mounts = 60.0 / max(MOUNTS_SECONDS, settings.interval) if settings.auth.kind == LOGIN else 0.0
        return 60.0 / settings.interval + mounts

    async def _request_statistics(self, requests: Requests) -> tuple[str, Response]:
        """Return the request and its response. With credentials, there is no fallback to the public statistics."""
        if self._has_login:
            return ADMIN, await requests.get(ADMIN, json=False)
        refusals: list[UpstreamError] = []
        for endpoint in PUBLIC if self._public is None else (self._public,):
            try:
                response = await requests.get(endpoint, json=False)
            except UpstreamError as error:
                self._public = None
                if error.status not in NOT_PROVIDED:
                    raise
                refusals.append(error)
            else:
                self._public = endpoint
                return endpoint, response
        raise _combined(refusals)

    async def _decode(self, requests: Requests, response: Response, endpoint: str, drops: DropCounter) -> Record:
        """Decode a response; if it is JSON and invalid, repair it."""
        try:
            return await decode_document(requests, response, ResponseFormat.XML_OR_JSON, endpoint, drops)
        except UpstreamError as error:
            if error.reason is not Reason.BAD_RESPONSE or not response.body.lstrip().startswith(b"{"):
                raise
            # in a thread, because it may take a while for a large document
            repaired = await asyncio.to_thread(repair_json, response.body)
            if repaired == response.body:
                raise
        return Record.from_response(await requests.decode_json(repaired, endpoint), drops)

    async def _request_mounts(self, requests: Requests) -> None:
        """Request which mounts have a fallback; without it, only one fact about live mounts is missing."""
        self._mounts.mark_requested()
        try:
            response = await requests.get(MOUNTS, json=False)
            document = await decode_document(requests, response, ResponseFormat.XML, MOUNTS, DropCounter())
            self._mounts.store(mounts_with_fallback(document))
        except UpstreamError:
            # the statistics themselves were received, so the poll does not fail
            return


def _combined(refusals: list[UpstreamError]) -> UpstreamError:
    """Return one error for all refused requests; a request for credentials outranks one that does not exist."""
    needs_login = [error for error in refusals if error.reason in (Reason.AUTH, Reason.FORBIDDEN)]
    error = (needs_login or refusals)[0]
    statuses = ", ".join(f"{refusal.status}" for refusal in refusals)
    hint = "set auth to the admin user" if needs_login else "check url"
    return UpstreamError(error.reason, f"no public statistics (status {statuses}): {hint}", status=error.status)


PLATFORM = Icecast
