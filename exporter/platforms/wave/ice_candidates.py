"""The ICE candidates of a WebRTC session: how many of each type, and whether gathering is done.

Source: WAVE API reference, Streaming, "Get ICE candidates for WebRTC session". The inside of a candidate is not
published: its type is read from ``type``, ``candidateType`` or the candidate line, its time from ``timestamp`` or
``createdAt``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.parsing import DropCounter, Record

CANDIDATES = "GET /streaming/sessions/{id}/webrtc/candidates"
TYPES = ("host", "srflx", "prflx", "relay")
PAGE_LIMIT = 100
MAX_LIMIT = 10_000
MAX_PAGES = 1000
_TYPE_IN_LINE = re.compile(r"\btyp\s+(\w+)")


class IceCandidates(msgspec.Struct, frozen=True):
    """What one reading of all pages brought."""

    by_type: Mapping[str, int]
    complete: bool | None


class _Reading:
    """The candidates seen so far, and how to ask for those that come after them."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.limit = PAGE_LIMIT
        self.since = ""
        self._newest: float | None = None

    def take(self, records: list[Record], drops: DropCounter) -> int:
        """Remember the candidates of a page; how many were new (nothing says whether ``since`` includes its time)."""
        before, newest_before = len(self.types), self._newest
        for record in records:
            self.types.setdefault(_identity(record), _type(record, drops))
            self._note_time(record)
        if self._newest == newest_before:
            # no time to go on from: ask for a longer page instead
            self.limit *= 2
        return len(self.types) - before

    def _note_time(self, record: Record) -> None:
        for name in ("timestamp", "createdAt"):
            at = record.time_iso(name)
            if at is not None and (self._newest is None or at > self._newest):
                self._newest, self.since = at, record.text(name)

    def params(self) -> dict[str, str]:
        return {"limit": str(self.limit), **({"since": self.since} if self.since else {})}


async def fetch_candidates(requests: Requests, session_id: str, drops: DropCounter) -> IceCandidates:
    """All candidates of a session, by type. A page that brings nothing new while more is announced is an error."""
    reading = _Reading()
    for _ in range(MAX_PAGES):
        answer = await requests.get(CANDIDATES, params=reading.params(), id=session_id)
        page = Record.from_response(answer.data, drops)
        if "candidates" not in page:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{CANDIDATES}: no candidates in the answer")
        new = reading.take(page.records("candidates"), drops)
        if not page.flag("hasMore"):
            found = list(reading.types.values())
            return IceCandidates({type_: found.count(type_) for type_ in TYPES}, page.flag("isComplete"))
        if not new or reading.limit > MAX_LIMIT:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{CANDIDATES}: more is announced, and the same comes again")
    raise UpstreamError(Reason.BAD_RESPONSE, f"{CANDIDATES}: more than {MAX_PAGES} pages")


def _identity(record: Record) -> str:
    return json.dumps(record.raw, sort_keys=True)


def _type(record: Record, drops: DropCounter) -> str:
    """One of ``TYPES``, or nothing for a candidate that does not say, which is counted as a bad field."""
    line = _TYPE_IN_LINE.search(record.text("candidate"))
    for word in (record.text("type"), record.text("candidateType"), line[1] if line else ""):
        if word.lower() in TYPES:
            return word.lower()
    drops.drop("candidates.type")
    return ""
