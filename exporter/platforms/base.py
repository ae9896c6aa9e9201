"""The base class of all platforms: a platform returns what its API reports, the base class decides what that proves."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import msgspec

from exporter.config.streams import StreamSettings
from exporter.config.upstream import UpstreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.response import Response
from exporter.model import (
    DEPARTURE_FIELDS,
    Analytics,
    Listing,
    PassthroughMetrics,
    PassthroughText,
    PollResult,
    Reason,
    StreamReport,
)
from exporter.platforms.capabilities import AlertSink, SessionCommands
from exporter.platforms.parsing import DropCounter, Record, decode_lines, decode_xml
from exporter.platforms.rates import DerivedRate, RateBook
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter

SettingsT = TypeVar("SettingsT", bound=UpstreamSettings)
ConfiguredT = TypeVar("ConfiguredT", bound=StreamSettings)

REPORTS_PER_STEP = 100
"""Number of reports to process before the event loop gets a turn: a few milliseconds of work."""


class FetchResult(msgspec.Struct, kw_only=True):
    """What the requests of one poll returned, as the platform reports it."""

    reports: Iterable[StreamReport] = ()
    """In the order of the platform's list; a stream may come more than once."""
    list_pages: int | None = None
    """Number of pages of the platform's list of streams that were read; None: there is no list, every stream was
    requested by its id."""
    unreadable_rows: int = 0
    """Rows of the list that do not tell which stream they are about."""
    read_at: float | None = None
    """Monotonic seconds at which byte totals were read; None: when ``fetch`` returned."""
    failures: Mapping[str, Reason] = {}
    """Streams (by id) whose own request or row failed."""
    postponed: frozenset[str] = frozenset()
    """Streams (by id) that were not requested in this poll because the request budget was used up."""
    version: str = ""
    """The server's version, where it reports one."""
    round_seconds: float | None = None
    """Seconds it takes to request every stream once, where the request budget is too small for one poll."""
    analytics: tuple[Analytics, ...] = ()
    passthrough: PassthroughMetrics | None = None
    not_owned: bool = False
    """Nothing was requested because all streams of this upstream belong to other shards."""


class PassthroughParser(Protocol):
    """Parses pass-through metrics; runs in a thread."""

    def __call__(self, exported: PassthroughText, /) -> PassthroughMetrics:
        """Parse the text. Raises ``ValueError`` with a message that quotes nothing of it."""


class Platform(ABC, Generic[SettingsT]):
    """One upstream of a platform. It may keep state between polls (tokens, rates, facts that change rarely).

    The registry finds the ``PLATFORM`` (a subclass of this) of each module in ``exporter.platforms`` and of each entry
    point in the group ``stream_exporter.upstreams``.
    """

    name: ClassVar[str]
    """The value of ``platform`` in the configuration and in labels."""
    settings_class: ClassVar[type[UpstreamSettings]]
    health_score: ClassVar[str] = "derived"
    """``reported`` when the platform has a score of its own, else ``derived``."""
    feeds: ClassVar[frozenset[str]] = frozenset()
    """The fields of ``StreamReport`` that this platform can fill, and ``analytics``: for the reference page."""
    rates: ClassVar[tuple[DerivedRate, ...]] = ()
    """Bitrates that are derived from byte totals."""
    ids_are_keys: ClassVar[bool] = False
    """Whether knowing a stream's id is enough to publish it."""
    requests_per_minute_limit: ClassVar[int | None] = None
    """The platform's published limit of its lowest tier, for ``--config.check``."""

    passthrough_parser: PassthroughParser | None = None
    """Set by the coordinator: a platform itself knows nothing about Prometheus."""

    def __init__(
        self, settings: SettingsT, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        """``shard_filter``: the streams to poll, where several processes share the upstream."""
        self.settings = settings
        self.client = client
        self.clock = clock
        self.shard_filter = shard_filter
        self._rate_book = RateBook(self.rates, settings.interval) if self.rates else None
        self._sharded_streams: tuple[StreamSettings, ...] | None = None
        self.assign_shards(settings.configured_streams())

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """Return the streams configured now, of all shards; a platform that reads them from a file may change them."""
        return self.settings.configured_streams()

    async def parse_passthrough(self, endpoint: str, exported: PassthroughText) -> PassthroughMetrics:
        """Parse the metrics that an endpoint exports, while the event loop is free. Raises ``UpstreamError``."""
        assert self.passthrough_parser is not None
        try:
            return await asyncio.to_thread(self.passthrough_parser, exported)
        except ValueError as error:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: {error}") from None

    def assign_shards(self, streams: tuple[StreamSettings, ...]) -> None:
        """Let the shard filter assign these configured streams by their configured names."""
        if not self.shard_filter.is_all and streams != self._sharded_streams:
            self._sharded_streams = streams
            self.shard_filter.configure({stream.id: stream.name or stream.id for stream in streams})

    def owned(self, streams: Iterable[ConfiguredT]) -> list[ConfiguredT]:
        """Return the configured streams that this process polls."""
        return [stream for stream in streams if self.shard_filter.owns(stream.id)]

    async def poll(self, requests: Requests) -> PollResult:
        """Poll the platform once, within ``requests.deadline``.

        Raises ``UpstreamError`` when no request got a usable response. A fault of a single stream goes into
        ``PollResult.failures`` instead.
        """
        self.assign_shards(self.configured_streams())
        drops = DropCounter()
        fetched = await self.fetch(requests, drops)
        now = self.clock.monotonic() if fetched.read_at is None else fetched.read_at
        failures = fetched.failures
        if failures and not self.shard_filter.is_all:
            failures = {id_: reason for id_, reason in failures.items() if self.shard_filter.owns(id_)}
        return PollResult(
            streams=await self._evaluated(fetched.reports, now, without_report=failures.keys() | fetched.postponed),
            listing=_listing(fetched),
            failures=failures,
            postponed=fetched.postponed,
            dropped_fields=dict(drops.counts),
            version=fetched.version,
            round_seconds=fetched.round_seconds,
            analytics=fetched.analytics,
            passthrough=fetched.passthrough,
            not_owned=fetched.not_owned,
        )

    @abstractmethod
    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Send the requests of one poll and return what the responses report; ``drops`` counts unreadable fields.

        Raises ``UpstreamError`` when no request got a usable response. Streams that this process does not own should
        cost no request of their own; their reports are left out afterwards.
        """

    @classmethod
    @abstractmethod
    def requests_per_minute(cls, settings: SettingsT) -> float:
        """Return how many requests a minute these settings cost, as far as that is known without asking."""

    def alert_sink(self) -> AlertSink | None:
        """Return where to send alert changes, for a platform that keeps events of its own."""
        return None

    @classmethod
    def session_commands(cls) -> SessionCommands | None:
        """Return what ``stream-exporter session`` can do on this platform."""
        return None

    def own_reports(self, reports: Iterable[StreamReport]) -> Iterator[StreamReport]:
        """Yield the reports of the streams that this process polls."""
        owns, is_all = self.shard_filter.owns, self.shard_filter.is_all
        return (report for report in reports if is_all or owns(report.id, report.name))

    async def _evaluated(
        self, reports: Iterable[StreamReport], now: float, without_report: Iterable[str]
    ) -> tuple[StreamReport, ...]:
        """Merge records of the same stream, leave out the streams of other shards, and derive rates."""
        merged: dict[str, StreamReport] = {}
        rates = self._rate_book
        for index, report in enumerate(self.own_reports(reports), start=1):
            merged[report.id] = report
            if index % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        if rates is None:
            return tuple(merged.values())
        evaluated = []
        for index, report in enumerate(merged.values(), start=1):
            evaluated.append(rates.apply(report, now))
            if index % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        rates.end_poll(frozenset(without_report))
        return tuple(evaluated)


class ResponseFormat(StrEnum):
    """How the body of a response is decoded."""

    JSON = "json"
    XML = "xml"
    TEXT = "text"


class ListPlatform(Platform[SettingsT]):
    """A platform with one GET that returns the list of all streams."""

    endpoint: ClassVar[str]
    """The request, such as ``GET /api/streams``."""
    response_format: ClassVar[ResponseFormat] = ResponseFormat.JSON

    @abstractmethod
    def read(self, document: Record) -> Iterable[StreamReport | None]:
        """Return the reports in a response.

        ``document``: the JSON object; a JSON list is in its field ``items``; an XML document has its root element as
        its only field; text has its lines ``name: value`` as fields. None stands for a row that does not tell which
        stream it is about. Raises ``UpstreamError`` (``bad_response``) when the response is not the platform's list.
        """

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        """Request the list and read it."""
        response = await requests.get(self.endpoint, json=self.response_format is ResponseFormat.JSON)
        reports: list[StreamReport] = []
        unreadable = 0
        for index, report in enumerate(self.read(self._document(response, drops)), start=1):
            if report is None:
                unreadable += 1
                drops.drop("row")
            else:
                reports.append(report)
            if index % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        if unreadable and not reports:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{self.endpoint}: no row tells which stream it is about")
        return FetchResult(reports=reports, list_pages=1, unreadable_rows=unreadable)

    def _document(self, response: Response, drops: DropCounter) -> Record:
        if self.response_format is ResponseFormat.XML:
            return Record(decode_xml(response.text or "", self.endpoint), drops, is_text=True)
        if self.response_format is ResponseFormat.TEXT:
            lines = decode_lines((response.text or "").splitlines())
            if not lines:
                raise UpstreamError(Reason.BAD_RESPONSE, f"{self.endpoint}: no line with a field")
            return Record(lines, drops, is_text=True)
        data = response.data
        return Record.from_response({"items": data} if isinstance(data, list) else data, drops)

    @classmethod
    def requests_per_minute(cls, settings: SettingsT) -> float:
        """One request per poll."""
        return 60.0 / settings.interval


def _listing(fetched: FetchResult) -> Listing:
    """A list of one page of which every row was read is complete."""
    if fetched.list_pages is None:
        return Listing.DIRECT
    return Listing.COMPLETE if fetched.list_pages == 1 and not fetched.unreadable_rows else Listing.SHIFTING


_ALWAYS = frozenset({"id", "status", "live"}) | DEPARTURE_FIELDS


def slim_report(feeds: Iterable[str]) -> type[StreamReport]:
    """Return a ``StreamReport`` class with only these fields (as in ``Platform.feeds``) and those of every stream.

    The other fields read as missing and take no memory: a report with 20 fields takes 200 bytes instead of 650.
    """
    kept_fields = _ALWAYS.union(feeds)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    attributes: dict[str, Any] = {"__doc__": StreamReport.__doc__, "departed": StreamReport.departed}
    for field in msgspec.structs.fields(StreamReport):
        has_factory = field.default_factory is not msgspec.NODEFAULT
        if field.name not in kept_fields:
            attributes[field.name] = field.default_factory() if has_factory else field.default
        elif field.required:
            fields.append((field.name, field.type))
        else:
            default = msgspec.field(default_factory=field.default_factory) if has_factory else field.default
            fields.append((field.name, field.type, default))
    slim = msgspec.defstruct(StreamReport.__name__, fields, namespace=attributes, frozen=True, kw_only=True, gc=False)
    return cast("type[StreamReport]", slim)
