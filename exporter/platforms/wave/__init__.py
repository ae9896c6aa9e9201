"""WAVE: streaming sessions over its REST API, within the request limit that its responses announce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from exporter.platforms.api import (
    ALL_STREAMS,
    AlertSink,
    Clock,
    DropCounter,
    FetchResult,
    Platform,
    Rate,
    Reason,
    Requests,
    SessionCommands,
    ShardFilter,
    StreamReport,
    UpstreamClient,
    UpstreamError,
)
from exporter.platforms.wave.alert_events import WaveAlertSink
from exporter.platforms.wave.ice_candidates import CandidateCache
from exporter.platforms.wave.optional_endpoints import OptionalEndpoints, optional_requests_per_minute
from exporter.platforms.wave.request_budget import RequestBudget, SessionRotation, was_not_sent
from exporter.platforms.wave.sessions_file import SessionsFile, SessionsFileError, WaveSession
from exporter.platforms.wave.wave_sessions import FEEDS, RATES, SESSION_COMMANDS, fetch_session
from exporter.platforms.wave.wave_settings import WaveSettings

REQUESTS_PER_MINUTE_FREE_TIER = 60

Outcomes = dict[str, StreamReport | UpstreamError]
"""The report or the error of each requested session, by id."""


class WavePlatform(Platform[WaveSettings]):
    """Polls the sessions of the configuration and of the sessions file, each by its id."""

    name: ClassVar[str] = "wave"
    settings_class = WaveSettings
    requests_per_minute_limit: ClassVar[int | None] = REQUESTS_PER_MINUTE_FREE_TIER
    feeds: ClassVar[frozenset[str]] = FEEDS
    rates: ClassVar[tuple[Rate, ...]] = RATES

    def __init__(
        self, settings: WaveSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._file = None if settings.sessions_file is None else SessionsFile(settings.sessions_file, settings.name)
        self._rotation = SessionRotation()
        self._budget = RequestBudget(client, clock, settings.interval)
        self._candidates = None if settings.ice_candidates is None else CandidateCache(clock, settings.ice_candidates)
        self._optional = OptionalEndpoints(settings, client, clock, self.parse_passthrough, shard_filter)
        self._useful_at: float | None = None
        """Monotonic seconds of the last poll that returned a session, or had none to request."""

    def configured_streams(self) -> tuple[WaveSession, ...]:
        """Return the configured sessions, and those of the file whose id and name are not in the configuration."""
        own = self.settings.sessions
        if self._file is None:
            return own
        ids, names = {session.id for session in own}, {session.name.strip() for session in own if session.name}
        return *own, *(s for s in self._file.sessions() if s.id not in ids and (s.name or "").strip() not in names)

    async def refresh_configured_streams(self) -> None:
        """Reload the sessions file if it has changed."""
        if self._file is not None:
            try:
                await self._file.refresh()
            except SessionsFileError as error:
                raise UpstreamError(Reason.NOT_FOUND, f"sessions_file: {error}") from None

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Request as many sessions as the budget allows, longest waiting first, then everything else that is due."""
        wanted = [session.id for session in self.owned(self.configured_streams())]
        if not wanted and self._optional.is_empty and not self.shard_filter.is_all:
            return FetchResult(not_owned=True)
        outcomes = await self._fetch_sessions(requests, wanted, drops)
        errors = {id_: outcome for id_, outcome in outcomes.items() if isinstance(outcome, UpstreamError)}
        reports = [outcome for outcome in outcomes.values() if not isinstance(outcome, UpstreamError)]
        unsent = {id_ for id_, error in errors.items() if was_not_sent(error)}
        self._rotation.put_first(unsent)
        self._check_outcomes(wanted, reports, errors)
        failures = {id_: error.reason for id_, error in errors.items() if id_ not in unsent}
        failures |= await self._request_optional(requests, wanted, reports, drops)
        if self._candidates is not None:
            reports = [self._candidates.add_candidates(report) for report in reports]
        if not wanted and self._optional.fault is not None:
            raise self._optional.fault
        pace = self._budget.pace()
        return FetchResult(
            reports=reports,
            failures=failures,
            postponed=frozenset(wanted) - outcomes.keys() | unsent,
            round_seconds=None if pace is None else pace.round_seconds(len(wanted)),
            analytics=self._optional.analytics,
            passthrough=self._optional.passthrough,
        )

    @classmethod
    def requests_per_minute(cls, settings: WaveSettings) -> float:
        """Count one request per session and poll, ICE candidates of all sessions, and the optional endpoints."""
        sessions = len(settings.sessions)
        per_minute = 60.0 * sessions / settings.interval
        if settings.ice_candidates is not None:
            per_minute += 60.0 * sessions / settings.ice_candidates
        return per_minute + optional_requests_per_minute(settings)

    def alert_sink(self) -> AlertSink:
        """Return the sink for WAVE's analytics events."""
        return WaveAlertSink(self.client)

    @classmethod
    def session_commands(cls) -> SessionCommands:
        """Return the commands for sessions."""
        return SESSION_COMMANDS

    async def _fetch_sessions(self, requests: Requests, wanted: Sequence[str], drops: DropCounter) -> Outcomes:
        """Fetch the sessions whose turn it is; the very first one alone, because its response announces the limit."""

        async def fetch(session_id: str) -> StreamReport:
            return await fetch_session(requests, session_id, drops, numbers=self.settings.session_numbers)

        outcomes: Outcomes = {}
        if self._useful_at is None:
            outcomes.update(await requests.map(fetch, self._rotation.select(wanted, 1)))
        budget = self._budget.sessions_left(requests, requested=len(outcomes))
        left = [session_id for session_id in self._rotation.select(wanted, budget) if session_id not in outcomes]
        outcomes.update(await requests.map(fetch, left))
        return outcomes

    async def _request_optional(
        self, requests: Requests, wanted: Sequence[str], reports: Sequence[StreamReport], drops: DropCounter
    ) -> dict[str, Reason]:
        """Request what else is due; return the reasons of failed ICE candidate requests by session id."""
        failures: dict[str, Reason] = {}
        before = requests.count
        if self._candidates is not None:
            self._candidates.keep_only(wanted)
            budget = self._budget.optional_left(requests, sessions=len(wanted))
            failures = await self._candidates.request_due(requests, reports, budget, drops)
            self._budget.count_optional(requests.count - before)
            before = requests.count
        await self._optional.request_due(requests, self._budget.optional_left(requests, sessions=len(wanted)), drops)
        self._budget.count_optional(requests.count - before)
        return failures

    def _check_outcomes(
        self, wanted: Sequence[str], reports: Sequence[StreamReport], errors: dict[str, UpstreamError]
    ) -> None:
        """Raise ``UpstreamError`` if this poll returned nothing usable, except while waiting for the request limit."""
        now = self.clock.monotonic()
        if reports or not wanted:
            self._useful_at = now
        elif errors:
            raise next(iter(errors.values()))
        elif self._useful_at is None or now - self._useful_at >= 2 * self._budget.window_seconds:
            raise UpstreamError(
                Reason.RATE_LIMITED, "request limit used up; other clients seem to use the same API key"
            )


PLATFORM = WavePlatform
