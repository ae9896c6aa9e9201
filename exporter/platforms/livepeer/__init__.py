"""Livepeer Studio, hosted or self-hosted: streams, sessions, viewers and detailed health over its REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, model_validator

from exporter.platforms.api import (
    ALL_STREAMS,
    BEARER,
    REPORTS_PER_STEP,
    Between,
    Clock,
    Described,
    DropCounter,
    FetchResult,
    Field,
    Flag,
    HttpUrl,
    ListFacts,
    OffOrDuration,
    Platform,
    Rate,
    Reason,
    Requests,
    SessionCommands,
    ShardFilter,
    StreamReport,
    StreamSettings,
    Text,
    UpstreamClient,
    UpstreamError,
    UpstreamSettings,
    format_duration,
    refuse_because,
)
from exporter.platforms.livepeer.active_streams import ActiveStreams, fetch_active_streams
from exporter.platforms.livepeer.liveness import (
    latest_started,
    report_listed_stream,
    report_session,
    report_watched_stream,
    without_doubt_about_older,
)
from exporter.platforms.livepeer.session_requests import SESSION_COMMANDS, SessionRequests, SessionResults
from exporter.platforms.livepeer.stream_objects import FEEDS, FRESH_SECONDS, ParsedObject, Reader
from exporter.platforms.livepeer.viewers_and_health import HealthDetailsCache, Viewership, fetch_viewership

MIN_DETAILS_SECONDS, MAX_DETAILS_SECONDS = 1.0, 86_400.0


def _read_bare_id(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


class LivepeerStream(StreamSettings):
    """A parent stream that is watched through its sessions."""

    id: Text = Field(description="The stream's id.")


class LivepeerSession(StreamSettings):
    """A single session; it is reported as its parent stream."""

    id: Text = Field(description="The session's id.")


class LivepeerSettings(UpstreamSettings):
    """One account (or project) of Livepeer Studio, hosted or self-hosted."""

    platform: Literal["livepeer"] = "livepeer"
    default_interval: ClassVar[float] = 30.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({BEARER})

    url: HttpUrl = Field(default="https://livepeer.studio/api", description="The base URL of its API.")
    discover: Flag | None = Field(
        default=None,
        description="Whether to watch all active streams. Default: only if neither streams nor sessions are given.",
    )
    viewership: Flag = Field(default=True, description="Whether to request the viewers of all streams.")
    health_details: Annotated[OffOrDuration, Between(MIN_DETAILS_SECONDS, MAX_DETAILS_SECONDS, format_duration)] = (
        Field(
            default=None,
            description="How often to request the detailed health of each live stream; `false` for never.",
        )
    )
    record: Flag | None = Field(
        default=None,
        description="Watch only sessions with recording (true) or without (false). Default: all.",
    )
    streams: tuple[LivepeerStream, ...] = Field(
        default=(), description="Parent streams to watch through their sessions; totals are those of the session."
    )
    sessions: tuple[
        Annotated[LivepeerSession, BeforeValidator(_read_bare_id), Described("session's id, or a mapping")], ...
    ] = Field(default=(), description="Single sessions to watch: mappings as in `streams`, or just ids.")

    @property
    def discovers(self) -> bool:
        """Whether the list of active streams is requested."""
        if self.discover is None:
            return not self.streams and not self.sessions
        return self.discover

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """Return the streams and sessions that the configuration names."""
        return (*self.streams, *self.sessions)

    @model_validator(mode="after")
    def _require_streams(self) -> Self:
        if not self.discovers and not self.streams and not self.sessions:
            raise refuse_because("nothing to watch; set discover: true, streams or sessions")
        return self


class Livepeer(Platform[LivepeerSettings]):
    """Polls one account of Livepeer Studio. Keeps byte totals, health details and the parents of single sessions."""

    name: ClassVar[str] = "livepeer"
    settings_class = LivepeerSettings
    feeds: ClassVar[frozenset[str]] = FEEDS
    # The platform updates totals every 50 s (see its published collector), so a rate is measured over several updates,
    # and a total is stalled after one and a half.
    rates: ClassVar[tuple[Rate, ...]] = tuple(
        Rate(total, rate, is_derived=True, window_seconds=120.0, stall_seconds=75.0)
        for total, rate in (
            ("ingest_bytes", "ingest_bitrate_bytes_per_second"),
            ("transcoded_bytes", "transcode_bitrate_bytes_per_second"),
        )
    )
    start_is_of_session: ClassVar[bool] = True
    heartbeat_limit_seconds: ClassVar[float | None] = FRESH_SECONDS

    def __init__(
        self, settings: LivepeerSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._sessions = SessionRequests(settings.streams, settings.sessions, settings.record, shard_filter)
        self._details = HealthDetailsCache(settings.health_details, clock) if settings.health_details else None
        self._listed_ids: frozenset[str] = frozenset()
        """Ids in the last list; if the next list fails, these streams fail."""

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """Return the configured streams. A single session is replaced by its stream once that is known."""
        return self._sessions.configured_streams()

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Request the list, the configured sessions and the viewers concurrently, then health details."""
        if not self.settings.discovers and not self._sessions.owned_streams():
            return FetchResult(not_owned=True)
        assert self.heartbeats is not None
        reader = Reader(self.heartbeats, requests, self.clock)
        listed, watched, viewership = await asyncio.gather(
            self._fetch_list(requests, reader, drops),
            self._sessions.fetch(requests, reader, drops),
            self._viewership(requests, drops),
        )
        # a session belongs to the shard of its stream, which this poll may have found out
        self.assign_shards(self.configured_streams())
        failures = self._failures(listed, watched)
        if not isinstance(listed, ActiveStreams) and not watched.sessions:
            # viewer counts alone do not show the state of any stream
            raise listed if isinstance(listed, UpstreamError) else next(iter(watched.errors.values()))
        if listed is None and not self._sessions.owned_streams():
            return FetchResult(not_owned=True)
        read_at = self.clock.monotonic()
        active = listed if isinstance(listed, ActiveStreams) else None
        chosen, duplicates = self._choose_sessions(watched)
        found = list(_make_reports(active, chosen, failures))
        reports = await self._add_viewers(self.own_reports(found), viewership)
        if active is not None:
            self._listed_ids = frozenset(report.id for report in reports) & active.streams.keys()
        if self._details is not None:
            reports = await self._details.add_details(requests, reports, drops)
        return FetchResult(
            reports=reports,
            listed=_list_facts(listed),
            list_names={report.id: report.name for report in found},
            duplicates=duplicates + (active.duplicates if active else 0),
            read_at=read_at,
            failures=failures,
        )

    @classmethod
    def requests_per_minute(cls, settings: LivepeerSettings) -> float:
        """Count the list's first page, the viewers, and one request plus health details per configured stream.

        Further pages and the details of discovered streams are not included, because their number is not known.
        """
        configured = len(settings.streams) + len(settings.sessions)
        per_poll = configured + (1 if settings.discovers else 0) + (1 if settings.viewership else 0)
        details = 60.0 / settings.health_details * configured if settings.health_details else 0.0
        return 60.0 / settings.interval * per_poll + details

    @classmethod
    def session_commands(cls) -> SessionCommands:
        """Return the commands for sessions and streams."""
        return SESSION_COMMANDS

    def _choose_sessions(self, watched: SessionResults) -> tuple[dict[str, ParsedObject | None], int]:
        """Return the session to report for each watched stream, and the number of other live sessions.

        Ended sessions are ignored as long as another one may be live.
        """
        chosen: dict[str, ParsedObject | None] = {}
        duplicates = 0
        for stream_id, sessions in watched.sessions.items():
            sessions = without_doubt_about_older(sessions)
            possible = [session for session in sessions if session.sign.is_alive is not False]
            possible = latest_started(possible)
            duplicates += max(0, sum(bool(session.sign.is_alive) for session in possible) - 1)
            chosen[stream_id] = self.choose_record(stream_id, possible or sessions, report_session)
        return chosen, duplicates

    async def _fetch_list(
        self, requests: Requests, reader: Reader, drops: DropCounter
    ) -> ActiveStreams | UpstreamError | None:
        if not self.settings.discovers:
            return None
        try:
            rows, facts = await fetch_active_streams(requests, reader, drops, self.settings)
            streams, duplicates = self.merge_records(rows, report_listed_stream, lambda row, _: row)
            return ActiveStreams({stream.report.id: stream for stream in streams}, facts, duplicates)
        except UpstreamError as error:
            return error

    async def _viewership(self, requests: Requests, drops: DropCounter) -> Viewership | None:
        if not self.settings.viewership:
            return None
        try:
            return await fetch_viewership(requests, drops)
        except UpstreamError:
            # viewers are optional, and some API keys may not request them
            return None

    async def _add_viewers(self, found: Iterable[StreamReport], viewership: Viewership | None) -> list[StreamReport]:
        """Add viewers to the reports; yields to the event loop in between."""
        reports = []
        for report in found:
            reports.append(report if viewership is None else viewership.update_report(report))
            if len(reports) % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        return reports

    def _failures(self, listed: ActiveStreams | UpstreamError | None, watched: SessionResults) -> dict[str, Reason]:
        failures = {stream_id: error.reason for stream_id, error in watched.errors.items()}
        if isinstance(listed, UpstreamError):
            failures |= dict.fromkeys(self._listed_ids - failures.keys() - watched.sessions.keys(), listed.reason)
        return failures


def _list_facts(listed: ActiveStreams | UpstreamError | None) -> ListFacts | None:
    if isinstance(listed, UpstreamError):
        return ListFacts(doubt=str(listed))
    return listed.facts if listed else None


def _make_reports(
    listed: ActiveStreams | None, watched: Mapping[str, ParsedObject | None], failures: Mapping[str, Reason]
) -> Iterator[StreamReport]:
    streams = listed.streams if listed else {}
    for stream_id, session in watched.items():
        active = listed.is_active(stream_id) if listed else None
        yield report_watched_stream(stream_id, session, streams.get(stream_id), active)
    for stream_id, stream in streams.items():
        if stream_id not in watched and stream_id not in failures:
            yield report_listed_stream(stream)


PLATFORM = Livepeer
