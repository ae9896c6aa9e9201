"""The Storm platform: which streams there are, what each is doing, and what its picture looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.base import FetchResult, Platform
from exporter.platforms.capabilities import SessionCommands
from exporter.platforms.parsing import DropCounter
from exporter.platforms.storm.envelope import NOT_OFFERED
from exporter.platforms.storm.server_list import (
    CLUSTER_STREAMS,
    STREAMS,
    StreamList,
    read_cluster_streams,
    read_streams,
)
from exporter.platforms.storm.storm_login import TOKEN_LIFE_SECONDS, StormLogin
from exporter.platforms.storm.storm_settings import StormSettings
from exporter.platforms.storm.storm_streams import FEEDS
from exporter.platforms.storm.stream_requests import BATCH_FROM, BATCH_SIZE, SESSION_COMMANDS, DirectReader
from exporter.platforms.storm.substream_metadata import MetadataBook
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter

METADATA_REQUESTS_PER_WORKER = 3
"""How many substreams each concurrent worker may ask about in one poll."""

ReadList = Callable[[Requests, DropCounter], Awaitable[StreamList]]
_LISTS: tuple[ReadList, ...] = (read_streams, read_cluster_streams)


class StormPlatform(Platform[StormSettings]):
    """Polls one Storm server; it remembers which of its lists and batches the server turned out to have."""

    name: ClassVar[str] = "storm"
    settings_class = StormSettings
    ids_are_keys: ClassVar[bool] = True
    health_score: ClassVar[str] = "reported"
    feeds: ClassVar[frozenset[str]] = FEEDS

    def __init__(
        self, settings: StormSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._own_streams = self.owned(settings.streams)
        self._lists = _LISTS if settings.discover else ()
        self._is_settled = not settings.discover
        self._direct = DirectReader()
        self._metadata = MetadataBook(clock, METADATA_REQUESTS_PER_WORKER * settings.max_concurrent_requests)
        if settings.auth.kind == "login":
            client.auth = client.login(StormLogin, settings.auth)

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """The list where there is one, the configured streams that it leaves out, and news about pictures."""
        listed = await self._list(requests, drops)
        if listed is None and not self._own_streams:
            return FetchResult(not_owned=True)
        streams = {id_: found for id_, found in listed.streams.items() if self.shard_filter.owns(id_)} if listed else {}
        unlisted = [stream for stream in self._own_streams if stream.id not in streams]
        failures: dict[str, UpstreamError] = {}
        for stream_id, answer in (await self._direct.ask(requests, unlisted, drops)).items():
            if isinstance(answer, UpstreamError):
                failures[stream_id] = answer
            else:
                streams[stream_id] = answer
        if failures and listed is None and not streams:
            raise next(iter(failures.values()))
        reports = await self._metadata.enrich(requests, streams.values(), drops)
        return FetchResult(
            reports=reports,
            list_pages=listed.pages if listed else None,
            unreadable_rows=listed.unreadable_rows if listed else 0,
            failures={stream_id: error.reason for stream_id, error in failures.items()},
        )

    @classmethod
    def requests_per_minute(cls, settings: StormSettings) -> float:
        """The list's first page, or the batches of the configured streams; substream metadata and pages come on top."""
        polls = 60.0 / settings.interval
        if settings.discover:
            per_poll = 1.0
        elif len(settings.streams) < BATCH_FROM:
            per_poll = float(len(settings.streams))
        else:
            per_poll = float(-(-len(settings.streams) // BATCH_SIZE))
        logins = 60.0 / (0.8 * TOKEN_LIFE_SECONDS) if settings.auth.kind == "login" else 0.0
        return polls * per_poll + logins

    @classmethod
    def session_commands(cls) -> SessionCommands:
        """Return the commands for streams."""
        return SESSION_COMMANDS

    async def _list(self, requests: Requests, drops: DropCounter) -> StreamList | None:
        """The server's list; None where the configured streams are all there is.

        Which list it has is found out once: a server does not grow one while it runs.
        """
        if self._is_settled:
            return await self._lists[0](requests, drops) if self._lists else None
        for read in self._lists:
            try:
                streams = await read(requests, drops)
            except UpstreamError as error:
                if error.status not in NOT_OFFERED:
                    raise
            else:
                self._lists, self._is_settled = (read,), True
                return streams
        if self.settings.discover is True or not self.settings.streams:
            message = f"neither {STREAMS} nor {CLUSTER_STREAMS} is offered"
            hint = "" if self.settings.discover is True else ", and no streams are configured"
            raise UpstreamError(Reason.NOT_FOUND, message + hint)
        self._lists, self._is_settled = (), True
        return None
