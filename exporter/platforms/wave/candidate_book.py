"""When WebRTC sessions are asked for their ICE candidates, and for how long an answer counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason, StreamReport
from exporter.platforms.cached_fetch import CachedFetch
from exporter.platforms.parsing import DropCounter
from exporter.platforms.wave.ice_candidates import IceCandidates, fetch_candidates
from exporter.runtime.clock import Clock

WEBRTC = "webrtc"


class _Gathering:
    """What is known of the candidates of one publish."""

    __slots__ = ("asked", "complete", "start")

    def __init__(self, start: float | None, asked: CachedFetch[IceCandidates]) -> None:
        self.start = start
        self.asked = asked
        self.complete: IceCandidates | None = None
        """The candidates once gathering is done: they neither change nor age."""


class CandidateBook:
    """The candidates of the live WebRTC sessions, each asked at its own interval until its gathering is complete."""

    def __init__(self, clock: Clock, interval: float) -> None:
        """``interval``: seconds between two questions about one session."""
        self._clock = clock
        self._interval = interval
        self._gatherings: dict[str, _Gathering] = {}

    async def ask_due(
        self, requests: Requests, reports: Sequence[StreamReport], budget: int | None, drops: DropCounter
    ) -> dict[str, Reason]:
        """Ask for what is due, within ``budget`` sessions; returns the sessions whose own request failed, and why."""
        self._follow(reports)
        due = [report.id for report in reports if self._is_due(report.id)]
        due.sort(key=lambda session_id: self._gatherings[session_id].asked.asked_at or 0.0)

        async def ask(session_id: str) -> IceCandidates:
            self._gatherings[session_id].asked.asked()
            return await fetch_candidates(requests, session_id, drops)

        failures: dict[str, Reason] = {}
        for session_id, result in await requests.map(ask, due[:budget]):
            if not isinstance(result, UpstreamError):
                self._note(self._gatherings[session_id], result)
            elif result.reason is not Reason.NOT_FOUND:
                failures[session_id] = result.reason
        return failures

    def added_to(self, report: StreamReport) -> StreamReport:
        """The report with its candidates, while they count."""
        gathering = self._gatherings.get(report.id)
        found = None if gathering is None else gathering.complete or gathering.asked.value
        if found is None:
            return report
        return msgspec.structs.replace(report, ice_candidates=found.by_type, ice_gathering_complete=found.complete)

    def forget_all_but(self, session_ids: Collection[str]) -> None:
        """Drop what belongs to sessions that nobody asks for any more."""
        self._gatherings = {id_: known for id_ in session_ids if (known := self._gatherings.get(id_)) is not None}

    def _follow(self, reports: Sequence[StreamReport]) -> None:
        for report in reports:
            known, start = self._gatherings.get(report.id), report.start_timestamp_seconds
            if report.protocol != WEBRTC or not report.live:
                self._gatherings.pop(report.id, None)
            elif known is None or known.start != start:
                self._gatherings[report.id] = _Gathering(start, CachedFetch(self._interval, self._clock))

    def _is_due(self, session_id: str) -> bool:
        gathering = self._gatherings.get(session_id)
        return gathering is not None and gathering.complete is None and gathering.asked.due

    @staticmethod
    def _note(gathering: _Gathering, found: IceCandidates) -> None:
        gathering.asked.store(found)
        if found.complete:
            gathering.complete = found
