"""The active streams: ``GET /stream?streamsonly=1&active=1``, all its pages."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.base import REPORTS_PER_STEP
from exporter.platforms.livepeer.stream_objects import Reading, read_stream
from exporter.platforms.parsing import DropCounter, Record

ENDPOINT = "GET /stream"
PAGE_SIZE = 1000
"""The platform's maximum; with its default of 20 a list would take fifty times as many requests."""
MAX_PAGES = 1000
Params = tuple[tuple[str, str], ...]
FIRST_PAGE: Params = (("streamsonly", "1"), ("active", "1"), ("limit", str(PAGE_SIZE)))


class StreamList(msgspec.Struct, frozen=True):
    """The streams that the platform lists as active, by id."""

    streams: dict[str, Reading]
    pages: int
    unreadable_rows: int
    """Rows that do not tell which stream they are about."""

    def is_active(self, stream_id: str) -> bool | None:
        """Whether the platform says that the stream is active; None: it does not say."""
        reading = self.streams.get(stream_id)
        if reading is not None:
            return reading.active
        return False if self.pages == 1 and not self.unreadable_rows else None


class EndlessListError(UpstreamError):
    """The list does not come to an end: a page came again, or there are too many."""

    def __init__(self, what: str) -> None:
        super().__init__(Reason.BAD_RESPONSE, f"{ENDPOINT}: {what}")


async def fetch_active_streams(requests: Requests, drops: DropCounter) -> StreamList:
    """Ask for all pages, as long as the platform announces a next one; a page's length says nothing.

    Pages are offsets into an order that changes while they are read: a stream that comes twice counts once.
    """
    pages = _Pages()
    params: Params | None = FIRST_PAGE
    while params is not None:
        pages.announce(params)
        answer = await requests.get(ENDPOINT, params=params)
        await pages.take(answer.data, drops)
        params = None if answer.link_next is None else _query(answer.link_next)
    return pages.result()


class _Pages:
    """The pages so far."""

    def __init__(self) -> None:
        self._streams: dict[str, Reading] = {}
        self._asked: set[Params] = set()
        self._seen: set[tuple[str, ...]] = set()
        self._unreadable_rows = 0

    def announce(self, params: Params) -> None:
        """Another page is to be asked for; raises where that would not end."""
        if params in self._asked:
            raise EndlessListError("a page was announced again")
        if len(self._asked) == MAX_PAGES:
            raise EndlessListError(f"more than {MAX_PAGES} pages")
        self._asked.add(params)

    async def take(self, rows: object, drops: DropCounter) -> None:
        """Read a page; a row that does not tell which stream it is costs that row alone, and is counted."""
        if not isinstance(rows, list):
            raise UpstreamError(Reason.BAD_RESPONSE, f"{ENDPOINT}: not a list")
        page: dict[str, Reading] = {}
        for index, row in enumerate(rows, start=1):
            reading = _read(row, drops)
            if reading is not None:
                page[reading.report.id] = reading
            if index % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        self._unreadable_rows += len(rows) - len(page)
        ids = tuple(page)
        if ids and ids in self._seen:
            raise EndlessListError("a page came again")
        self._seen.add(ids)
        self._streams |= page

    def result(self) -> StreamList:
        """With one page of which every row was read, what is missing is not active.

        Raises where there are rows and not one could be read: that must not pass for an account without streams.
        """
        if self._unreadable_rows and not any(self._seen):
            raise UpstreamError(Reason.BAD_RESPONSE, f"{ENDPOINT}: no row tells which stream it is about")
        return StreamList(self._streams, len(self._asked), self._unreadable_rows)


def _read(row: object, drops: DropCounter) -> Reading | None:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
        drops.drop("id")
        return None
    reading = read_stream(Record(row, drops))
    return reading if reading.report.id else None


def _query(link: str) -> Params:
    """The announced query; without our filter the list would hold every stream that there ever was."""
    return tuple((dict(FIRST_PAGE) | dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))).items())
