"""Polling Livepeer Studio: which requests a poll makes, and how their answers become one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from exporter.config.upstream import StreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Listing, PollResult, Reason, StreamReport
from exporter.platforms.base import Platform
from exporter.platforms.capabilities import SessionCommands
from exporter.platforms.livepeer.active_streams import (
    STREAMS_PER_STEP,
    EndlessListError,
    StreamList,
    fetch_active_streams,
)
from exporter.platforms.livepeer.health_details import DetailsBook
from exporter.platforms.livepeer.liveness import listed_stream, newest, watched_stream
from exporter.platforms.livepeer.livepeer_rates import Bitrates
from exporter.platforms.livepeer.livepeer_settings import LivepeerSettings
from exporter.platforms.livepeer.session_requests import SESSION_COMMANDS, SessionReader, WatchedStreams
from exporter.platforms.livepeer.stream_objects import FEEDS
from exporter.platforms.livepeer.viewership import Viewership, fetch_viewership
from exporter.platforms.parsing import Fields
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter


class Livepeer(Platform[LivepeerSettings]):
    """Polls one account of Livepeer Studio; it remembers byte totals, details and the parents of single sessions."""

    name: ClassVar[str] = "livepeer"
    settings_class = LivepeerSettings
    feeds: ClassVar[frozenset[str]] = FEEDS

    def __init__(
        self, settings: LivepeerSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._sessions = SessionReader(settings, shard_filter)
        self._bitrates = Bitrates()
        self._details = DetailsBook(settings.health_details, clock) if settings.health_details else None
        self._listed: frozenset[str] = frozenset()
        """What the last list brought: when the next one fails, these are the streams that it fails for."""

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """The configured streams; a single session stands under its parent as soon as that is known."""
        return self._sessions.configured_streams()

    async def poll(self, requests: Requests) -> PollResult:
        """The list, the sessions of what is configured and the viewers at once; then details of what is live."""
        if not self.settings.discovers and not self._sessions.items():
            return PollResult(not_owned=True)
        fields = Fields()
        listed, watched, viewership = await asyncio.gather(
            self._list(requests, fields), self._sessions.ask(requests, fields), self._viewership(requests, fields)
        )
        if isinstance(listed, EndlessListError):
            raise listed
        failures = self._failures(listed, watched)
        if not isinstance(listed, StreamList) and not watched.answered:
            # viewers alone say nothing of any stream
            raise listed if isinstance(listed, UpstreamError) else next(iter(watched.errors.values()))
        if listed is None and not self._sessions.items():
            return PollResult(not_owned=True)
        platform_now = requests.now if requests.server_time is None else requests.server_time
        found = _samples(listed if isinstance(listed, StreamList) else None, watched, failures, platform_now)
        # whose a stream is depends on its session, too: it is known now, and nothing was asked for others' streams yet
        is_ours = self.shard_filter.choice(self.configured_streams())
        failures = {stream_id: reason for stream_id, reason in failures.items() if is_ours(stream_id)}
        reports = await self._completed((report for report in found if is_ours(report.id, report.name)), viewership)
        if isinstance(listed, StreamList):
            self._listed = frozenset(report.id for report in reports) & listed.streams.keys()
        self._bitrates.end_poll(failures)
        if self._details is not None:
            reports = await self._details.applied(requests, reports, fields)
        return PollResult(
            streams=tuple(reports),
            listing=listed.listing if isinstance(listed, StreamList) else Listing.DIRECT,
            failures=failures,
            dropped_fields=dict(fields.dropped),
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

    async def _list(self, requests: Requests, fields: Fields) -> StreamList | UpstreamError | None:
        if not self.settings.discovers:
            return None
        try:
            return await fetch_active_streams(requests, fields)
        except UpstreamError as error:
            return error

    async def _viewership(self, requests: Requests, fields: Fields) -> Viewership | None:
        if not self.settings.viewership:
            return None
        try:
            return await fetch_viewership(requests, fields)
        except UpstreamError:
            # viewers are an extra that some keys may not ask for: without them the poll is as good
            return None

    async def _completed(self, found: Iterable[StreamReport], viewership: Viewership | None) -> list[StreamReport]:
        """The reports with viewers and bitrates; the event loop gets its turn in between."""
        reports = []
        now = self.clock.monotonic()
        for report in found:
            watched = report if viewership is None else viewership.applied(report)
            reports.append(self._bitrates.applied(watched, now))
            if len(reports) % STREAMS_PER_STEP == 0:
                await asyncio.sleep(0)
        return reports

    def _failures(self, listed: StreamList | UpstreamError | None, watched: WatchedStreams) -> dict[str, Reason]:
        failures = {stream_id: error.reason for stream_id, error in watched.errors.items()}
        if isinstance(listed, UpstreamError):
            failures |= dict.fromkeys(self._listed - failures.keys() - watched.answered.keys(), listed.reason)
        return failures


def _samples(
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
