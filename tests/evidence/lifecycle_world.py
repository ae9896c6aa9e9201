"""Ground truth for the lifecycle tests: the streams of one platform, and a server that reports them, with faults.

``Server`` serves the responses of a platform's recording with rows for these streams. It also records what each row
reported in the last poll: ``RowFacts`` is all that an exporter can know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from enum import StrEnum
from typing import Any

from exporter.platforms.testing import FakeClock, RecordedResponse
from tests.evidence.lifecycle_rows import read_value, with_values
from tests.platforms.recordings import PlatformRecording
from tests.platforms.row_documents import ITSELF, Document, Row

BYTES_PER_SECOND = 500_000
HEARTBEAT_SECONDS = 30.0
"""Time between two heartbeats, which is longer than a poll."""
NOT_FOUND = RecordedResponse(b'{"message": "Not found"}', 404)
NOT_SERVED = RecordedResponse(b"<html>Not found</html>", 404, "text/html")


class Flag(StrEnum):
    """The state that the platform reports for a stream."""

    LIVE = "live"
    OFF_AIR = "off air"
    UNKNOWN = "unknown"


class Fault(StrEnum):
    """What is wrong with the responses of a poll."""

    NONE = "none"
    OUTAGE = "outage"
    WRONG_DOCUMENT = "wrong document"
    DAMAGED_ROWS = "damaged rows"
    DAMAGED_HEALTH = "damaged health facts"
    DAMAGED_TOTAL = "damaged total"
    TWO_RECORDS = "another record of the stream, off air"
    CUT_LIST = "a list that is shorter than its count"
    PAGES = "a list of two pages"
    SLIPPED = "a list of two pages that misses a stream between them"


@dataclass
class TrueStream:
    """The real state of one stream."""

    number: int
    name: int = 0
    """Number of its name; streams may share a name."""
    flag: Flag = Flag.OFF_AIR
    is_listed: bool = False
    is_moving: bool = False
    """Whether media arrives."""
    total: float = 0.0
    heartbeat: float = 0.0
    """On the platform's clock."""


@dataclass(frozen=True)
class Poll:
    """Behaviour of the server in one poll."""

    fault: Fault = Fault.NONE
    affected: frozenset[int] = frozenset()
    variant: int = 0
    """Selects one of the variants of the fault."""
    order: Sequence[int] = ()
    """Order of the rows."""


@dataclass(frozen=True)
class RowFacts:
    """What the row of a stream reported in a successful poll."""

    flag: Flag
    total: float | None
    heartbeat: float | None
    is_health_readable: bool
    has_off_air_record: bool = False
    """Whether another record of the stream is off air. It counts while the live one is not proven."""


@dataclass
class Reported:
    """What the server reported in one poll."""

    is_usable: bool = True
    """Whether any response reported a stream, or that there is none."""
    facts: dict[int, RowFacts] = field(default_factory=dict)
    absent: set[int] = field(default_factory=set)
    """Streams that are missing from the list, or that the platform reports as not found."""
    unreadable_rows: int = 0
    is_doubtful: bool = False
    is_shifting: bool = False
    is_direct: bool = False
    """Whether streams were requested individually, so that absence is a not-found response."""


class Server(dict[str, Any]):
    """The responses of a platform, generated for each request."""

    def __init__(self, recording: PlatformRecording, clock: FakeClock, health_paths: Sequence[str]) -> None:
        """``health_paths``: paths within a row of the facts on which the health score depends."""
        super().__init__(recording.recording.responses)
        self.recording = recording
        self.evidence = recording.proofs
        self._rows = recording.rows
        self._health_paths = health_paths
        self._clock = clock
        self._started_at = self._moved_at = clock.monotonic()
        self._wall = recording.recording.recorded_at
        self.ahead = 0.0
        """Seconds by which the platform's clock is ahead."""
        self.is_list = recording.has_list
        count = 4 if self.is_list else len(self._rows.rows)
        self.streams = [TrueStream(number, name=number, total=1e6 * (number + 1)) for number in range(count)]
        self.poll = Poll()
        self.reported = Reported()
        self._requested: Counter[str] = Counter()

    # -- ground truth -------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Advance totals and heartbeats to the current time."""
        now = self._clock.monotonic()
        for stream in self.streams:
            if stream.is_moving:
                stream.total += BYTES_PER_SECOND * (now - self._moved_at)
                stream.heartbeat = self.now - self.now % HEARTBEAT_SECONDS
        self._moved_at = now

    @property
    def now(self) -> float:
        """Unix seconds on the platform's clock."""
        return self._wall + self._clock.monotonic() - self._started_at + self.ahead

    # -- polls ---------------------------------------------------------------------------------------------------------

    def faults(self) -> list[Fault]:
        """Return the faults that this platform can have."""
        is_paged = self.recording.pages is not None and self.is_list
        possible = {
            Fault.DAMAGED_TOTAL: bool(self.evidence.ingest_total),
            Fault.DAMAGED_HEALTH: bool(self._health_paths),
            Fault.TWO_RECORDS: self.is_list,
            Fault.CUT_LIST: bool(self.recording.rows.count),
            Fault.PAGES: is_paged,
            Fault.SLIPPED: is_paged,
        }
        return [fault for fault in Fault if possible.get(fault, True)]

    def begin(self, poll: Poll) -> None:
        """Set the behaviour for the next poll."""
        self.poll, self.reported = poll, Reported(is_usable=False, is_direct=not self.is_list)
        self._requested.clear()

    def get(self, request: str, default: RecordedResponse | None = None) -> Any:  # type: ignore[override]
        """Return the response to a request."""
        self.advance()
        self._requested[request] += 1
        response = self._respond(request)
        return replace(response, headers={**response.headers, "Date": formatdate(self.now, usegmt=True)})

    def _respond(self, request: str) -> RecordedResponse:
        is_login = self.recording.login is not None and request == self.recording.login.request
        if self.poll.fault is Fault.OUTAGE and not is_login:
            return RecordedResponse(b'{"errors": ["down"]}', (500, 502, 503)[self.poll.variant % 3])
        if request in self._rows.rows:
            return self._list(request) if self.is_list else self._single(request)
        known = request in self.recording.recording.responses
        return self.recording.response(request) if known else NOT_SERVED

    # -- a list --------------------------------------------------------------------------------------------------------

    def _list(self, request: str) -> RecordedResponse:
        reported, good = self.reported, self.recording.response(request)
        path = self._rows.rows[request]
        document = self.recording.document(request)
        if self.poll.fault is Fault.WRONG_DOCUMENT:
            wrong = wrong_documents(good, document.without_list(path))
            return wrong[self.poll.variant % len(wrong)]
        base = document.rows(path)[0]
        listed = [self.streams[number] for number in self.poll.order if self.streams[number].is_listed]
        others = [stream for stream in listed if stream.number not in self.poll.affected]
        in_pages = len(listed) > 1 and self.poll.fault is Fault.PAGES
        has_slipped = len(others) > 1 and self.poll.fault is Fault.SLIPPED
        in_pages |= has_slipped
        shown = others if has_slipped or self.poll.fault is Fault.CUT_LIST else listed
        total = len(listed) if self.poll.fault is Fault.CUT_LIST else len(shown)
        is_first = self._requested[request] == 1
        middle = (len(shown) + 1) // 2
        page = (shown[:middle] if is_first else shown[middle:]) if in_pages else shown
        if is_first:
            self.reported = reported = Reported(
                is_doubtful=len(shown) != total,
                is_shifting=in_pages,
                absent={stream.number for stream in self.streams} - {stream.number for stream in shown},
            )
        rows = [row for stream in page for row in self._rows_of(document, base, stream)]
        _replace_rows(document, path, rows)
        if not rows:
            document.change_rows(ITSELF, lambda root: [with_values(root, self.evidence.without_streams)])
        response = replace(good, body=document.body())
        response = self._with_counts(response, total, pages=2 if in_pages else 1, announces=in_pages and is_first)
        # a list in which no row is readable is a wrong document
        reported.is_usable = bool(reported.facts) or not reported.unreadable_rows
        return response

    def _with_counts(self, response: RecordedResponse, total: int, *, pages: int, announces: bool) -> RecordedResponse:
        counts = {self.recording.rows.count: total, self.evidence.page_count: pages}
        values: dict[str, Any] = {path: value for path, value in counts.items() if path}
        link = self.recording.pages.link if announces and self.recording.pages else ""
        if announces and self.recording.pages:
            values |= self.recording.pages.set
        if link:
            response = replace(response, headers={"Link": f'<{link.format(page="second")}>; rel="next"'})
        return response.with_values(values) if values else response

    def _rows_of(self, document: Document, base: Row, stream: TrueStream) -> list[Row]:
        row = self._row(document, base, stream)
        is_affected = stream.number in self.poll.affected
        if is_affected and self.poll.fault is Fault.DAMAGED_ROWS:
            self.reported.unreadable_rows += 1
            self.reported.absent.add(stream.number)
            return [document.renamed(row)]
        row = self._report_row(row, stream, is_affected=is_affected)
        if is_affected and self.poll.fault is Fault.TWO_RECORDS and stream.flag is Flag.LIVE:
            other = with_values(row, self.evidence.off_air)
            facts = self.reported.facts
            facts[stream.number] = replace(facts[stream.number], has_off_air_record=True)
            return [row, other] if self.poll.variant % 2 else [other, row]
        return [row]

    def _row(self, document: Document, base: Row, stream: TrueStream) -> Row:
        field_name = self._rows.identity[-1]
        texts = {field_name: f"{document.read(base, field_name)}-{stream.number}"}
        texts |= {name: f"{document.read(base, name)}-{stream.name}" for name in self._rows.names}
        return self._with_state(document.with_texts(base, texts), stream)

    # -- single streams ------------------------------------------------------------------------------------------------

    def _single(self, request: str) -> RecordedResponse:
        names = list(self._rows.rows)
        stream = self.streams[names.index(request)]
        good, document = self.recording.response(request), self.recording.document(request)
        is_affected = stream.number in self.poll.affected
        if is_affected and self.poll.fault is Fault.WRONG_DOCUMENT:
            wrong = wrong_documents(good, [])
            return wrong[self.poll.variant % len(wrong)]
        if not stream.is_listed:
            self.reported.is_usable = True
            self.reported.absent.add(stream.number)
            return NOT_FOUND
        row = self._with_state(document.rows(self._rows.rows[request])[0], stream)
        if is_affected and self.poll.fault is Fault.DAMAGED_ROWS:
            row = document.renamed(row)
        else:
            self.reported.is_usable = True
            row = self._report_row(row, stream, is_affected=is_affected)
        document.change_rows(self._rows.rows[request], lambda _: [row])
        return replace(good, body=document.body())

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _with_state(self, row: Row, stream: TrueStream) -> Row:
        values: dict[str, Any] = {}
        if self.evidence.ingest_total:
            values[self.evidence.ingest_total] = int(stream.total)
        if self.evidence.heartbeat:
            values[self.evidence.heartbeat] = int(stream.heartbeat * 1000)
        flags = {Flag.OFF_AIR: self.evidence.off_air, Flag.UNKNOWN: self.evidence.unknown}
        return with_values(with_values(row, values), flags.get(stream.flag, {}))

    def _report_row(self, row: Row, stream: TrueStream, *, is_affected: bool) -> Row:
        """Return the row with the fault applied, and record what it reports."""
        damaged: list[str] = []
        if is_affected and self.poll.fault is Fault.DAMAGED_TOTAL:
            damaged = [self.evidence.ingest_total]
        elif is_affected and self.poll.fault is Fault.DAMAGED_HEALTH:
            damaged = [self._health_paths[self.poll.variant % len(self._health_paths)]]
        row = with_values(
            row, {path: value for path in damaged for value in ["limbo"] if read_value(row, path) is not None}
        )
        is_damaged = self.poll.fault is Fault.DAMAGED_HEALTH and any(
            read_value(row, path) == "limbo" for path in damaged
        )
        total = _number(read_value(row, self.evidence.ingest_total)) if self.evidence.ingest_total else None
        heartbeat = _number(read_value(row, self.evidence.heartbeat)) if self.evidence.heartbeat else None
        self.reported.facts[stream.number] = RowFacts(
            flag=Flag.LIVE if stream.flag is Flag.UNKNOWN and not self.evidence.unknown else stream.flag,
            total=total,
            heartbeat=None if heartbeat is None else heartbeat / 1000,
            is_health_readable=not is_damaged,
        )
        return row


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _replace_rows(document: Document, path: str, rows: list[Row]) -> None:
    """Replace all rows at a path."""
    first, *others = document.rows(path)
    remove: Callable[[Row], list[Row]] = lambda row: [] if any(row is other for other in others) else [row]  # noqa: E731
    document.change_rows(path, remove)
    document.replace_row(path, first, rows)


def wrong_documents(good: RecordedResponse, without_list: Sequence[bytes]) -> list[RecordedResponse]:
    """Return responses that are not the platform's, with various statuses."""
    envelopes: list[Any] = [
        {"errors": ["temporarily unavailable"]},
        {"error": {"status": {"code": 503}}},
        {"error": "service restarting"},
        {"data": {"something": "else"}},
        [None],
        ["text"],
        [[]],
        None,
        "restarting",
        7,
    ]
    return [
        *(replace(good, body=json.dumps(envelope).encode()) for envelope in envelopes),
        *(replace(good, body=body) for body in without_list),
        replace(good, body=b""),
        replace(good, body=good.body[: len(good.body) // 2]),
        RecordedResponse(b"<html>Maintenance</html>", content_type="text/html"),
        RecordedResponse(b"<html>Not found</html>", 404, "text/html"),
        RecordedResponse(b"gone", 410, "text/plain"),
    ]
