"""Polling Livepeer Studio: which requests a poll makes, and how their answers become one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from exporter.config.upstream import StreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason, StreamReport
from exporter.platforms.base import REPORTS_PER_STEP, FetchResult, Platform
from exporter.platforms.capabilities import SessionCommands
from exporter.platforms.livepeer.active_streams import (
    EndlessListError,
    StreamList,
    fetch_active_streams,
)
from exporter.platforms.livepeer.health_details import DetailsBook
from exporter.platforms.livepeer.liveness import listed_stream, newest, watched_stream
from exporter.platforms.livepeer.livepeer_settings import LivepeerSettings
from exporter.platforms.livepeer.session_requests import SESSION_COMMANDS, SessionReader, WatchedStreams
from exporter.platforms.livepeer.stream_objects import FEEDS
from exporter.platforms.livepeer.viewership import Viewership, fetch_viewership
from exporter.platforms.parsing import DropCounter
from exporter.platforms.rates import DerivedRate
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter


class Livepeer(Platform[LivepeerSettings]):
    """Polls one account of Livepeer Studio; it remembers byte totals, details and the parents of single sessions."""

    name: ClassVar[str] = "livepeer"
    settings_class = LivepeerSettings
    feeds: ClassVar[frozenset[str]] = FEEDS
    # The platform writes totals every 50 s at most (its published collector): a rate takes several of these steps, and
    # a total that stands still for one and a half is a stall.
    rates: ClassVar[tuple[DerivedRate, ...]] = (
        DerivedRate("ingest_bytes", "ingest_bitrate_bytes_per_second", window=120.0, stall=75.0, in_intervals=False),
        DerivedRate(
            "transcoded_bytes", "transcode_bitrate_bytes_per_second", window=120.0, stall=75.0, in_intervals=False
        ),
    )

    def __init__(
        self, settings: LivepeerSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._sessions = SessionReader(settings, shard_filter)
        self._details = DetailsBook(settings.health_details, clock) if settings.health_details else None
        self._listed: frozenset[str] = frozenset()
        """What the last list brought: when the next one fails, these are the streams that it fails for."""

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """The configured streams; a single session stands under its parent as soon as that is known."""
        return self._sessions.configured_streams()

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Request the list, the configured sessions and the viewers at once; then the details of what is live."""
        if not self.settings.discovers and not self._sessions.items():
            return FetchResult(not_owned=True)
        listed, watched, viewership = await asyncio.gather(
            self._list(requests, drops), self._sessions.ask(requests, drops), self._viewership(requests, drops)
        )
        if isinstance(listed, EndlessListError):
            raise listed
        # a session's stream decides which shard polls it, and may have become known just now
        self.assign_shards(self.configured_streams())
        failures = self._failures(listed, watched)
        if not isinstance(listed, StreamList) and not watched.answered:
            # viewers alone say nothing of any stream
            raise listed if isinstance(listed, UpstreamError) else next(iter(watched.errors.values()))
        if listed is None and not self._sessions.items():
            return FetchResult(not_owned=True)
        read_at = self.clock.monotonic()
        platform_now = requests.now if requests.server_time is None else requests.server_time
        streams = listed if isinstance(listed, StreamList) else None
        found = _reports(streams, watched, failures, platform_now)
        reports = await self._with_viewers(self.own_reports(found), viewership)
        if streams is not None:
            self._listed = frozenset(report.id for report in reports) & streams.streams.keys()
        if self._details is not None:
            reports = await self._details.applied(requests, reports, drops)
        return FetchResult(
            reports=reports,
            list_pages=None if streams is None else streams.pages,
            unreadable_rows=0 if streams is None else streams.unreadable_rows,
            read_at=read_at,
            failures=failures,
        )

    @classmethod
    def requests_per_minute(cls, settings: LivepeerSettings) -> float:
        """The list's first page, the viewers, one request per configured stream, and the details of those.

        Further pages and the details of discovered streams come on top: how many there are is not known here.
        """
        configured = len(settings.streams) + len(settings.sessions)
        per_poll = configured + (1 if settings.discovers else 0) + (1 if settings.viewership else 0)
        details = 60.0 / settings.health_details * configured if settings.health_details else 0.0
        return 60.0 / settings.interval * per_poll + details

    @classmethod
    def session_commands(cls) -> SessionCommands:
        """Return the commands for sessions and streams."""
        return SESSION_COMMANDS

    async def _list(self, requests: Requests, drops: DropCounter) -> StreamList | UpstreamError | None:
        if not self.settings.discovers:
            return None
        try:
            return await fetch_active_streams(requests, drops)
        except UpstreamError as error:
            return error

    async def _viewership(self, requests: Requests, drops: DropCounter) -> Viewership | None:
        if not self.settings.viewership:
            return None
        try:
            return await fetch_viewership(requests, drops)
        except UpstreamError:
            # viewers are an extra that some keys may not ask for: without them the poll is as good
            return None

    async def _with_viewers(self, found: Iterable[StreamReport], viewership: Viewership | None) -> list[StreamReport]:
        """Return the reports with their viewers; the event loop gets a turn in between."""
        reports = []
        for report in found:
            reports.append(report if viewership is None else viewership.applied(report))
            if len(reports) % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        return reports

    def _failures(self, listed: StreamList | UpstreamError | None, watched: WatchedStreams) -> dict[str, Reason]:
        failures = {stream_id: error.reason for stream_id, error in watched.errors.items()}
        if isinstance(listed, UpstreamError):
            failures |= dict.fromkeys(self._listed - failures.keys() - watched.answered.keys(), listed.reason)
        return failures


def _reports(
    listed: StreamList | None, watched: WatchedStreams, failures: Mapping[str, Reason], platform_now: float
) -> Iterator[StreamReport]:
    streams = listed.streams if listed else {}
    for stream_id, sessions in watched.answered.items():
        active = listed.is_active(stream_id) if listed else None
        session = newest(sessions, platform_now)
        yield watched_stream(stream_id, session, streams.get(stream_id), active, platform_now)
    for stream_id, reading in streams.items():
        if stream_id not in watched.answered and stream_id not in failures:
            yield listed_stream(reading, platform_now)
