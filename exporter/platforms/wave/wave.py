"""The WAVE platform: its sessions, within the request limit that its answers announce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.rate_limit import DEFAULT_WINDOW_SECONDS
from exporter.model import Reason, StreamReport
from exporter.platforms.base import FetchResult, Platform
from exporter.platforms.capabilities import AlertSink, SessionCommands
from exporter.platforms.parsing import DropCounter
from exporter.platforms.wave.alert_events import WaveAlertSink
from exporter.platforms.wave.candidate_book import CandidateBook
from exporter.platforms.wave.optional_endpoint import was_not_sent
from exporter.platforms.wave.optional_endpoints import Extras, requests_per_minute
from exporter.platforms.wave.request_budget import Pace, Spending, Turns
from exporter.platforms.wave.session_commands import SESSION_COMMANDS
from exporter.platforms.wave.sessions_file import SessionsFile, WaveSession
from exporter.platforms.wave.wave_sessions import FEEDS, fetch_session
from exporter.platforms.wave.wave_settings import WaveSettings
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter

REQUESTS_PER_MINUTE_FREE_TIER = 60

Outcomes = dict[str, StreamReport | UpstreamError]
"""What became of each session that was asked for, by its id."""


class WavePlatform(Platform[WaveSettings]):
    """Polls sessions by their ids, those of the configuration and those of the sessions file."""

    name: ClassVar[str] = "wave"
    settings_class = WaveSettings
    requests_per_minute_limit: ClassVar[int | None] = REQUESTS_PER_MINUTE_FREE_TIER
    feeds: ClassVar[frozenset[str]] = FEEDS

    def __init__(
        self, settings: WaveSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._file = None if settings.sessions_file is None else SessionsFile(settings.sessions_file, settings.name)
        self._turns = Turns()
        self._spending = Spending()
        self._candidates = None if settings.ice_candidates is None else CandidateBook(clock, settings.ice_candidates)
        self._extras = Extras(settings, client, clock, self.parse_passthrough, shard_filter)
        self._answered_at: float | None = None

    def configured_streams(self) -> tuple[WaveSession, ...]:
        """The sessions of the configuration, and those of the file whose id and name it does not have."""
        own = self.settings.sessions
        if self._file is None:
            return own
        ids, names = {session.id for session in own}, {session.name for session in own if session.name}
        return *own, *(s for s in self._file.sessions() if s.id not in ids and s.name not in names)

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Every session the budget allows, those that waited longest first; then what is due of everything else."""
        wanted = [session.id for session in self.owned(self.configured_streams())]
        if not wanted and self._extras.is_empty and not self.shard_filter.is_all:
            return FetchResult(not_owned=True)
        outcomes = await self._ask(requests, wanted, drops)
        errors = {id_: outcome for id_, outcome in outcomes.items() if isinstance(outcome, UpstreamError)}
        reports = [outcome for outcome in outcomes.values() if not isinstance(outcome, UpstreamError)]
        unsent = {id_ for id_, error in errors.items() if was_not_sent(error)}
        self._turns.missed(unsent)
        self._check(wanted, reports, errors)
        failures = {id_: error.reason for id_, error in errors.items() if id_ not in unsent}
        failures |= await self._ask_besides(requests, wanted, reports, drops)
        if self._candidates is not None:
            reports = [self._candidates.added_to(report) for report in reports]
        if not wanted and self._extras.fault is not None:
            raise self._extras.fault
        pace = self._pace()
        return FetchResult(
            reports=reports,
            failures=failures,
            postponed=frozenset(wanted) - outcomes.keys() | unsent,
            round_seconds=None if pace is None else pace.round_seconds(len(wanted)),
            analytics=self._extras.analytics,
            passthrough=self._extras.passthrough,
        )

    @classmethod
    def requests_per_minute(cls, settings: WaveSettings) -> float:
        """One request per session and poll; ICE candidates once per session and interval until they are complete.

        What is asked for besides comes on top, each at its own interval.
        """
        sessions = len(settings.sessions)
        per_minute = 60.0 * sessions / settings.interval
        if settings.ice_candidates is not None:
            per_minute += 60.0 * sessions / settings.ice_candidates
        return per_minute + requests_per_minute(settings)

    def alert_sink(self) -> AlertSink:
        """Return the sink of WAVE's analytics events."""
        return WaveAlertSink(self.client)

    @classmethod
    def session_commands(cls) -> SessionCommands:
        """Return the commands for sessions."""
        return SESSION_COMMANDS

    async def _ask(self, requests: Requests, wanted: Sequence[str], drops: DropCounter) -> Outcomes:
        """The sessions whose turn it is; the very first one alone, as its answer says what the limit is."""

        async def ask(session_id: str) -> StreamReport:
            return await fetch_session(requests, session_id, drops, numbers=self.settings.session_numbers)

        outcomes: Outcomes = {}
        if self._answered_at is None:
            outcomes.update(await requests.map(ask, self._turns.choose(wanted, 1)))
        budget = self._budget(requests, asked=len(outcomes))
        left = [session_id for session_id in self._turns.choose(wanted, budget) if session_id not in outcomes]
        outcomes.update(await requests.map(ask, left))
        return outcomes

    def _budget(self, requests: Requests, *, asked: int) -> int | None:
        """How many more sessions this poll may ask for after the first ``asked``; None is no limit."""
        pace = self._pace()
        if pace is None or self.client.rate_limit.pause(self.clock.now()) > 0:
            # while the platform wants a pause, each request waits for its end, or says that it was not sent
            return None
        return min(requests.budget() or 0, max(0, pace.per_poll - asked))

    async def _ask_besides(
        self, requests: Requests, wanted: Sequence[str], reports: Sequence[StreamReport], drops: DropCounter
    ) -> dict[str, Reason]:
        """What is due of everything but sessions; returns the sessions whose candidates could not be had, and why."""
        failures: dict[str, Reason] = {}
        before = requests.count
        if self._candidates is not None:
            self._candidates.forget_all_but(wanted)
            failures = await self._candidates.ask_due(requests, reports, self._spare(requests, wanted), drops)
            self._spending.note(requests.count - before, self.clock.monotonic())
            before = requests.count
        await self._extras.ask_due(requests, self._spare(requests, wanted), drops)
        self._spending.note(requests.count - before, self.clock.monotonic())
        return failures

    def _spare(self, requests: Requests, wanted: Sequence[str]) -> int | None:
        """How many requests may be made besides those for sessions, without taking any from the next polls'."""
        budget, pace = requests.budget(), self._pace()
        if budget is None or pace is None:
            return budget
        spent = self._spending.within(pace.window_seconds, self.clock.monotonic())
        return max(0, min(budget, pace.besides(len(wanted)) - spent))

    def _pace(self) -> Pace | None:
        limit = self.client.rate_limit
        if limit.usable is None:
            return None
        return Pace(limit.usable, limit.window_seconds or DEFAULT_WINDOW_SECONDS, self.settings.interval)

    def _check(self, wanted: Sequence[str], reports: Sequence[StreamReport], errors: dict[str, UpstreamError]) -> None:
        """Raises where this poll brought nothing that could be used, unless it was too soon to ask again."""
        now = self.clock.monotonic()
        if reports or not wanted:
            self._answered_at = now
        elif errors:
            raise next(iter(errors.values()))
        elif self._answered_at is None or now - self._answered_at >= 2 * self._window():
            raise UpstreamError(Reason.RATE_LIMITED, "the platform's request limit is used up, by others too")

    def _window(self) -> float:
        return self.client.rate_limit.window_seconds or DEFAULT_WINDOW_SECONDS
