"""Storm Streaming Server 3.x, over its RESTful API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import AfterValidator, BeforeValidator, model_validator

from exporter.platforms.api import (
    ALL_STREAMS,
    API_KEY,
    BEARER,
    LOGIN,
    NONE,
    ApplicationStream,
    Clock,
    Described,
    DropCounter,
    FetchResult,
    Field,
    Matching,
    Platform,
    Rate,
    Reason,
    Requests,
    SessionCommands,
    ShardFilter,
    Text,
    UpstreamClient,
    UpstreamError,
    UpstreamSettings,
    refuse,
    refuse_all,
)
from exporter.platforms.storm.storm_streams import FEEDS, RATES, SubstreamMetadataCache
from exporter.platforms.storm.stream_requests import (
    BATCH_FROM,
    BATCH_SIZE,
    CLUSTER_STREAMS,
    NOT_OFFERED,
    SESSION_COMMANDS,
    STREAMS,
    TOKEN_LIFE_SECONDS,
    StormLogin,
    StreamList,
    StreamRequester,
    fetch_cluster_streams,
    fetch_streams,
)

AUTO: Literal["auto"] = "auto"
METADATA_REQUESTS_PER_WORKER = 3
"""Maximum number of metadata requests per concurrent worker and poll."""

FetchList = Callable[[Requests, DropCounter, UpstreamSettings], Awaitable[StreamList]]
_LISTS: tuple[FetchList, ...] = (fetch_streams, fetch_cluster_streams)


def _parse_discover(value: Any) -> bool | str:
    known = {"true": True, "false": False, AUTO: AUTO}.get(value) if isinstance(value, str) else value
    if known is not AUTO and not isinstance(known, bool):
        raise refuse("true, false or auto")
    return known


def _strip_slash(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise refuse("a path without . and .. segments")
    return path.rstrip("/")


Discover = Annotated[bool | Literal["auto"], BeforeValidator(_parse_discover), Described("true, false or auto")]


class StormSettings(UpstreamSettings):
    """One Storm Streaming Server, or the manager of a cluster of them."""

    platform: Literal["storm"] = Field(default="storm", description="The platform's name.")
    default_interval: ClassVar[float] = 15.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN, BEARER, API_KEY})

    base_path: Annotated[
        Text,
        Matching("/|(/[A-Za-z0-9._~-]+)+/?", "a path such as /api or /api/v1, or / for none"),
        AfterValidator(_strip_slash),
    ] = Field(default="/api", description="Prefix of every request path, including the login.")
    discover: Discover = Field(
        default=AUTO,
        description="Watch all streams in the server's list. `auto`: if it has no list, only the configured streams.",
    )
    streams: tuple[ApplicationStream, ...] = Field(
        default=(), description="Streams to watch, and expectations for them."
    )

    def configured_streams(self) -> tuple[ApplicationStream, ...]:
        """Return the streams that the configuration names."""
        return self.streams

    @model_validator(mode="after")
    def _check_streams(self) -> StormSettings:
        if self.discover is False and not self.streams:
            allowed = "at least one stream, because discover is false"
            raise refuse_all("upstream", {("streams",): refuse(allowed, found="nothing")})
        return self


class StormPlatform(Platform[StormSettings]):
    """Polls one Storm server. Which lists it has, and whether it accepts batches, is determined once."""

    name: ClassVar[str] = "storm"
    settings_class = StormSettings
    ids_are_keys: ClassVar[bool] = True
    health_score: ClassVar[str] = "reported"
    feeds: ClassVar[frozenset[str]] = FEEDS
    rates: ClassVar[tuple[Rate, ...]] = RATES

    def __init__(
        self, settings: StormSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._own_streams = self.owned(settings.streams)
        self._lists = _LISTS if settings.discover else ()
        self._is_settled = not settings.discover
        self._requester = StreamRequester()
        self._metadata = SubstreamMetadataCache(clock, METADATA_REQUESTS_PER_WORKER * settings.max_concurrent_requests)
        if settings.auth.kind == LOGIN:
            client.auth = client.login(StormLogin, settings.auth)

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Request the list (if any), the configured streams missing from it, and metadata of new publishes."""
        listed = await self._fetch_list(requests, drops)
        if listed is None and not self._own_streams:
            return FetchResult(not_owned=True)
        owns = self.shard_filter.owns
        streams = [stream for stream in listed.streams if owns(stream.report.id)] if listed else []
        listed_ids = {stream.report.id for stream in streams}
        unlisted = [stream for stream in self._own_streams if stream.id not in listed_ids]
        failures: dict[str, UpstreamError] = {}
        for stream_id, outcome in (await self._requester.fetch(requests, unlisted, drops)).items():
            if isinstance(outcome, UpstreamError):
                failures[stream_id] = outcome
            else:
                streams += outcome
        if failures and listed is None and not streams:
            # nothing has confirmed yet that this is a Storm server without a list, so detect again
            self._lists, self._is_settled = (_LISTS if self.settings.discover else ()), not self.settings.discover
            raise next(iter(failures.values()))
        chosen, duplicates = self.merge_records(
            streams, lambda stream: stream.report, lambda stream, report: msgspec.structs.replace(stream, report=report)
        )
        return FetchResult(
            reports=await self._metadata.add_metadata(requests, chosen, drops),
            listed=listed.facts if listed else None,
            duplicates=duplicates,
            failures={stream_id: error.reason for stream_id, error in failures.items()},
        )

    @classmethod
    def requests_per_minute(cls, settings: StormSettings) -> float:
        """Count the list's first page, or the batches of configured streams, without further pages and metadata."""
        configured = len(settings.streams)
        batches = configured if configured < BATCH_FROM else -(-configured // BATCH_SIZE)
        per_poll = 1 if settings.discover else batches
        logins = 60.0 / (0.8 * TOKEN_LIFE_SECONDS) if settings.auth.kind == LOGIN else 0.0
        return 60.0 / settings.interval * per_poll + logins

    @classmethod
    def session_commands(cls) -> SessionCommands:
        """Return the commands for streams."""
        return SESSION_COMMANDS

    async def _fetch_list(self, requests: Requests, drops: DropCounter) -> StreamList | None:
        """Fetch the server's list; None if it has none, so that only the configured streams are known.

        Which list the server has is determined once.
        """
        if self._is_settled:
            return await self._lists[0](requests, drops, self.settings) if self._lists else None
        for fetch in self._lists:
            try:
                streams = await fetch(requests, drops, self.settings)
            except UpstreamError as error:
                if error.status not in NOT_OFFERED:
                    raise
            else:
                self._lists, self._is_settled = (fetch,), True
                return streams
        if self.settings.discover is True or not self.settings.streams:
            message = f"server has neither {STREAMS} nor {CLUSTER_STREAMS}"
            hint = "" if self.settings.discover is True else ", and no streams are configured"
            raise UpstreamError(Reason.NOT_FOUND, f"{message}{hint}: check url and base_path")
        self._lists, self._is_settled = (), True
        return None


PLATFORM = StormPlatform
