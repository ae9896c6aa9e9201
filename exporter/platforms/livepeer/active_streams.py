"""The active streams: ``GET /stream?streamsonly=1&active=1``, all its pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl, urlsplit

import msgspec

from exporter.platforms.api import (
    REPORTS_PER_STEP,
    DropCounter,
    ListFacts,
    Paging,
    Reason,
    Requests,
    RowReader,
    UpstreamError,
    require_list,
)
from exporter.platforms.livepeer.stream_objects import ParsedObject, Reader, parse_stream

ENDPOINT = "GET /stream"
PAGE_SIZE = 1000
"""The platform's maximum; with its default of 20 a list would take fifty times as many requests."""
Params = tuple[tuple[str, str], ...]
ChooseRecord = Callable[[str, Sequence[ParsedObject]], ParsedObject]
"""Returns the record of a stream that counts."""
FIRST_PAGE: Params = (("streamsonly", "1"), ("active", "1"), ("limit", str(PAGE_SIZE)))


class ActiveStreams(msgspec.Struct, frozen=True):
    """The streams that the platform lists as active, by id."""

    streams: dict[str, ParsedObject]
    facts: ListFacts
    duplicates: int = 0
    """Records that were left out because another one of the same stream was chosen."""

    def is_active(self, stream_id: str) -> bool | None:
        """Return whether the platform reports the stream as active; None: it does not say."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream.active
        is_complete = self.facts.pages == 1 and not self.facts.may_miss_streams
        return False if is_complete else None


async def fetch_active_streams(
    requests: Requests, reader: Reader, drops: DropCounter, choose: ChooseRecord
) -> ActiveStreams:
    """Request all pages, as long as the platform announces a next one; a page's length says nothing.

    Pages are offsets into an order that changes while they are read: a stream that comes twice counts once, with the
    record that ``choose`` returns. Raises ``UpstreamError``, also for a list that does not come to an end.
    """
    rows: RowReader[ParsedObject] = RowReader(ENDPOINT, drops, "id")
    paging = Paging()
    requested: set[Params] = set()
    params: Params | None = FIRST_PAGE
    while params is not None:
        if params in requested:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{ENDPOINT}: a page was announced again")
        requested.add(params)
        response = await requests.get(ENDPOINT, params=params)
        page = require_list(response.data, ENDPOINT)
        read_before = len(rows.found)
        for index, row in enumerate(page, start=1):
            record = rows.record(row)
            if record is not None:
                rows.add(parse_stream(record, reader) if record.text("id") else None)
            if index % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)
        rows.refuse_repeated_page(stream.report.id for stream in rows.found[read_before:])
        has_next = paging.has_next(len(page), has_next=response.link_next is not None)
        params = _parse_link(response.link_next) if has_next and response.link_next is not None else None
    records: dict[str, list[ParsedObject]] = {}
    for stream in rows.found:
        records.setdefault(stream.report.id, []).append(stream)
    streams = {stream_id: choose(stream_id, found) for stream_id, found in records.items()}
    return ActiveStreams(streams, rows.facts(paging), len(rows.found) - len(streams))


def _parse_link(link: str) -> Params:
    """Return the announced query; without our filter the list would hold every stream that there ever was."""
    return tuple((dict(FIRST_PAGE) | dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))).items())
