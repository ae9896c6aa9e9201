"""The active streams: ``GET /stream?streamsonly=1&active=1``, all its pages."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

import msgspec

from exporter.platforms.api import (
    REPORTS_PER_STEP,
    DropCounter,
    Reason,
    Record,
    Requests,
    UpstreamError,
    require_list,
)
from exporter.platforms.livepeer.stream_objects import ParsedObject, parse_stream

ENDPOINT = "GET /stream"
PAGE_SIZE = 1000
"""The platform's maximum; with its default of 20 a list would take fifty times as many requests."""
MAX_PAGES = 1000
Params = tuple[tuple[str, str], ...]
FIRST_PAGE: Params = (("streamsonly", "1"), ("active", "1"), ("limit", str(PAGE_SIZE)))


class ActiveStreams(msgspec.Struct, frozen=True):
    """The streams that the platform lists as active, by id."""

    streams: dict[str, ParsedObject]
    pages: int
    unreadable_rows: int
    """Rows that do not tell which stream they are about."""

    def is_active(self, stream_id: str) -> bool | None:
        """Return whether the platform reports the stream as active; None: it does not say."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream.active
        return False if self.pages == 1 and not self.unreadable_rows else None


class EndlessListError(UpstreamError):
    """The list does not come to an end: a page came again, or there are too many."""

    def __init__(self, what: str) -> None:
        super().__init__(Reason.BAD_RESPONSE, f"{ENDPOINT}: {what}")


async def fetch_active_streams(requests: Requests, drops: DropCounter) -> ActiveStreams:
    """Request all pages, as long as the platform announces a next one; a page's length says nothing.

    Pages are offsets into an order that changes while they are read: a stream that comes twice counts once.
    """
    pages = _Pages()
    params: Params | None = FIRST_PAGE
    while params is not None:
        pages.start_page(params)
        response = await requests.get(ENDPOINT, params=params)
        await pages.add_rows(require_list(response.data, ENDPOINT), drops)
        params = None if response.link_next is None else _parse_link(response.link_next)
    return pages.result()


class _Pages:
    """The pages so far."""

    def __init__(self) -> None:
        self._streams: dict[str, ParsedObject] = {}
        self._requested: set[Params] = set()
        self._seen_ids: set[tuple[str, ...]] = set()
        self._unreadable_rows = 0

    def start_page(self, params: Params) -> None:
        """Note that this page will be requested; raises where the list would not end."""
        if params in self._requested:
            raise EndlessListError("a page was announced again")
        if len(self._requested) == MAX_PAGES:
            raise EndlessListError(f"more than {MAX_PAGES} pages")
        self._requested.add(params)

    async def add_rows(self, rows: list[object], drops: DropCounter) -> None:
        """Read the rows of a page; one that does not tell which stream it is about is counted and left out."""
        page: dict[str, ParsedObject] = {}
        for index, row in enumerate(rows, start=1):
            stream = _parse_row(row, drops)
            if stream is not None:
                page[stream.report.id] = stream
            if index % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        self._unreadable_rows += len(rows) - len(page)
        ids = tuple(page)
        if ids and ids in self._seen_ids:
            raise EndlessListError("a page came again")
        self._seen_ids.add(ids)
        self._streams |= page

    def result(self) -> ActiveStreams:
        """Return the list. With one page of which every row was read, streams that are not in it are not active.

        Raises where there are rows and not one could be read: that must not pass for an account without streams.
        """
        if self._unreadable_rows and not any(self._seen_ids):
            raise UpstreamError(Reason.BAD_RESPONSE, f"{ENDPOINT}: no row tells which stream it is about")
        return ActiveStreams(self._streams, len(self._requested), self._unreadable_rows)


def _parse_row(row: object, drops: DropCounter) -> ParsedObject | None:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
        drops.drop("id")
        return None
    stream = parse_stream(Record(row, drops))
    return stream if stream.report.id else None


def _parse_link(link: str) -> Params:
    """Return the announced query; without our filter the list would hold every stream that there ever was."""
    return tuple((dict(FIRST_PAGE) | dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))).items())
