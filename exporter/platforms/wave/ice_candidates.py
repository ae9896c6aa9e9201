"""Count the ICE candidates of live WebRTC sessions by type, until gathering is complete.

Source: WAVE API reference, Streaming, "Get ICE candidates for WebRTC session". The contents of a candidate are not
documented, so its type is read from ``type``, ``candidateType`` or the candidate line, its time from ``timestamp`` or
``createdAt``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence

import msgspec

from exporter.platforms.api import (
    CachedFetch,
    Clock,
    DropCounter,
    Reason,
    Record,
    Requests,
    StreamReport,
    UpstreamError,
)

CANDIDATES = "GET /streaming/sessions/{id}/webrtc/candidates"
WEBRTC = "webrtc"
TYPES = ("host", "srflx", "prflx", "relay")
PAGE_LIMIT = 100
MAX_LIMIT = 10_000
MAX_PAGES = 1000
_TYPE_IN_LINE = re.compile(r"\btyp\s+(\w+)")


class IceCandidates(msgspec.Struct, frozen=True):
    """Number of candidates of a session by type, over all pages."""

    by_type: Mapping[str, int]
    complete: bool | None


class CandidateCache:
    """Candidates of the live WebRTC sessions, requested at their own interval until gathering is complete."""

    def __init__(self, clock: Clock, interval: float) -> None:
        """``interval``: seconds between two requests for the candidates of a session."""
        self._clock = clock
        self._interval = interval
        self._gatherings: dict[str, _Gathering] = {}

    async def request_due(
        self, requests: Requests, reports: Sequence[StreamReport], budget: int | None, drops: DropCounter
    ) -> dict[str, Reason]:
        """Request what is due, for at most ``budget`` sessions; return the reasons of failures by session id."""
        self._follow_publishes(reports)
        due = [report.id for report in reports if self._is_due(report.id)]
        due.sort(key=lambda session_id: self._gatherings[session_id].fetched.requested_at or 0.0)

        async def fetch(session_id: str) -> IceCandidates:
            self._gatherings[session_id].fetched.mark_requested()
            return await fetch_candidates(requests, session_id, drops)

        failures: dict[str, Reason] = {}
        for session_id, result in await requests.map(fetch, due[:budget]):
            if not isinstance(result, UpstreamError):
                self._gatherings[session_id].store(result)
            elif not result.means_absent:
                failures[session_id] = result.reason
        return failures

    def add_candidates(self, report: StreamReport) -> StreamReport:
        """Return the report with its candidates, if there are any that are not stale."""
        gathering = self._gatherings.get(report.id)
        found = None if gathering is None else gathering.complete or gathering.fetched.value
        if found is None:
            return report
        return msgspec.structs.replace(report, ice_candidates=found.by_type, ice_gathering_complete=found.complete)

    def keep_only(self, session_ids: Collection[str]) -> None:
        """Forget the sessions that are no longer polled."""
        self._gatherings = {id_: known for id_ in session_ids if (known := self._gatherings.get(id_)) is not None}

    def _follow_publishes(self, reports: Sequence[StreamReport]) -> None:
        for report in reports:
            known, start = self._gatherings.get(report.id), report.start_timestamp_seconds
            if report.protocol != WEBRTC or not report.live:
                self._gatherings.pop(report.id, None)
            elif known is None or known.start != start:
                self._gatherings[report.id] = _Gathering(start, CachedFetch(self._interval, self._clock))

    def _is_due(self, session_id: str) -> bool:
        gathering = self._gatherings.get(session_id)
        return gathering is not None and gathering.complete is None and gathering.fetched.is_due


class _Gathering:
    """The candidates of one publish."""

    __slots__ = ("complete", "fetched", "start")

    def __init__(self, start: float | None, fetched: CachedFetch[IceCandidates]) -> None:
        self.start = start
        self.fetched = fetched
        self.complete: IceCandidates | None = None
        """The candidates once gathering is complete; from then on they neither change nor become stale."""

    def store(self, found: IceCandidates) -> None:
        self.fetched.store(found)
        if found.complete:
            self.complete = found


async def fetch_candidates(requests: Requests, session_id: str, drops: DropCounter) -> IceCandidates:
    """Return all candidates of a session, by type.

    Raises ``UpstreamError``, also if a page contains nothing new but announces more.
    """
    pages = _CandidatePages()
    for _ in range(MAX_PAGES):
        response = await requests.get(CANDIDATES, params=pages.next_params(), id=session_id)
        page = Record.from_response(response.data, drops)
        if "candidates" not in page:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{CANDIDATES}: the response has no list candidates")
        new = pages.add_page(page.records("candidates"), drops)
        if not page.flag("hasMore"):
            found = list(pages.types.values())
            return IceCandidates({type_: found.count(type_) for type_ in TYPES}, page.flag("isComplete"))
        if not new or pages.limit > MAX_LIMIT:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{CANDIDATES}: a page announces more but has nothing new")
    raise UpstreamError(Reason.BAD_RESPONSE, f"{CANDIDATES}: more than {MAX_PAGES} pages")


class _CandidatePages:
    """The candidates read so far, and the query for the next page."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.limit = PAGE_LIMIT
        self._since = ""
        self._newest: float | None = None

    def next_params(self) -> dict[str, str]:
        return {"limit": str(self.limit), **({"since": self._since} if self._since else {})}

    def add_page(self, records: list[Record], drops: DropCounter) -> int:
        """Add a page and return the number of new candidates. ``since`` may or may not include its own time."""
        before, newest_before = len(self.types), self._newest
        for record in records:
            self.types.setdefault(json.dumps(record.raw, sort_keys=True), _candidate_type(record, drops))
            self._note_time(record)
        if self._newest == newest_before:
            # no time to continue from: request a larger page instead
            self.limit *= 2
        return len(self.types) - before

    def _note_time(self, record: Record) -> None:
        for name in ("timestamp", "createdAt"):
            at = record.time_iso(name)
            if at is not None and (self._newest is None or at > self._newest):
                self._newest, self._since = at, record.text(name)


def _candidate_type(record: Record, drops: DropCounter) -> str:
    """Return one of ``TYPES``; for any other type, count a dropped field and return an empty string."""
    line = _TYPE_IN_LINE.search(record.text("candidate"))
    for word in (record.text("type"), record.text("candidateType"), line[1] if line else ""):
        if word.lower() in TYPES:
            return word.lower()
    drops.drop("candidates.type")
    return ""
